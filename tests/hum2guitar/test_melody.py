"""The pitch of made voices, their octave and notes, and the loudness and attack of plucked strings."""

import mir_eval
import numpy as np
import pytest
from made_sounds import sine

from hum2guitar.harmonics import PUBLISHED
from hum2guitar.melody import (
    ATTACK_FRAMES,
    analyse,
    envelope,
    find_notes,
    octaves_into_range,
    pluck,
    string_fall,
    to_decibels,
)
from models.results import synthesize_voice

RATE, HOP = PUBLISHED.sample_rate, PUBLISHED.hop_length


def track(audio, method="swiftf0", **arguments):
    return analyse(audio, method=method, **arguments)[0]


@pytest.mark.parametrize("voice", [{"closed": False}, {"closed": True, "breath": 0.1}])
def test_swiftf0_follows_a_voice_within_50_cents(voice):
    t = np.arange(10 * RATE) / RATE
    vibrato, slide = np.sin(2 * np.pi * 5.5 * t) / 2, np.interp(t % 2.5, [0, 0.5, 1.5, 2.5], [0, 0, 7, 7])
    for base in (100.0, 240.0):
        f0 = base * 2 ** (np.where(t < 5, vibrato, slide) / 12)
        f0[(t > 7) & (t < 8)] = 0
        truth = f0[::HOP]
        times = np.arange(len(truth)) * HOP / RATE
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


# --- notes ------------------------------------------------------------------------------------------------------------


def plucked():
    """Three notes of 60 frames, 220, 220 and 330 Hz, that each decay by 60 dB, then 36 frames without pitch."""
    f0 = np.concatenate([np.full(120, 220.0), np.full(60, 330.0), np.zeros(36)])
    decay = np.linspace(-10, -70, 60)
    return f0, np.concatenate([decay, decay, decay, np.full(36, -80.0)])


def test_notes_begin_at_a_new_pitch_and_at_a_new_pluck():
    assert find_notes(*plucked()).tolist() == [[0, 60], [60, 120], [120, 180]]
    assert find_notes(np.zeros(10), np.full(10, -90.0)).shape == (0, 2)
    rise = np.concatenate([np.full(8, -50.0), [-40.0, -30.0, -20.0], np.full(9, -20.0)])
    # A rise over several frames begins one note, where it begins.
    assert find_notes(np.full(20, 220.0), rise).tolist() == [[0, 8], [8, 20]]


def test_what_is_too_short_is_no_note_and_what_is_too_long_is_plucked_again():
    level = np.full(1000, -20.0)
    glide = np.repeat([220.0, 233.1, 247.0, 0.0, 220.0, 0.0], [20, 2, 20, 10, 2, 10])
    assert find_notes(glide, level[:64]).tolist() == [[0, 22], [22, 42]]
    assert find_notes(np.repeat([233.1, 247.0], [2, 20]), level[:22]).tolist() == [[0, 22]]
    assert find_notes(np.full(1000, 220.0), level).tolist() == [[0, 333], [333, 666], [666, 1000]]


def test_a_held_note_falls_as_a_string_does_from_the_loudness_that_it_reaches():
    held = np.minimum(-40 + 2.5 * np.arange(100), -20)
    seconds = np.arange(100) * HOP / RATE
    for heard, fall in ((False, 10 * seconds), (True, string_fall(220, seconds))):
        found = to_decibels(pluck(np.full(100, 220.0), 10 ** (held / 10), heard=heard))
        np.testing.assert_allclose(found, -20 - fall, atol=1e-4)


def test_a_string_falls_faster_at_first_and_faster_if_it_is_high():
    seconds = np.arange(0, 5, 0.1)
    middle, high = string_fall(261.6, seconds), string_fall(523.2, seconds)
    np.testing.assert_allclose(high[:6], 2 * middle[:6])
    assert middle[5] > 3 * (middle[-1] - middle[-6]) > middle[0] == 0


def test_notes_are_as_loud_as_they_were_and_what_falls_faster_stays_as_do_rests():
    f0, decibels = plucked()
    found = to_decibels(pluck(f0, 10 ** (decibels / 10)))
    for start in (0, 60, 120):
        assert found[start] == pytest.approx(decibels[start], abs=1e-4)
        later = slice(start + ATTACK_FRAMES, start + 60)
        np.testing.assert_allclose(found[later], decibels[later], atol=1e-4)
    np.testing.assert_allclose(found[180:], decibels[180:], atol=1e-4)


def test_the_envelope_rises_steeply_and_ends():
    gain = envelope(RATE, RATE)
    assert gain[0] == 0
    rise = np.flatnonzero(gain >= 0.9 * gain.max())[0] - np.flatnonzero(gain >= 0.1 * gain.max())[0]
    assert rise < 0.003 * RATE
    np.testing.assert_allclose(gain[RATE // 2 : RATE], 1, atol=1e-3)
    assert len(gain) < 1.05 * RATE
    assert gain[-1] < 0.01
