"""Pitch tracking with SwiftF0, or with the cepstrum as published; and the octave in which a melody is heard."""

from __future__ import annotations

import functools
import math
import os

import numpy as np

from hum2guitar import harmonics
from hum2guitar.harmonics import HumRepresentation

F0_METHODS = ("swiftf0", "cepstrum")
SILENCE_DB = -60.0  # energy of a frame below which it is unvoiced (a full-scale sine has 1.8 dB)
# SwiftF0 finds 47 to 2094 Hz. Starting above 60 Hz leaves out mains hum, and loses no voice and no string of a guitar.
SWIFT_RANGE = (60.0, 2093.0)
SWIFT_RATE, SWIFT_HOP = 16000, 256
SWIFT_NOISE = 1e-5  # amplitude of a steady noise: SwiftF0's logarithm would hear the rounding errors in empty bands
BEGIN_CONFIDENCE, STAY_CONFIDENCE = 0.5, 0.2  # of SwiftF0, where a note begins, and after that
STAY_OCTAVES = 1 / 12  # by which the pitch may change from one to the next of the less confident frames
OCTAVE_ERROR, OCTAVE_ERROR_HZ = 0.1, 200.0  # see `_mend_octaves`
# The published ranges of the cepstrum in Hz, for humming and for guitars; 21.5 Hz is the lowest it can find.
CEPSTRUM_HUM, CEPSTRUM_GUITAR = (70.0, 550.0), (20.0, 1300.0)
MAX_OCTAVES = 5  # that a melody is moved by
MARGIN = 2**0.5  # half an octave: the range of a network is that of nine tenths of its training pitches, not of all


