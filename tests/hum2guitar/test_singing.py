"""The synthetic voice has the pitch, the rests and the loudness that it is asked for."""

import numpy as np
import pytest
from made_sounds import plucks

from hum2guitar.harmonics import PUBLISHED
from hum2guitar.pitch import analyse
from hum2guitar.singing import sing_again, synthesize_voice

RATE = PUBLISHED.sample_rate


def test_the_voice_has_its_pitch_its_rests_and_its_missing_fundamental():
    f0 = np.repeat([200.0, 0.0], RATE)
    voice = synthesize_voice(f0)
    assert np.abs(voice).max() == pytest.approx(0.5)
    assert not voice[RATE + 500 :].any()
    spectrum = np.abs(np.fft.rfft(voice[:RATE]))  # 1 Hz a bin
    assert spectrum.argmax() == 200
    without = np.abs(np.fft.rfft(synthesize_voice(f0, first_harmonic=2)[:RATE]))
    assert without[200] < 0.01 * without[400]
    assert not synthesize_voice(np.zeros(100)).any()


@pytest.mark.parametrize("closed", [True, False])
def test_a_plucked_melody_sung_again_has_its_notes_and_holds_them(closed):
    notes = np.array([220.0, 330.0, 262.0])
    melody = plucks(*notes, seconds=1.0)
    voice = sing_again(melody, np.random.default_rng(0), closed)
    assert voice.shape == melody.shape
    assert np.abs(voice).max() == pytest.approx(0.5)
    f0 = analyse(voice)[0]
    frames = RATE / PUBLISHED.hop_length
    for i, note in enumerate(notes):
        late = slice(round((i + 0.3) * frames), round((i + 0.8) * frames))
        assert np.abs(1200 * np.log2(np.median(f0[late]) / note)) < 15

        def rms(audio, second, i=i):
            return np.sqrt(np.mean(audio[int((i + second) * RATE) :][: RATE // 10] ** 2))

        assert rms(melody, 0.8) < 0.3 * rms(melody, 0.1)  # plucked
        assert rms(voice, 0.6) > 0.8 * rms(voice, 0.1)  # held
