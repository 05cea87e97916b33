"""The representation of hum2guitar: mel levels, and the artificial spectrogram of a pitch ("semantic harmonics").

Any pitched sound is reduced to the harmonics of its pitch, and a network turns those into the mel spectrogram of a
guitar. NumPy arrays in, new arrays out. Shapes and ranges in all of hum2guitar:

* audio: float32 ``(n_samples,)``, full scale 1, at the representation's sample rate
* f0: float32 ``(n_frames,)`` in Hz, 0 where unvoiced
* magnitude: float32 ``(n_fft // 2 + 1, n_frames)``; a full-scale sine peaks near 1
* level: float32 ``(n_mels, n_frames)``, decibels of a *fixed* range scaled to [-1, 1]. The published system scales each
  file by its own extremes; with a fixed range, the network sees how loud the hum is.

Frame t is centred on sample ``t * hop_length``, as in `data.stft`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import ClassVar

import numpy as np

import data

PEAK_BINS = 3  # on each side that a spectral peak is the greatest of
PEAK_SHARE = 0.01  # of a frame's greatest magnitude that a peak has at least
SAME_PEAK_BINS = 2  # that a peak moves by at most from one frame to the next


@dataclasses.dataclass(frozen=True)
class HumRepresentation(data.StftSettings):
    """How audio becomes what a hum2guitar network sees; as published, except for the fixed decibel ranges.

    Attributes:
        sample_rate: in Hz.
        n_fft: window length in samples; the window is the periodic Hann window.
        hop_length: samples from one frame to the next.
        n_mels: mel bands, the network's bins (triangles of height 1, Slaney's mel scale).
        f_min, f_max: range of the mel bands in Hz.
        n_frames: frames of one training segment (5 s).
        mel_ref_db, mel_top_db: the mel power in dB that maps to 1, and the range in dB below it, whose end maps to -1.
            0 dB is the peak of a full-scale sine.
        harmonics_ref_db, harmonics_top_db: the same for the harmonics. Their range is wider, because their amplitude is
            the *energy* of the frame, as published: 1 dB of loudness changes them by 2 dB.
        f0_low, f0_high: range in Hz that the target plays; pitches are moved into it by octaves.
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

    KIND: ClassVar[dict[str, str]] = {"kind": "hum2guitar", "window": "hann", "mel": "slaney"}

    @property
    def n_bins(self) -> int:
        """Bins of the whole spectrum."""
        return self.n_fft // 2 + 1

    @property
    def segment_samples(self) -> int:
        """Samples of one training segment, the smallest number that gives `n_frames` frames: 4.99 s."""
        return self.hop_length * (self.n_frames - 1)


PUBLISHED = HumRepresentation()


def magnitude(audio: np.ndarray, representation: HumRepresentation = PUBLISHED) -> np.ndarray:
    """Magnitude ``(n_bins, 1 + n_samples // hop_length)`` of audio; a full-scale sine peaks near 1."""
    return np.abs(data.stft(audio, representation)) * representation.magnitude_scale


def frame_energy(spectrum: np.ndarray) -> np.ndarray:
    """Energy ``(n_frames,)`` of a magnitude: the sum of its squares; 1.5 (1.8 dB) for a full-scale sine."""
    return np.einsum("kt,kt->t", spectrum, spectrum)


@functools.cache
def mel_filters(representation: HumRepresentation = PUBLISHED) -> np.ndarray:
    """The mel bands as a matrix, float32 ``(n_mels, n_bins)``: triangles of height 1 on Slaney's mel scale.

    The scale is linear up to 1000 Hz, which is 15 mel, and logarithmic above. The values are those of
    ``librosa.filters.mel`` with ``norm=None``; importing librosa would take 120 MB of memory.
    """
    r = representation
    low, high = (0.015 * f if f < 1000 else 15 + 27 * math.log(f / 1000, 6.4) for f in (r.f_min, r.f_max))
    mel = np.linspace(low, high, r.n_mels + 2)
    edges = np.where(mel < 15, 200 / 3 * mel, 1000 * 6.4 ** ((mel - 15) / 27))
    rising = (r.bin_hz * np.arange(r.n_bins) - edges[:, np.newaxis])[:-1] / np.diff(edges)[:, np.newaxis]
    return np.maximum(0, np.minimum(rising[:-1], 1 - rising[1:])).astype(np.float32)


def to_level(power: np.ndarray, ref_db: float, top_db: float) -> np.ndarray:
    """Level in [-1, 1] of a power: 1 at `ref_db` and above; silence, `top_db` below that, is -1.

    The power of the floor is added, not used as a minimum, so that `mel_power` is an exact inverse down to silence.
    """
    floor = 10 ** ((ref_db - top_db) / 10)
    level = (10 * np.log10(np.asarray(power, np.float32) + np.float32(floor)) - ref_db) / top_db * 2 + 1
    return np.clip(level, -1, 1).astype(np.float32)


