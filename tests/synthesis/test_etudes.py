"""Generated scores: what they depend on, music theory by hand, and music read back from the files with pretty_midi."""

import dataclasses
import functools
import itertools

import numpy as np
import pretty_midi
import pytest

from synthesis import etudes

# Four bars of 4/4 in C major at 120 beats a minute, with the chords C, F, G and C.
PLAN = etudes.Plan(
    start=0.0, seconds=8.0, bar_beats=4, bars=4, tonic=0, scale=etudes.SCALES["major"], harmony=(0, 3, 4, 0),
    texture="melody", centre=67, notes_per_second=4.0, velocity=80.0, crescendo=0.0, articulation=1.0, phrase_bars=2,
    breath=0.5, pedal=False,
)  # fmt: skip


@functools.cache
def compose(texture: str, count: int = 30) -> list[list[etudes.Section]]:
    return [etudes.compose(7, number, texture) for number in range(count)]


def notes_of(etude: list[etudes.Section]) -> list[etudes.Note]:
    return sorted(note for section in etude for note in section.notes)


def test_an_etude_depends_on_seed_number_and_texture_alone(tmp_path):
    for folder in ("few", "many"):
        (tmp_path / folder).mkdir()
    few = etudes.write_etudes(tmp_path / "few", 1, 3)
    many = etudes.write_etudes(tmp_path / "many", 3, 3)
    assert [path.name for path in many] == [f"etude_{number:03d}.mid" for number in range(3)]
    assert few[0].read_bytes() == many[0].read_bytes()
    made = [etudes.compose(*arguments) for arguments in ((1, 0), (2, 0), (1, 1), (0, 1), (1, 0, "melody"))]
    assert len({tuple(notes_of(etude)) for etude in made}) == len(made)


def test_the_file_holds_the_notes_and_the_pedal_of_the_sections(tmp_path):
    for number, path in enumerate(etudes.write_etudes(tmp_path, 4, 7)):
        etude, midi = etudes.compose(7, number), pretty_midi.PrettyMIDI(str(path))
        (piano,) = midi.instruments
        read = sorted((note.pitch, note.velocity, note.start, note.end) for note in piano.notes)
        planned = sorted((note.pitch, note.velocity, note.start, note.end) for note in notes_of(etude))
        np.testing.assert_allclose(read, planned, atol=6e-4)
        changes = [(change.time, change.value) for change in piano.control_changes if change.number == 64]
        presses = [press for section in etude for press in section.pedal]
        np.testing.assert_allclose(changes, [c for down, up in presses for c in ((down, 127), (up, 0))], atol=6e-4)


@pytest.mark.parametrize("texture", etudes.TEXTURES)
def test_sections_fill_the_etude_with_sounding_notes(texture):
    for etude in compose(texture):
        ends = [section.plan.start + section.plan.seconds for section in etude]
        assert [section.plan.start for section in etude] == pytest.approx([0.0, *ends[:-1]])
        assert ends[-1] == pytest.approx(60)
        assert all(4 - 1e-9 <= section.plan.seconds <= 12 + 1e-9 for section in etude)
        notes = notes_of(etude)
        assert all(0 <= note.start < note.end - 0.02 and note.end < 60 for note in notes)
        # No pitch is struck while it sounds; a melody is strictly monophonic, in a guitar's range.
        voices = itertools.pairwise(sorted(notes, key=lambda n: (n.pitch * (texture == "mixed"), n.start)))
        assert all(a.end <= b.start for a, b in voices if texture == "melody" or a.pitch == b.pitch)
        assert texture == "mixed" or all(40 <= note.pitch <= 88 for note in notes)
        for section in etude:
            assert {(note.pitch - section.plan.tonic) % 12 for note in section.notes} <= set(section.plan.scale)


def test_etudes_are_like_piano_music():
    """The example scores in docs/examples have 2 to 10 notes a second and 1.9 to 4.9 at a time."""
    notes = [notes_of(etude) for etude in compose("mixed")]
    pitches, velocities = (np.array([note[field] for piece in notes for note in piece]) for field in (2, 3))
    assert set(range(28, 101)) <= set(pitches)
    assert pitches.min() >= 21
    assert pitches.max() <= 108
    assert np.mean((pitches >= 45) & (pitches <= 84)) > 0.75
    assert set(range(20, 121)) <= set(velocities)
    assert np.quantile(velocities, 0.1) < 50
    assert np.quantile(velocities, 0.9) > 90
    sounding = np.zeros((len(notes), 6000))  # how many notes sound, at every 10 ms
    for row, piece in zip(sounding, notes, strict=True):
        for note in piece:
            row[round(note.start * 100) : round(note.end * 100)] += 1
    assert 3 < np.mean([len(piece) / 60 for piece in notes]) < 8
    assert 2 < sounding[sounding > 0].mean() < 4
    assert 0.05 < np.mean(sounding == 0) < 0.25  # rests
    assert np.mean(sounding >= 6) > 0.01  # dense chords
    plans = [section.plan for etude in compose("mixed") for section in etude]
    assert {plan.texture for plan in plans} == set(etudes.SECTION_TEXTURES)
    assert {plan.scale for plan in plans} == set(etudes.SCALES.values())
    assert {plan.tonic for plan in plans} == set(range(12))


def test_onsets_waver_and_phrases_swell():
    deviations, middle, edge = [], [], []
    for section in itertools.chain(*compose("mixed")):
        plan, mean = section.plan, np.mean([note.velocity for note in section.notes])
        for score, played in zip(section.score, section.notes, strict=True):
            assert score.pitch == played.pitch
            deviations.append(played.start - plan.start - score.beat * plan.beat_seconds)
            place = score.beat / (plan.phrase_bars * plan.bar_beats) % 1
            (middle if 0.3 < place < 0.7 else edge).append(played.velocity - mean - score.accent)
    assert np.std(deviations) == pytest.approx(0.006, rel=0.06)
    assert abs(np.mean(deviations)) < 0.0005
    assert np.abs(deviations).max() < 0.022
    assert np.mean(middle) - np.mean(edge) > 2


def test_pedal_goes_up_before_the_next_harmony():
    presses = [(section.plan, *press) for etude in compose("mixed") for section in etude for press in section.pedal]
    assert len(presses) > 100
    for plan, down, up in presses:
        bar_seconds = plan.bar_beats * plan.beat_seconds
        bar = (down - plan.start) // bar_seconds
        assert 0.04 < down - plan.start - bar * bar_seconds < 0.15
        assert down < up < plan.start + (bar + 1) * bar_seconds - 0.02


def test_degrees_chords_and_phrases_of_a_plan():
    assert (PLAN.beats, PLAN.beat_seconds, PLAN.notes_per_beat) == (16, 0.5, 2)
    assert [PLAN.phrase_end(beat) for beat in (0, 7.9, 8, 15)] == [7.5, 7.5, 15.5, 15.5]
    assert [PLAN.pitch(degree) for degree in (0, 1, 7, 37)] == [0, 2, 12, 64]
    assert PLAN.pitch(PLAN.nearest_degree(66, (0, 2, 4))) == 67
    assert [PLAN.chord(bar, 60) for bar in range(3)] == [[55, 60, 64], [57, 60, 65], [55, 59, 62]]
    assert PLAN.chord(2, 64, 4) == [59, 62, 67, 71]
    assert [PLAN.bass(bar, 67) for bar in range(3)] == [48, 53, 43]
    minor = dataclasses.replace(PLAN, tonic=9, scale=etudes.SCALES["harmonic minor"])
    assert minor.chord(2, 64) == [59, 64, 68]  # B, E, G sharp
