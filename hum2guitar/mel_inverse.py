"""From a mel spectrogram back to audio."""

from __future__ import annotations

import functools

import numpy as np

import data
from hum2guitar import harmonics
from hum2guitar.harmonics import HumRepresentation, mel_pseudo_inverse

PEAK_BINS = 3  # on each side that a spectral peak is the greatest of
PEAK_SHARE = 0.01  # of a frame's greatest magnitude that a peak has at least
SAME_PEAK_BINS = 2  # that a peak moves by at most from one frame to the next


def mel_to_audio(
    power: np.ndarray,
    length: int,
    representation: HumRepresentation = harmonics.PUBLISHED,
    n_iterations: int = 32,
) -> np.ndarray:
    """Audio float32 ``(length,)`` whose mel power is close to `power`.

    1. Magnitude by the pseudo-inverse of the mel matrix, clipped at 0.
    2. Phase from the frequency of each spectral peak (`peak_phase`).
    3. Fast Griffin-Lim (Perraudin, Balazs & Søndergaard, 2013) with momentum 0.99. The target is the mel power rather
       than the magnitude of step 1: each iteration scales the bins of the current magnitude by the ratio of the wanted
       to the current power of their mel bands.

    Args:
        power: ``(n_mels, n_frames)``.
        length: in samples; after the last frame there is silence.
        representation: of the mel power.
        n_iterations: of step 3.
    """
    r = representation
    covered = r.hop_length * power.shape[1] - 1  # samples that have as many centred frames as `power`
    power = np.asarray(power, np.float32) * r.magnitude_scale**-2
    guess = np.sqrt(np.maximum(mel_pseudo_inverse(r) @ power, 0))
    coefficients = guess * np.exp(1j * peak_phase(guess, r)).astype(np.complex64)
    bands, spread = _mel_bands(r)
    tiny, previous = np.float32(1e-12), None
    for _ in range(n_iterations):
        spectrum = data.stft(data.istft(coefficients, covered, r), r)
        squared = np.square(spectrum.real) + np.square(spectrum.imag) + tiny
        wanted = np.sqrt(squared * (spread @ (power / (bands @ squared + tiny))))
        accelerated = spectrum if previous is None else spectrum + np.float32(0.99) * (spectrum - previous)
        previous = spectrum
        coefficients = accelerated * (wanted / (np.abs(accelerated) + tiny))
    audio = data.istft(coefficients, min(length, covered), r)
    return np.pad(audio, (0, length - len(audio)))


def peak_phase(spectrum: np.ndarray, representation: HumRepresentation = harmonics.PUBLISHED) -> np.ndarray:
    """Phase in radians ``(n_bins, n_frames)`` for a magnitude, from the frequencies of its peaks.

    Single-pass spectrogram inversion (Beauregard et al., 2015). Every bin belongs to the nearest peak. The frequency of
    the peak, from a parabola through three bins, determines the advance of its phase over a hop. From bin to bin
    around a peak, the phase turns by pi, because the window is centred in the frame. (Multiples of a tracked pitch
    instead of the frequencies of the peaks are worse: an error of 5 cents is 1 bin at the 30th harmonic of 120 Hz.)
    A new peak begins with phase 0, and faint maxima are no peaks: otherwise rounding errors would decide on the phase
    of a whole note.

    Args:
        spectrum: magnitude ``(n_bins, n_frames)`` in any scale.
        representation: sample rate, window and hop.
    """
    from scipy import ndimage

    r = representation
    n_bins, n_frames = spectrum.shape
    height = np.log(np.maximum(spectrum, spectrum.max() * 1e-7 + 1e-20, dtype=np.float64))
    is_peak = height == ndimage.maximum_filter1d(height, 2 * PEAK_BINS + 1, axis=0, mode="nearest")
    is_peak &= spectrum > PEAK_SHARE * spectrum.max(axis=0)
    offset = np.pad(data.peak_offset(height[:-2], height[1:-1], height[2:]), ((1, 1), (0, 0)))
    bins = np.arange(n_bins)
    owner = _nearest_marked(is_peak)  # the peak that each bin belongs to; itself in frames without peaks
    advance = 2 * np.pi * r.hop_length / r.n_fft * (bins[:, np.newaxis] + offset)  # radians in one hop
    phase = np.zeros((n_bins, n_frames))
    for t in range(n_frames):
        is_old = t > 0 and np.abs(owner[:, t - 1] - bins) <= SAME_PEAK_BINS
        of_peak = np.where(is_old, phase[:, t - 1], 0) + advance[:, t]
        phase[:, t] = of_peak[owner[:, t]] + np.pi * (bins - owner[:, t])
    return phase % (2 * np.pi)


def _nearest_marked(marked: np.ndarray) -> np.ndarray:
    """For every place, the nearest marked row in its column; the place's own row if the column has none."""
    n_rows, _ = marked.shape
    rows = np.broadcast_to(np.arange(n_rows)[:, np.newaxis], marked.shape)
    above = np.maximum.accumulate(np.where(marked, rows, -n_rows * 2), axis=0)
    below = np.minimum.accumulate(np.where(marked, rows, n_rows * 3)[::-1], axis=0)[::-1]
    nearest = np.where(rows - above <= below - rows, above, below)
    return np.where(marked.any(axis=0), nearest, rows)


@functools.cache
def _mel_bands(representation: HumRepresentation):
    """The mel matrix, and the matrix that averages bands to bins, both sparse, since 99 % of their entries are 0."""
    from scipy import sparse

    filters = harmonics.mel_filters(representation)
    share = filters.sum(axis=0)
    spread = np.divide(filters.T, share[:, np.newaxis], out=np.zeros_like(filters.T), where=share[:, np.newaxis] > 0)
    return sparse.csr_array(filters), sparse.csr_array(spread)
