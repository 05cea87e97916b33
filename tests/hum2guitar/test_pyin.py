"""pYIN against librosa's."""

import librosa
import numpy as np
import pytest

from hum2guitar.pyin import track_pyin
from hum2guitar.singing import synthesize_voice

RATE, HOP = 22050, 512


def glide(seconds=3):
    return 0.3 * np.sin(2 * np.pi * np.cumsum(np.geomspace(80, 900, seconds * RATE)) / RATE)


def melody():
    """A voice that leaps, rests and breathes."""
    f0 = np.repeat([110, 0, 440, 131, 880, 0, 220], RATE // 3)
    return synthesize_voice(f0, closed=True, breath=0.1)


def noise():
    return np.random.default_rng(0).normal(0, 0.1, RATE)


@pytest.mark.parametrize("make", [glide, melody, noise, lambda: np.zeros(RATE), lambda: np.full(3, 0.1)])
@pytest.mark.parametrize(("f0_min", "f0_max", "frame_length"), [(65, 1050, 1024), (20, 1300, 4096), (300, 2000, 512)])
def test_pitch_is_that_of_librosa(make, f0_min, f0_max, frame_length):
    audio = make().astype(np.float32)
    found = track_pyin(audio, RATE, HOP, f0_min, f0_max, frame_length, 5)
    settings = {"sr": RATE, "hop_length": HOP, "frame_length": frame_length, "resolution": 0.2}
    f0, voiced, _ = librosa.pyin(audio, fmin=f0_min, fmax=f0_max, **settings)
    np.testing.assert_allclose(found, np.where(voiced, f0, 0), rtol=1e-6)
