"""Notes are found, and get the loudness and the attack of plucked strings."""

import numpy as np

from hum2guitar import plucks
from hum2guitar.harmonics import PUBLISHED
from hum2guitar.plucks import begin_early, find_notes, gate, pluck, string_fall, to_decibels

RATE, HOP = PUBLISHED.sample_rate, PUBLISHED.hop_length


def plucked():
    """Three notes of 60 frames, 220, 220 and 330 Hz, that each decay by 60 dB, then 36 frames without pitch."""
    f0 = np.concatenate([np.full(120, 220.0), np.full(60, 330.0), np.zeros(36)])
    decay = np.linspace(-10, -70, 60)
    return f0, np.concatenate([decay, decay, decay, np.full(36, -80.0)])


def test_notes_begin_at_a_new_pitch_and_at_a_new_pluck():
    assert find_notes(*plucked()).tolist() == [[0, 60], [60, 120], [120, 180]]
    assert find_notes(np.zeros(10), np.full(10, -90.0)).shape == (0, 2)
    rise = np.concatenate([np.full(8, -50.0), [-40.0, -30.0, -20.0], np.full(9, -20.0)])
    assert len(find_notes(np.full(20, 220.0), rise)) == 2  # a rise over several frames begins one note


def test_a_held_note_falls_as_a_string_does_from_the_loudness_that_it_reaches():
    held = np.minimum(-40 + 2.5 * np.arange(100), -20)
    seconds = np.arange(100) * HOP / RATE
    for heard, fall in ((False, 10 * seconds), (True, string_fall(220, seconds))):
        found = to_decibels(pluck(np.full(100, 220.0), 10 ** (held / 10), heard=heard))
        np.testing.assert_allclose(found, -20 - fall, atol=1e-4)


def test_a_string_falls_faster_at_first_and_faster_if_it_is_high():
    seconds = np.arange(0, 3, 0.1)
    middle, high = string_fall(261.6, seconds), string_fall(8 * 261.6, seconds)
    np.testing.assert_allclose(high, 4 * middle)  # three octaves at a power of 2/3
    assert middle[0] == 0
    assert middle[5] > 3 * (middle[-1] - middle[-6]) > 0


def test_each_note_is_plucked_as_loud_as_it_was_sung_and_rests_stay():
    f0 = np.concatenate([np.full(50, 220.0), np.zeros(20), np.full(50, 330.0)])
    sung = np.concatenate([np.full(50, -30.0), np.full(20, -90.0), np.full(50, -10.0)])
    found = to_decibels(pluck(f0, 10 ** (sung / 10)))
    np.testing.assert_allclose(found[[0, 70]], [-30, -10], atol=1e-4)
    np.testing.assert_allclose(found[50:70], -90, atol=1e-4)


def test_what_falls_faster_keeps_its_own_loudness_after_the_attack():
    f0, decibels = plucked()
    found = to_decibels(pluck(f0, 10 ** (decibels / 10)))
    for start in (0, 60, 120):
        later = slice(start + plucks.ATTACK_FRAMES, start + 60)
        np.testing.assert_allclose(found[later], decibels[later], atol=1e-4)


def test_the_gate_opens_at_onsets_and_closes_before_them_and_in_rests():
    notes = np.array([[10, 30], [30, 40]])
    whole = gate(notes, 0, 100 * HOP, PUBLISHED)
    onsets = notes[:, 0] * HOP
    assert not whole[: onsets[0]].any()
    for onset in onsets:
        assert (whole[onset - 3 : onset] < 0.02).all()
        rise = whole[onset : onset + RATE // 100]  # 10 ms
        assert rise[0] == 0
        assert rise[-1] == 1
        assert (np.diff(rise) >= 0).all()
    assert whole[25 * HOP] == 1
    assert 0 < whole[42 * HOP] < 0.6
    assert not whole[40 * HOP + RATE // 2 :].any()  # half a second after the last note
    pieces = [gate(notes, start, 7 * HOP, PUBLISHED) for start in range(0, 100 * HOP, 7 * HOP)]
    np.testing.assert_array_equal(np.concatenate(pieces)[: len(whole)], whole)
    assert not gate(np.zeros((0, 2), int), 0, 100, PUBLISHED).any()


def test_notes_begin_early_for_the_network():
    f0 = np.repeat([0.0, 220.0, 330.0], 10)
    (early,) = begin_early(find_notes(f0, np.zeros(30)), f0)
    first = 10 - plucks.EARLY_FRAMES
    np.testing.assert_array_equal(early, np.repeat([0.0, 220.0, 330.0], [first, 10, 10 + plucks.EARLY_FRAMES]))
    assert f0[9] == 0
