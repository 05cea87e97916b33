"""The sounds that the tests make are what their makers say."""

import numpy as np
import pytest
from made_sounds import synthesize_voice

from hum2guitar.harmonics import PUBLISHED

RATE = PUBLISHED.sample_rate


def test_the_made_voice_has_its_pitch_its_rests_and_its_missing_fundamental():
    f0 = np.repeat([200.0, 0.0], RATE)
    voice = synthesize_voice(f0)
    assert np.abs(voice).max() == pytest.approx(0.5)
    assert not voice[RATE + 500 :].any()
    spectrum = np.abs(np.fft.rfft(voice[:RATE]))  # 1 Hz a bin
    assert spectrum.argmax() == 200
    without = np.abs(np.fft.rfft(synthesize_voice(f0, first_harmonic=2)[:RATE]))
    assert without[200] < 0.01 * without[400]
    assert not synthesize_voice(np.zeros(100)).any()
