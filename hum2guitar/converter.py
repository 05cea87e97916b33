"""The converter of the second system: a hum to a guitar.

1. Pitch and energy of the whole hum are tracked, ten seconds at a time; they take little memory.
2. The melody is moved into the guitar's range by octaves, and its notes are plucked.
3. Its harmonics go through the network in overlapping windows, which are blended.
4. The mel spectrogram becomes audio note by note; one multiplication makes the attack and the end of each.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator

import numpy as np

import data
from common import weights
from common.jobs import map_ahead
from hum2guitar import harmonics
from hum2guitar.harmonics import HumRepresentation, mel_to_audio
from hum2guitar.pitch import F0_METHODS, MARGIN, analyse, octaves_into_range
from hum2guitar.plucks import ONSET_FRAMES, RINGING_FRAMES, describe_melody, envelope, find_notes, pluck, to_decibels
from sound.blocks import mix_sounds

ANALYSIS_FRAMES = 432  # in which the pitch is tracked at a time (10 s)
CONTEXT_FRAMES = 22  # analysed in addition on both sides (0.5 s)
PITCH_STEPS = 1024  # of an octave; without steps, rounding errors grow, and the page makes another sound
EDGE_FRAMES = 4  # in which a note is continued on both sides, so that all windows within it are full
MIN_FRAMES = 16  # of the network's input; a shorter one is padded
MAX_GAIN_DB = 40.0  # of the correction of a frame's loudness


@dataclasses.dataclass(frozen=True)
class HumSettings:
    """How a hum is heard; the defaults are those of predict.py.

    Attributes:
        f0: method of `pitch.analyse`; None for the one that the network was trained with.
        transpose: semitones; None moves the pitch by octaves into the range that the network was trained on.
    """

    f0: str | None = None
    transpose: float | None = None


def make_converter(
    description: weights.Description,
    settings: HumSettings,
    overlap: float,
    network: Callable[[np.ndarray], np.ndarray],
) -> HumConverter:
    """The converter of a hum2guitar network; its weights file says how the network was trained.

    Args:
        description: of the weights file.
        settings: how a hum is heard.
        overlap: as of `HumConverter`.
        network: float32 ``(batch, bins, frames, 1)`` to the same shape, both in [-1, 1].

    Raises:
        InputError: the description is damaged.
    """
    representation = HumRepresentation.from_dict(description.settings.get("representation", {}), str(description.path))
    trained = description.settings.get("f0")
    method = settings.f0 or (trained if trained in F0_METHODS else F0_METHODS[0])  # earlier models name pYIN
    return HumConverter(
        lambda level: network(level[np.newaxis, ..., np.newaxis])[0, ..., 0],
        representation,
        dataclasses.replace(settings, f0=method),
        overlap,
        halves=description.network == weights.GLOBAL_GENERATOR,
        plucks=bool(description.settings.get("augment")),
    )


class HumConverter:
    """Converts with a network that maps harmonics to the mel spectrogram of a guitar.

    Windows are blended in decibels. Each frame is brought to the loudness of the melody, because instance normalisation
    removes the level of the network's input.
    """

    residual = False
    normalizes_input = False
    joint = False

    def __init__(
        self,
        network: Callable[[np.ndarray], np.ndarray],
        representation: HumRepresentation = harmonics.PUBLISHED,
        settings: HumSettings | None = None,
        overlap: float = 0.25,
        n_iterations: int = 16,
        halves: bool = False,
        plucks: bool = False,
    ) -> None:
        """
        Args:
            network: harmonics level ``(n_bins, n)`` in [-1, 1] to mel level of the same shape.
            overlap: share of a window that is blended with the next, 0 to 0.5.
            n_iterations: of Griffin-Lim.
            halves: whether the network works on half the bands.
            plucks: whether notes are given the loudness of `plucks.pluck`, as in the training of the network.
        """
        self._settings = settings or HumSettings()
        self.sample_rate = representation.sample_rate
        self.band = representation.sample_rate / 2
        self._network, self._halves, self.plucks = network, halves, plucks
        self._representation = representation
        self._n_overlap = round(overlap * representation.n_frames)
        self._n_iterations = n_iterations

    def convert(self, blocks: Iterable[np.ndarray], name: str = "") -> Iterator[np.ndarray]:
        """Mono float32 blocks to mono float32 blocks of the same total length; see `conversion.converter`.

        Says on stderr by how many octaves it moves the melody, and what makes a bad guitar (`plucks.describe_melody`).
        """
        r = self._representation
        f0, energy, purity, n_samples = self._listen(blocks)
        if not n_samples:
            return
        octaves = 0 if self._settings.transpose is not None else octaves_into_range(f0, energy, r.f0_low, r.f0_high)
        octave = np.log2(np.maximum(f0, 1)) + octaves + (self._settings.transpose or 0) / 12
        f0 = np.where(f0 > 0, np.exp2(np.round(octave * PITCH_STEPS) / PITCH_STEPS), 0).astype(np.float32)
        for line in describe_melody(f0, energy, purity, octaves, r.f0_low / MARGIN, r.f0_high * MARGIN):
            print(f"{name}: {line}" if name else line, file=sys.stderr)

        notes = find_notes(f0, to_decibels(energy))
        seen, heard = (pluck(f0, energy, r, heard) if self.plucks else energy for heard in (False, True))
        yield from mix_sounds(self._play(notes, self._predict(f0, seen, heard)), n_samples)

    def _listen(self, blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """F0 in Hz, energy and purity ``(n_frames,)`` of the joined blocks, and their number of samples."""
        hop = self._representation.hop_length
        waiting = np.zeros(0, np.float32)
        first = n_done = n_samples = 0  # `first`: frame at the start of `waiting`; `n_done`: frames analysed
        pieces = [np.zeros((3, 0), np.float32)]
        for block in blocks:
            n_samples += len(block)
            waiting = np.concatenate([waiting, np.asarray(block, np.float32)])
            while len(waiting) >= (n_done - first + ANALYSIS_FRAMES + CONTEXT_FRAMES) * hop:
                piece = self._analyse(waiting[: (n_done - first + ANALYSIS_FRAMES + CONTEXT_FRAMES) * hop])
                pieces.append(piece[:, n_done - first :][:, :ANALYSIS_FRAMES])
                n_done += ANALYSIS_FRAMES
                dropped = max(0, n_done - CONTEXT_FRAMES - first)
                waiting, first = waiting[dropped * hop :], first + dropped
        if n_samples:
            pieces.append(self._analyse(waiting)[:, n_done - first :])
        return *np.concatenate(pieces, axis=1), n_samples

    def _analyse(self, audio: np.ndarray) -> np.ndarray:
        f0, energy, spectrum = analyse(audio, self._representation, self._settings.f0 or F0_METHODS[0])
        return np.stack([f0, energy, harmonics.harmonic_share(spectrum, f0, self._representation)])

    def _predict(self, f0: np.ndarray, seen: np.ndarray, heard: np.ndarray) -> Iterator[np.ndarray]:
        """Mel levels ``(n_mels, n)`` that the network makes of a melody, in pieces, from overlapping windows.

        `seen` is the energy that the network sees, `heard` that of the guitar.

        The last window ends where the sound ends and is as long as the others, so that the network always gets a window
        full of sound, as in training.
        """
        n_frames = self._representation.n_frames
        hop = n_frames - self._n_overlap
        starts = range(0, max(1, len(f0) - self._n_overlap), hop)

        def predict(start: int) -> np.ndarray:
            early = max(0, min(start, len(f0) - n_frames))
            window = slice(early, early + n_frames)
            return self._predict_window(f0[window], seen[window], heard[window])[:, start - early :]

        carried = np.zeros((self._representation.n_mels, 0), np.float32)  # overlap of the last window with the next one
        for level in map_ahead(predict, starts, n_ahead=4, n_threads=2):
            n = min(carried.shape[1], level.shape[1])
            rising = data.fade_in(n) if n else np.zeros(0, np.float32)
            level[:, :n] = rising * level[:, :n] + (1 - rising) * carried[:, :n]
            yield level[:, :hop]
            carried = level[:, hop:]
        yield carried

    def _predict_window(self, f0: np.ndarray, seen: np.ndarray, heard: np.ndarray) -> np.ndarray:
        """Mel level ``(n_mels, n)`` of one window, brought to the energy `heard`; arguments ``(n,)`` as `_predict`."""
        r = self._representation
        n = len(f0)
        voiced = np.flatnonzero(f0)
        if not len(voiced):
            return np.full((r.n_mels, n), -1, np.float32)
        inputs = harmonics.harmonics_level(f0, seen, r)
        inputs = harmonics.halve_bins(inputs) if self._halves else inputs
        inputs = np.pad(inputs, ((0, 0), (0, max(0, MIN_FRAMES - n))), constant_values=-1)
        output = self._network(inputs)[:, :n]
        output = harmonics.double_bins(output) if self._halves else output
        power = harmonics.mel_power(output, r)
        gain = to_decibels(heard) - to_decibels(harmonics.mel_energy(power, r))
        gain = np.clip(np.interp(np.arange(n), voiced, gain[voiced]), -MAX_GAIN_DB, MAX_GAIN_DB)
        return harmonics.to_level(power * 10 ** (gain / 10), r.mel_ref_db, r.mel_top_db)

    def _play(self, notes: np.ndarray, levels: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
        """First sample and audio of each note, from the mel levels ``(n_mels, n)`` of the melody in pieces.

        A mel frame is four times as long as an attack. So a note begins with copies of its second frame, as if it had
        sounded before, and `plucks.envelope` makes its attack and its end.
        """
        r = self._representation
        hop, levels = r.hop_length, iter(levels)
        waiting, first = np.zeros((r.n_mels, 0), np.float32), 0  # `first`: frame at the start of `waiting`
        for (start, stop), following in zip(notes, [*notes[1:, 0], sys.maxsize], strict=False):
            while first + waiting.shape[1] < stop:
                n_done = min(start - first, waiting.shape[1])
                waiting, first = np.concatenate([waiting[:, n_done:], next(levels)], axis=1), first + n_done
            end = following if following - stop <= RINGING_FRAMES else stop
            level = waiting[:, start - first + 1 : stop - first]
            level = np.pad(level, ((0, 0), (EDGE_FRAMES + 1, EDGE_FRAMES + end - stop)), mode="edge")
            audio = mel_to_audio(harmonics.mel_power(level, r), level.shape[1] * hop, r, self._n_iterations)
            gain = envelope((end - start) * hop, r.sample_rate)
            audio = audio[round((EDGE_FRAMES - ONSET_FRAMES) * hop) :][: len(gain)]
            yield max(0, round((start - ONSET_FRAMES) * hop)), gain * audio
