"""Settings of a spectrogram: how they are kept in files, and what they must satisfy."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import ClassVar, TypeVar

import numpy as np

from common.errors import InputError

T = TypeVar("T", bound="StftSettings")

# Bounds of a representation, so that a damaged file cannot ask for much memory or time.
MAX_SETTING = 2**20  # of any whole number
MAX_FFT = 2**16  # samples of a window
MAX_HOPS = 64  # in a window
MAX_SPECTRUM = 2**24  # samples of a window times frames of a slice: 64 times the published one


class StftSettings(abc.ABC):
    """Base of the frozen dataclasses that describe a kind of representation.

    A subclass has `sample_rate`, `n_fft`, `hop_length` and `n_frames` among its fields, all of them numbers with a
    default, the property `window64`, and as `KIND` the entries of a saved description that tell this kind from others.
    """

    KIND: ClassVar[dict[str, str]]

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not (math.isfinite(value) if isinstance(value, float) else 0 < value <= MAX_SETTING):
                raise ValueError(f"{name} {value} is out of range")
        if self.n_fft % self.hop_length:
            raise ValueError(f"n_fft {self.n_fft} is no multiple of hop_length {self.hop_length}")
        if self.n_fft > MAX_FFT or self.n_fft > MAX_HOPS * self.hop_length:
            raise ValueError(f"n_fft {self.n_fft} is above {MAX_FFT} or {MAX_HOPS} hops")
        if self.n_fft * self.n_frames > MAX_SPECTRUM:
            raise ValueError(f"n_fft {self.n_fft} times n_frames {self.n_frames} is above {MAX_SPECTRUM}")

    @property
    @abc.abstractmethod
    def window64(self) -> np.ndarray:
        """The analysis and synthesis window, float64 ``(n_fft,)``."""

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
        """The settings as they are kept beside features and in weights files."""
        return {**self.KIND, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls: type[T], settings: dict, where: str = "settings") -> T:
        """The representation that `to_dict` described; `where` names the file in the error.

        Raises:
            InputError: the settings describe another kind of representation, or are damaged; names `where`.
        """
        try:
            kind = {name: settings.get(name, value) for name, value in cls.KIND.items()}
            if kind != cls.KIND:
                raise ValueError(f"expected {cls.KIND}, found {str(kind)[:200]}")
            values = {f.name: type(f.default)(settings[f.name]) for f in dataclasses.fields(cls)}
            changed = {name: settings[name] for name, value in values.items() if value != settings[name]}
            if changed:  # half a hertz, NaN, a number in quotes
                raise ValueError(f"found {str(changed)[:200]}")
            return cls(**values)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"no {error.args[0]}" if isinstance(error, KeyError) else error
            raise InputError(f"{where}: damaged description of the representation ({reason})") from None


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

    Raises:
        ValueError: nothing can be transformed with such settings.
    """

    sample_rate: int = 44100
    n_fft: int = 1024
    hop_length: int = 512
    n_bins: int = 256
    n_frames: int = 256
    amin: float = 2.0**-16

    KIND: ClassVar[dict[str, str]] = {"kind": "log_magnitude", "window": "hanning", "scale": "log1p"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_bins > self.n_fft // 2 + 1:
            raise ValueError(f"expected n_bins of at most {self.n_fft // 2 + 1}, found {self.n_bins}")
        if self.amin <= 0:
            raise ValueError(f"expected amin above 0, found {self.amin}")

    @property
    def window64(self) -> np.ndarray:
        return np.hanning(self.n_fft)


PUBLISHED = Representation()
