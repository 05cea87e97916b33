"""Audio files, the short-time Fourier transform, the log scale and slices: NumPy arrays in, new arrays out.

The ground floor of the project; it imports nothing of ours and no TensorFlow. Shapes and ranges used everywhere:

* audio: float32, ``(n_samples,)`` or ``(n_channels, n_samples)``, full scale 1
* magnitude: float32, ``(n_bins, n_frames)``, >= 0; a full-scale sine peaks near 1
* log level: in files [0, 1], in the network [-1, 1]
* slices: ``(n_slices, n_bins, n_frames, 1)``
"""

from __future__ import annotations

import dataclasses

import numpy as np

from common.errors import InputError


@dataclasses.dataclass(frozen=True)
class Representation:
    """How audio becomes what a pix2pix network sees; the defaults are the published settings.

    Attributes:
        sample_rate: in Hz.
        n_fft: window length in samples; the window is the symmetric Hann window ``np.hanning(n_fft)``.
        hop_length: samples from one frame to the next.
        n_bins: how many of the lowest ``n_fft // 2 + 1`` bins are used; the rest is zero on synthesis.
        n_frames: frames of one slice.
        amin: the magnitude at which the log scale turns from linear to logarithmic.

    Raises:
        ValueError: nothing can be transformed with such settings.
    """

    sample_rate: int = 44100
    n_fft: int = 1024
    hop_length: int = 512
    n_bins: int = 256
    n_frames: int = 256
    amin: float = 2.0**-16

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.n_bins > self.n_fft // 2 + 1:
            raise ValueError(f"expected n_bins of at most {self.n_fft // 2 + 1}, found {self.n_bins}")
        if self.amin <= 0:
            raise ValueError(f"expected amin above 0, found {self.amin}")

    @property
    def window(self) -> np.ndarray:
        """The analysis and synthesis window, float32 ``(n_fft,)``."""
        return np.hanning(self.n_fft).astype(np.float32)

    @property
    def bin_hz(self) -> float:
        """Distance of two neighbouring bins in Hz."""
        return self.sample_rate / self.n_fft

    @property
    def slice_seconds(self) -> float:
        """Length of one slice in seconds (2.97 s for the published settings)."""
        return self.n_frames * self.hop_length / self.sample_rate

    def to_dict(self) -> dict:
        """The settings as they are kept in ``features.json`` and in the weights file."""
        return {"kind": "log_magnitude", "window": "hanning", "scale": "log1p", **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, settings: dict, where: str = "settings") -> Representation:
        """The representation that `to_dict` described; `where` names the file in the error.

        Raises:
            InputError: the settings belong to another kind of representation or are damaged.
        """
        return from_settings(cls, {"kind": "log_magnitude", "window": "hanning", "scale": "log1p"}, settings, where)


def check_sizes(representation) -> None:
    """Refuse settings of any kind of representation that nothing could be transformed with.

    Raises:
        ValueError: a whole number that is not above 0, or windows that the hop does not divide.
    """
    for name, value in dataclasses.asdict(representation).items():
        if isinstance(value, int) and value <= 0:
            raise ValueError(f"expected {name} above 0, found {value}")
    n_fft, hop = representation.n_fft, representation.hop_length
    if n_fft % hop:
        raise ValueError(f"expected n_fft to be a multiple of hop_length, found {n_fft} and {hop}")


def from_settings(cls: type, fixed: dict, settings: dict, where: str):
    """A `cls`, a dataclass of numbers, from the fields in `settings`, whose other entries have to be those of `fixed`.

    Raises:
        InputError: naming `where`, if another kind of representation or a damaged one is described.
    """
    for key, value in fixed.items():
        if settings.get(key, value) != value:
            raise InputError(f"{where}: expected {key} {value!r}, found {settings[key]!r}")
    try:
        values = {f.name: type(f.default)(settings[f.name]) for f in dataclasses.fields(cls)}
        changed = [f"{name} {settings[name]!r}" for name, value in values.items() if value != settings[name]]
        if changed:  # half a hertz, NaN, a number in quotes
            raise ValueError(f"found {', '.join(changed)}")
        return cls(**values)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"no {error.args[0]}" if isinstance(error, KeyError) else error
        raise InputError(f"{where}: damaged description of the representation ({reason})") from None


PUBLISHED = Representation()


