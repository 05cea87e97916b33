"""Pitch tracking with pYIN, or with the cepstrum as published."""

from __future__ import annotations

import math

import numpy as np

import data
from common.errors import InputError
from hum2guitar import harmonics
from hum2guitar.harmonics import HumRepresentation
from hum2guitar.pyin import track_pyin

F0_METHODS = ("pyin", "cepstrum")
# Search ranges in Hz. Those of the cepstrum are the published ones (21.5 Hz is the lowest it can find). pYIN makes no
# more octave errors in a wider range, so its ranges include high voices, and start below the lowest string of a guitar.
HUM_F0 = {"pyin": (65.0, 1050.0), "cepstrum": (70.0, 550.0)}
GUITAR_F0 = {"pyin": (65.0, 1300.0), "cepstrum": (20.0, 1300.0)}
MIN_F0, MAX_F0 = 20.0, 5000.0  # limits of any search range, in Hz
SILENCE_DB = -60.0  # energy of a frame below which it is unvoiced (a full-scale sine has 1.8 dB)


def analyse(
    audio: np.ndarray,
    representation: HumRepresentation = harmonics.PUBLISHED,
    method: str = "pyin",
    f0_range: tuple[float, float] | None = None,
    remove_outliers: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pitch, energy and mel level of audio: ``(n_frames,)``, ``(n_frames,)``, ``(n_mels, n_frames)``, from one STFT.

    Arguments and errors as in `track_f0`.
    """
    spectrum = harmonics.magnitude(audio, representation)
    f0 = track_f0(audio, representation, method, f0_range, remove_outliers, spectrum)
    return f0, harmonics.frame_energy(spectrum), harmonics.mel_level(spectrum, representation)


def search_range(method: str, f0_min: float | None = None, f0_max: float | None = None) -> tuple[float, float]:
    """The search range in Hz: as given, or that of the method for humming.

    Raises:
        InputError: an unknown method, or a range that is narrower than an octave, which pYIN needs, or out of reach.
    """
    if method not in F0_METHODS:
        raise InputError(f"--f0: expected one of {', '.join(F0_METHODS)}, found {method!r}")
    low, high = HUM_F0[method]
    low, high = low if f0_min is None else f0_min, high if f0_max is None else f0_max
    if not MIN_F0 <= low <= high / 2 <= MAX_F0 / 2:
        raise InputError(
            f"--f0_min, --f0_max: expected a range of an octave or more between {MIN_F0:g} and {MAX_F0:g} Hz, "
            f"found {low:g} to {high:g} Hz"
        )
    return low, high


def track_f0(
    audio: np.ndarray,
    representation: HumRepresentation = harmonics.PUBLISHED,
    method: str = "pyin",
    f0_range: tuple[float, float] | None = None,
    remove_outliers: bool = False,
    spectrum: np.ndarray | None = None,
) -> np.ndarray:
    """Pitch in Hz ``(n_frames,)``, 0 where unvoiced; frames quieter than `SILENCE_DB` are unvoiced.

    Args:
        method: "pyin" (Mauch & Dixon, 2014), or "cepstrum" as published by hum2guitar.
        f0_range: lowest and highest pitch in Hz; by default that of humming, `HUM_F0`.
        remove_outliers: of the cepstrum: make frames unvoiced that are more than 1.5 interquartile ranges away from the
            median, as published for humming.
        spectrum: `harmonics.magnitude` of the audio, if it is known already.

    Raises:
        InputError: as `search_range`.
    """
    r = representation
    f0_min, f0_max = search_range(method, *(f0_range or (None, None)))
    audio = np.asarray(audio, np.float32)
    spectrum = harmonics.magnitude(audio, r) if spectrum is None else spectrum
    audible = harmonics.frame_energy(spectrum) > 10 ** (SILENCE_DB / 10)
    if not audible.any():
        return np.zeros(len(audible), np.float32)
    if method == "pyin":
        # Three periods of the lowest pitch: longer frames blur slides and the ends of notes. Five bins for a semitone:
        # errors up to 10 cents, but four times as fast as ten bins.
        frame_length = 1 << math.ceil(math.log2(3 * r.sample_rate / f0_min))
        f0 = track_pyin(audio, r.sample_rate, r.hop_length, f0_min, f0_max, frame_length, bins_per_semitone=5)
        return _refine(np.where(audible, f0[: len(audible)], 0), spectrum, r)
    return _cepstrum(spectrum, audible, r, f0_min, f0_max, remove_outliers)


def _refine(f0: np.ndarray, spectrum: np.ndarray, r: HumRepresentation) -> np.ndarray:
    """`f0`, corrected by at most 20 cents, from the places of the first five harmonics in the spectrum.

    The place of a harmonic is the vertex of the parabola through its three bins in decibels. Harmonics are weighted by
    their magnitude and by their number, because the error of f0 is that of the place divided by this number.
    """
    voiced = np.flatnonzero(f0 > 0)
    p = f0[voiced] / r.bin_hz
    total, weights = np.zeros(len(voiced)), np.full(len(voiced), 1e-12)
    for i in range(1, 6):
        middle = np.clip(np.round(i * p).astype(int), 2, r.n_bins - 3)
        middle += np.argmax([spectrum[middle + shift, voiced] for shift in (-1, 0, 1)], axis=0) - 1
        left, peak, right = (np.log(spectrum[middle + shift, voiced] + 1e-12) for shift in (-1, 0, 1))
        weight = np.where((peak > left) & (peak > right), i * np.exp(peak), 0)
        total += weight * ((middle + data.peak_offset(left, peak, right)) / i / p - 1)
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
    """Semitones, a multiple of 12, that move most frames of a melody into [low, high] Hz by the fewest octaves.

    0 if nothing is voiced.
    """
    voiced = f0[f0 > 0]
    if not len(voiced):
        return 0
    octaves = range(-6, 7)
    inside = [np.mean((voiced * 2.0**o >= low) & (voiced * 2.0**o <= high)) for o in octaves]
    # One octave more has to bring more than 1 % of the frames into the range.
    return 12 * min((o for o, share in zip(octaves, inside, strict=True) if share >= max(inside) - 0.01), key=abs)
