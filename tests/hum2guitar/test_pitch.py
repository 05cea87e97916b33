"""Pitch tracking of made voices whose pitch is known, and the octave that a melody is moved by."""

import mir_eval
import numpy as np
import pytest
from made_sounds import plucks, sine

from hum2guitar.harmonics import PUBLISHED
from hum2guitar.pitch import analyse, octaves_into_range
from models.hums import sing_again, synthesize_voice

RATE = PUBLISHED.sample_rate


def track(audio, method="swiftf0", **arguments):
    return analyse(audio, method=method, **arguments)[0]


@pytest.mark.parametrize("voice", [{"closed": False}, {"closed": True, "breath": 0.1}])
def test_swiftf0_follows_a_voice_within_50_cents(voice):
    t = np.arange(10 * RATE) / RATE
    vibrato, slide = np.sin(2 * np.pi * 5.5 * t) / 2, np.interp(t % 2.5, [0, 0.5, 1.5, 2.5], [0, 0, 7, 7])
    for base in (100.0, 240.0):
        f0 = base * 2 ** (np.where(t < 5, vibrato, slide) / 12)
        f0[(t > 7) & (t < 8)] = 0
        truth = f0[:: PUBLISHED.hop_length]
        times = np.arange(len(truth)) * PUBLISHED.hop_length / RATE
        scores = mir_eval.melody.evaluate(times, truth, times, track(synthesize_voice(f0, **voice))[: len(truth)])
        assert scores["Raw Pitch Accuracy"] > 0.97
        assert scores["Voicing Recall"] > 0.97
        assert scores["Voicing False Alarm"] < 0.15


def test_noise_silence_and_mains_hum_have_no_pitch():
    noise = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    assert (track(noise) > 0).mean() < 0.05
    assert not track(np.zeros(RATE, np.float32)).any()
    assert not track(sine(220, level=1e-5)).any()  # -100 dB
    assert not track(sine(50, level=1e-2)).any()


def test_the_cepstrum_finds_bins_and_drops_outliers_of_a_hum():
    voice = synthesize_voice(np.repeat([200.0, 203.0, 206.0, 540.0], int(0.6 * RATE)), closed=False)
    of_guitar, of_hum = track(voice, "cepstrum", guitar=True), track(voice, "cepstrum")
    bins = of_guitar / PUBLISHED.bin_hz
    np.testing.assert_allclose(bins, np.round(bins), atol=1e-4)
    assert np.median(of_hum[of_hum > 0]) == pytest.approx(203, abs=PUBLISHED.bin_hz)
    assert (of_guitar > 500).any()
    assert not (of_hum > 500).any()


def test_octaves_move_a_melody_into_the_range_by_the_shortest_way():
    melodies = (([100, 200, 0, 300], 0), ([40, 50, 55], 1), ([20, 25], 2), ([1500, 1800, 0], -1), ([0, 0], 0), ([], 0))
    for f0, octaves in melodies:
        assert octaves_into_range(np.asarray(f0, float), np.ones(len(f0)), 82.4, 988.0) == octaves


def test_a_quiet_hum_in_the_rests_does_not_move_the_octave():
    f0, energy = np.repeat([50.0, 196.0, 294.0], [70, 20, 10]), np.repeat([1e-6, 1e-2, 1e-2], [70, 20, 10])
    assert octaves_into_range(f0, energy, 116.7, 880.0) == 0
    assert octaves_into_range(f0, np.ones(100), 116.7, 880.0) == 1


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
