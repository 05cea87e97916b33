"""Generated scores ("etudes"), so that training data need no download.

An etude is a row of sections of 4 to 12 s. Each section has its own plan: key, scale, metre, tempo, register, loudness,
articulation, harmony and texture. The texture writes the score in beats (synthesis/textures.py), and `perform` plays
it with a person's jitter, dynamics and articulation. `compose` returns the MIDI file. An etude depends on its seed,
number, length and texture alone, not on how many etudes are made.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from synthesis.midi import Note
from synthesis.textures import (
    KEY_NAMES,
    METRE_WEIGHTS,
    METRES,
    PROGRESSIONS,
    SCALE_WEIGHTS,
    SECTION_TEXTURES,
    Plan,
    ScoreNote,
    draw,
)

if TYPE_CHECKING:
    import mido

TEXTURES = ("mixed", "melody")  # melody: one note at a time, in the range of a guitar melody
TICKS_PER_BEAT = 480
MIN_SECTION, MAX_SECTION = 4.0, 12.0  # seconds
MIN_TEMPO, MAX_TEMPO = 50.0, 180.0  # quarter notes a minute
PITCH_RANGE = {"mixed": (24, 104), "melody": (40, 88)}  # MIDI
JITTER = 0.006  # seconds, standard deviation of an onset
MAX_JITTER = 0.018
SECTION_GAP = 0.02  # seconds before a section's end at which all notes are released; at least MAX_JITTER
MIN_SPACING = 0.07  # seconds between two strokes of one pitch, as written
MIN_LENGTH = 0.06  # seconds of a note as played, where nothing follows earlier
MIN_SOUND = 0.03  # seconds of a note, whatever follows
RELEASE_TIME = 0.01  # seconds between a note's end and the next stroke of its pitch


@dataclasses.dataclass(frozen=True)
class Section:
    """A section: what was planned, written and played. `score[i]` is played as `notes[i]`."""

    plan: Plan
    score: tuple[ScoreNote, ...]
    notes: tuple[Note, ...]
    pedal: tuple[tuple[float, float], ...]  # seconds at which the sustain pedal goes down and up


# ------------------------------------------------------------------------------------------- plans and performances


def section_lengths(rng: np.random.Generator, seconds: float) -> list[float]:
    """Lengths from 4 to 12 s that add up to `seconds`."""
    lengths, rest = [], seconds
    while rest >= 2 * MIN_SECTION and (rest > MAX_SECTION or rng.random() < 0.5):
        lengths.append(rng.uniform(MIN_SECTION, min(MAX_SECTION, rest - MIN_SECTION)))
        rest -= lengths[-1]
    return [*lengths, rest]


def plan_section(rng: np.random.Generator, start: float, seconds: float, texture: str) -> Plan:
    """A section's plan: whole bars that fill `seconds` at the possible tempo nearest to the one drawn."""
    bars_of = {  # for each metre, the bar counts whose tempo is allowed
        metre: [bars for bars in range(1, 40) if MIN_TEMPO <= 60 * bars * beats / seconds <= MAX_TEMPO]
        for metre, beats in METRES.items()
    }
    metre = draw(rng, {metre: weight for metre, weight in METRE_WEIGHTS.items() if bars_of[metre]})
    tempo = np.exp(rng.uniform(np.log(MIN_TEMPO), np.log(MAX_TEMPO)))
    bars = min(bars_of[metre], key=lambda n: abs(np.log(60 * n * METRES[metre] / seconds / tempo)))
    bar_seconds = seconds / bars

    melodic = texture == "melody"
    centre = rng.uniform(46, 82) if melodic else rng.uniform(40, 96) if rng.random() < 0.12 else rng.normal(67, 6)
    return Plan(
        start=start,
        seconds=seconds,
        metre=metre,
        bars=bars,
        tonic=int(rng.integers(12)),
        scale=draw(rng, SCALE_WEIGHTS),
        texture=draw(rng, {name: row[1 + melodic] for name, row in SECTION_TEXTURES.items()}),
        centre=round(centre),
        pitch_range=PITCH_RANGE[texture],
        notes_per_second=float(np.exp(rng.uniform(np.log(1.5), np.log(9)))),
        velocity=rng.uniform(30, 108),
        crescendo=rng.normal(0, 8),
        articulation=draw(rng, {0.35: 1, 0.6: 1, 0.85: 2, 0.97: 4, 1.06: 3}) * rng.uniform(0.9, 1.05),
        phrase_bars=max(1, round(rng.uniform(2.5, 5.5) / bar_seconds)),
        breath=float(rng.choice([0.0, 0.0, 0.5, 1.0])),
        rolled=rng.random() < 0.15,
        pedal=not melodic and rng.random() < 0.35,
        harmony=draw_harmony(rng, bars, METRES[metre], bar_seconds),
        sevenths=rng.random() < 0.25,
    )


