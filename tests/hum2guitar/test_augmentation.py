"""What the augmentation of hum2guitar does to pitch and loudness."""

from __future__ import annotations

import numpy as np

from hum2guitar import augmentation
from hum2guitar.harmonics import PUBLISHED
from hum2guitar.plucks import find_notes


def plucked():
    """Three notes of 60 frames, 220, 220 and 330 Hz, that each decay by 30 dB, then 36 frames without pitch."""
    f0 = np.concatenate([np.full(120, 220.0), np.full(60, 330.0), np.zeros(36)])
    decay = np.linspace(-10, -40, 60)
    decibels = np.concatenate([decay, decay, decay, np.full(36, -80.0)])
    return f0, decibels


def test_notes_are_held_and_keep_their_pitch():
    f0, decibels = plucked()
    falls, pitches = [], []
    for seed in range(40):
        voice_f0, voice = augmentation.as_voice(f0, decibels, PUBLISHED, np.random.default_rng(seed))
        assert (voice_f0 > 0).tolist() == (f0 > 0).tolist()
        falls.append([voice[start + 8] - voice[stop - 1] for start, stop in find_notes(f0, decibels)])
        pitches.append([np.median(voice_f0[start:stop]) for start, stop in [(0, 60), (60, 120), (120, 180)]])

    plucked_fall = decibels[8] - decibels[59]
    assert plucked_fall > 25
    assert abs(np.median(falls)) < 2
    cents = 1200 * np.log2(np.array(pitches) / [220, 220, 330])
    assert np.abs(cents).max() < 30
    assert np.abs(cents).max() > 0


def test_the_same_rng_gives_the_same_voice_and_leaves_the_input_alone():
    f0, decibels = plucked()
    first = augmentation.as_voice(f0, decibels, PUBLISHED, np.random.default_rng(3))
    again = augmentation.as_voice(f0, decibels, PUBLISHED, np.random.default_rng(3))
    other = augmentation.as_voice(f0, decibels, PUBLISHED, np.random.default_rng(4))

    np.testing.assert_array_equal(first, again)
    assert np.abs(np.subtract(first, other)).max() > 0
    np.testing.assert_array_equal(f0, plucked()[0])
    np.testing.assert_array_equal(decibels, plucked()[1])
