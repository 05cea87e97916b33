"""Generated scores ("etudes"), so that training data need no download.

An etude is a row of sections of 4 to 12 s. Each section has its own plan: key, metre, tempo, register, loudness,
articulation, harmony and texture. The texture writes the score in beats, and `perform` plays it with a person's jitter
and dynamics. An etude depends on its seed, number and texture alone, not on how many etudes are made.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from synthesis.midi import SUSTAIN, Note

TEXTURES = ("mixed", "melody")  # melody: one note at a time, in the range of a guitar melody
SECONDS = 60.0  # length of an etude
MIN_SECTION, MAX_SECTION = 4.0, 12.0  # seconds
MIN_TEMPO, MAX_TEMPO = 50.0, 180.0  # quarter notes a minute
PITCH_RANGE = {"mixed": (24, 104), "melody": (40, 88)}  # MIDI
JITTER, MAX_JITTER = 0.006, 0.018  # seconds by which an onset wavers: standard deviation and limit
MIN_SPACING = 0.07  # seconds between two strokes of one pitch, as written
MIN_LENGTH = 0.06  # seconds of a note, where nothing follows earlier
RELEASE_TIME = 0.01  # seconds between a note's end and the next stroke of its pitch

SCALES = {  # semitones above the tonic
    "major": (0, 2, 4, 5, 7, 9, 11),
    "natural minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}
PROGRESSIONS = ("1451", "1645", "1564", "1625", "2511", "1425", "1765", "6415", "14736251")  # degrees; 1 is the tonic
BAR_BEATS = (2, 3, 4)  # quarter notes in a bar
# Cells that rhythms are made of, in twelfths of a quarter note (6 an eighth, 4 a triplet eighth, 3 a sixteenth); a
# negative length is a rest.
CELLS = (
    *((12,), (6, 6), (9, 3), (3, 3, 6), (6, 3, 3), (4, 4, 4), (8, 4), (3, 3, 3, 3), (-6, 6), (-12,)),
    *((24,), (18, 6), (6, 12, 6), (6, 18), (8, 8, 8), (36,), (24, 12), (48,), (36, 12)),
)
FORMS = ("AABA", "ABAB", "AABB", "ABAC")  # the motifs of a tune, one a bar
STEPS = {-3: 2, -2: 6, -1: 14, 0: 4, 1: 14, 2: 6, 3: 2, 7: 1}  # of a tune, in degrees of the scale, with weights
# Broken chords, as indices into a chord's notes from the lowest; an index past the highest is an octave higher.
FIGURES = ((0, 2, 1, 2), (0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 3, 2, 1), (3, 2, 1, 0), (0, 1, 2, 3, 4, 5))
ARTICULATIONS = {0.3: 1, 0.6: 1, 0.85: 2, 0.97: 4, 1.06: 3}  # staccato to overlapping legato, with weights


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a section is made from; everything in it is drawn before its first note."""

    start: float  # seconds
    seconds: float
    bar_beats: int
    bars: int
    tonic: int  # pitch class, 0 is C
    scale: tuple[int, ...]
    harmony: tuple[int, ...]  # root of each bar's chord, as a degree from 0
    texture: str
    centre: float  # MIDI pitch about which the upper notes lie
    notes_per_second: float  # of the leading voice
    velocity: float
    crescendo: float  # units of velocity from the section's start to its end
    articulation: float  # sounding part of a note's written length
    phrase_bars: int
    breath: float  # quarter notes of rest at a phrase's end
    pedal: bool

    @property
    def beats(self) -> int:
        return self.bars * self.bar_beats

    @property
    def beat_seconds(self) -> float:
        return self.seconds / self.beats

    @property
    def notes_per_beat(self) -> float:
        return self.notes_per_second * self.beat_seconds

    def pitch(self, degree: int) -> int:
        """MIDI pitch of a degree of the scale, counted from the tonic of MIDI's lowest octave."""
        return self.tonic + 12 * (degree // 7) + self.scale[degree % 7]

    def nearest_degree(self, pitch: float, allowed: Sequence[int] = range(7)) -> int:
        """The degree nearest to a pitch, of those that are `allowed` in an octave."""
        degrees = [degree for degree in range(77) if degree % 7 in allowed]
        return min(degrees, key=lambda degree: abs(self.pitch(degree) - pitch))

    def chord(self, bar: int, centre: float, n: int = 3) -> list[int]:
        """Pitches of `n` notes of a bar's chord, in the inversion whose lowest note is nearest below `centre`."""
        degrees = [(self.harmony[bar] + third) % 7 for third in (0, 2, 4)]
        lowest = self.nearest_degree(centre - 4, degrees)
        return [self.pitch(degree) for degree in range(lowest, lowest + 7 * n) if degree % 7 in degrees][:n]

    def bass(self, bar: int, centre: float) -> int:
        """Pitch of the root of a bar's chord, nearest to an octave and a half below `centre`."""
        return self.pitch(self.nearest_degree(centre - 18, [self.harmony[bar]]))

    def phrase_end(self, beat: float) -> float:
        """The beat at which the phrase around `beat` falls silent."""
        phrase = self.phrase_bars * self.bar_beats
        return min((beat // phrase + 1) * phrase, self.beats) - self.breath


@dataclasses.dataclass(frozen=True)
class ScoreNote:
    """A note as written: times in quarter notes from its section's start, `accent` in units of velocity."""

    beat: float
    beats: float  # length
    pitch: int
    accent: float = 0.0


def strike(beat: float, beats: float, pitches: Iterable[int], accent: float = 0.0) -> list[ScoreNote]:
    """Notes that begin and end together."""
    return [ScoreNote(beat, beats, pitch, accent) for pitch in pitches]


def draw(rng: np.random.Generator, weights: dict):
    """One key of `weights`, drawn in proportion to its value."""
    values = np.array(list(weights.values()), float)
    return list(weights)[rng.choice(len(values), p=values / values.sum())]


def draw_rhythm(rng: np.random.Generator, beats: int, notes_per_beat: float) -> list[tuple[float, float]]:
    """(beat, beats) of the notes that fill `beats`, in cells whose density is near `notes_per_beat`."""
    rhythm, at, end = [], 0, 12 * beats
    while at < end:
        fitting = [cell for cell in CELLS if sum(map(abs, cell)) <= end - at and (at or cell[0] > 0)]
        rates = np.array([12 * max(sum(n > 0 for n in cell), 0.3) / sum(map(abs, cell)) for cell in fitting])
        weights = np.exp(-((np.log(rates / notes_per_beat) / 0.5) ** 2)) + 1e-9
        for length in fitting[rng.choice(len(fitting), p=weights / weights.sum())]:
            if length > 0:
                rhythm.append((at / 12, length / 12))
            at += abs(length)
    return rhythm


def even_length(plan: Plan, notes_per_second: float) -> float:
    """The length in beats, of those that divide a beat evenly, that comes nearest to a number of notes a second."""
    return min((0.125, 0.25, 1 / 3, 0.5, 1.0), key=lambda n: abs(np.log(notes_per_second * n * plan.beat_seconds)))


# --- textures: from a plan to notes -----------------------------------------------------------------------------------


def melody(plan: Plan, rng: np.random.Generator, above: float = 0, density: float = 1) -> list[ScoreNote]:
    """A tune about the centre: motifs of one bar that return transposed to the harmony or inverted, and cadences."""
    form, centre = FORMS[rng.integers(len(FORMS))], plan.centre + above
    rhythms = {motif: draw_rhythm(rng, plan.bar_beats, plan.notes_per_beat * density) for motif in "ABC"}
    steps = {motif: np.cumsum([0, *(draw(rng, STEPS) for _ in rhythm[1:])]) for motif, rhythm in rhythms.items()}
    notes, last = [], centre + rng.normal(0, 3)
    for bar, root in enumerate(plan.harmony):
        motif, chord = form[bar % 4], [(root + third) % 7 for third in (0, 2, 4)]
        sign = -1 if rng.random() < 0.2 else 1
        first = plan.nearest_degree((last + centre) / 2, chord)
        cadence = (bar + 1) % plan.phrase_bars == 0 or bar == plan.bars - 1
        for (beat, beats), step in zip(rhythms[motif], steps[motif], strict=True):
            closing = cadence and beat >= plan.bar_beats / 2
            degree = first + sign * int(step)
            last = plan.pitch(plan.nearest_degree(plan.pitch(degree), chord) if closing else degree)
            notes += strike(bar * plan.bar_beats + beat, plan.bar_beats - beat if closing else beats, [last], 6)
            if closing:
                break
    return notes


def repeated_notes(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    """A note, an octave or a chord, repeated evenly three to twelve times a second, over held bass notes."""
    unit, kind, notes = even_length(plan, rng.uniform(3, 12)), rng.integers(3), []
    for bar in range(plan.bars):
        chord = plan.chord(bar, plan.centre)
        pitches = (chord[-1:], [chord[-1] - 12, chord[-1]], chord)[kind]
        notes += strike(bar * plan.bar_beats, plan.bar_beats, [plan.bass(bar, plan.centre)], -2)
        for index in range(round(plan.bar_beats / unit)):
            notes += strike(bar * plan.bar_beats + index * unit, unit, pitches, -6)
    return notes


def arpeggios(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    """Broken chords, often under a slow melody or over held bass notes."""
    figure, unit = FIGURES[rng.integers(len(FIGURES))], even_length(plan, plan.notes_per_second * 1.3)
    with_melody, with_bass = rng.random() < 0.5, rng.random() < 0.4
    notes = melody(plan, rng, 5, 0.25) if with_melody else []
    for bar in range(plan.bars):
        start, centre = bar * plan.bar_beats, plan.centre - (14 if with_melody else 0)
        notes += strike(start, plan.bar_beats, [plan.bass(bar, centre)], -2) if with_bass else []
        chord = plan.chord(bar, centre, 6)
        for index in range(round(plan.bar_beats / unit)):
            pitch = chord[figure[index % len(figure)]]
            notes += strike(start + index * unit, unit, [pitch], -6 if with_melody else 0)
    return notes


def chords(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    """Chords of three to eight notes in one rhythm: three or four in the right hand, none to four in the left."""
    rhythm = draw_rhythm(rng, plan.bar_beats, min(plan.notes_per_beat, 2.5 * plan.beat_seconds))
    n_right, n_left = int(rng.integers(3, 5)), int(rng.integers(0, 5))
    notes = []
    for bar in range(plan.bars):
        bass, right = plan.bass(bar, plan.centre), plan.chord(bar, plan.centre, n_right)
        hands = [*(bass, bass - 12, right[1] - 12, right[0] - 12)[:n_left], *right]
        for beat, beats in rhythm:
            notes += strike(bar * plan.bar_beats + beat, beats, hands)
    return notes


def two_voices(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    """Two tunes, the lower one as quick as the upper or slower."""
    return melody(plan, rng, 3) + melody(plan, rng, -15, float(rng.choice([0.4, 0.7, 1.0])))


def accompanied_melody(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    """A tune over held bass notes, over chords in a rhythm, or over bass notes and chords in turn."""
    notes, kind = melody(plan, rng, 4), rng.integers(3)
    rhythm = draw_rhythm(rng, plan.bar_beats, min(plan.notes_per_beat, 1.5 * plan.beat_seconds))
    rhythm = [[(0.0, float(plan.bar_beats))], rhythm, [(float(beat), 1.0) for beat in range(plan.bar_beats)]][kind]
    for bar in range(plan.bars):
        bass, chord = plan.bass(bar, plan.centre), plan.chord(bar, plan.centre - 12)
        for index, (beat, beats) in enumerate(rhythm):
            struck = chord if index else [bass] if kind != 1 else [bass, *chord]
            notes += strike(bar * plan.bar_beats + beat, beats, struck, -8 if index else -4)
    return notes


# Each texture with its weight in a mixed etude and in a melody, where only the highest note of each onset is kept.
SECTION_TEXTURES: dict[str, tuple[Callable[[Plan, np.random.Generator], list[ScoreNote]], float, float]] = {
    "melody": (melody, 3, 8),
    "repeated notes": (repeated_notes, 2, 1),
    "arpeggios": (arpeggios, 3, 1),
    "chords": (chords, 5, 0),
    "two voices": (two_voices, 2.5, 0),
    "accompanied melody": (accompanied_melody, 6.5, 0),
}

# --- from plans to performances ---------------------------------------------------------------------------------------


def section_lengths(rng: np.random.Generator) -> list[float]:
    """Lengths from 4 to 12 s that add up to `SECONDS`."""
    lengths, rest = [], SECONDS
    while rest >= 2 * MIN_SECTION and (rest > MAX_SECTION or rng.random() < 0.5):
        lengths.append(rng.uniform(MIN_SECTION, min(MAX_SECTION, rest - MIN_SECTION)))
        rest -= lengths[-1]
    return [*lengths, rest]


def draw_plan(rng: np.random.Generator, start: float, seconds: float, texture: str) -> Plan:
    """A section's plan: whole bars that fill `seconds` at nearly the tempo that is drawn."""
    melodic = texture == "melody"
    bar_beats = int(rng.choice(BAR_BEATS))
    tempo = np.exp(rng.uniform(np.log(MIN_TEMPO), np.log(MAX_TEMPO)))
    bars = max(1, round(seconds * tempo / 60 / bar_beats))
    progression = PROGRESSIONS[rng.integers(len(PROGRESSIONS))]
    return Plan(
        start=start,
        seconds=seconds,
        bar_beats=bar_beats,
        bars=bars,
        tonic=int(rng.integers(12)),
        scale=SCALES[draw(rng, {"major": 6, "natural minor": 3, "harmonic minor": 3, "dorian": 2, "mixolydian": 2})],
        harmony=(*(int(progression[bar % len(progression)]) - 1 for bar in range(bars - 1)), 0),
        texture=draw(rng, {name: weights[melodic] for name, (_, *weights) in SECTION_TEXTURES.items()}),
        centre=rng.uniform(46, 82) if melodic else rng.uniform(40, 96) if rng.random() < 0.2 else rng.normal(67, 6),
        notes_per_second=float(np.exp(rng.uniform(np.log(1.2), np.log(7)))),
        velocity=rng.uniform(30, 108),
        crescendo=rng.normal(0, 8),
        articulation=draw(rng, ARTICULATIONS) * rng.uniform(0.9, 1.05),
        phrase_bars=max(1, round(rng.uniform(2.5, 5.5) * bars / seconds)),
        breath=float(rng.choice([0.0, 0.0, 0.5, 1.0])),
        pedal=not melodic and rng.random() < 0.35,
    )


def write_score(plan: Plan, rng: np.random.Generator, texture: str) -> list[ScoreNote]:
    """The texture's notes in order: inside the range, silent between phrases, each pitch struck once at a time."""
    low, high = PITCH_RANGE[texture]
    notes: list[ScoreNote] = []
    last: dict[int, float] = {}  # when a pitch was struck last; in a melody, when any was
    for note in sorted(SECTION_TEXTURES[plan.texture][0](plan, rng), key=lambda note: (note.beat, -note.pitch)):
        # Moved by octaves into the range.
        pitch = low + (note.pitch - low) % 12 if note.pitch < low else min(note.pitch, high - (high - note.pitch) % 12)
        beats = min(note.beats, plan.phrase_end(note.beat) - note.beat)
        voice = 0 if texture == "melody" else pitch
        if beats > 0 and note.beat - last.get(voice, -np.inf) >= MIN_SPACING / plan.beat_seconds:
            last[voice] = note.beat
            notes.append(ScoreNote(note.beat, beats, pitch, note.accent))
    return notes


def perform(plan: Plan, score: Sequence[ScoreNote], rng: np.random.Generator, texture: str) -> list[Note]:
    """The score as played; ``notes[i]`` is ``score[i]``."""
    jitter = np.clip(rng.normal(0, JITTER, len(score)), -MAX_JITTER, MAX_JITTER)
    lengths = plan.articulation * np.exp(rng.normal(0, 0.07, len(score)))
    touch = rng.normal(0, 4, len(score))
    notes = []
    following: dict[int, float] = {}  # when a pitch is struck next; in a melody, when any is
    for index in reversed(range(len(score))):
        note = score[index]
        voice = 0 if texture == "melody" else note.pitch
        start = max(plan.start + note.beat * plan.beat_seconds + jitter[index], 0.0)
        end = start + max(note.beats * plan.beat_seconds * lengths[index], MIN_LENGTH)
        end = min(end, following.get(voice, np.inf) - RELEASE_TIME, plan.start + plan.seconds - MAX_JITTER)
        following[voice] = start
        velocity = plan.velocity + note.accent + dynamics(plan, note.beat) + touch[index]
        notes.append(Note(float(start), float(end), note.pitch, int(np.clip(round(velocity), 1, 127))))
    return notes[::-1]


def dynamics(plan: Plan, beat: float) -> float:
    """Units of velocity that the place in the bar, the phrase and the section adds: an arch over each phrase."""
    phrase = plan.phrase_bars * plan.bar_beats
    metrical = 6 if beat % plan.bar_beats == 0 else 1 if beat % 1 == 0 else -3
    return metrical + 12 * np.sin(np.pi * (beat % phrase) / phrase) - 6 + plan.crescendo * (beat / plan.beats - 0.5)


def press_pedal(plan: Plan, rng: np.random.Generator) -> list[tuple[float, float]]:
    """(down, up) in seconds: down shortly after each chord, up before the next one or at the phrase's end."""
    presses = []
    for beat in range(0, plan.beats, plan.bar_beats) if plan.pedal else ():
        down = plan.start + beat * plan.beat_seconds + rng.uniform(0.05, 0.12)
        end = min(beat + plan.bar_beats, plan.phrase_end(beat))
        up = plan.start + end * plan.beat_seconds - rng.uniform(0.03, 0.07)
        if up - down > 0.2:
            presses.append((down, up))
    return presses


@dataclasses.dataclass(frozen=True)
class Section:
    """What was planned, written and played: `score[i]` is played as `notes[i]`."""

    plan: Plan
    score: list[ScoreNote]
    notes: list[Note]
    pedal: list[tuple[float, float]]  # seconds at which the sustain pedal goes down and up


def compose(seed: int, number: int, texture: str = "mixed") -> list[Section]:
    """The sections of one etude.

    Args:
        seed: of all etudes, at least 0.
        number: which etude, at least 0.
        texture: one of TEXTURES; "melody" is strictly monophonic, from MIDI pitch 40 to 88.
    """
    rng = np.random.default_rng([seed, number, TEXTURES.index(texture)])
    sections, start = [], 0.0
    for seconds in section_lengths(rng):
        plan = draw_plan(rng, start, seconds, texture)
        score = write_score(plan, rng, texture)
        sections.append(Section(plan, score, perform(plan, score, rng, texture), press_pedal(plan, rng)))
        start += seconds
    return sections


def write_etudes(folder: pathlib.Path, n: int, seed: int, texture: str = "mixed") -> list[pathlib.Path]:
    """Write etudes 0 to n - 1 as etude_000.mid and so on; returns their paths."""
    import pretty_midi  # here, so that --help and argument errors answer at once

    paths = [folder / f"etude_{number:03d}.mid" for number in range(n)]
    for number, path in enumerate(paths):
        midi, piano = pretty_midi.PrettyMIDI(resolution=960), pretty_midi.Instrument(0)
        for section in compose(seed, number, texture):
            piano.notes += [pretty_midi.Note(n.velocity, n.pitch, n.start, n.end) for n in section.notes]
            for down, up in section.pedal:
                piano.control_changes += [pretty_midi.ControlChange(SUSTAIN, *c) for c in ((127, down), (0, up))]
        midi.instruments.append(piano)
        midi.write(str(path))
    return paths
