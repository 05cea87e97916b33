"""Sounds that several test files make."""

import numpy as np

from data import PUBLISHED
from hum2guitar import harmonics
from sound.files import write_audio


def sine(frequency: float, seconds: float = 1.0, level: float = 0.5) -> np.ndarray:
    """A sine at the sample rate of hum2guitar."""
    time = np.arange(int(seconds * harmonics.PUBLISHED.sample_rate)) / harmonics.PUBLISHED.sample_rate
    return (level * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def plucks(*notes: float, seconds: float = 0.5) -> np.ndarray:
    """Notes in Hz one after the other, as of a plucked string, at the sample rate of hum2guitar."""
    time = np.arange(int(seconds * harmonics.PUBLISHED.sample_rate)) / harmonics.PUBLISHED.sample_rate
    played = [
        0.1 * sum(np.exp(-(3 + i) * time) / i * np.sin(2 * np.pi * i * f0 * time) for i in range(1, 20)) for f0 in notes
    ]
    return np.concatenate(played).astype(np.float32)


def random_plucks(seconds: float, seed: int, note_seconds: float = 0.5) -> np.ndarray:
    """`plucks` from 110 to 416 Hz that `seed` draws, so many seconds of them."""
    pitches = np.random.default_rng(seed).integers(0, 24, int(np.ceil(seconds / note_seconds)))
    played = plucks(*(110 * 2 ** (pitches / 12)), seconds=note_seconds)
    return played[: int(seconds * harmonics.PUBLISHED.sample_rate)]


RATE = PUBLISHED.sample_rate


def tone(pitch, seconds=1.0, cents=0.0, decay=3.0, level=0.1):
    """A plucked tone of 12 partials that ends in 50 ms without a click."""
    time = np.arange(int(seconds * RATE)) / RATE
    f0 = 440 * 2 ** ((pitch - 69 + cents / 100) / 12)
    partials = [np.sin(2 * np.pi * m * f0 * time + m) / m for m in range(1, 13) if m * f0 < RATE / 2]
    envelope = level * np.exp(-decay * time) * np.clip((time[-1] - time) / 0.05, 0, 1)
    return (envelope * np.sum(partials, axis=0)).astype(np.float32)


def melody(transposed=0):
    """Two seconds of notes, each half a second."""
    return np.concatenate([tone(pitch + transposed, 0.5) for pitch in (60, 64, 67, 65)])


def write(path, audio=None, rate=RATE):
    """A recording at `path`, one second of a tone by default."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, tone(60) if audio is None else audio, rate)
    return path
