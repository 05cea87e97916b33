"""Notes are found, and get the loudness and the attack of plucked strings."""

import numpy as np

from hum2guitar import plucks
from hum2guitar.harmonics import PUBLISHED
from hum2guitar.plucks import envelope, find_notes, pluck, string_fall, to_decibels

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


def test_the_envelope_rises_steeply_and_ends():
    gain = envelope(RATE, RATE)
    assert gain[0] == 0
    rise = np.flatnonzero(gain >= 0.9 * gain.max())[0] - np.flatnonzero(gain >= 0.1 * gain.max())[0]
    assert rise < 0.003 * RATE
    np.testing.assert_allclose(gain[RATE // 2 : RATE], 1, atol=1e-3)
    assert len(gain) < 1.05 * RATE
    assert gain[-1] < 0.01