def stft(audio: np.ndarray, representation: Representation = PUBLISHED, center: bool = True) -> np.ndarray:
    """Short-time Fourier transform: complex64 ``(n_fft // 2 + 1, n_frames)`` of audio ``(n_samples,)``.

    The values are those of ``librosa.stft(audio, n_fft=..., hop_length=..., window=np.hanning(n_fft))``: with
    `center`, frame t is centred on sample ``t * hop_length`` and zeros stand beyond the ends, so that there are
    ``1 + n_samples // hop_length`` frames. Without, frame t starts at that sample and only whole frames are made.

    float64 audio is transformed in double precision, at twice the time: then the phase is right also in bins 100 dB
    below the loudest one.
    """
    from scipy import fft

    n_fft, hop = representation.n_fft, representation.hop_length
    audio = np.asarray(audio)
    audio = audio if audio.dtype == np.float64 else audio.astype(np.float32, copy=False)
    if center:
        audio = np.pad(audio, n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(audio, n_fft)[::hop]
    window = np.hanning(n_fft) if audio.dtype == np.float64 else representation.window
    return fft.rfft(frames * window, axis=1).T.astype(np.complex64, copy=False)


def istft(spectrum: np.ndarray, length: int, representation: Representation = PUBLISHED) -> np.ndarray:
    """Inverse of the centred `stft`: float32 ``(length,)``, weighted overlap-add (Griffin & Lim, 1984, eq. 6)."""
    half = representation.n_fft // 2
    audio, weight = overlap_add(spectrum, representation)
    audio, weight = audio[half : half + length], weight[half : half + length]
    audio = np.pad(audio / np.maximum(weight, np.finfo(np.float32).tiny), (0, max(0, length - len(audio))))
    return audio


def overlap_add(spectrum: np.ndarray, representation: Representation = PUBLISHED) -> tuple[np.ndarray, np.ndarray]:
    """Windowed inverse frames added up, and the sum of squared windows to divide by: two float32 ``(n_samples,)``.

    ``n_samples = n_fft + hop_length * (n_frames - 1)``; frame t starts at sample ``t * hop_length``.
    """
    from scipy import fft

    n_fft, hop, window = representation.n_fft, representation.hop_length, representation.window
    frames = fft.irfft(np.asarray(spectrum, np.complex64).T, n_fft, axis=1) * window  # (n_frames, n_fft)
    n_frames, n_parts = len(frames), n_fft // hop
    audio = np.zeros((n_frames + n_parts - 1, hop), np.float32)
    weight = np.zeros((n_frames + n_parts - 1, hop), np.float32)
    for part in range(n_parts):
        columns = slice(part * hop, (part + 1) * hop)
        audio[part : part + n_frames] += frames[:, columns]
        weight[part : part + n_frames] += window[columns] ** 2
    return audio.reshape(-1), weight.reshape(-1)


def forward_transform(audio: np.ndarray, representation: Representation = PUBLISHED) -> tuple[np.ndarray, np.ndarray]:
    """Magnitude of the lowest bins and the phase of all bins of audio ``(n_samples,)``.

    Returns:
        magnitude: float32 ``(n_bins, n_frames)``, ``2 * abs(S) / sum(window)``: a full-scale sine peaks near 1.
        phase: complex64 ``(n_fft // 2 + 1, n_frames)`` of absolute value 1 (1 where the magnitude is 0).
    """
    spectrum = stft(audio, representation)
    magnitude = np.abs(spectrum[: representation.n_bins]) * (2 / representation.window.sum())
    return magnitude, unit(spectrum)


def unit(spectrum: np.ndarray) -> np.ndarray:
    """The phase of a spectrum as complex numbers of absolute value 1; 1 where the spectrum is 0."""
    absolute = np.abs(spectrum)
    phase = np.ones_like(spectrum)
    return np.divide(spectrum, absolute, out=phase, where=absolute > 0)


def inverse_transform(
    magnitude: np.ndarray, phase: np.ndarray, length: int | None = None, representation: Representation = PUBLISHED
) -> np.ndarray:
    """Audio ``(length,)`` of a magnitude ``(n_bins, n_frames)`` and a phase as `forward_transform` gives them.

    Bins above the magnitude's are zero. `length` is in samples, by default ``hop_length * (n_frames - 1)``.
    """
    n_bins, n_frames = magnitude.shape
    spectrum = np.zeros((representation.n_fft // 2 + 1, n_frames), np.complex64)
    spectrum[:n_bins] = magnitude * phase[:n_bins, :n_frames] * (representation.window.sum() / 2)
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
    """Cut ``(n_bins, n)`` into slices ``(n_slices, n_bins, n_frames, 1)``; the last one is filled up with zeros."""
    n_bins, n = level.shape
    n_slices = -(-n // n_frames)
    padded = np.pad(level, ((0, 0), (0, n_slices * n_frames - n)))
    return padded.reshape(n_bins, n_slices, n_frames).transpose(1, 0, 2)[..., np.newaxis].copy()


def join_slices(slices: np.ndarray, n: int | None = None) -> np.ndarray:
    """Inverse of `slice_frames`: ``(n_bins, n)``; without `n` the filled-up frames stay."""
    n_slices, n_bins, n_frames = slices.shape[:3]
    return slices.reshape(n_slices, n_bins, n_frames).transpose(1, 0, 2).reshape(n_bins, -1)[:, :n].copy()


def compute_features(audio: np.ndarray, representation: Representation = PUBLISHED, center: bool = True) -> np.ndarray:
    """Feature slices of audio ``(n_samples,)``: log level [0, 1], float16 ``(n_slices, n_bins, n_frames, 1)``.

    `center` as in `stft`: without it, frames start where the audio starts and only whole frames are made.

    float16 keeps the level to within 0.05 dB over the whole range and a quarter of float64's space.
    """
    spectrum = stft(audio, representation, center)[: representation.n_bins]
    magnitude = np.abs(spectrum) * (2 / representation.window.sum())
    level = np.clip(amplitude_to_db(magnitude, representation.amin), 0, 1)
    return slice_frames(level, representation.n_frames).astype(np.float16)
