"""The short-time Fourier transform, the log scale, normalisation and slices: arrays in, new arrays out.

Shapes and ranges used everywhere:

* audio: float32, ``(n_samples,)`` or ``(n_channels, n_samples)``, full scale 1
* magnitude: float32, ``(n_bins, n_frames)``, >= 0; a full-scale sine peaks near 1
* log level: in files [0, 1], in the network [-1, 1]
* slices: ``(n_slices, n_bins, n_frames, 1)``
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, TypeVar

import numpy as np

T = TypeVar("T", bound="StftSettings")


@dataclasses.dataclass(frozen=True)
class StftSettings:
    """Base of the frozen dataclasses that describe a kind of representation.

    All fields of a subclass are numbers with a default. Its `KIND` holds the entries of a saved description that tell
    this kind from others. ``KIND["window"]`` is "hanning", the symmetric Hann window, or "hann", the periodic one.
    """

    KIND: ClassVar[dict[str, str]]
    sample_rate: int
    n_fft: int
    hop_length: int
    n_frames: int

    @property
    def window64(self) -> np.ndarray:
        """The analysis and synthesis window, float64 ``(n_fft,)``."""
        return np.hanning(self.n_fft + (self.KIND["window"] == "hann"))[: self.n_fft]

    @property
    def window(self) -> np.ndarray:
        """The analysis and synthesis window, float32 ``(n_fft,)``."""
        return self.window64.astype(np.float32)

    @property
    def bin_hz(self) -> float:
        """Distance of two neighbouring bins in Hz."""
        return self.sample_rate / self.n_fft

    @property
    def magnitude_scale(self) -> np.float32:
        """``2 / sum(window)``: the factor from ``abs(stft)`` to a magnitude in which a full-scale sine peaks near 1."""
        return np.float32(2 / self.window.sum())

    def to_dict(self) -> dict:
        """The settings as they are kept beside features and in weights files (`common.weights` reads them)."""
        return {**self.KIND, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class Representation(StftSettings):
    """How audio becomes what a pix2pix network sees; the defaults are the published settings.

    Attributes:
        sample_rate: in Hz.
        n_fft: window length in samples; the window is the symmetric Hann window ``np.hanning(n_fft)``.
        hop_length: samples from one frame to the next.
        n_bins: how many of the lowest ``n_fft // 2 + 1`` bins are used; the rest is zero on synthesis.
        n_frames: frames of one slice.
        amin: the magnitude at which the log scale turns from linear to logarithmic.
    """

    sample_rate: int = 44100
    n_fft: int = 1024
    hop_length: int = 512
    n_bins: int = 256
    n_frames: int = 256
    amin: float = 2.0**-16

    KIND: ClassVar[dict[str, str]] = {"kind": "log_magnitude", "window": "hanning", "scale": "log1p"}


PUBLISHED = Representation()


def stft(audio: np.ndarray, representation: StftSettings = PUBLISHED, center: bool = True) -> np.ndarray:
    """Short-time Fourier transform: complex64 ``(..., n_fft // 2 + 1, n_frames)`` of audio ``(..., n_samples)``.

    The values are those of ``librosa.stft`` with the same window and hop. With `center`, frame t is centred on sample
    ``t * hop_length`` and the audio is padded with zeros, so that there are ``1 + n_samples // hop_length`` frames.
    Without it, frame t starts at that sample, and there are only as many frames as fit into the audio.

    float64 audio is transformed in double precision, which takes twice as long. The phase is then accurate even in bins
    100 dB below the loudest one.
    """
    from scipy import fft

    n_fft, hop = representation.n_fft, representation.hop_length
    audio = np.asarray(audio)
    audio = audio if audio.dtype == np.float64 else audio.astype(np.float32, copy=False)
    if center:
        audio = np.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(n_fft // 2, n_fft // 2)])
    frames = np.lib.stride_tricks.sliding_window_view(audio, n_fft, axis=-1)[..., ::hop, :]
    window = representation.window64 if audio.dtype == np.float64 else representation.window
    return fft.rfft(frames * window, axis=-1).swapaxes(-1, -2).astype(np.complex64, copy=False)


def istft(spectrum: np.ndarray, length: int, representation: StftSettings = PUBLISHED) -> np.ndarray:
    """Inverse of the centred `stft`: float32 ``(length,)``, weighted overlap-add (Griffin & Lim, 1984, eq. 6)."""
    half = representation.n_fft // 2
    audio, weight = overlap_add(spectrum, representation)
    audio, weight = audio[half : half + length], weight[half : half + length]
    return np.pad(audio / np.maximum(weight, np.finfo(np.float32).tiny), (0, max(0, length - len(audio))))


def overlap_add(spectrum: np.ndarray, representation: StftSettings = PUBLISHED) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the windowed inverse frames, float32 ``(..., n_samples)``, and the sum of squared windows to divide by,
    float32 ``(n_samples,)``.

    ``n_samples = n_fft + hop_length * (n_frames - 1)``; frame t starts at sample ``t * hop_length``.
    """
    from scipy import fft

    n_fft, hop, window = representation.n_fft, representation.hop_length, representation.window
    frames = fft.irfft(np.asarray(spectrum, np.complex64).swapaxes(-1, -2), n_fft, axis=-1) * window
    *channels, n_frames, _ = frames.shape
    n_parts = n_fft // hop
    audio = np.zeros((*channels, n_frames + n_parts - 1, hop), np.float32)
    weight = np.zeros((n_frames + n_parts - 1, hop), np.float32)
    for part in range(n_parts):
        columns = slice(part * hop, (part + 1) * hop)
        audio[..., part : part + n_frames, :] += frames[..., columns]
        weight[part : part + n_frames] += window[columns] ** 2
    return audio.reshape(*channels, -1), weight.reshape(-1)


def forward_transform(audio: np.ndarray, representation: Representation = PUBLISHED) -> tuple[np.ndarray, np.ndarray]:
    """Magnitude of the lowest `n_bins` bins and phase of all bins of audio ``(n_samples,)``.

    Returns:
        magnitude: float32 ``(n_bins, n_frames)``, ``2 * abs(S) / sum(window)``: a full-scale sine peaks near 1.
        phase: complex64 ``(n_fft // 2 + 1, n_frames)`` of absolute value 1 (1 where the magnitude is 0).
    """
    spectrum = stft(audio, representation)
    magnitude = np.abs(spectrum[: representation.n_bins]) * representation.magnitude_scale
    return magnitude, unit(spectrum)


def unit(spectrum: np.ndarray) -> np.ndarray:
    """The phase of a spectrum as complex numbers of absolute value 1; 1 where the spectrum is 0 or subnormal.

    The reciprocal of a subnormal number (below 1e-38, as at the end of a reverb in floating point) may be infinite.
    """
    absolute = np.abs(spectrum)
    phase = np.ones_like(spectrum)
    return np.divide(spectrum, absolute, out=phase, where=absolute >= np.finfo(absolute.dtype).tiny)


def peak_offset(left: np.ndarray, middle: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Where the parabola through three neighbouring values peaks, in steps from the middle one, -0.5 to 0.5.

    0 where the middle value is not the greatest of the three, or all are equal.
    """
    is_peak = (middle >= left) & (middle >= right)
    curvature = np.where(is_peak, np.minimum(left - 2 * middle + right, 0), 0)
    return np.divide(0.5 * (left - right), curvature, out=np.zeros_like(curvature), where=curvature < 0)


def inverse_transform(
    magnitude: np.ndarray, phase: np.ndarray, length: int | None = None, representation: Representation = PUBLISHED
) -> np.ndarray:
    """Audio ``(length,)`` from a magnitude ``(n_bins, n_frames)`` and a phase: the inverse of `forward_transform`.

    Bins above `n_bins` are taken as zero. `length` is in samples, by default ``hop_length * (n_frames - 1)``.
    """
    n_bins, n_frames = magnitude.shape
    spectrum = np.zeros((representation.n_fft // 2 + 1, n_frames), np.complex64)
    spectrum[:n_bins] = magnitude * phase[:n_bins, :n_frames] / representation.magnitude_scale
    return istft(spectrum, representation.hop_length * (n_frames - 1) if length is None else length, representation)


def amplitude_to_db(magnitude: np.ndarray, amin: float = PUBLISHED.amin) -> np.ndarray:
    """Log level in [0, 1] of a magnitude in [0, 1]: ``log1p(m / amin) / log1p(1 / amin)``, the published scale."""
    return np.log1p(magnitude / amin) / np.log1p(1 / amin).astype(np.result_type(magnitude, np.float32))


def db_to_amplitude(level: np.ndarray, amin: float = PUBLISHED.amin) -> np.ndarray:
    """Magnitude of a log level: the inverse of `amplitude_to_db`."""
    return amin * np.expm1(level * np.log1p(1 / amin).astype(np.result_type(level, np.float32)))


def to_network(level: np.ndarray) -> np.ndarray:
    """Log level [0, 1] of the files to the network's [-1, 1], float32."""
    return np.asarray(level, np.float32) * 2 - 1


def from_network(output: np.ndarray) -> np.ndarray:
    """The network's [-1, 1] to the log level [0, 1] of the files, float32."""
    return (np.asarray(output, np.float32) + 1) / 2


def slice_frames(level: np.ndarray, n_frames: int = PUBLISHED.n_frames) -> np.ndarray:
    """Cut ``(n_bins, n)`` into slices ``(n_slices, n_bins, n_frames, 1)``; the last one is padded with zeros."""
    n_bins, n = level.shape
    n_slices = -(-n // n_frames)
    padded = np.pad(level, ((0, 0), (0, n_slices * n_frames - n)))
    return padded.reshape(n_bins, n_slices, n_frames).transpose(1, 0, 2)[..., np.newaxis].copy()


def join_slices(slices: np.ndarray, n: int | None = None) -> np.ndarray:
    """Inverse of `slice_frames`: ``(n_bins, n)``; without `n` the padding is kept."""
    n_slices, n_bins, n_frames = slices.shape[:3]
    return slices.reshape(n_slices, n_bins, n_frames).transpose(1, 0, 2).reshape(n_bins, -1)[:, :n].copy()


def fade_in(n: int) -> np.ndarray:
    """Weights rising from 0 to 1 as sin², float32 ``(n,)``: they and their mirror image sum to 1."""
    return (np.sin(np.pi / 2 * (np.arange(n) + 0.5) / n) ** 2).astype(np.float32)


def compute_features(audio: np.ndarray, representation: Representation = PUBLISHED, center: bool = True) -> np.ndarray:
    """Feature slices of audio ``(n_samples,)``: log level [0, 1], float16 ``(n_slices, n_bins, n_frames, 1)``.

    float16 keeps the level to within 0.05 dB over the whole range and takes a quarter of float64's space.

    Args:
        center: as in `stft`.
    """
    spectrum = stft(audio, representation, center)[: representation.n_bins]
    magnitude = np.abs(spectrum) * representation.magnitude_scale
    level = np.clip(amplitude_to_db(magnitude, representation.amin), 0, 1)
    return slice_frames(level, representation.n_frames).astype(np.float16)
