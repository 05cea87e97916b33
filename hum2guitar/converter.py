"""The converter of the second system: a hum to a guitar.

1. Pitch and energy of the whole hum are tracked, ten seconds at a time; they take little memory.
2. The melody is moved into the guitar's range by octaves, and its notes are plucked.
3. Its harmonics go through the network in overlapping windows, which are blended.
4. The mel spectrogram becomes audio note by note; one multiplication makes the attack and the end of each.
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator

import numpy as np

import data
from common import weights
from common.jobs import map_ahead
from hum2guitar import harmonics, melody
from hum2guitar.harmonics import HumRepresentation, mel_to_audio
from sound.blocks import mean_of_channels, mix_sounds, regroup_frames

ANALYSIS_FRAMES = 432  # in which the pitch is tracked at a time (10 s)
CONTEXT_FRAMES = 22  # analysed in addition on both sides (0.5 s)
PITCH_STEPS = 1024  # of an octave; without steps, rounding errors grow, and the page makes another sound
EDGE_FRAMES = 4  # in which a note is continued on both sides, so that all windows within it are full
MIN_FRAMES = 16  # of the network's input; a shorter one is padded
MAX_GAIN_DB = 40.0  # of the correction of a frame's loudness


class HumConverter:
    """Converts with a network that maps harmonics to the mel spectrogram of a guitar.

    Windows are blended in decibels. Each frame is brought to the loudness of the melody, because instance normalisation
    removes the level of the network's input.

    Args:
        description: of the weights file, which says how the network was trained.
        network: float32 ``(batch, bins, frames, 1)`` to the same shape, both in [-1, 1].
        overlap: share of a window that is blended with the next, 0 to 0.5.
        f0: method of `melody.analyse`; None: as in training.
        transpose: semitones; None moves the pitch by octaves into the range that the network was trained on.
        n_iterations: of Griffin-Lim.

    Raises:
        InputError: the description is damaged.
    """

    residual = normalizes_input = False

    def __init__(
        self,
        description: weights.Description,
        network: Callable[[np.ndarray], np.ndarray],
        overlap: float = 0.25,
        f0: str | None = None,
        transpose: float | None = None,
        n_iterations: int = 16,
    ) -> None:
        settings, path = description.settings, description.path
        self.representation = weights.read_representation(HumRepresentation, settings.get("representation", {}), path)
        self.sample_rate, self.band = self.representation.sample_rate, self.representation.sample_rate / 2
        trained = settings.get("f0")
        self.f0 = f0 or (trained if trained in melody.F0_METHODS else melody.F0_METHODS[0])  # earlier models name pYIN
        self.plucks = bool(settings.get("augment"))  # whether the network expects the loudness of `melody.pluck`
        self.halves = description.network == weights.GLOBAL_GENERATOR
        self.network, self.overlap, self.transpose, self.n_iterations = network, overlap, transpose, n_iterations

    def convert(self, blocks: Iterable[np.ndarray], name: str = "") -> Iterator[np.ndarray]:
        """Convert float32 blocks ``(n, n_channels)`` to blocks of the same total length.

        A hum is one melody, so the mean of the channels is heard, and all get the same guitar. Says on stderr by how
        many octaves it moves the melody, and what makes a bad guitar (`melody.describe_melody`).
        """
        r, blocks = self.representation, iter(blocks)
        first = next(blocks, np.zeros((0, 1), np.float32))
        f0, energy, purity, n_samples = self._listen(map(mean_of_channels, itertools.chain([first], blocks)))
        if not n_samples:
            return
        octaves = 0 if self.transpose is not None else melody.octaves_into_range(f0, energy, r.f0_low, r.f0_high)
        octave = np.log2(np.maximum(f0, 1)) + octaves + (self.transpose or 0) / 12
        f0 = np.where(f0 > 0, np.exp2(np.round(octave * PITCH_STEPS) / PITCH_STEPS), 0).astype(np.float32)
        for line in melody.describe_melody(f0, energy, purity, octaves, r.f0_low, r.f0_high):
            print(f"{name}: {line}" if name else line, file=sys.stderr)

        notes = melody.find_notes(f0, melody.to_decibels(energy))
        seen, heard = (melody.pluck(f0, energy, r, heard) if self.plucks else energy for heard in (False, True))
        for audio in mix_sounds(self._play(notes, self._predict(f0, seen, heard)), n_samples):
            yield np.broadcast_to(audio[:, np.newaxis], (len(audio), first.shape[1]))

    def _listen(self, blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """F0 in Hz, energy and purity ``(n_frames,)`` of the joined blocks, and their number of samples."""
        r, hop = self.representation, self.representation.hop_length
        before = np.zeros((1, CONTEXT_FRAMES * hop), np.float32)  # of the first piece, which is not analysed
        padded = itertools.chain([before], (block[np.newaxis] for block in blocks))
        features, n_samples = [np.zeros((3, 0), np.float32)], 0
        pieces = regroup_frames(padded, ANALYSIS_FRAMES * hop, 2 * CONTEXT_FRAMES * hop)
        for index, (piece, is_last) in enumerate(pieces):
            n_samples = (index * ANALYSIS_FRAMES - CONTEXT_FRAMES) * hop + piece.shape[1]
            if n_samples:
                f0, energy, spectrum = melody.analyse(piece[0] if index else piece[0, before.size :], r, self.f0)
                found = np.stack([f0, energy, harmonics.harmonic_share(spectrum, f0, r)])
                found = found[:, CONTEXT_FRAMES if index else 0 :]
                features.append(found if is_last else found[:, :ANALYSIS_FRAMES])
        return *np.concatenate(features, axis=1), n_samples

    def _predict(self, f0: np.ndarray, seen: np.ndarray, heard: np.ndarray) -> Iterator[np.ndarray]:
        """Mel levels ``(n_mels, n)`` of a melody in pieces.

        The network gets the energy `seen`, and the guitar the energy `heard`.
        """
        n_overlap = round(self.overlap * self.representation.n_frames)
        hop = self.representation.n_frames - n_overlap
        starts = range(0, max(1, len(f0) - n_overlap), hop)
        carried = np.zeros((self.representation.n_mels, 0), np.float32)  # overlap of the last window with the next one
        predict = functools.partial(self._predict_window, f0, seen, heard)
        for level in map_ahead(predict, starts, n_ahead=4, n_threads=2):
            n = min(carried.shape[1], level.shape[1])
            rising = data.fade_in(n)
            level[:, :n] = rising * level[:, :n] + (1 - rising) * carried[:, :n]
            yield level[:, :hop]
            carried = level[:, hop:]
        yield carried

    def _predict_window(self, f0: np.ndarray, seen: np.ndarray, heard: np.ndarray, start: int) -> np.ndarray:
        """Mel level ``(n_mels, n)`` of the window from frame `start` on, brought to the energy `heard`.

        The last window ends with the sound and is as long as the others: the network was trained on full windows.
        """
        r = self.representation
        early = max(0, min(start, len(f0) - r.n_frames))
        f0, seen, heard = (values[early : early + r.n_frames] for values in (f0, seen, heard))
        n, voiced = len(f0), np.flatnonzero(f0)
        if not len(voiced):
            return np.full((r.n_mels, early + n - start), -1, np.float32)
        inputs = harmonics.harmonics_level(f0, seen, r)
        inputs = np.pad(inputs, ((0, 0), (0, max(0, MIN_FRAMES - n))), constant_values=-1)
        inputs = harmonics.halve_bins(inputs) if self.halves else inputs
        output = self.network(inputs[np.newaxis, ..., np.newaxis])[0, ..., 0]
        output = harmonics.double_bins(output) if self.halves else output
        power = harmonics.mel_power(output[:, :n], r)
        gain = melody.to_decibels(heard) - melody.to_decibels(harmonics.mel_energy(power, r))
        gain = np.clip(np.interp(np.arange(n), voiced, gain[voiced]), -MAX_GAIN_DB, MAX_GAIN_DB)
        return harmonics.to_level(power * 10 ** (gain / 10), r.mel_ref_db, r.mel_top_db)[:, start - early :]

    def _play(self, notes: np.ndarray, levels: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
        """First sample and audio of each note, from the mel levels of the melody in pieces.

        A mel frame is four times as long as an attack. So a note begins with copies of its second frame, as if it had
        sounded before, and `melody.envelope` makes its attack and its end.
        """
        r = self.representation
        hop, levels = r.hop_length, iter(levels)
        waiting, first = np.zeros((r.n_mels, 0), np.float32), 0  # `first`: frame at the start of `waiting`
        for (start, stop), following in zip(notes, [*notes[1:, 0], sys.maxsize], strict=False):
            while first + waiting.shape[1] < stop:
                n_done = min(start - first, waiting.shape[1])
                waiting, first = np.concatenate([waiting[:, n_done:], next(levels)], axis=1), first + n_done
            end = following if following - stop <= melody.RINGING_FRAMES else stop
            level = waiting[:, start - first + 1 : stop - first]
            level = np.pad(level, ((0, 0), (EDGE_FRAMES + 1, EDGE_FRAMES + end - stop)), mode="edge")
            audio = mel_to_audio(harmonics.mel_power(level, r), r, self.n_iterations)
            gain = melody.envelope((end - start) * hop, r.sample_rate)
            audio = audio[round((EDGE_FRAMES - melody.ONSET_FRAMES) * hop) :][: len(gain)]
            yield max(0, round((start - melody.ONSET_FRAMES) * hop)), gain * audio
