"""Notes are found, and get the loudness of plucked strings."""

from __future__ import annotations

import numpy as np
import pytest

from hum2guitar.harmonics import PUBLISHED
from hum2guitar.plucks import DECAY_DB_PER_SECOND, find_notes, pluck, pluck_pieces

FRAME_SECONDS = PUBLISHED.hop_length / PUBLISHED.sample_rate


def plucked():
    """Three notes of 60 frames, 220, 220 and 330 Hz, that each decay by 30 dB, then 36 frames without pitch."""
    f0 = np.concatenate([np.full(120, 220.0), np.full(60, 330.0), np.zeros(36)])
    decay = np.linspace(-10, -40, 60)
    return f0, np.concatenate([decay, decay, decay, np.full(36, -80.0)])


def energy_of(decibels):
    return 10 ** (np.asarray(decibels) / 10)


def decibels_of(energy):
    return 10 * np.log10(energy)


def test_notes_begin_at_a_new_pitch_and_at_a_new_pluck():
    assert find_notes(*plucked()) == [(0, 60), (60, 120), (120, 180)]


def test_a_rise_over_several_frames_begins_one_note():
    f0 = np.full(20, 220.0)
    decibels = np.concatenate([np.full(8, -50.0), [-40.0, -30.0, -20.0], np.full(9, -20.0)])

    assert len(find_notes(f0, decibels)) == 2


def test_nothing_voiced_has_no_notes():
    assert find_notes(np.zeros(10), np.full(10, -90.0)) == []


def test_a_held_note_falls_in_a_straight_line_from_the_loudness_that_it_reaches():
    held = np.minimum(-40 + 2.5 * np.arange(100), -20)
    found = decibels_of(pluck(np.full(100, 220.0), energy_of(held)))
    np.testing.assert_allclose(found, -20 - DECAY_DB_PER_SECOND * FRAME_SECONDS * np.arange(100), atol=1e-4)


def test_each_note_is_plucked_as_loud_as_it_was_sung_and_rests_stay():
    f0 = np.concatenate([np.full(50, 220.0), np.zeros(20), np.full(50, 330.0)])
    sung = np.concatenate([np.full(50, -30.0), np.full(20, -90.0), np.full(50, -10.0)])
    found = decibels_of(pluck(f0, energy_of(sung)))
    np.testing.assert_allclose(found[[0, 70]], [-30, -10], atol=1e-4)
    np.testing.assert_allclose(found[50:70], -90, atol=1e-4)


def test_what_falls_faster_keeps_its_own_loudness_after_the_attack():
    f0, decibels = plucked()  # 22 dB a second
    found = decibels_of(pluck(f0, energy_of(decibels)))
    for start in (0, 60, 120):
        np.testing.assert_allclose(found[start + 8 : start + 60], decibels[start + 8 : start + 60], atol=1e-4)


def test_the_input_is_left_alone():
    f0, decibels = plucked()
    energy = energy_of(decibels).astype(np.float32)
    before = energy.copy()
    pluck(f0, energy)
    np.testing.assert_array_equal(energy, before)


@pytest.mark.parametrize("seed", range(20))
def test_pieces_of_any_length_give_what_the_whole_gives(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 30, 40)
    f0 = np.repeat(rng.choice([0, 220, 233, 247, 330], 40), lengths).astype(np.float32)
    decibels = np.repeat(rng.uniform(-50, -10, 40), lengths) + rng.normal(0, 2, lengths.sum())
    melody = np.stack([f0, energy_of(decibels).astype(np.float32)])
    cuts = np.sort(rng.integers(0, melody.shape[1], 25))
    pieces = list(pluck_pieces(np.split(melody, cuts, axis=1)))
    joined = np.concatenate(pieces, axis=1)
    np.testing.assert_array_equal(joined[0], f0)
    np.testing.assert_allclose(joined[1], pluck(*melody), rtol=1e-6)
    assert len(pieces) > 5


def test_nothing_gives_nothing():
    assert [piece.shape for piece in pluck_pieces([])] == [(2, 0)]
