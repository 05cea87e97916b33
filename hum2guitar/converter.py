"""A hum and a hum2guitar network to a guitar, in bounded memory: the converter of the second system.

Pitch and energy of the hum, ten seconds at a time; their harmonics through the network in overlapping windows, blended;
the mel spectrogram back to audio in chunks whose phase goes on from one to the next. Between these steps only what is
under way is kept. TensorFlow is imported when a network is loaded.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator

import numpy as np

import data
from common import cli, weights
from hum2guitar import harmonics
from hum2guitar.harmonics import HumRepresentation
from hum2guitar.mel_inverse import mel_to_audio, mel_to_audio_published
from hum2guitar.pitch import F0_METHODS, SILENCE_DB, octaves_into_range, search_range, track_f0

ANALYSED = 432  # frames (10 s) that the pitch is tracked through at a time
CONTEXT = 22  # frames (0.5 s) on both sides of them
SYNTHESISED = 432  # frames that are made audio at a time
SHARED = 8  # frames (0.2 s) on both sides of them
LOOK_AHEAD = 2584  # frames (60 s) that decide on the transposition
RINGING, DAMPING_DB = 8, 4.0  # frames that a note rings on in a rest, and dB a frame that it falls by from then on
ONSET, ONSET_DB = 2, 20.0  # frames before a note that its onset may take, and dB a frame that it rises by before that
LEAST_FRAMES = 16  # that a network is given
MOST_GAIN_DB = 40.0  # that the loudness of a window is corrected by
FEW_VOICED = 0.5  # below this share of the audible frames a word is due


@dataclasses.dataclass(frozen=True)
class HumSettings:
    """How a hum is heard; the defaults are those of predict.py.

    Attributes:
        f0: method of `harmonics.track_f0`; None for the one the network was trained with.
        f0_min, f0_max: search range in Hz; None for the method's own.
        transpose: semitones, or None: by octaves into the range that the network was trained on.
        mel_inverse: "peaks" (`harmonics.mel_to_audio`) or "published" (`harmonics.mel_to_audio_published`).
    """

    f0: str | None = None
    f0_min: float | None = None
    f0_max: float | None = None
    transpose: float | None = None
    mel_inverse: str = "peaks"


def load_converter(
    description: weights.Description,
    settings: HumSettings,
    overlap: float,
    n_iterations: int,
    precision: str,
    gpu: int | None,
) -> HumConverter:
    """The converter of a hum2guitar weights file; arguments as in `transfer.load_converter`.

    Raises:
        InputError: the file is damaged or holds no generator, or the settings are not what is expected.
    """
    where = str(description.path)
    representation = HumRepresentation.from_dict(description.settings.get("representation", {}), where)
    method = settings.f0 or description.settings.get("f0", F0_METHODS[0])
    search_range(method, settings.f0_min, settings.f0_max)  # wrong ones are found before TensorFlow starts
    cli.start_tensorflow(gpu or 0)
    import tensorflow as tf

    from hum2guitar import networks

    network = networks.load_hum2guitar(description.path, "float32" if precision == "auto" else precision)

    @tf.function(reduce_retracing=True, autograph=False)
    def run(inputs):
        return network(inputs, training=False)

    def predict(level: np.ndarray) -> np.ndarray:
        return run(level[np.newaxis, ..., np.newaxis]).numpy()[0, ..., 0]

    halves = description.network == weights.GLOBAL_GENERATOR
    settings = dataclasses.replace(settings, f0=method)
    return HumConverter(predict, representation, settings, overlap, n_iterations, halves)


class HumConverter:
    """Converts with a network that maps harmonics to the mel spectrogram of a guitar.

    Windows are blended in decibels. The loudness of each window is that of the hum: instance normalisation leaves a
    network no firm sense of how loud its whole input is. Where the hum rests, the guitar is damped: what a network puts
    there depends on how silent the frames without pitch were that it was trained on.
    """

    residual = False

    def __init__(
        self,
        network: Callable[[np.ndarray], np.ndarray],
        representation: HumRepresentation = harmonics.PUBLISHED,
        settings: HumSettings | None = None,
        overlap: float = 0.25,
        n_iterations: int = 16,
        halves: bool = False,
    ) -> None:
        """
        Args:
            network: harmonics level ``(n_bins, n)`` in [-1, 1] to mel level of the same shape.
            overlap: share of a window blended with the next, 0 to 0.5.
            n_iterations: of Griffin-Lim.
            halves: the network works on half the bands.

        Raises:
            InputError: an unknown F0 method or an F0 range that is empty or out of reach.
        """
        self._settings = settings = settings or HumSettings()
        self._method = settings.f0 or F0_METHODS[0]
        self._f0_range = search_range(self._method, settings.f0_min, settings.f0_max)
        self.sample_rate = representation.sample_rate
        self._network, self._halves = network, halves
        self._representation = representation
        self._n_overlap = round(overlap * representation.n_frames)
        self._n_iterations = n_iterations

    def convert(self, blocks: Iterable[np.ndarray], name: str = "") -> Iterator[np.ndarray]:
        """Mono float32 blocks to mono float32 blocks of the same total length; see `transfer.Converter`.

        Says on stderr where nothing sounds, or most of what sounds has no pitch.
        """
        heard = _Heard(blocks)
        n_given = 0
        for audio in self._audio(self._levels(self._transposed(self._pitch(heard)))):
            yield audio[: heard.n_samples - n_given]
            n_given += min(len(audio), heard.n_samples - n_given)
        if said := heard.complaint(*self._f0_range):
            print(f"Warning: {f'{name}: ' if name else ''}{said}", file=sys.stderr)

    def _pitch(self, heard: _Heard) -> Iterator[np.ndarray]:
        """F0 in Hz and energy of the joined blocks, pieces of float32 ``(2, n)``."""
        hop = self._representation.hop_length
        waiting = np.zeros(0, np.float32)
        first = n_made = 0  # frame at the start of `waiting`, and frames already given
        for block in heard:
            waiting = np.concatenate([waiting, np.asarray(block, np.float32)])
            while len(waiting) >= (n_made - first + ANALYSED + CONTEXT) * hop:
                piece = self._analyse(waiting[: (n_made - first + ANALYSED + CONTEXT) * hop])
                yield heard.count(piece[:, n_made - first : n_made - first + ANALYSED])
                n_made += ANALYSED
                dropped = max(0, n_made - CONTEXT - first)
                waiting, first = waiting[dropped * hop :], first + dropped
        if heard.n_samples:
            yield heard.count(self._analyse(waiting)[:, n_made - first :])

    def _analyse(self, audio: np.ndarray) -> np.ndarray:
        r = self._representation
        spectrum = harmonics.magnitude(audio, r)
        f0 = track_f0(
            audio, r, self._method, self._f0_range, remove_outliers=self._method == "cepstrum", spectrum=spectrum
        )
        return np.stack([f0, harmonics.frame_energy(spectrum)])

    def _transposed(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The pitch moved as the settings say; what decides on octaves is the first minute."""
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

    def _levels(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Mel levels ``(n_mels, n)`` of the whole sound in pieces, from windows that overlap.

        The last window ends with the sound and reaches as far back as the others do, so that the network always sees
        what it was trained on: a window full of sound.
        """
        n_frames, n_overlap = self._representation.n_frames, self._n_overlap
        hop = n_frames - n_overlap
        waiting = np.zeros((2, 0), np.float32)  # from `n_past` frames before what is next to be given
        n_past = 0
        carried = None  # the last window's frames that the next one shares
        for piece in pieces:
            waiting = np.concatenate([waiting, piece], axis=1)
            while waiting.shape[1] - n_past > n_frames:
                blended = _faded(carried, self._predict(waiting[:, n_past : n_past + n_frames]), n_overlap)
                yield blended[:, :hop]
                carried = blended[:, hop:]
                n_past += hop
                dropped = max(0, n_past - n_frames)
                waiting, n_past = waiting[:, dropped:], n_past - dropped
        n_left = waiting.shape[1] - n_past
        if n_left:
            last = self._predict(waiting[:, -n_frames:])
            yield _faded(carried, last[:, -n_left:], n_overlap)

    def _predict(self, piece: np.ndarray) -> np.ndarray:
        """Mel level ``(n_mels, n)`` that the network makes of F0 and energy ``(2, n)``, as loud as these."""
        r = self._representation
        f0, energy = piece
        n = len(f0)
        if not f0.any():
            return np.full((r.n_mels, n), -1, np.float32)
        inputs = harmonics.harmonics_level(f0, energy, r)
        inputs = harmonics.halve_bins(inputs) if self._halves else inputs
        inputs = np.pad(inputs, ((0, 0), (0, max(0, LEAST_FRAMES - n))), constant_values=-1)
        output = self._network(inputs)[:, :n]
        output = harmonics.double_bins(output) if self._halves else output
        power = harmonics.mel_power(output, r)
        voiced = f0 > 0
        made = harmonics.mel_energy(power[:, voiced], r)
        lacking = np.median(10 * np.log10((energy[voiced] + 1e-12) / (made + 1e-12)))
        gain = np.clip(lacking, -MOST_GAIN_DB, MOST_GAIN_DB) - _damping(voiced)
        return harmonics.to_level(power * 10 ** (gain / 10), r.mel_ref_db, r.mel_top_db)

    def _audio(self, levels: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Audio of mel levels, from sample 0 on, a hop a frame.

        Each chunk begins and ends `SHARED` frames beyond what it is for. It takes up the phase of the one before, and
        takes over from it in the middle of what they share.
        """
        hop = self._representation.hop_length
        waiting, n_shared = None, 0  # levels; how many of their first frames the chunk before has made already
        tail = None  # the end of the chunk before, from the first of these frames on
        for level in levels:
            waiting = level if waiting is None else np.concatenate([waiting, level], axis=1)
            while waiting.shape[1] > n_shared // 2 + SYNTHESISED + SHARED:
                n = n_shared // 2 + SYNTHESISED + SHARED
                joined = _crossfaded(tail, self._chunk(waiting[:, :n], tail, n_shared))
                n_given = (n - SHARED - SHARED // 2) * hop
                start = 0 if tail is None else SHARED // 2 * hop
                yield joined[start:n_given]
                n_shared = 2 * SHARED
                waiting, tail = waiting[:, n - n_shared :], joined[(n - n_shared) * hop :]
        if waiting is not None:
            joined = _crossfaded(tail, self._chunk(waiting, tail, n_shared))
            yield joined[0 if tail is None else SHARED // 2 * hop :]

    def _chunk(self, level: np.ndarray, tail: np.ndarray | None, n_shared: int) -> np.ndarray:
        """Audio of one chunk; its phase goes on from `tail`, the audio of its first `n_shared` frames."""
        r = self._representation
        power = harmonics.mel_power(level, r)
        length = level.shape[1] * r.hop_length
        if self._settings.mel_inverse == "published":
            return mel_to_audio_published(power, length, r, self._n_iterations)
        before = None if tail is None else data.stft(tail, r)[:, : n_shared // 2]
        return mel_to_audio(power, length, r, self._n_iterations, before)


class _Heard:
    """Blocks that are counted as they go by, and frames as they are analysed."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks = blocks
        self.n_samples = self.n_audible = self.n_voiced = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._blocks:
            self.n_samples += len(block)
            yield block

    def count(self, piece: np.ndarray) -> np.ndarray:
        """`piece`, F0 and energy ``(2, n)``, whose audible and voiced frames are counted."""
        f0, energy = piece
        self.n_audible += np.count_nonzero(energy > 10 ** (SILENCE_DB / 10))
        self.n_voiced += np.count_nonzero(f0)
        return piece

    def complaint(self, f0_min: float, f0_max: float) -> str:
        """What is wrong with a sound in which pitches in a range in Hz were looked for; empty if nothing."""
        if not self.n_audible:
            return f"nothing sounds above {SILENCE_DB:g} dB: the output is silent"
        if self.n_voiced >= FEW_VOICED * self.n_audible:
            return ""
        return (
            f"{100 * (1 - self.n_voiced / self.n_audible):.0f} % of the sounding frames have no single pitch from "
            f"{f0_min:g} to {f0_max:g} Hz (chords, noise, speech, or a pitch beyond --f0_min, --f0_max?): no guitar is "
            "heard there"
        )


def _damping(voiced: np.ndarray) -> np.ndarray:
    """How many dB each frame ``(n,)`` is damped by: none where there is pitch, just before it, and a while after it."""
    n = len(voiced)
    frames = np.arange(n)
    since = frames - np.maximum.accumulate(np.where(voiced, frames, -n))
    until = np.minimum.accumulate(np.where(voiced, frames, 2 * n)[::-1])[::-1] - frames
    return np.minimum(DAMPING_DB * np.maximum(0, since - RINGING), ONSET_DB * np.maximum(0, until - ONSET))


def _faded(carried: np.ndarray | None, level: np.ndarray, n_overlap: int) -> np.ndarray:
    """`level` whose first `n_overlap` frames fade in over those of the window before."""
    n = 0 if carried is None else min(n_overlap, level.shape[1])
    if not n:
        return level
    fade_in = data.fade_in(n)
    blended = level.copy()
    blended[:, :n] = fade_in * level[:, :n] + (1 - fade_in) * carried[:, :n]
    return blended


def _crossfaded(tail: np.ndarray | None, audio: np.ndarray) -> np.ndarray:
    """`audio` that takes over from `tail`, of the same sound, in the middle half of what they share."""
    if tail is None:
        return audio
    n = min(len(tail), len(audio))
    fade_in = np.interp(np.arange(n), [n // 4, n - n // 4], [0, 1]).astype(np.float32)
    joined = audio.copy()
    joined[:n] = fade_in * audio[:n] + (1 - fade_in) * tail[:n]
    return joined