def mel_level(spectrum: np.ndarray, representation: HumRepresentation = PUBLISHED) -> np.ndarray:
    """Mel level ``(n_mels, n_frames)`` in [-1, 1] of a magnitude."""
    r = representation
    return to_level(mel_filters(r) @ np.square(spectrum), r.mel_ref_db, r.mel_top_db)


def mel_power(level: np.ndarray, representation: HumRepresentation = PUBLISHED) -> np.ndarray:
    """Mel power ``(n_mels, n_frames)`` of a mel level: the inverse of `to_level`."""
    r = representation
    floor = 10 ** ((r.mel_ref_db - r.mel_top_db) / 10)
    power = 10 ** ((r.mel_ref_db + (np.asarray(level, np.float64) - 1) / 2 * r.mel_top_db) / 10) - floor
    return np.maximum(power, 0).astype(np.float32)


def mel_energy(power: np.ndarray, representation: HumRepresentation = PUBLISHED) -> np.ndarray:
    """Energy ``(n_frames,)`` of a mel power: approximately `frame_energy` of the magnitude."""
    return np.maximum(mel_pseudo_inverse(representation) @ power, 0).sum(axis=0)


@functools.cache
def mel_pseudo_inverse(representation: HumRepresentation) -> np.ndarray:
    """The pseudo-inverse of `mel_filters`, float32 ``(n_bins, n_mels)``."""
    # Some bands contain no bin. Without rcond, NumPy 2.5 divides by singular values that are 0 but for rounding.
    return np.linalg.pinv(mel_filters(representation), rcond=1e-5)


def harmonic_share(spectrum: np.ndarray, f0: np.ndarray, representation: HumRepresentation = PUBLISHED) -> np.ndarray:
    """Share of each frame's energy ``(n_frames,)`` that lies within two bins of a multiple of its pitch; 0 without."""
    bins = np.arange(len(spectrum))[:, np.newaxis]
    p = np.where(f0 > 0, f0, 1e9) / representation.bin_hz
    near = (np.abs(bins - p * np.round(bins / p)) <= 2) & (bins > p / 2)
    return (np.square(spectrum) * near).sum(axis=0) / np.maximum(frame_energy(spectrum), 1e-12)


def halve_bins(level: np.ndarray) -> np.ndarray:
    """Half the bands, ``(n_mels // 2, n_frames)``, as the global generator needs them.

    The mean of every second band and its neighbours: an average pool of 3 with stride 2, as published, in which the
    padding at the edges does not count.
    """
    padded = np.pad(level, ((1, 1), (0, 0)))
    counts = np.pad(np.ones(len(level)), 1)
    sums, counts = ((x[:-2:2] + x[1:-1:2] + x[2::2]) for x in (padded, counts))
    return (sums / counts[:, np.newaxis]).astype(np.float32)


def double_bins(level: np.ndarray) -> np.ndarray:
    """Twice the bands, by linear interpolation: the approximate inverse of `halve_bins`."""
    between = (level + np.concatenate([level[1:], level[-1:]])) / 2
    return np.stack([level, between], axis=1).reshape(-1, level.shape[1])


def harmonics_magnitude(
    f0: np.ndarray, energy: np.ndarray, representation: HumRepresentation = PUBLISHED
) -> np.ndarray:
    """Artificial magnitude of a pitch, ``(n_bins, n_frames)``: a comb of harmonics that decays with the frequency.

    As published (hum2guitar), in each voiced frame and bin k: the sum over i >= 1, with p*i below the top bin, of
    ``exp(-2 * (k - p*i)**2)``, times the energy of the frame, times ``exp(-linspace(0, 5, n_bins))`` scaled to [0, 1].
    Here p is the exact pitch in bins. The published system rounds it, which moves the tenth harmonic by up to five
    bins.

    Args:
        f0: in Hz ``(n_frames,)``, 0 where unvoiced.
        energy: from `frame_energy`, ``(n_frames,)``.
    """
    n_bins = representation.n_bins
    bins = np.arange(n_bins, dtype=np.float32)[:, np.newaxis]  # (n_bins, 1)
    voiced = np.flatnonzero(np.asarray(f0) > 0)
    p = (np.asarray(f0)[voiced] / representation.bin_hz).astype(np.float32)  # (n_voiced,)
    nearest = np.round(bins / p)  # harmonic that is nearest to each bin, (n_bins, n_voiced)
    comb = np.zeros_like(nearest)
    for i in (nearest - 1, nearest, nearest + 1):  # the others are too far away to matter
        comb += np.where((i >= 1) & (p * i < n_bins - 1), np.exp(-2 * np.square(bins - p * i)), 0)
    decay = np.exp(-np.linspace(0, 5, n_bins))
    decay = (decay - decay[-1]) / (decay[0] - decay[-1])
    result = np.zeros((n_bins, len(f0)), np.float32)
    result[:, voiced] = comb * np.asarray(energy)[voiced] * decay[:, np.newaxis]
    return result


