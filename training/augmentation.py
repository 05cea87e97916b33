"""Augmentation of the origin while training: other rooms, microphones, noise, levels and tunings of the same slice.

Effects on magnitudes ``(n_bins, n_frames)``, in the order in which a recording meets them: the instrument's tuning, the
room, the microphone's frequency response, its gain, its noise. `draw` gives the parameters of one slice, `augment`
applies them to a log level in [0, 1]. The target of a pair stays as it is, so the network learns to ignore all of them.

A slice is transformed whenever it is loaded: everything is float32 and works on whole arrays, about half a millisecond
of one core per slice. The phase is not stored; where two sounds add, the phase between them is random.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import data
from data import PUBLISHED, Representation

# How often each effect is applied to a slice.
PROBABILITIES = {"detuning": 0.5, "room": 0.7, "equaliser": 0.8, "band_limits": 0.1, "level": 1.0, "noise": 0.5}

# What the parameters are drawn from: uniform between two numbers, unless a comment says otherwise.
DETUNING_SD_CENTS = 10.0  # normal
MAX_DETUNING_CENTS = 30.0
RT60_SECONDS = (0.15, 1.2)  # log-uniform
WET_DB = (-26.0, -8.0)
DAMPING_HZ = (1500.0, 7000.0)  # log-uniform
BAND_SD_DB = 4.0  # normal, each band on its own
TILT_SD_DB = 3.0  # normal
HIGH_PASS_HZ = (80.0, 350.0)  # log-uniform; telephone: 300 to 3400 Hz (ITU-T G.712)
LOW_PASS_HZ = (3000.0, 7000.0)  # log-uniform; early electrical recordings: about 100 to 5000 Hz
LEVEL_DB = (-4.0, 0.0)  # the target keeps its level, so much more would ask the network to guess how loud a slice was
NOISE_DB = (-80.0, -50.0)
NOISE_SLOPE_DB = (-6.0, 0.0)  # per octave: from brown to white

BAND_CENTRES_HZ = np.geomspace(60, 8000, 7)
NOISE_SLICES = 16  # length of the noise that sections are taken from, in slices


@dataclasses.dataclass(frozen=True)
class Effects:
    """What happens to one slice; the defaults change nothing.

    Attributes:
        detuning_cents: above 0 is sharper.
        room: as `reverberate` takes it.
        equaliser_db: gains at `BAND_CENTRES_HZ` in dB; straight lines over log frequency between them.
        band_limits_hz: (high-pass, low-pass) of a telephone or an old recording, fourth-order Butterworth.
        level_db: gain in dB.
        noise_db: (RMS relative to an RMS of 1, slope per octave), as `noise_magnitude` takes them.
    """

    detuning_cents: float = 0.0
    room: tuple[float, float, float] | None = None
    equaliser_db: tuple[float, ...] = (0.0,) * len(BAND_CENTRES_HZ)
    band_limits_hz: tuple[float, float] = (0.0, math.inf)
    level_db: float = 0.0
    noise_db: tuple[float, float] | None = None


# --- drawing ----------------------------------------------------------------------------------------------------------


def draw(rng: np.random.Generator) -> Effects:
    """Effects drawn with `PROBABILITIES` and the ranges above."""
    is_applied = [rng.random() < probability for probability in PROBABILITIES.values()]
    cents = float(np.clip(rng.normal(0, DETUNING_SD_CENTS), -MAX_DETUNING_CENTS, MAX_DETUNING_CENTS))
    room = (_log_uniform(rng, RT60_SECONDS), rng.uniform(*WET_DB), _log_uniform(rng, DAMPING_HZ))
    # The tilt is subtracted at the lowest centre and added at the highest: they are evenly spaced over log frequency.
    equaliser_db = rng.normal(0, BAND_SD_DB, len(BAND_CENTRES_HZ))
    equaliser_db += rng.normal(0, TILT_SD_DB) * np.linspace(-1, 1, len(BAND_CENTRES_HZ))
    drawn: dict[str, Any] = {
        "detuning_cents": cents,
        "room": room,
        "equaliser_db": tuple(equaliser_db.tolist()),
        "band_limits_hz": (_log_uniform(rng, HIGH_PASS_HZ), _log_uniform(rng, LOW_PASS_HZ)),
        "level_db": rng.uniform(*LEVEL_DB),
        "noise_db": (rng.uniform(*NOISE_DB), rng.uniform(*NOISE_SLOPE_DB)),
    }
    return Effects(**dict(itertools.compress(drawn.items(), is_applied)))


def _log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    return math.exp(rng.uniform(math.log(limits[0]), math.log(limits[1])))


# --- effects ----------------------------------------------------------------------------------------------------------


def detune(magnitude: np.ndarray, cents: float) -> np.ndarray:
    """The magnitude ``(n_bins, n_frames)`` with all frequencies multiplied by ``2 ** (cents / 1200)``, by linear
    interpolation between bins. A sound tuned down lacks what lay above the last bin, whose magnitude is repeated."""
    last = len(magnitude) - 1
    source = np.minimum(np.arange(last + 1) * 2 ** (-cents / 1200), last)
    below = np.minimum(source.astype(int), last - 1)
    share = (source - below).astype(np.float32)[:, np.newaxis]
    lower = magnitude[below]
    return lower + share * (magnitude[below + 1] - lower)


def reverberate(
    magnitude: np.ndarray, room: tuple[float, float, float], representation: Representation, response: np.ndarray
) -> np.ndarray:
    """The magnitude ``(n_bins, n_frames)`` of a sound with its reverberation in a room, which begins in silence.

    The impulse response is white noise with an exponential decay, behind a low-pass. With independent samples whose
    variance is s(t), the expected power of the reverberation in a bin is the dry power convolved with s over time. That
    holds exactly for every sample; between frames the dry power is taken to run in a straight line. Here s(t) falls as
    ``10 ** (-6 t / rt60)`` (the model of Moorer, "About This Reverberation Business", 1979; Polack, 1988).

    Args:
        magnitude: of the dry sound.
        room: RT60 in seconds, in which the level falls by 60 dB after a sound has stopped; energy of the reverberation
            relative to the direct sound in dB; cut-off in Hz of the low-pass, second-order Butterworth.
        representation: of the magnitude.
        response: complex ``(n_bins,)`` with a mean square of 1: gain and phase of the reverberation in each bin. A room
            has complex normal ones (Schroeder, 1962), which raise some partials of a held note and lower others.
    """
    rt60, wet_db, damping_hz = room
    decay = 6 * math.log(10) * representation.hop_length / (representation.sample_rate * rt60)  # per frame
    # Integrals of exp(-decay * t) over the dry power's straight lines, divided by that over all times.
    direct = 1 - (1 - math.exp(-decay)) / decay
    later = 2 * (math.cosh(decay) - 1) / decay
    frequencies = np.arange(len(magnitude)) * representation.bin_hz
    wet = 10 ** (wet_db / 10) / (1 + (frequencies / damping_hz) ** 4)

    dry_power = magnitude * magnitude
    power = decay_along_frames(dry_power, math.exp(-decay)) * np.float32(later)
    wet_magnitude = np.sqrt(np.maximum(power - dry_power * np.float32(later - direct), 0))  # below 0 by rounding
    gain = (np.sqrt(wet) * response).astype(np.complex64)[:, np.newaxis]
    return absolute(magnitude + wet_magnitude * gain.real, wet_magnitude * gain.imag)


def decay_along_frames(power: np.ndarray, factor: float) -> np.ndarray:
    """``y[:, t] = power[:, t] + factor * y[:, t - 1]`` for `factor` in [0, 1), to a relative 1e-8."""
    total, n_summed = power.copy(), 1
    # Each pass doubles the number of terms summed: about twice as fast as `scipy.signal.lfilter`.
    while n_summed < power.shape[1] and factor**n_summed > 1e-8:
        total[:, n_summed:] += total[:, :-n_summed] * np.float32(factor**n_summed)
        n_summed *= 2
    return total


def equaliser_gain(bands_db: Sequence[float], representation: Representation) -> np.ndarray:
    """The factor on each bin's magnitude, float32 ``(n_bins,)``, of gains in dB at `BAND_CENTRES_HZ`."""
    octave = np.log2(np.maximum(_frequencies(representation), 1.0))
    return decibels(np.interp(octave, np.log2(BAND_CENTRES_HZ), bands_db))


