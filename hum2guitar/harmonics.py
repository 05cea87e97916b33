"""Pitch, the artificial spectrogram of a pitch ("semantic harmonics"), mel spectrograms and the way back to audio.

The features of the second system, hum2guitar: any pitched sound is reduced to the harmonics of its pitch, and a network
turns those into the mel spectrogram of a guitar. NumPy arrays in, new arrays out; no TensorFlow. Shapes and ranges:

* audio: float32 ``(n_samples,)``, full scale 1, at the representation's sample rate
* f0: float32 ``(n_frames,)`` in Hz, 0 where unvoiced
* magnitude: float32 ``(n_fft // 2 + 1, n_frames)``; a full-scale sine peaks near 1
* level: float32 ``(n_mels, n_frames)``, decibels of a *fixed* range scaled to [-1, 1]. The published system scaled each
  file by its own extremes; with a fixed range the loudness of the hum is the loudness the network sees.

Frame t is centred on sample ``t * hop_length``, as in `data.stft`.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

import data

F0_METHODS = ("pyin", "cepstrum")
MEL_INVERSES = ("peaks", "published")  # `mel_to_audio` and `mel_to_audio_published`
# Search ranges in Hz. The cepstrum's are the published ones (its reach ends at 21.5 Hz). pYIN does not mistake octaves
# the wider it looks, so its range holds women's and children's voices too, and from below the lowest guitar string on.
HUM_F0 = {"pyin": (65.0, 1050.0), "cepstrum": (70.0, 550.0)}
GUITAR_F0 = {"pyin": (65.0, 1300.0), "cepstrum": (20.0, 1300.0)}
LOWEST_F0, HIGHEST_F0 = 20.0, 5000.0
SILENCE_DB = -60.0  # a frame whose energy is below this (full-scale sine: 1.8 dB) has no pitch


@dataclasses.dataclass(frozen=True)
class HumRepresentation:
    """How audio becomes what a hum2guitar network sees; all but the fixed decibel ranges is as published.

    Attributes:
        sample_rate: in Hz.
        n_fft: window length in samples; the window is the periodic Hann window.
        hop_length: samples from one frame to the next.
        n_mels: mel bands, the network's bins (triangles of height 1, Slaney's mel scale).
        f_min, f_max: range of the mel bands in Hz.
        n_frames: frames of one training segment (5 s).
        mel_ref_db, mel_top_db: the mel power that maps to 1, and how many dB below it maps to -1. 0 dB is the peak of a
            full-scale sine.
        harmonics_ref_db, harmonics_top_db: the same for the harmonics. Their range is wider, since as published their
            amplitude is the frame's *energy*: 1 dB of loudness moves them by 2 dB.
        f0_low, f0_high: range in Hz that the target plays well; pitches are moved by octaves into it.
    """

    sample_rate: int = 22050
    n_fft: int = 2048
    hop_length: int = 512
    n_mels: int = 512
    f_min: float = 0.0
    f_max: float = 10000.0
    n_frames: int = 216
    mel_ref_db: float = 0.0
    mel_top_db: float = 100.0
    harmonics_ref_db: float = 0.0
    harmonics_top_db: float = 140.0
    f0_low: float = 82.4
    f0_high: float = 988.0

    def __post_init__(self) -> None:
        data.check_sizes(self)

    @property
    def window(self) -> np.ndarray:
        """The analysis and synthesis window, float32 ``(n_fft,)``."""
        return np.hanning(self.n_fft + 1)[:-1].astype(np.float32)

    @property
    def bin_hz(self) -> float:
        """Distance of two neighbouring bins in Hz."""
        return self.sample_rate / self.n_fft

    @property
    def n_bins(self) -> int:
        """Bins of the whole spectrum."""
        return self.n_fft // 2 + 1

    @property
    def segment_samples(self) -> int:
        """Samples of one training segment, the fewest that make `n_frames` frames: 4.99 s."""
        return self.hop_length * (self.n_frames - 1)

    def to_dict(self) -> dict:
        """The settings as they are kept beside cached features and in the weights file."""
        return {**_KIND, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, settings: dict, where: str = "settings") -> HumRepresentation:
        """The representation that `to_dict` described.

        Raises:
            InputError: naming `where`, as `data.from_settings`.
        """
        return data.from_settings(cls, _KIND, settings, where)


_KIND = {"kind": "hum2guitar", "window": "hann", "mel": "slaney"}
PUBLISHED = HumRepresentation()


# --- spectra and levels -----------------------------------------------------------------------------------------------


def magnitude(audio: np.ndarray, representation: HumRepresentation = PUBLISHED) -> np.ndarray:
    """Magnitude ``(n_bins, 1 + n_samples // hop_length)`` of audio; a full-scale sine peaks near 1."""
    return np.abs(data.stft(audio, representation)) * np.float32(2 / representation.window.sum())


def frame_energy(spectrum: np.ndarray) -> np.ndarray:
    """Energy ``(n_frames,)`` of a magnitude: the sum of its squares; 1.5 (1.8 dB) for a full-scale sine."""
    return np.einsum("kt,kt->t", spectrum, spectrum)


@functools.cache
def mel_filters(representation: HumRepresentation = PUBLISHED) -> np.ndarray:
    """The mel bands as a matrix, float32 ``(n_mels, n_bins)``: triangles of height 1 on Slaney's mel scale."""
    import librosa

    r = representation
    return librosa.filters.mel(sr=r.sample_rate, n_fft=r.n_fft, n_mels=r.n_mels, fmin=r.f_min, fmax=r.f_max, norm=None)


def to_level(power: np.ndarray, ref_db: float, top_db: float) -> np.ndarray:
    """Power in [0, inf) to [-1, 1]: 1 from `ref_db` on, -1 for silence, `top_db` below.

    The floor is added rather than cut off, so that `from_level` gives back everything down to silence.
    """
    floor = 10 ** ((ref_db - top_db) / 10)
    level = (10 * np.log10(np.asarray(power, np.float32) + np.float32(floor)) - ref_db) / top_db * 2 + 1
    return np.clip(level, -1, 1).astype(np.float32)


def from_level(level: np.ndarray, ref_db: float, top_db: float) -> np.ndarray:
    """Power of a level: the inverse of `to_level`."""
    floor = 10 ** ((ref_db - top_db) / 10)
    power = 10 ** ((ref_db + (np.asarray(level, np.float64) - 1) / 2 * top_db) / 10) - floor
    return np.maximum(power, 0).astype(np.float32)


def mel_level(spectrum: np.ndarray, representation: HumRepresentation = PUBLISHED) -> np.ndarray:
    """Mel spectrogram of a magnitude in [-1, 1], ``(n_mels, n_frames)``."""
    r = representation
    return to_level(mel_filters(r) @ np.square(spectrum), r.mel_ref_db, r.mel_top_db)


def mel_power(level: np.ndarray, representation: HumRepresentation = PUBLISHED) -> np.ndarray:
    """Mel power ``(n_mels, n_frames)`` of a level: the inverse of the last step of `mel_level`."""
    return from_level(level, representation.mel_ref_db, representation.mel_top_db)


def mel_energy(power: np.ndarray, representation: HumRepresentation = PUBLISHED) -> np.ndarray:
    """Energy ``(n_frames,)`` of a mel power, as `frame_energy` has it of the magnitude behind it."""
    return np.maximum(_mel_pseudo_inverse(representation) @ power, 0).sum(axis=0)


def halve_bins(level: np.ndarray) -> np.ndarray:
    """Mean of each second band and its neighbours, ``(n_mels // 2, n_frames)``: what the global generator works on.

    Average pool of 3 with stride 2 and padding 1, edges not counted, as published.
    """
    padded = np.pad(level, ((1, 1), (0, 0)))
    counts = np.pad(np.ones(len(level)), 1)
    sums, counts = ((x[:-2:2] + x[1:-1:2] + x[2::2]) for x in (padded, counts))
    return (sums / counts[:, np.newaxis]).astype(np.float32)


def double_bins(level: np.ndarray) -> np.ndarray:
    """Twice the bands, interpolated: the way back from `halve_bins`."""
    between = (level + np.concatenate([level[1:], level[-1:]])) / 2
    return np.stack([level, between], axis=1).reshape(-1, level.shape[1])


# --- semantic harmonics -----------------------------------------------------------------------------------------------


def harmonics(f0: np.ndarray, energy: np.ndarray, representation: HumRepresentation = PUBLISHED) -> np.ndarray:
    """Artificial magnitude of a pitch, ``(n_bins, n_frames)``: a comb of harmonics that fades towards the top.

    As published (hum2guitar): in each voiced frame the sum over i >= 1, with p*i below the top bin, of
    ``exp(-2 * (k - p*i)**2)`` over bins k, times the frame's energy, times ``exp(-linspace(0, 5, n_bins))`` scaled to
    [0, 1]. Here p is the pitch in bins as it is; the published system rounds it first, which puts the tenth harmonic
    up to five bins beside its place.

    Args:
        f0: in Hz ``(n_frames,)``, 0 where unvoiced.
        energy: of `frame_energy`, ``(n_frames,)``.
    """
    n_bins = representation.n_bins
    bins = np.arange(n_bins, dtype=np.float32)[:, np.newaxis]  # (n_bins, 1)
    voiced = np.flatnonzero(np.asarray(f0) > 0)
    p = (np.asarray(f0)[voiced] / representation.bin_hz).astype(np.float32)  # (n_voiced,)
    nearest = np.round(bins / p)  # number of the harmonic nearest to each bin, (n_bins, n_voiced)
    comb = np.zeros_like(nearest)
    for i in (nearest - 1, nearest, nearest + 1):  # the others are too far to be seen
        comb += np.where((i >= 1) & (p * i < n_bins - 1), np.exp(-2 * np.square(bins - p * i)), 0)
    decay = np.exp(-np.linspace(0, 5, n_bins))
    decay = (decay - decay[-1]) / (decay[0] - decay[-1])
    result = np.zeros((n_bins, len(f0)), np.float32)
    result[:, voiced] = comb * np.asarray(energy)[voiced] * decay[:, np.newaxis]
    return result


def harmonics_level(f0: np.ndarray, energy: np.ndarray, representation: HumRepresentation = PUBLISHED) -> np.ndarray:
    """The network's input: mel level in [-1, 1] ``(n_mels, n_frames)`` of `harmonics`."""
    r = representation
    power = mel_filters(r) @ np.square(harmonics(f0, energy, r))
    return to_level(power, r.harmonics_ref_db, r.harmonics_top_db)


def analyse(
    audio: np.ndarray,
    representation: HumRepresentation = PUBLISHED,
    method: str = "pyin",
    f0_range: tuple[float, float] | None = None,
    remove_outliers: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pitch, energy and mel level of audio: ``(n_frames,)``, ``(n_frames,)``, ``(n_mels, n_frames)``.

    Arguments and errors as `track_f0`. One STFT serves all three.
    """
    spectrum = magnitude(audio, representation)
    f0 = track_f0(audio, representation, method, f0_range, remove_outliers, spectrum)
    return f0, frame_energy(spectrum), mel_level(spectrum, representation)


# --- pitch ------------------------------------------------------------------------------------------------------------


def search_range(method: str, f0_min: float | None = None, f0_max: float | None = None) -> tuple[float, float]:
    """The range in Hz that a pitch is searched in: as given, or the method's own for humming.

    Raises:
        InputError: unknown method, or a range that is narrower than an octave (pYIN needs that much) or out of reach.
    """
    if method not in F0_METHODS:
        raise data.InputError(f"--f0: expected one of {', '.join(F0_METHODS)}, found {method!r}")
    low, high = HUM_F0[method]
    low, high = low if f0_min is None else f0_min, high if f0_max is None else f0_max
    if not LOWEST_F0 <= low <= high / 2 <= HIGHEST_F0 / 2:
        raise data.InputError(
            f"--f0_min, --f0_max: expected a range of an octave or more between {LOWEST_F0:g} and {HIGHEST_F0:g} Hz, "
            f"found {low:g} to {high:g} Hz"
        )
    return low, high


def track_f0(
    audio: np.ndarray,
    representation: HumRepresentation = PUBLISHED,
    method: str = "pyin",
    f0_range: tuple[float, float] | None = None,
    remove_outliers: bool = False,
    spectrum: np.ndarray | None = None,
) -> np.ndarray:
    """Pitch in Hz ``(n_frames,)``, 0 where unvoiced; frames quieter than `SILENCE_DB` are unvoiced.

    Args:
        method: "pyin" (Mauch & Dixon, 2014), or "cepstrum" as published by hum2guitar.
        f0_range: lowest and highest pitch searched, in Hz; by default that of humming, `HUM_F0`.
        remove_outliers: cepstrum only: as published for humming, frames farther than 1.5 interquartile ranges from the
            median become unvoiced.
        spectrum: the audio's `magnitude`, where it is at hand.

    Raises:
        InputError: as `search_range`.
    """
    r = representation
    f0_min, f0_max = search_range(method, *(f0_range or (None, None)))
    audio = np.asarray(audio, np.float32)
    spectrum = magnitude(audio, r) if spectrum is None else spectrum
    audible = frame_energy(spectrum) > 10 ** (SILENCE_DB / 10)
    if not audible.any():
        return np.zeros(len(audible), np.float32)
    if method == "pyin":
        f0 = _pyin(audio, r, f0_min, f0_max)
        return _refine(np.where(audible, f0[: len(audible)], 0), spectrum, r)
    return _cepstrum(spectrum, audible, r, f0_min, f0_max, remove_outliers)


def _pyin(audio: np.ndarray, r: HumRepresentation, f0_min: float, f0_max: float) -> np.ndarray:
    import librosa

    # Three periods of the lowest pitch: a longer frame smears slides and the ends of notes.
    frame_length = 1 << math.ceil(math.log2(3 * r.sample_rate / f0_min))
    f0, voiced, _ = librosa.pyin(
        audio,
        fmin=f0_min,
        fmax=f0_max,
        sr=r.sample_rate,
        frame_length=frame_length,
        hop_length=r.hop_length,
        resolution=0.2,  # semitones: off by 10 cents at most, and four times faster than 0.1
    )
    return np.where(voiced, f0, 0)


def _refine(f0: np.ndarray, spectrum: np.ndarray, r: HumRepresentation) -> np.ndarray:
    """`f0` moved, by 20 cents at most, to where the first five harmonics stand in the spectrum.

    Each harmonic's place is the vertex of a parabola through its three bins in decibels; they are weighed by magnitude
    and by number, since an error of the place is shared by so many harmonics.
    """
    voiced = np.flatnonzero(f0 > 0)
    p = f0[voiced] / r.bin_hz
    total, weights = np.zeros(len(voiced)), np.full(len(voiced), 1e-12)
    for i in range(1, 6):
        middle = np.clip(np.round(i * p).astype(int), 2, r.n_bins - 3)
        middle += np.argmax([spectrum[middle + shift, voiced] for shift in (-1, 0, 1)], axis=0) - 1
        left, peak, right = (np.log(spectrum[middle + shift, voiced] + 1e-12) for shift in (-1, 0, 1))
        bend = np.minimum(left - 2 * peak + right, -1e-6)
        weight = np.where((peak > left) & (peak > right), i * np.exp(peak), 0)
        total += weight * ((middle + 0.5 * (left - right) / bend) / i / p - 1)
        weights += weight
    limit = 2 ** (20 / 1200) - 1
    refined = np.zeros(len(f0), np.float32)
    refined[voiced] = f0[voiced] * (1 + np.clip(total / weights, -limit, limit))
    return refined


def _cepstrum(
    spectrum: np.ndarray, audible: np.ndarray, r: HumRepresentation, f0_min: float, f0_max: float, remove_outliers: bool
) -> np.ndarray:
    from scipy import fft, ndimage

    power = np.square(spectrum)
    level = 10 * np.log10(np.maximum(power, power.max() * 1e-8))  # 80 dB, as published
    cepstrum = fft.irfft(level, axis=0)
    first, last = int(r.sample_rate / f0_max), min(math.ceil(r.sample_rate / f0_min), r.n_fft // 2 - 2)
    f0 = np.zeros(len(audible), np.float32)
    for t in np.flatnonzero(audible):
        part = cepstrum[first - 1 : last + 2, t]
        peaks = np.flatnonzero((part[1:-1] > part[:-2]) & (part[1:-1] >= part[2:]))  # 0 is quefrency `first`
        if len(peaks):
            highest = peaks[np.argsort(part[1:-1][peaks])[-3:]] + first
            candidates = np.round(r.n_fft / highest).astype(int)  # STFT bin of each quefrency
            f0[t] = candidates[np.argmax(spectrum[candidates, t])] * r.bin_hz
    voiced = f0 > 0
    if remove_outliers and voiced.any():
        low, middle, high = np.percentile(f0[voiced], [25, 50, 75])
        f0[np.abs(f0 - middle) > 1.5 * (high - low)] = 0
    return ndimage.median_filter(f0, 3, mode="constant")


def octaves_into_range(f0: np.ndarray, low: float, high: float) -> int:
    """Semitones, a multiple of 12, that move a melody into [low, high] Hz: the fewest octaves for the most frames.

    0 where nothing is voiced.
    """
    voiced = f0[f0 > 0]
    if not len(voiced):
        return 0
    octaves = range(-6, 7)
    inside = [np.mean((voiced * 2.0**o >= low) & (voiced * 2.0**o <= high)) for o in octaves]
    # 1 % fewer frames are no reason for another octave.
    return 12 * min((o for o, share in zip(octaves, inside, strict=True) if share >= max(inside) - 0.01), key=abs)


# --- back to audio ----------------------------------------------------------------------------------------------------


def mel_to_audio(
    power: np.ndarray,
    length: int,
    representation: HumRepresentation = PUBLISHED,
    n_iterations: int = 32,
    before: np.ndarray | None = None,
) -> np.ndarray:
    """Audio float32 ``(length,)`` whose mel power is near `power` ``(n_mels, n_frames)``.

    1. Magnitude by the pseudo-inverse of the mel matrix, clipped at 0.
    2. Phase by the advance of each spectral peak over a hop (`peak_phase`).
    3. Fast Griffin-Lim (Perraudin, Balazs & Søndergaard, 2013) with momentum 0.99. What is asked for is the mel power,
       not the guessed magnitude: each round scales the bins of the present magnitude by what their mel bands lack.

    Args:
        length: in samples; beyond the last frame's hop there is silence.
        n_iterations: rounds of the third step.
        before: the `data.stft` of what is already made of the first n frames, complex ``(n_bins, n)``; the phase goes
            on from there.
    """
    r = representation
    covered = r.hop_length * power.shape[1] - 1  # samples whose centred frames are those of `power`
    power = np.asarray(power, np.float32) * np.float32(r.window.sum() / 2) ** 2
    guess = np.sqrt(np.maximum(_mel_pseudo_inverse(r) @ power, 0))
    coefficients = guess * np.exp(1j * peak_phase(guess, r, before)).astype(np.complex64)
    bands, spread = _mel_bands(r)
    tiny, previous = np.float32(1e-12), None
    for _ in range(n_iterations):
        spectrum = data.stft(data.istft(coefficients, covered, r), r)
        squared = np.square(spectrum.real) + np.square(spectrum.imag) + tiny
        asked = np.sqrt(squared * (spread @ (power / (bands @ squared + tiny))))
        pushed = spectrum if previous is None else spectrum + np.float32(0.99) * (spectrum - previous)
        previous = spectrum
        coefficients = pushed * (asked / (np.abs(pushed) + tiny))
    audio = data.istft(coefficients, min(length, covered), r)
    return np.pad(audio, (0, length - len(audio)))


def mel_to_audio_published(
    power: np.ndarray,
    length: int,
    representation: HumRepresentation = PUBLISHED,
    n_iterations: int = 32,
    seed: int = 0,
) -> np.ndarray:
    """Audio float32 ``(length,)`` of a mel power the published way.

    Non-negative least squares for the magnitude, then Griffin-Lim from random phase, both librosa's.
    """
    import librosa

    r = representation
    spectrum = librosa.feature.inverse.mel_to_stft(
        np.asarray(power, np.float32), sr=r.sample_rate, n_fft=r.n_fft, fmin=r.f_min, fmax=r.f_max, norm=None
    )
    audio = librosa.griffinlim(
        spectrum * (r.window.sum() / 2),
        n_iter=n_iterations,
        hop_length=r.hop_length,
        n_fft=r.n_fft,
        length=length,
        random_state=seed,
    )
    return audio.astype(np.float32)


def peak_phase(
    spectrum: np.ndarray,
    representation: HumRepresentation = PUBLISHED,
    before: np.ndarray | None = None,
) -> np.ndarray:
    """Phase in radians ``(n_bins, n_frames)`` for a magnitude, from the frequencies of its peaks.

    Single-pass spectrogram inversion (Beauregard et al., 2015): every bin belongs to the nearest peak; the peak's
    frequency, by a parabola through its three bins, says how far its phase goes in one hop; beside a peak the phase
    turns by pi a bin, since the window is centred in the frame. (Multiples of a tracked pitch in place of the peaks'
    own frequencies were tried and are worse: 5 cents of error are 1 bin at the 30th harmonic of 120 Hz.)

    Args:
        spectrum: magnitude ``(n_bins, n_frames)`` of any scale.
        before: as in `mel_to_audio`.
    """
    r = representation
    n_bins, n_frames = spectrum.shape
    height = np.log(np.maximum(spectrum, spectrum.max() * np.float32(1e-7) + np.float32(1e-20)))
    left, middle, right = height[:-2], height[1:-1], height[2:]
    is_peak = np.zeros(spectrum.shape, bool)
    is_peak[1:-1] = (middle > left) & (middle >= right)
    bend = left - 2 * middle + right
    offset = np.zeros(spectrum.shape, np.float32)
    np.divide(0.5 * (left - right), bend, out=offset[1:-1], where=is_peak[1:-1])
    bins = np.arange(n_bins)[:, np.newaxis]
    owner = _nearest_marked(is_peak)  # the peak of each bin; a frame without peaks: each bin its own
    frequency = bins + np.clip(offset, -0.5, 0.5)  # in bins
    advance = 2 * np.pi * r.hop_length / r.n_fft * frequency  # radians in one hop
    phase = np.zeros((n_bins, n_frames))
    n_before = 0 if before is None else min(before.shape[1], n_frames)
    if n_before:
        phase[:, :n_before] = np.angle(before[:, :n_before])
    for t in range(n_before, n_frames):
        of_peak = (phase[:, t - 1] if t else 0) + advance[:, t]
        phase[:, t] = of_peak[owner[:, t]] + np.pi * (bins[:, 0] - owner[:, t])
    return phase % (2 * np.pi)


def _nearest_marked(marked: np.ndarray) -> np.ndarray:
    """Row of the nearest marked row in the same column for every place; its own row in a column without marks."""
    n_rows, _ = marked.shape
    rows = np.broadcast_to(np.arange(n_rows)[:, np.newaxis], marked.shape)
    above = np.maximum.accumulate(np.where(marked, rows, -n_rows * 2), axis=0)
    below = np.minimum.accumulate(np.where(marked, rows, n_rows * 3)[::-1], axis=0)[::-1]
    nearest = np.where(rows - above <= below - rows, above, below)
    return np.where(marked.any(axis=0), nearest, rows)


@functools.cache
def _mel_pseudo_inverse(representation: HumRepresentation) -> np.ndarray:
    # Some bands hold no bin: without a bound, NumPy 2.5 divides by what rounding has left of their singular values.
    return np.linalg.pinv(mel_filters(representation), rcond=1e-5)


@functools.cache
def _mel_bands(representation: HumRepresentation):
    """The mel matrix and the matrix that averages bands back onto bins, both sparse (9 in 1000 entries are not 0)."""
    from scipy import sparse

    filters = mel_filters(representation)
    share = filters.sum(axis=0)
    spread = np.divide(filters.T, share[:, np.newaxis], out=np.zeros_like(filters.T), where=share[:, np.newaxis] > 0)
    return sparse.csr_array(filters), sparse.csr_array(spread)


# --- a voice to try things on -----------------------------------------------------------------------------------------


def synthesize_voice(
    f0: np.ndarray,
    sample_rate: int = PUBLISHED.sample_rate,
    closed: bool = True,
    breath: float = 0.0,
    first_harmonic: int = 1,
    seed: int = 0,
) -> np.ndarray:
    """A voice-like tone, float32 of the length of `f0` with peak 0.5: for tests and examples, not beauty.

    Harmonics fall by 6 dB an octave (a glottal source), then pass a low-pass at 400 Hz (a closed mouth: humming) or
    four formants of an open "a". Onsets and ends take 10 ms.

    Args:
        f0: in Hz for every *sample*, 0 where silent.
        closed: humming rather than singing.
        breath: standard deviation of the noise over the tone's RMS.
        first_harmonic: 2 leaves the fundamental out.
        seed: of the noise.
    """
    f0 = np.asarray(f0, np.float64)
    voiced = f0 > 0
    if not voiced.any():
        return np.zeros(len(f0), np.float32)
    phase = 2 * np.pi * np.cumsum(f0) / sample_rate
    tone = np.zeros(len(f0))
    for i in range(first_harmonic, int(min(8000, sample_rate / 2) / f0[voiced].min()) + 1):
        frequency = i * f0
        if closed:
            gain = 1 / (1 + np.square(frequency / 400))
        else:
            gain = 0.02 + sum(1 / (1 + np.square((frequency - f) / b)) for f, b in _FORMANTS)
        tone += np.where(frequency < 0.45 * sample_rate, gain / i, 0) * np.sin(i * phase)
    ramp = np.hanning(int(0.02 * sample_rate))
    gate = np.convolve(voiced, ramp / ramp.sum(), "same")
    noise = np.random.default_rng(seed).standard_normal(len(f0))
    audio = gate * (tone + breath * np.sqrt(np.mean(np.square(tone[voiced]))) * noise)
    return (audio * (0.5 / np.abs(audio).max())).astype(np.float32)


_FORMANTS = ((750, 90), (1150, 110), (2450, 160), (3400, 250))  # centre and half width in Hz of an open "a"
