"""Mel spectrogram to audio."""

from __future__ import annotations

import functools

import numpy as np

import data
from hum2guitar import harmonics
from hum2guitar.harmonics import HumRepresentation, mel_pseudo_inverse

MEL_INVERSES = ("peaks", "published")  # `mel_to_audio` and `mel_to_audio_published`


def mel_to_audio(
    power: np.ndarray,
    length: int,
    representation: HumRepresentation = harmonics.PUBLISHED,
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
    power = np.asarray(power, np.float32) * r.magnitude_scale**-2
    guess = np.sqrt(np.maximum(mel_pseudo_inverse(r) @ power, 0))
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
    representation: HumRepresentation = harmonics.PUBLISHED,
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
        spectrum / r.magnitude_scale,
        n_iter=n_iterations,
        hop_length=r.hop_length,
        n_fft=r.n_fft,
        length=length,
        random_state=seed,
    )
    return audio.astype(np.float32)


def peak_phase(
    spectrum: np.ndarray,
    representation: HumRepresentation = harmonics.PUBLISHED,
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
    offset = np.pad(data.peak_offset(left, middle, right), ((1, 1), (0, 0)))
    bins = np.arange(n_bins)[:, np.newaxis]
    owner = _nearest_marked(is_peak)  # the peak of each bin; a frame without peaks: each bin its own
    frequency = bins + offset  # in bins
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
def _mel_bands(representation: HumRepresentation):
    """The mel matrix and the matrix that averages bands back onto bins, both sparse (9 in 1000 entries are not 0)."""
    from scipy import sparse

    filters = harmonics.mel_filters(representation)
    share = filters.sum(axis=0)
    spread = np.divide(filters.T, share[:, np.newaxis], out=np.zeros_like(filters.T), where=share[:, np.newaxis] > 0)
    return sparse.csr_array(filters), sparse.csr_array(spread)