def band_limits_gain(high_pass_hz: float, low_pass_hz: float, representation: Representation) -> np.ndarray:
    """The factor on each bin's magnitude, float32 ``(n_bins,)``: Butterworth responses, 3 dB down at each limit."""
    frequencies = _frequencies(representation)
    high_pass = 1 / (1 + (high_pass_hz / frequencies) ** 8)
    low_pass = 1 / (1 + (frequencies / low_pass_hz) ** 8)
    return np.sqrt(high_pass * low_pass).astype(np.float32)


def noise_magnitude(level_db: float, slope_db: float, representation: Representation) -> np.ndarray:
    """Root mean square of a noise floor's magnitude in each bin, float32 ``(n_bins,)``.

    White noise with RMS r has a mean square magnitude of ``4 r**2 sum(window**2) / sum(window)**2``, on the scale of
    `data.forward_transform`. A slope of the power spectrum (0 is white, -3 pink, -6 dB per octave brown) moves power
    from bin to bin and leaves their sum.
    """
    window = np.hanning(representation.n_fft)
    white = 4 * 10 ** (level_db / 10) * (window**2).sum() / window.sum() ** 2
    shape = _frequencies(representation) ** (slope_db / (10 * math.log10(2)))
    return np.sqrt(white * shape / shape.mean()).astype(np.float32)