def harmonics_level(f0: np.ndarray, energy: np.ndarray, representation: HumRepresentation = PUBLISHED) -> np.ndarray:
    """The network's input: mel level in [-1, 1] ``(n_mels, n_frames)`` of `harmonics_magnitude`."""
    r = representation
    power = mel_filters(r) @ np.square(harmonics_magnitude(f0, energy, r))
    return to_level(power, r.harmonics_ref_db, r.harmonics_top_db)


# --- back to audio ----------------------------------------------------------------------------------------------------


def mel_to_audio(
    power: np.ndarray, representation: HumRepresentation = PUBLISHED, n_iterations: int = 16
) -> np.ndarray:
    """Audio float32 ``(hop_length * n_frames - 1,)`` whose mel power is close to `power`, ``(n_mels, n_frames)``.

    1. Magnitude by the pseudo-inverse of the mel matrix, clipped at 0.
    2. Phase from the frequency of each spectral peak (`peak_phase`).
    3. Fast Griffin-Lim (Perraudin, Balazs & Søndergaard, 2013) with momentum 0.99. The target is the mel power rather
       than the magnitude of step 1: each iteration scales the bins of the current magnitude by the ratio of the wanted
       to the current power of their mel bands.

    `n_iterations` are those of step 3.
    """
    r = representation
    n_samples = r.hop_length * power.shape[1] - 1  # which have as many centred frames as `power`
    power = np.asarray(power, np.float32) * r.magnitude_scale**-2
    guess = np.sqrt(np.maximum(mel_pseudo_inverse(r) @ power, 0))
    coefficients = guess * np.exp(1j * peak_phase(guess, r)).astype(np.complex64)
    bands, spread = _mel_bands(r)
    tiny, previous = np.float32(1e-12), None
    for _ in range(n_iterations):
        spectrum = data.stft(data.istft(coefficients, n_samples, r), r)
        squared = np.square(spectrum.real) + np.square(spectrum.imag) + tiny
        wanted = np.sqrt(squared * (spread @ (power / (bands @ squared + tiny))))
        accelerated = spectrum if previous is None else spectrum + np.float32(0.99) * (spectrum - previous)
        previous = spectrum
        coefficients = accelerated * (wanted / (np.abs(accelerated) + tiny))
    return data.istft(coefficients, n_samples, r)


def peak_phase(spectrum: np.ndarray, representation: HumRepresentation = PUBLISHED) -> np.ndarray:
    """Phase in radians ``(n_bins, n_frames)`` for a magnitude, from the frequencies of its peaks.

    Single-pass spectrogram inversion (Beauregard et al., 2015). Every bin belongs to the nearest peak. The frequency of
    the peak, from a parabola through three bins, determines the advance of its phase over a hop. From bin to bin
    around a peak, the phase turns by pi, because the window is centred in the frame. (Multiples of a tracked pitch
    instead of the frequencies of the peaks are worse: an error of 5 cents is 1 bin at the 30th harmonic of 120 Hz.)
    A new peak begins with phase 0, and faint maxima are no peaks: otherwise rounding errors would decide on the phase
    of a whole note.

    Args:
        spectrum: magnitude ``(n_bins, n_frames)`` in any scale.
    """
    from scipy import ndimage

    r = representation
    n_bins, n_frames = spectrum.shape
    height = np.log(np.maximum(spectrum, spectrum.max() * 1e-7 + 1e-20, dtype=np.float64))
    is_peak = height == ndimage.maximum_filter1d(height, 2 * PEAK_BINS + 1, axis=0, mode="nearest")
    is_peak &= spectrum > PEAK_SHARE * spectrum.max(axis=0)
    offset = np.pad(data.peak_offset(height[:-2], height[1:-1], height[2:]), ((1, 1), (0, 0)))
    bins = np.arange(n_bins)
    advance = 2 * np.pi * r.hop_length / r.n_fft * (bins[:, np.newaxis] + offset)  # radians in one hop
    phase = np.zeros((n_bins, n_frames))
    is_old: np.ndarray | bool = False  # whether there was a peak at most `SAME_PEAK_BINS` away in the frame before
    for t in range(n_frames):
        peaks = np.flatnonzero(is_peak[:, t])
        middles = (peaks[:-1] + peaks[1:]) / 2
        owner = peaks[np.searchsorted(middles, bins)] if len(peaks) else bins  # the peak that each bin belongs to
        of_peak = np.where(is_old, phase[:, t - 1], 0) + advance[:, t]
        phase[:, t] = of_peak[owner] + np.pi * (bins - owner)
        is_old = np.abs(owner - bins) <= SAME_PEAK_BINS
    return phase % (2 * np.pi)


@functools.cache
def _mel_bands(representation: HumRepresentation):
    """The mel matrix, and the matrix that averages bands to bins, both sparse, since 99 % of their entries are 0."""
    from scipy import sparse

    filters = mel_filters(representation)
    share = filters.sum(axis=0)
    spread = np.divide(filters.T, share[:, np.newaxis], out=np.zeros_like(filters.T), where=share[:, np.newaxis] > 0)
    return sparse.csr_array(filters), sparse.csr_array(spread)