def analyse(
    audio: np.ndarray,
    representation: HumRepresentation = harmonics.PUBLISHED,
    method: str = F0_METHODS[0],
    guitar: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pitch in Hz (0 where unvoiced), energy and magnitude of audio: ``(n_frames,)``, ``(n_frames,)`` and 2-D.

    Args:
        audio: ``(n_samples,)``; frames quieter than `SILENCE_DB` are unvoiced.
        representation: of the frames.
        method: "swiftf0" (Nieradzik, "SwiftF0", 2025), or "cepstrum" as published by hum2guitar.
        guitar: whether the cepstrum looks for a guitar rather than for humming.
    """
    r = representation
    audio = np.asarray(audio, np.float32)
    spectrum = harmonics.magnitude(audio, r)
    energy = harmonics.frame_energy(spectrum)
    audible = energy > 10 ** (SILENCE_DB / 10)
    if not audible.any():
        return np.zeros(len(energy), np.float32), energy, spectrum
    if method == "cepstrum":
        return _cepstrum(spectrum, audible, r, guitar), energy, spectrum
    f0 = np.where(audible, _swift_f0(audio, len(energy), r), 0)
    return _mend_octaves(f0, spectrum, r), energy, spectrum


def _swift_f0(audio: np.ndarray, n_frames: int, r: HumRepresentation) -> np.ndarray:
    """Pitch in Hz float32 ``(n_frames,)``, 0 where unvoiced.

    A frame has the pitch of the two frames of SwiftF0 around it, interpolated, or that of the nearer one if the other
    is unvoiced or of another note.
    """
    n_needed = (math.ceil(n_frames * r.hop_length / r.sample_rate * SWIFT_RATE / SWIFT_HOP) + 2) * SWIFT_HOP
    audio = _to_swift_rate(audio, r.sample_rate)
    audio = np.pad(audio, (0, max(0, n_needed - len(audio))))
    noise = SWIFT_NOISE * np.sin(0.5 * np.arange(len(audio), dtype=np.float64) ** 2)
    result = _detector().detect((audio + noise).astype(np.float32), SWIFT_RATE, *SWIFT_RANGE)
    octave, confidence = np.log2(np.maximum(result.pitch_hz, 1)), result.confidence
    voiced = confidence >= BEGIN_CONFIDENCE
    for i in range(1, len(voiced)):  # a pure tone, such as the end of a pluck, makes SwiftF0 less sure
        stays = confidence[i] >= STAY_CONFIDENCE and abs(octave[i] - octave[i - 1]) < STAY_OCTAVES
        voiced[i] |= voiced[i - 1] and stays
    place = np.arange(n_frames) * (r.hop_length / r.sample_rate * SWIFT_RATE / SWIFT_HOP)
    left = place.astype(int)
    right, share = left + 1, place - left
    joined = voiced[left] & voiced[right] & (np.abs(octave[left] - octave[right]) < STAY_OCTAVES)
    share = np.where(joined, share, np.round(share))
    pitch = 2 ** ((1 - share) * octave[left] + share * octave[right])
    return np.where(voiced[np.round(place).astype(int)], pitch, 0).astype(np.float32)


def _to_swift_rate(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """`audio` at `SWIFT_RATE`, by the windowed sinc of web/resample.js, so that the page finds the same pitch."""
    from scipy import signal

    divisor = math.gcd(SWIFT_RATE, sample_rate)
    up, down = SWIFT_RATE // divisor, sample_rate // divisor
    cutoff = 0.957 * min(1, up / down)  # of half of `sample_rate`
    half = math.ceil(80 / cutoff)
    kernel = signal.firwin(2 * half * up + 1, cutoff / up, window=("kaiser", 10))
    return signal.resample_poly(audio, up, down, window=kernel)


def _mend_octaves(f0: np.ndarray, spectrum: np.ndarray, r: HumRepresentation) -> np.ndarray:
    """`f0` without leaps of an octave within a note: a high note on an open vowel has a far stronger second partial.

    A frame is moved down by an octave if that brings it nearer to the frame before, and if the spectrum has partials at
    1/2 and 3/2 of its pitch that are `OCTAVE_ERROR` as strong as the one at 1.
    """
    frames = np.arange(len(f0))

    def peak(multiple: float) -> np.ndarray:
        middle = np.clip(np.round(multiple * f0 / r.bin_hz).astype(int), 1, r.n_bins - 2)
        return np.max([spectrum[middle + shift, frames] for shift in (-1, 0, 1)], axis=0)

    is_wrong = (f0 > OCTAVE_ERROR_HZ) & (np.sqrt(peak(0.5) * peak(1.5)) > OCTAVE_ERROR * peak(1.0))
    mended = np.array(f0, np.float32)
    for t in np.flatnonzero(is_wrong[1:]) + 1:
        if 0 < mended[t - 1] < mended[t] / np.sqrt(2):
            mended[t] /= 2
    return mended


@functools.cache
def _detector():
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from swift_f0 import SwiftF0

    return SwiftF0(threads=1)


def _cepstrum(spectrum: np.ndarray, audible: np.ndarray, r: HumRepresentation, guitar: bool) -> np.ndarray:
    """As published: of the three highest peaks of the cepstrum the one whose STFT bin is loudest, in Hz.

    For humming, frames more than 1.5 interquartile ranges away from the median are unvoiced.
    """
    from scipy import fft, ndimage

    f0_min, f0_max = CEPSTRUM_GUITAR if guitar else CEPSTRUM_HUM
    power = np.square(spectrum)
    level = 10 * np.log10(np.maximum(power, power.max() * 1e-8))  # 80 dB
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
    if not guitar and f0.any():
        low, middle, high = np.percentile(f0[f0 > 0], [25, 50, 75])
        f0[np.abs(f0 - middle) > 1.5 * (high - low)] = 0
    return ndimage.median_filter(f0, 3, mode="constant")


def octaves_into_range(f0: np.ndarray, energy: np.ndarray, low: float, high: float) -> int:
    """Octaves that move most of a melody's energy into [low, high] Hz: the fewest that do so; 0 if nothing is voiced.

    `MARGIN` is added on both sides. Frames count by their energy, so what is hardly heard does not move the melody.
    One octave more has to bring more than 1 % of the energy into the range.
    """
    weights = np.where(f0 > 0, energy, 0)
    if not weights.any():
        return 0
    octaves = range(-MAX_OCTAVES, MAX_OCTAVES + 1)
    low, high = low / MARGIN, high * MARGIN
    inside = [weights[(f0 * 2.0**o >= low) & (f0 * 2.0**o <= high)].sum() / weights.sum() for o in octaves]
    return min((o for o, share in zip(octaves, inside, strict=True) if share >= max(inside) - 0.01), key=abs)