def absolute(real: np.ndarray, imaginary: np.ndarray) -> np.ndarray:
    """``abs(real + 1j * imaginary)``, five times as fast as `numpy.hypot`."""
    return np.sqrt(real * real + imaginary * imaginary)


def decibels(db: np.ndarray | float) -> np.ndarray:
    """The factor on a magnitude that `db` decibels are, float32."""
    return np.power(10, np.asarray(db) / 20).astype(np.float32)


def _frequencies(representation: Representation) -> np.ndarray:
    """Of the bins in Hz; the lowest one, which has no logarithm, counts as half a bin."""
    return np.maximum(np.arange(representation.n_bins), 0.5) * representation.bin_hz


@functools.cache
def stored_noise(representation: Representation) -> np.ndarray:
    """Spectrum of white noise that every slice takes a section of at random: as good as new noise, and much cheaper.

    Real and imaginary part, ``(2, n_bins, n_frames)`` float32, mean square 1 in sum. Made in the time domain, so
    neighbouring bins and frames are correlated as in a real recording.
    """
    n_samples = representation.hop_length * (NOISE_SLICES * representation.n_frames - 1) + representation.n_fft
    audio = np.random.default_rng(0).standard_normal(n_samples, np.float32)
    spectrum = data.stft(audio, representation, center=False)[: representation.n_bins]
    spectrum /= np.sqrt((representation.window**2).sum())
    return np.stack([spectrum.real.copy(), spectrum.imag.copy()])  # frames of one bin side by side, as in a slice


def _section(representation: Representation, n_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Real and imaginary part of `n_frames` of the noise, from a random frame on."""
    noise = stored_noise(representation)
    first = rng.integers(noise.shape[2] - n_frames + 1)
    return noise[:, :, first : first + n_frames]


# --- a slice ----------------------------------------------------------------------------------------------------------


def augment(
    level: np.ndarray,
    rng: np.random.Generator,
    representation: Representation = PUBLISHED,
    effects: Effects | None = None,
) -> np.ndarray:
    """`level`, in [0, 1] ``(n_bins, n_frames)``, with effects drawn from `rng`: a new float32 array in [0, 1].

    With given `effects`, `rng` still chooses the section of noise and the room's response.
    """
    effects = effects or draw(rng)
    magnitude = data.db_to_amplitude(np.asarray(level, np.float32), representation.amin)
    if effects.detuning_cents:
        magnitude = detune(magnitude, effects.detuning_cents)
    if effects.room:
        # One frame of noise: complex normal, and correlated between the neighbouring bins that share a partial.
        real, imaginary = _section(representation, 1, rng)
        magnitude = reverberate(magnitude, effects.room, representation, (real + 1j * imaginary)[:, 0])
    gain = decibels(effects.level_db) * equaliser_gain(effects.equaliser_db, representation)
    gain *= band_limits_gain(*effects.band_limits_hz, representation)
    magnitude *= gain[:, np.newaxis]
    if effects.noise_db:
        # The phase between the sound and the noise is evenly distributed, so that of the sound may be 0.
        scale = noise_magnitude(*effects.noise_db, representation)[:, np.newaxis]
        real, imaginary = _section(representation, level.shape[1], rng)
        magnitude = absolute(magnitude + real * scale, imaginary * scale)
    return np.clip(data.amplitude_to_db(magnitude, representation.amin), 0, 1)
