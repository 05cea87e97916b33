"""The material of etudes: pitches, chords and rhythms of a plan, against music theory by hand."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from synthesis import textures

# Four bars of 4/4 in C major at 120 beats a minute, with the chords C, F, G7 and C.
PLAN = textures.Plan(
    start=0.0, seconds=8.0, metre="4/4", bars=4, tonic=0, scale="major", texture="melody", centre=67,
    pitch_range=(24, 104), notes_per_second=4.0, velocity=80.0, crescendo=0.0, articulation=1.0, phrase_bars=2,
    breath=0.5, rolled=False, pedal=False, harmony=((0, 4, 0), (4, 4, 3), (8, 4, 4), (12, 4, 0)), sevenths=False,
)  # fmt: skip


def test_times_of_a_plan():
    assert (PLAN.bar_beats, PLAN.beats, PLAN.tempo, PLAN.notes_per_beat) == (4, 16, 120, 2)
    assert [PLAN.phrase_end(beat) for beat in (0, 7.9, 8, 15)] == [7.5, 7.5, 15.5, 15.5]


def test_degrees_and_chords_of_a_scale():
    assert [PLAN.pitch(degree) for degree in (0, 1, 7, 37)] == [0, 2, 12, 64]
    assert [PLAN.chord(root) for root in (0, 3, 4)] == [[0, 4, 7], [5, 9, 0], [7, 11, 2]]
    minor = dataclasses.replace(PLAN, tonic=9, scale="harmonic minor", sevenths=True)
    assert minor.chord(4) == [4, 8, 11, 2]  # E, G sharp, B, D
    pentatonic = dataclasses.replace(PLAN, scale="major pentatonic")
    assert [pentatonic.pitch(degree) for degree in range(6)] == [0, 2, 4, 7, 9, 12]
    assert pentatonic.chord(3) == [5, 9, 0]  # borrowed from the major scale


def test_the_nearest_degree_lies_in_the_scale_or_in_the_chord():
    assert PLAN.pitch(PLAN.degree_near(66.4)) in (65, 67)
    assert PLAN.pitch(PLAN.degree_near(66, [0, 4, 7])) == 67
    assert PLAN.pitch(PLAN.degree_near(61, [0, 4, 7])) == 60


@pytest.mark.parametrize("metre", textures.METRES)
@pytest.mark.parametrize("density", [0.5, 2, 4])
def test_a_rhythm_fills_its_beats_at_about_the_density_asked_for(metre, density):
    plan, rng = dataclasses.replace(PLAN, metre=metre), np.random.default_rng(0)
    counts = []
    for _ in range(100):
        rhythm = textures.draw_rhythm(plan, rng, plan.bar_beats, density)
        assert all(length > 0 for _, length in rhythm)
        assert all(at + length <= following + 1e-9 for (at, length), (following, _) in itertools.pairwise(rhythm))
        assert rhythm[-1][0] + rhythm[-1][1] <= plan.bar_beats + 1e-9
        counts.append(len(rhythm))
    assert np.mean(counts) / plan.bar_beats == pytest.approx(density, rel=0.4)


def test_a_contour_stays_within_an_octave():
    for seed in range(20):
        contour = textures.draw_steps(np.random.default_rng(seed), 40)
        assert (len(contour), contour[0]) == (40, 0)
        assert np.abs(contour).max() <= 7
        assert set(np.abs(np.diff(contour))) <= {abs(step) for step in textures.MELODIC_STEPS}


def test_chords_are_voiced_with_their_own_tones_and_the_root_in_the_bass():
    voiced = textures.voice_chords(PLAN, 60)
    assert [(beat, beats) for beat, beats, *_ in voiced] == [(0, 4), (4, 4), (8, 4), (12, 4)]
    for (_, _, root), (_, _, chord, bass) in zip(PLAN.harmony, voiced, strict=True):
        classes = PLAN.chord(root)
        assert {pitch % 12 for pitch in chord} == set(classes)
        assert sorted(chord) == list(chord)
        assert chord[-1] - chord[0] < 12
        assert bass % 12 == classes[0]
        assert bass < chord[0]


@pytest.mark.parametrize("name", textures.SECTION_TEXTURES)
def test_every_texture_writes_notes_inside_the_section(name):
    write, *_ = textures.SECTION_TEXTURES[name]
    notes = write(PLAN, np.random.default_rng(1))
    assert len(notes) >= 3
    assert all(0 <= note.beat < PLAN.beats and note.beats > 0 for note in notes)
    assert {note.pitch % 12 for note in notes} <= {0, 2, 4, 5, 7, 9, 11}
    assert notes == write(PLAN, np.random.default_rng(1))


@pytest.mark.parametrize(
    ("metre", "notes_per_second", "beats"), [("4/4", 8, 0.25), ("4/4", 2, 1), ("4/4", 6, 1 / 3), ("6/8", 1.3, 1.5)]
)
def test_even_notes_divide_the_bar(metre, notes_per_second, beats):
    assert textures.even_length(dataclasses.replace(PLAN, metre=metre), notes_per_second) == beats
