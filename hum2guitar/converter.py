"""The converter of the second system: a hum to a guitar, in bounded memory.

1. Pitch and energy of the hum are tracked ten seconds at a time.
2. Their harmonics go through the network in overlapping windows, which are blended.
3. The mel spectrogram becomes audio in chunks, each of which continues the phase of the one before.

The steps are generators, and each keeps only the frames that it still needs.
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
from hum2guitar.harmonics import HumRepresentation
from hum2guitar.mel_inverse import mel_to_audio, mel_to_audio_published
from hum2guitar.pitch import F0_METHODS, SILENCE_DB, octaves_into_range, search_range, track_f0
from hum2guitar.plucks import pluck_pieces
from sound.blocks import CountedBlocks

ANALYSIS_FRAMES = 432  # in which the pitch is tracked at a time (10 s)
CONTEXT_FRAMES = 22  # analysed in addition on both sides (0.5 s)
SYNTHESIS_FRAMES = 432  # that become audio at a time
SHARED_FRAMES = 8  # of a chunk of audio that it shares with the next one, on each side (0.2 s)
LOOK_AHEAD = 2584  # frames that decide on the transposition (60 s)
RING_FRAMES, DAMPING_DB = 8, 4.0  # for which a note rings on in a rest, and its fall after that in dB a frame
ONSET_FRAMES, ONSET_DB = 2, 20.0  # before a note that belong to its onset, and the rise before that in dB a frame
MIN_FRAMES = 16  # of the network's input; a shorter one is padded
MAX_GAIN_DB = 40.0  # of the correction of a window's loudness
MIN_VOICED = 0.5  # share of the audible frames; below it, warn


@dataclasses.dataclass(frozen=True)
class HumSettings:
    """How a hum is analysed and the guitar is synthesised; the defaults are those of predict.py.

    Attributes:
        f0: method of `pitch.track_f0`; None for the one that the network was trained with.
        f0_min, f0_max: search range in Hz; None for the method's own.
        transpose: semitones; None moves the pitch by octaves into the range that the network was trained on.
        mel_inverse: "peaks" (`mel_inverse.mel_to_audio`) or "published" (`mel_inverse.mel_to_audio_published`).
    """

    f0: str | None = None
    f0_min: float | None = None
    f0_max: float | None = None
    transpose: float | None = None
    mel_inverse: str = "peaks"


def make_converter(
    description: weights.Description,
    settings: HumSettings,
    overlap: float,
    n_iterations: int,
    network: Callable[[np.ndarray], np.ndarray],
) -> HumConverter:
    """The converter of a hum2guitar network; its weights file says how the network was trained.

    Args:
        description: of the weights file.
        settings: how a hum is heard; without an F0 method the one of the training.
        overlap, n_iterations: as of `HumConverter`.
        network: float32 ``(batch, bins, frames, 1)`` to the same shape, both in [-1, 1].

    Raises:
        InputError: the description is damaged, or the settings are not what is expected.
    """
    representation = weights.read_representation(
        HumRepresentation, description.settings.get("representation", {}), str(description.path)
    )
    settings = dataclasses.replace(settings, f0=settings.f0 or description.settings.get("f0"))
    halves = description.network == weights.GLOBAL_GENERATOR
    return HumConverter(
        lambda level: network(level[np.newaxis, ..., np.newaxis])[0, ..., 0],
        representation, settings, overlap, n_iterations, halves, bool(description.settings.get("augment")),
    )  # fmt: skip


class HumConverter:
    """Converts with a network that maps harmonics to the mel spectrogram of a guitar.

    Windows are blended in decibels. Each window is brought to the loudness of the hum, because instance normalisation
    removes the level of the network's input. The guitar is damped where the hum pauses, because what a network puts
    there depends on how silent the unvoiced frames of its training data were.
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

        Raises:
            InputError: an unknown F0 method, or an F0 range that is empty or out of reach.
        """
        self._settings = settings = settings or HumSettings()
        self._method = settings.f0 or F0_METHODS[0]
        self._f0_range = search_range(self._method, settings.f0_min, settings.f0_max)
        self.sample_rate = representation.sample_rate
        self.band = representation.sample_rate / 2
        self._network, self._halves, self.plucks = network, halves, plucks
        self._representation = representation
        self._n_overlap = round(overlap * representation.n_frames)
        self._n_iterations = n_iterations

    def convert(self, blocks: Iterable[np.ndarray], name: str = "") -> Iterator[np.ndarray]:
        """Mono float32 blocks to mono float32 blocks of the same total length; see `conversion.converter`.

        Warns on stderr if nothing sounds, or if most of what sounds has no pitch.
        """
        counted, voicing = CountedBlocks(blocks), _Voicing()
        pitch = voicing.count(self._track(counted))
        pitch = self._transpose(pitch)
        if self.plucks:
            pitch = pluck_pieces(pitch, self._representation)
        yield from counted.trim(self._synthesise(self._predict(pitch)))
        if warning := voicing.warning(*self._f0_range):
            print(f"Warning: {f'{name}: ' if name else ''}{warning}", file=sys.stderr)

    def _track(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """F0 in Hz and energy of the joined blocks, pieces of float32 ``(2, n)``."""
        hop = self._representation.hop_length
        waiting = np.zeros(0, np.float32)
        first = n_done = 0  # frame at the start of `waiting`, and frames already given
        is_empty = True
        for block in blocks:
            is_empty = is_empty and not len(block)
            waiting = np.concatenate([waiting, np.asarray(block, np.float32)])
            while len(waiting) >= (n_done - first + ANALYSIS_FRAMES + CONTEXT_FRAMES) * hop:
                piece = self._analyse(waiting[: (n_done - first + ANALYSIS_FRAMES + CONTEXT_FRAMES) * hop])
                yield piece[:, n_done - first : n_done - first + ANALYSIS_FRAMES]
                n_done += ANALYSIS_FRAMES
                dropped = max(0, n_done - CONTEXT_FRAMES - first)
                waiting, first = waiting[dropped * hop :], first + dropped
        if not is_empty:
            yield self._analyse(waiting)[:, n_done - first :]

    def _analyse(self, audio: np.ndarray) -> np.ndarray:
        r = self._representation
        spectrum = harmonics.magnitude(audio, r)
        f0 = track_f0(
            audio, r, self._method, self._f0_range, remove_outliers=self._method == "cepstrum", spectrum=spectrum
        )
        return np.stack([f0, harmonics.frame_energy(spectrum)])

    def _transpose(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The pitch transposed as the settings ask for; the octave is chosen from the first minute."""
        pieces, semitones, ahead = iter(pieces), self._settings.transpose, []
        if semitones is None:
            n_ahead = 0
            for piece in pieces:
                ahead.append(piece)
                n_ahead += piece.shape[1]
                if n_ahead >= LOOK_AHEAD:
                    break
            f0 = np.concatenate([piece[0] for piece in ahead]) if ahead else np.zeros(0)
            semitones = octaves_into_range(f0, self._representation.f0_low, self._representation.f0_high)
        factor = np.array([[2 ** (semitones / 12)], [1]], np.float32)
        for piece in ahead:
            yield piece * factor
        for piece in pieces:
            yield piece * factor

    def _predict(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Mel levels ``(n_mels, n)`` that the network makes of the pitch, in pieces, from overlapping windows."""
        n_overlap = self._n_overlap
        hop = self._representation.n_frames - n_overlap
        carried = None  # frames of the last window that overlap with the next one
        windows = self._cut_windows(pieces)
        levels = map_ahead(lambda item: (self._predict_window(item[0]), item[1]), windows, n_ahead=4, n_threads=2)
        for level, n_new in levels:
            blended = _blend(carried, level[:, -n_new:], n_overlap)
            yield blended[:, :hop]
            carried = blended[:, hop:]
        if carried is not None and carried.shape[1]:
            yield carried

    def _cut_windows(self, pieces: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, int]]:
        """Overlapping windows ``(2, n)``, and how many of their last frames begin where the next window should.

        The last window ends where the sound ends and is as long as the others, so that the network always gets a window
        full of sound, as in training.
        """
        n_frames = self._representation.n_frames
        hop = n_frames - self._n_overlap
        waiting = np.zeros((2, 0), np.float32)  # from `n_past` frames before the next one to give
        n_past = 0
        for piece in pieces:
            waiting = np.concatenate([waiting, piece], axis=1)
            while waiting.shape[1] - n_past > n_frames:
                yield waiting[:, n_past : n_past + n_frames], n_frames
                n_past += hop
                dropped = max(0, n_past - n_frames)
                waiting, n_past = waiting[:, dropped:], n_past - dropped
        n_left = waiting.shape[1] - n_past
        if n_left:
            yield waiting[:, -n_frames:], n_left

    def _predict_window(self, window: np.ndarray) -> np.ndarray:
        """Mel level ``(n_mels, n)`` that the network makes of F0 and energy ``(2, n)``, as loud as that energy."""
        r = self._representation
        f0, energy = window
        n = len(f0)
        if not f0.any():
            return np.full((r.n_mels, n), -1, np.float32)
        inputs = harmonics.harmonics_level(f0, energy, r)
        inputs = harmonics.halve_bins(inputs) if self._halves else inputs
        inputs = np.pad(inputs, ((0, 0), (0, max(0, MIN_FRAMES - n))), constant_values=-1)
        output = self._network(inputs)[:, :n]
        output = harmonics.double_bins(output) if self._halves else output
        power = harmonics.mel_power(output, r)
        voiced = f0 > 0
        predicted = harmonics.mel_energy(power[:, voiced], r)
        difference = np.median(10 * np.log10((energy[voiced] + 1e-12) / (predicted + 1e-12)))
        gain = np.clip(difference, -MAX_GAIN_DB, MAX_GAIN_DB) - _damping(voiced)
        return harmonics.to_level(power * 10 ** (gain / 10), r.mel_ref_db, r.mel_top_db)

    def _synthesise(self, levels: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Audio of mel levels, from sample 0 on, one hop for each frame.

        Each chunk is made `SHARED_FRAMES` longer on both sides. It continues the phase of the chunk before, and the two
        are crossfaded in the middle of the frames that they share.
        """
        hop = self._representation.hop_length
        waiting, n_shared = None, 0  # levels; how many of their first frames belong to the chunk before, too
        tail = None  # audio of the chunk before, from the first of these frames on
        for level in levels:
            waiting = level if waiting is None else np.concatenate([waiting, level], axis=1)
            while waiting.shape[1] > n_shared // 2 + SYNTHESIS_FRAMES + SHARED_FRAMES:
                n = n_shared // 2 + SYNTHESIS_FRAMES + SHARED_FRAMES
                joined = _crossfade(tail, self._chunk(waiting[:, :n], tail, n_shared))
                n_given = (n - SHARED_FRAMES - SHARED_FRAMES // 2) * hop
                start = 0 if tail is None else SHARED_FRAMES // 2 * hop
                yield joined[start:n_given]
                n_shared = 2 * SHARED_FRAMES
                waiting, tail = waiting[:, n - n_shared :], joined[(n - n_shared) * hop :]
        if waiting is not None:
            joined = _crossfade(tail, self._chunk(waiting, tail, n_shared))
            yield joined[0 if tail is None else SHARED_FRAMES // 2 * hop :]

    def _chunk(self, level: np.ndarray, tail: np.ndarray | None, n_shared: int) -> np.ndarray:
        """Audio of one chunk, whose phase continues that of `tail`, the audio of its first `n_shared` frames."""
        r = self._representation
        power = harmonics.mel_power(level, r)
        length = level.shape[1] * r.hop_length
        if self._settings.mel_inverse == "published":
            return mel_to_audio_published(power, length, r, self._n_iterations)
        before = None if tail is None else data.stft(tail, r)[:, : n_shared // 2]
        return mel_to_audio(power, length, r, self._n_iterations, before)


class _Voicing:
    """Counts the audible and the voiced frames of a sound, to warn if it has too little pitch."""

    def __init__(self) -> None:
        self._n_audible = self._n_voiced = 0

    def count(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """`pieces` unchanged, F0 and energy ``(2, n)`` each, counted while they pass."""
        for piece in pieces:
            f0, energy = piece
            self._n_audible += np.count_nonzero(energy > 10 ** (SILENCE_DB / 10))
            self._n_voiced += np.count_nonzero(f0)
            yield piece

    def warning(self, f0_min: float, f0_max: float) -> str:
        """What is wrong with a sound whose pitch was searched from `f0_min` to `f0_max` Hz; empty if nothing is."""
        if not self._n_audible:
            return f"nothing sounds above {SILENCE_DB:g} dB: the output is silent"
        if self._n_voiced >= MIN_VOICED * self._n_audible:
            return ""
        return (
            f"{100 * (1 - self._n_voiced / self._n_audible):.0f} % of the sounding frames have no single pitch from "
            f"{f0_min:g} to {f0_max:g} Hz (chords, noise, speech, or a pitch beyond --f0_min, --f0_max?): no guitar is "
            "heard there"
        )


def _damping(voiced: np.ndarray) -> np.ndarray:
    """Attenuation of each frame in dB, ``(n,)``: 0 where there is pitch, just before it and for a while after it."""
    n = len(voiced)
    frames = np.arange(n)
    since = frames - np.maximum.accumulate(np.where(voiced, frames, -n))
    until = np.minimum.accumulate(np.where(voiced, frames, 2 * n)[::-1])[::-1] - frames
    return np.minimum(DAMPING_DB * np.maximum(0, since - RING_FRAMES), ONSET_DB * np.maximum(0, until - ONSET_FRAMES))


def _blend(carried: np.ndarray | None, level: np.ndarray, n_overlap: int) -> np.ndarray:
    """`level` with its first `n_overlap` frames blended with those carried over from the window before."""
    n = 0 if carried is None else min(n_overlap, level.shape[1])
    if not n:
        return level
    rising = data.fade_in(n)
    blended = level.copy()
    blended[:, :n] = rising * level[:, :n] + (1 - rising) * carried[:, :n]
    return blended


def _crossfade(tail: np.ndarray | None, audio: np.ndarray) -> np.ndarray:
    """`audio` with its start crossfaded from `tail`, the same sound, over the middle half of what they share."""
    if tail is None:
        return audio
    n = min(len(tail), len(audio))
    rising = np.interp(np.arange(n), [n // 4, n - n // 4], [0, 1]).astype(np.float32)
    joined = audio.copy()
    joined[:n] = rising * audio[:n] + (1 - rising) * tail[:n]
    return joined
