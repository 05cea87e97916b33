"""Generated scores: what their bytes depend on, and music read back from the files with pretty_midi."""

from __future__ import annotations

import functools
import io
import itertools

import numpy as np
import pretty_midi
import pytest

from synthesis import etudes, textures

N_ETUDES = 50
SECONDS = 60.0
DIATONIC = ("major", "natural minor", "harmonic minor", "dorian", "mixolydian")


def midi_bytes(midi) -> bytes:
    buffer = io.BytesIO()
    midi.save(file=buffer)
    return buffer.getvalue()


def read_back(midi) -> pretty_midi.PrettyMIDI:
    return pretty_midi.PrettyMIDI(io.BytesIO(midi_bytes(midi)))


def notes_of(midi) -> list[pretty_midi.Note]:
    return sorted(read_back(midi).instruments[0].notes, key=lambda note: (note.start, note.pitch))


@pytest.fixture(scope="module")
def mixed() -> list[pretty_midi.PrettyMIDI]:
    return [read_back(etudes.compose(7, number, SECONDS)) for number in range(N_ETUDES)]


@pytest.fixture(scope="module")
def mixed_notes(mixed) -> list[list[pretty_midi.Note]]:
    return [midi.instruments[0].notes for midi in mixed]


@pytest.fixture(scope="module")
def melody_notes() -> list[list[pretty_midi.Note]]:
    return [notes_of(etudes.compose(7, number, SECONDS, "melody")) for number in range(30)]


@functools.cache
def sections_of(texture: str, count: int = 20) -> list[etudes.Section]:
    return [section for number in range(count) for section in etudes.sections(7, number, SECONDS, texture)]


def polyphony(notes, length: float) -> np.ndarray:
    """How many notes sound, at every 10 ms."""
    count = np.zeros(round(length * 100))
    for note in notes:
        count[round(note.start * 100) : round(note.end * 100)] += 1
    return count


# ------------------------------------------------------------------------------------------------------------- files


def test_an_etude_does_not_depend_on_how_many_are_written(tmp_path):
    few = etudes.write_etudes(tmp_path / "few", 2, seed=3, seconds=10.0)
    many = etudes.write_etudes(tmp_path / "many", 5, seed=3, seconds=10.0)
    assert [path.name for path in many] == [f"etude_{number:03d}.mid" for number in range(5)]
    assert [path.read_bytes() for path in few] == [path.read_bytes() for path in many[:2]]
    assert many[4].read_bytes() == midi_bytes(etudes.compose(3, 4, 10.0))
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == [path.name for path in many]


def test_seed_number_and_texture_each_give_other_notes():
    made = [etudes.compose(*arguments) for arguments in ((1, 0, 20.0), (2, 0, 20.0), (1, 1, 20.0), (0, 1, 20.0))]
    made.append(etudes.compose(1, 0, 20.0, "melody"))
    pieces = [tuple((note.pitch, note.start) for note in notes_of(midi)) for midi in made]
    assert len(set(pieces)) == len(pieces)


def test_midi_is_one_piano_track_of_the_length_asked_for():
    for seconds, texture in itertools.product((4.0, 9.7, 33.3), etudes.TEXTURES):
        midi = etudes.compose(5, 2, seconds, texture)
        assert midi.type in (0, 1)
        assert midi.ticks_per_beat == 480
        assert midi.length == pytest.approx(seconds, abs=1e-3)
        assert {message.channel for message in midi if not message.is_meta} == {0}
        assert [instrument.program for instrument in read_back(midi).instruments] == [0]


# ------------------------------------------------------------------------------------------------------------- notes


def test_notes_lie_within_the_etude_and_sound(mixed_notes, melody_notes):
    for notes in (*mixed_notes, *melody_notes):
        assert min(note.start for note in notes) >= 0
        assert max(note.end for note in notes) <= SECONDS
        assert min(note.end - note.start for note in notes) > 0.025


def test_the_file_holds_the_notes_of_its_sections():
    planned = [note for section in etudes.sections(7, 3, SECONDS) for note in section.notes]
    planned.sort(key=lambda note: (round(note.start, 2), note.pitch))
    read = sorted(notes_of(etudes.compose(7, 3, SECONDS)), key=lambda note: (round(note.start, 2), note.pitch))
    assert sorted((note.pitch, note.velocity) for note in planned) == sorted((n.pitch, n.velocity) for n in read)
    tick = 60 / etudes.MIN_TEMPO / 480
    np.testing.assert_allclose(sorted(n.start for n in read), sorted(n.start for n in planned), atol=tick)
    np.testing.assert_allclose(sorted(n.end for n in read), sorted(n.end for n in planned), atol=tick)


def test_no_pitch_is_struck_while_it_sounds(mixed_notes):
    for notes in mixed_notes:
        by_pitch = sorted(notes, key=lambda note: (note.pitch, note.start))
        for first, second in itertools.pairwise(by_pitch):
            assert first.pitch != second.pitch or first.end <= second.start


def test_melodies_are_strictly_monophonic_and_in_a_guitars_range(melody_notes):
    for notes in melody_notes:
        assert all(first.end <= second.start for first, second in itertools.pairwise(notes))
        assert all(40 <= note.pitch <= 88 for note in notes)