def draw_harmony(
    rng: np.random.Generator, bars: int, bar_beats: float, bar_seconds: float
) -> tuple[tuple[float, float, int], ...]:
    """(beat, beats, root) of a section's chords: one a bar, or two in a slow bar that has equal halves."""
    halved = bar_seconds > 2.2 and bar_beats in (2, 4) and rng.random() < 0.7
    progression = PROGRESSIONS[rng.integers(len(PROGRESSIONS))]
    beats = bar_beats / 2 if halved else bar_beats
    count = bars * (2 if halved else 1)
    roots = [int(progression[index % len(progression)]) - 1 for index in range(count - 1)] + [0]
    return tuple((index * beats, beats, root) for index, root in enumerate(roots))


def write_score(plan: Plan, rng: np.random.Generator, monophonic: bool) -> list[ScoreNote]:
    """The texture's notes in order: inside the range, silent between phrases, each pitch struck once at a time."""
    write, *_ = SECTION_TEXTURES[plan.texture]
    notes: list[ScoreNote] = []
    last: dict[int, float] = {}  # when a pitch was struck last; in a monophonic section, when any was
    for note in sorted(write(plan, rng), key=lambda note: (note.beat, -note.pitch)):
        end = min(note.beat + note.beats, plan.phrase_end(note.beat))
        pitch = fold(note.pitch, *plan.pitch_range)
        voice = 0 if monophonic else pitch
        if end > note.beat and note.beat - last.get(voice, -np.inf) >= MIN_SPACING * plan.tempo / 60:
            last[voice] = note.beat
            notes.append(dataclasses.replace(note, beats=end - note.beat, pitch=pitch))
    return sorted(notes, key=lambda note: (note.beat, note.pitch))


def fold(pitch: int, low: int, high: int) -> int:
    """The pitch, moved by octaves into the range, which spans at least one."""
    return low + (pitch - low) % 12 if pitch < low else high - (high - pitch) % 12 if pitch > high else pitch


def perform(plan: Plan, score: Sequence[ScoreNote], rng: np.random.Generator, monophonic: bool) -> list[Note]:
    """The score as played, note by note."""
    beat_seconds = 60 / plan.tempo
    jitter = np.clip(rng.normal(0, JITTER, len(score)), -MAX_JITTER, MAX_JITTER)
    delays = roll_delays(plan, score, rng.uniform(0.012, 0.035))
    starts = [
        float(max(plan.start + note.beat * beat_seconds + shift, 0.0))
        for note, shift in zip(score, jitter + delays, strict=True)
    ]
    lengths = plan.articulation * np.exp(rng.normal(0, 0.07, len(score)))
    touch = rng.normal(0, 4, len(score))

    notes = []
    following: dict[int, float] = {}  # when a pitch is struck next; in a monophonic section, when any is
    for index in reversed(range(len(score))):
        note = score[index]
        voice = 0 if monophonic else note.pitch
        start = min(starts[index], following.get(voice, np.inf) - MIN_SOUND)  # where a roll comes near the next stroke
        end = start + max(note.beats * beat_seconds * lengths[index], MIN_LENGTH)
        end = min(end, following.get(voice, np.inf), plan.start + plan.seconds - SECTION_GAP)
        following[voice] = start if monophonic else start - RELEASE_TIME
        velocity = plan.velocity + note.accent + dynamics(plan, note.beat) + touch[index]
        notes.append(Note(start, float(end), note.pitch, int(np.clip(round(velocity), 1, 127))))
    return notes[::-1]


def roll_delays(plan: Plan, score: Sequence[ScoreNote], delay: float) -> np.ndarray:
    """Seconds by which each note comes late in a rolled chord, from the lowest note up; 0 where nothing is rolled."""
    delays = np.zeros(len(score))
    beats = np.array([note.beat for note in score])
    for beat in np.unique(beats) if plan.rolled else ():
        chord = np.flatnonzero(beats == beat)
        shortest = min(score[index].beats for index in chord) * 60 / plan.tempo
        if len(chord) >= 3:
            delays[chord] = np.arange(len(chord)) * min(delay, 0.3 * shortest / len(chord))
    return delays


def dynamics(plan: Plan, beat: float) -> float:
    """Units of velocity that the place in the bar, the phrase and the section adds: an arch over each phrase."""
    phrase = plan.phrase_bars * plan.bar_beats
    metrical = 6 if beat % plan.bar_beats == 0 else 1 if beat % 1 == 0 else -3
    return metrical + 12 * np.sin(np.pi * (beat % phrase) / phrase) - 6 + plan.crescendo * (beat / plan.beats - 0.5)


def press_pedal(plan: Plan, rng: np.random.Generator) -> list[tuple[float, float]]:
    """(down, up) in seconds: down shortly after each chord, up before the next one or at the phrase's end."""
    presses = []
    for beat, beats, _ in plan.harmony if plan.pedal else ():
        down = plan.start + beat * 60 / plan.tempo + rng.uniform(0.05, 0.12)
        up = plan.start + min(beat + beats, plan.phrase_end(beat)) * 60 / plan.tempo - rng.uniform(0.03, 0.07)
        if up - down > 0.2:
            presses.append((down, up))
    return presses


def sections(seed: int, number: int, seconds: float = 60.0, texture: str = "mixed") -> list[Section]:
    """The sections of one etude: plan, score, notes and pedal of each.

    Args:
        seed: of all etudes, at least 0.
        number: which etude, at least 0.
        seconds: its length, at least 4.
        texture: one of TEXTURES; "melody" is strictly monophonic, from MIDI pitch 40 to 88.
    """
    rng = np.random.default_rng([seed, number, TEXTURES.index(texture)])
    monophonic = texture == "melody"
    made, start = [], 0.0
    for length in section_lengths(rng, seconds):
        plan = plan_section(rng, start, length, texture)
        score = write_score(plan, rng, monophonic)
        notes = perform(plan, score, rng, monophonic)
        made.append(Section(plan, tuple(score), tuple(notes), tuple(press_pedal(plan, rng))))
        start += length
    return made


# ------------------------------------------------------------------------------------------------------- MIDI files


def compose(seed: int, number: int, seconds: float = 60.0, texture: str = "mixed") -> mido.MidiFile:
    """An etude as MIDI: one track, channel 0, program 0, the score's tempi and metres, a marker at each section.

    Two calls with the same arguments give the same bytes. Arguments are those of `sections`.
    """
    import mido  # here, so that --help and argument errors answer at once

    made = sections(seed, number, seconds, texture)
    ends = np.cumsum([0.0, *(section.plan.seconds for section in made)])
    end_ticks = np.cumsum([0, *(round(section.plan.beats * TICKS_PER_BEAT) for section in made)])

    def ticks(at: float) -> int:
        return round(float(np.interp(at, ends, end_ticks)))

    name = mido.MetaMessage("track_name", name=f"etude {number} of seed {seed}")
    events = [(0, 0, name), (0, 0, mido.Message("program_change", program=0))]  # (tick, order among equals, message)
    for section, start in zip(made, end_ticks, strict=False):
        plan = section.plan
        numerator, denominator = map(int, plan.metre.split("/"))
        events += [
            (start, 0, mido.MetaMessage("marker", text=f"{KEY_NAMES[plan.tonic]} {plan.scale}, {plan.texture}")),
            (start, 0, mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator)),
            (start, 0, mido.MetaMessage("set_tempo", tempo=round(60e6 / plan.tempo))),
        ]
        for down, up in section.pedal:
            events.append((ticks(up), 1, mido.Message("control_change", control=64, value=0)))
            events.append((ticks(down), 3, mido.Message("control_change", control=64, value=127)))
        for note in section.notes:
            events.append((ticks(note.end), 2, mido.Message("note_off", note=note.pitch)))
            events.append((ticks(note.start), 4, mido.Message("note_on", note=note.pitch, velocity=note.velocity)))

    track, now = mido.MidiTrack(), 0
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=int(tick) - now))
        now = int(tick)
    track.append(mido.MetaMessage("end_of_track", time=int(end_ticks[-1]) - now))
    return mido.MidiFile(type=0, ticks_per_beat=TICKS_PER_BEAT, tracks=[track])


def write_etudes(
    folder: str | os.PathLike, n: int, seed: int, texture: str = "mixed", seconds: float = 60.0
) -> list[pathlib.Path]:
    """Write etudes 0 to n - 1 as etude_000.mid and so on; returns their paths.

    Their dates are 0: recordings of an etude are up to date as long as the parameters stay the same.
    """
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    paths = [pathlib.Path(folder, f"etude_{number:03d}.mid") for number in range(n)]
    for number, path in enumerate(paths):
        compose(seed, number, seconds, texture).save(path)
        os.utime(path, (0, 0))
    return paths