def test_pitches_and_velocities_cover_the_piano(mixed_notes):
    pitches = np.array([note.pitch for notes in mixed_notes for note in notes])
    velocities = np.array([note.velocity for notes in mixed_notes for note in notes])
    assert set(range(28, 101)) <= set(pitches)
    assert pitches.min() >= 21
    assert pitches.max() <= 108
    assert np.mean((pitches >= 45) & (pitches <= 84)) > 0.8
    assert set(range(20, 121)) <= set(velocities)
    assert np.quantile(velocities, 0.1) < 50
    assert np.quantile(velocities, 0.9) > 90


def test_density_is_that_of_piano_music(mixed_notes):
    """The example scores in docs/examples have 2 to 10 notes a second and 1.9 to 4.9 at a time."""
    rates = [len(notes) / SECONDS for notes in mixed_notes]
    sounding = np.concatenate([polyphony(notes, SECONDS) for notes in mixed_notes])
    assert 3 < np.mean(rates) < 8
    assert 2 < sounding[sounding > 0].mean() < 4
    assert 0.05 < np.mean(sounding == 0) < 0.25  # rests
    assert sounding.max() <= 12


# ---------------------------------------------------------------------------------------------------------- sections


@pytest.mark.parametrize("texture", etudes.TEXTURES)
@pytest.mark.parametrize("seconds", [4.0, 7.9, 8.0, 12.0, 13.0, 16.5, 60.0])
def test_sections_fill_the_etude_at_possible_tempi(texture, seconds):
    for number in range(10):
        plans = [section.plan for section in etudes.sections(11, number, seconds, texture)]
        ends = [plan.start + plan.seconds for plan in plans]
        assert [plan.start for plan in plans] == pytest.approx([0.0, *ends[:-1]])
        assert ends[-1] == pytest.approx(seconds)
        assert all(4 - 1e-9 <= plan.seconds <= 12 + 1e-9 for plan in plans)
        assert all(50 - 1e-9 <= plan.tempo <= 180 + 1e-9 for plan in plans)


@pytest.mark.parametrize("texture", etudes.TEXTURES)
def test_notes_of_a_diatonic_section_lie_in_its_scale(texture):
    sections = [section for section in sections_of(texture) if section.plan.scale in DIATONIC]
    assert {section.plan.scale for section in sections} == set(DIATONIC)
    for section in sections:
        steps = {(note.pitch - section.plan.tonic) % 12 for note in section.notes}
        assert steps <= set(textures.SCALES[section.plan.scale])


def test_sections_use_every_texture_scale_metre_and_key():
    plans = [section.plan for section in sections_of("mixed", 60)]
    assert {plan.texture for plan in plans} == set(textures.SECTION_TEXTURES)
    assert {plan.scale for plan in plans} == set(textures.SCALES)
    assert {plan.metre for plan in plans} == set(textures.METRES)
    assert {plan.tonic for plan in plans} == set(range(12))


# ------------------------------------------------------------------------------------------------------- performance


@pytest.mark.parametrize("texture", etudes.TEXTURES)
def test_onsets_are_jittered_by_6_ms(texture):
    deviations = []
    for number in range(20):
        made = etudes.sections(7, number, SECONDS, texture)
        read = sorted((note.pitch, note.start) for note in notes_of(etudes.compose(7, number, SECONDS, texture)))
        written = sorted(
            (score.pitch, played.start, section.plan.start + score.beat * 60 / section.plan.tempo, section.plan.rolled)
            for section in made
            for score, played in zip(section.score, section.notes, strict=True)
        )
        assert [pitch for pitch, _ in read] == [pitch for pitch, *_ in written]
        pairs = zip(read, written, strict=True)
        deviations += [start - beat for (_, start), (_, _, beat, rolled) in pairs if not rolled and beat > 0]
    assert len(deviations) > 1000
    assert np.std(deviations) == pytest.approx(0.006, rel=0.06)
    assert abs(np.mean(deviations)) < 0.0005
    assert np.abs(deviations).max() < 0.022


def test_pedal_goes_up_before_the_next_harmony(mixed):
    presses = 0
    for midi in mixed:
        values = [change.value for change in midi.instruments[0].control_changes if change.number == 64]
        assert values == [127, 0] * (len(values) // 2)
        presses += len(values) // 2
    assert presses > N_ETUDES
    for section in sections_of("mixed"):
        plan = section.plan
        changes = np.array(
            [plan.start + beat * 60 / plan.tempo for beat, *_ in plan.harmony] + [plan.start + plan.seconds]
        )
        for down, up in section.pedal:
            chord = np.searchsorted(changes, down) - 1
            assert 0.04 < down - changes[chord] < 0.15
            assert down < up < changes[chord + 1] - 0.02


def test_phrases_swell_towards_their_middle():
    middle, edge = [], []
    for section in sections_of("mixed", 40):
        phrase = section.plan.phrase_bars * section.plan.bar_beats
        mean = np.mean([note.velocity for note in section.notes])
        for score, played in zip(section.score, section.notes, strict=True):
            place = (score.beat % phrase) / phrase
            (middle if 0.3 < place < 0.7 else edge).append(played.velocity - mean - score.accent)
    assert np.mean(middle) - np.mean(edge) > 2
