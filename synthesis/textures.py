"""The material of etudes: scales, progressions, rhythms, and textures that write a section's notes.

A texture is a function from a section's `Plan` to its notes as written. All of them are in `SECTION_TEXTURES`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

# Keys: semitones above the tonic, and weights. A scale without seven degrees borrows its chords from another one.
SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "natural minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "major pentatonic": (0, 2, 4, 7, 9),
    "minor pentatonic": (0, 3, 5, 7, 10),
    "blues": (0, 3, 5, 6, 7, 10),
    "chromatic": tuple(range(12)),
}
SCALE_WEIGHTS = dict(zip(SCALES, (6, 3, 3, 2, 2, 1.5, 1.5, 1.5, 1), strict=True))
CHORDS_FROM = {"major pentatonic": "major", "minor pentatonic": "natural minor", "blues": "mixolydian"}
CHORDS_FROM |= {"chromatic": "harmonic minor"}
KEY_NAMES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
PROGRESSIONS = (  # roots as degrees of the scale, 1 is the tonic
    *("1451", "1645", "1564", "1625", "2511", "1425", "1765", "6415"),
    *("14736251", "15634145", "111144115415"),
)

# Metres: quarter notes in a bar, and weights.
METRES = {"2/4": 2.0, "3/4": 3.0, "4/4": 4.0, "5/4": 5.0, "6/8": 3.0}
METRE_WEIGHTS = {"2/4": 2, "3/4": 3, "4/4": 6, "5/4": 0.7, "6/8": 2}

# Rhythms: bars are filled with cells. Lengths in twelfths of a quarter note (12 a quarter, 6 an eighth, 4 a triplet
# eighth, 3 a sixteenth); a negative length is a rest.
SIMPLE_CELLS = (
    *((12,), (6, 6), (9, 3), (3, 3, 6), (6, 3, 3), (3, 6, 3), (4, 4, 4), (8, 4), (3, 3, 3, 3), (-6, 6), (-12,)),
    *((24,), (18, 6), (6, 12, 6), (6, 18), (8, 8, 8), (12, 6, 6), (36,), (24, 12), (48,), (36, 12), (36, 6, 6)),
)
COMPOUND_CELLS = ((18,), (12, 6), (6, 6, 6), (9, 3, 6), (6, 12), (3,) * 6, (-6, 6, 6), (-18,), (36,), (12, 24))

# Tunes: one motif a bar in one of these orders, and steps in degrees of the scale with their weights.
FORMS = ("AABA", "ABAB", "AABB", "ABAC", "AAAB")
MELODIC_STEPS = {-4: 1, -3: 2, -2: 6, -1: 14, 0: 4, 1: 14, 2: 6, 3: 2, 4: 1, 7: 0.5}

# Broken chords, as indices into a chord's notes from the lowest; an index past the highest is an octave higher.
FIGURES = ((0, 2, 1, 2), (0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 3, 2, 1), (3, 2, 1, 0), (0, 2, 3, 2), (0, 1, 2, 3, 4, 5))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a section is made from; everything in it is drawn before its first note."""

    start: float  # seconds
    seconds: float
    metre: str
    bars: int
    tonic: int  # pitch class, 0 is C
    scale: str
    texture: str
    centre: int  # MIDI pitch about which the upper notes lie
    pitch_range: tuple[int, int]
    notes_per_second: float  # of the leading voice
    velocity: float
    crescendo: float  # units of velocity from the section's start to its end
    articulation: float  # sounding part of a note's written length; above 1 is an overlapping legato
    phrase_bars: int
    breath: float  # quarter notes of rest at a phrase's end
    rolled: bool
    pedal: bool
    harmony: tuple[tuple[float, float, int], ...]  # (beat, beats, root as scale degree)
    sevenths: bool

    @property
    def bar_beats(self) -> float:
        return METRES[self.metre]

    @property
    def beats(self) -> float:
        return self.bars * self.bar_beats

    @property
    def tempo(self) -> float:
        """Quarter notes a minute."""
        return 60 * self.beats / self.seconds

    @property
    def notes_per_beat(self) -> float:
        return self.notes_per_second * 60 / self.tempo

    def pitch(self, degree: int) -> int:
        """MIDI pitch of a degree of the scale, counted from the tonic of MIDI's lowest octave."""
        octave, step = divmod(int(degree), len(SCALES[self.scale]))
        return self.tonic + 12 * octave + SCALES[self.scale][step]

    def chord(self, root: int) -> list[int]:
        """Pitch classes of the triad or seventh chord on a degree of the scale, root first."""
        scale = SCALES[CHORDS_FROM.get(self.scale, self.scale)]
        return [(self.tonic + scale[(root + third) % 7]) % 12 for third in (0, 2, 4, 6)[: 3 + self.sevenths]]

    def degree_near(self, pitch: float, pitch_classes: Sequence[int] = ()) -> int:
        """The degree of the scale nearest to a pitch, among those of the chord where the scale has any of them."""
        degrees = range(11 * len(SCALES[self.scale]))
        allowed = [degree for degree in degrees if self.pitch(degree) % 12 in pitch_classes] or degrees
        return min(allowed, key=lambda degree: abs(self.pitch(degree) - pitch))

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


# ---------------------------------------------------------------------------------------- material of the textures


def draw(rng: np.random.Generator, weights: dict) -> object:
    """One key of `weights`, drawn in proportion to its value."""
    values = np.array(list(weights.values()), float)
    return list(weights)[rng.choice(len(values), p=values / values.sum())]


def draw_rhythm(plan: Plan, rng: np.random.Generator, beats: float, notes_per_beat: float) -> list[tuple[float, float]]:
    """(beat, beats) of the notes that fill `beats`, in cells whose density is near `notes_per_beat`."""
    cells = COMPOUND_CELLS if plan.metre == "6/8" else SIMPLE_CELLS
    rhythm, at, end = [], 0, round(12 * beats)
    while at < end:
        fitting = [cell for cell in cells if sum(map(abs, cell)) <= end - at and (at or cell[0] > 0)]
        rates = np.array([12 * max(sum(n > 0 for n in cell), 0.3) / sum(map(abs, cell)) for cell in fitting])
        weights = np.exp(-((np.log(rates / notes_per_beat) / 0.5) ** 2)) + 1e-9
        for length in fitting[rng.choice(len(fitting), p=weights / weights.sum())]:
            if length > 0:
                rhythm.append((at / 12, length / 12))
            at += abs(length)
    return rhythm


def draw_steps(rng: np.random.Generator, count: int) -> np.ndarray:
    """A contour of `count` notes in scale degrees, that begins at 0 and stays within 7 of it."""
    contour = [0]
    while len(contour) < count:
        step = draw(rng, MELODIC_STEPS)
        contour.append(contour[-1] + (step if abs(contour[-1] + step) <= 6 else -step))
    return np.array(contour)


def melodic_line(plan: Plan, rng: np.random.Generator, centre: float, notes_per_beat: float) -> list[ScoreNote]:
    """A tune about `centre`: motifs of one bar that return transposed to the harmony or inverted, and cadences."""
    form = FORMS[rng.integers(len(FORMS))]
    rhythms = {name: draw_rhythm(plan, rng, plan.bar_beats, notes_per_beat) for name in sorted(set(form))}
    contours = {name: draw_steps(rng, len(rhythm)) for name, rhythm in rhythms.items()}
    notes, last = [], centre + rng.normal(0, 3)
    for bar in range(plan.bars):
        name = form[bar % len(form)]
        contour = contours[name] * (-1 if bar >= len(form) and rng.random() < 0.4 else 1)
        chord = plan.chord(root_at(plan, bar * plan.bar_beats))
        first = plan.degree_near((last + centre) / 2, chord)
        cadence = (bar + 1) % plan.phrase_bars == 0 or bar == plan.bars - 1
        for (beat, beats), step in zip(rhythms[name], contour, strict=True):
            closing = cadence and beat >= plan.bar_beats / 2
            degree = plan.degree_near(plan.pitch(first + step), chord) if closing else first + step
            last = plan.pitch(degree)
            notes.append(ScoreNote(bar * plan.bar_beats + beat, plan.bar_beats - beat if closing else beats, last, 6))
            if closing:
                break
    return notes


def root_at(plan: Plan, beat: float) -> int:
    """Root of the chord that sounds at a beat, as a degree of the scale."""
    return next(root for start, beats, root in reversed(plan.harmony) if start <= beat)


def voice_chords(plan: Plan, centre: float) -> list[tuple[float, float, tuple[int, ...], int]]:
    """(beat, beats, chord, bass) of each harmony: chords in the inversion whose voices move least, about `centre`."""
    voiced, previous, bass = [], (), centre - 17
    for beat, beats, root in plan.harmony:
        classes = plan.chord(root)
        inversions = []
        for lowest in range(round(centre) - 11, round(centre) + 4):
            if lowest % 12 in classes:
                turn = classes.index(lowest % 12)
                chord = [lowest]
                for pitch_class in classes[turn + 1 :] + classes[:turn]:
                    chord.append(chord[-1] + (pitch_class - chord[-1]) % 12)
                inversions.append(tuple(chord))
        reference = previous or (centre,) * len(classes)
        distances = [sum(abs(a - b) for a, b in zip(chord, reference, strict=True)) for chord in inversions]
        previous = inversions[distances.index(min(distances))]
        target = round((bass + centre - 17) / 2)
        bass = target - 6 + (classes[0] - target + 6) % 12
        voiced.append((beat, beats, previous, bass))
    return voiced


def strike(beat: float, beats: float, pitches: Sequence[int], accent: float = 0.0) -> list[ScoreNote]:
    """Notes that begin and end together."""
    return [ScoreNote(beat, beats, int(pitch), accent) for pitch in pitches]


# ------------------------------------------------------------------------------------ textures: from a plan to notes


def melody(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    return melodic_line(plan, rng, plan.centre, plan.notes_per_beat)


def melody_with_bass(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    notes = melody(plan, rng)
    for beat, beats, chord, bass in voice_chords(plan, plan.centre - 7):
        notes += strike(beat, beats, [bass], -4)
        if rng.random() < 0.5:
            notes += strike(beat + beats / 2, beats / 2, [chord[-1] - 12], -8)
    return notes


def melody_with_chords(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    notes = melody(plan, rng)
    rhythm = draw_rhythm(plan, rng, plan.harmony[0][1], min(plan.notes_per_beat, 1.5 * 60 / plan.tempo))
    for beat, _, chord, bass in voice_chords(plan, plan.centre - 14):
        for index, (offset, beats) in enumerate(rhythm):
            notes += strike(beat + offset, beats, (bass, *chord[1:]) if index == 0 else chord, -10)
    return notes


def chords(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    """Held chords over a bass, which is sometimes doubled an octave below."""
    octaves = (0, 12) if rng.random() < 0.3 else (0,)
    notes = []
    for beat, beats, chord, bass in voice_chords(plan, plan.centre):
        notes += strike(beat, beats, [*(bass - octave for octave in octaves), *chord])
    return notes


def block_chords(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    """Chords in one rhythm, all voices together."""
    rhythm = draw_rhythm(plan, rng, plan.harmony[0][1], min(plan.notes_per_beat, 3 * 60 / plan.tempo))
    notes = []
    for beat, _, chord, _ in voice_chords(plan, plan.centre):
        for offset, beats in rhythm:
            notes += strike(beat + offset, beats, chord)
    return notes


def arpeggio(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    """Broken chords, often under a slow melody or over held bass notes."""
    figure = FIGURES[rng.integers(len(FIGURES))]
    unit = even_length(plan, plan.notes_per_second * 1.3)
    with_melody, with_bass = rng.random() < 0.5, rng.random() < 0.4
    notes = melodic_line(plan, rng, plan.centre + 5, plan.notes_per_beat / 4) if with_melody else []
    for beat, beats, chord, bass in voice_chords(plan, plan.centre - (14 if with_melody else 0)):
        notes += strike(beat, beats, [bass], -2) if with_bass else []
        for index in range(round(beats / unit)):
            octave, voice = divmod(figure[index % len(figure)], len(chord))
            notes += strike(beat + index * unit, unit, [chord[voice] + 12 * octave], -6 if with_melody else 0)
    return notes


def two_voices(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    """Two tunes, the lower one as quick as the upper or slower."""
    slower = rng.choice([0.4, 0.7, 1.0])
    upper = melodic_line(plan, rng, plan.centre + 3, plan.notes_per_beat)
    lower = melodic_line(plan, rng, plan.centre - 15, plan.notes_per_beat * slower)
    return upper + [dataclasses.replace(note, accent=-2.0) for note in lower]


def repeated_notes(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    """One note or octave a harmony, repeated in a rhythm, sometimes over a bass."""
    rhythm = draw_rhythm(plan, rng, plan.harmony[0][1], plan.notes_per_beat)
    interval, with_bass = int(rng.choice([0, 0, 12])), rng.random() < 0.4
    notes = []
    for beat, length, chord, bass in voice_chords(plan, plan.centre):
        pitch = plan.pitch(plan.degree_near(plan.centre + rng.normal(0, 4), [note % 12 for note in chord]))
        notes += strike(beat, length, [bass], -4) if with_bass else []
        for offset, beats in rhythm:
            notes += strike(beat + offset, beats, {pitch, pitch - interval})
    return notes


def runs(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    """Even notes up and down the scale, sometimes with a second hand an octave or about a tenth below."""
    unit = even_length(plan, plan.notes_per_second * 1.8)
    interval, span = int(draw(rng, {0: 2, 12: 1, 16: 1})), int(rng.integers(2, 7))
    middle = degree = plan.degree_near(plan.centre)
    direction, notes = rng.choice([-1, 1]), []
    for index in range(round(plan.beats / unit)):
        pitch = plan.pitch(degree)
        notes += strike(index * unit, unit, {pitch, plan.pitch(plan.degree_near(pitch - interval))})
        if abs(degree + direction - middle) > span or rng.random() < 0.06:
            direction = -direction
        degree += direction
    return notes


def leaps(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    """A tune whose notes jump between octaves."""
    return [
        dataclasses.replace(note, pitch=note.pitch + 12 * int(rng.choice([-1, 0, 0, 1]))) for note in melody(plan, rng)
    ]


def stride(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    """Bass notes on the strong beats, chords on the weak ones, sometimes under a tune."""
    notes = melodic_line(plan, rng, plan.centre + 4, plan.notes_per_beat * 0.7) if rng.random() < 0.6 else []
    unit = even_length(plan, 3.0)
    for beat, beats, chord, bass in voice_chords(plan, plan.centre - 10):
        for index in range(round(beats / unit)):
            strong = index % (3 if plan.bar_beats == 3 else 2) == 0
            notes += strike(beat + index * unit, unit, [bass] if strong else chord, 0 if strong else -8)
    return notes


def sparse(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    """Long single notes or pairs from the whole range, with silence between them."""
    notes, at = [], 0.0
    while at < plan.beats - 0.5:
        length, rest = (max(round(2 * s * plan.tempo / 60) / 2, 0.5) for s in rng.uniform((0.5, 0.2), (2.8, 1.2)))
        chord = plan.chord(root_at(plan, at))
        targets = rng.uniform(*plan.pitch_range, rng.choice([1, 1, 2]))
        notes += strike(at, length, {plan.pitch(plan.degree_near(target, chord)) for target in targets})
        at += length + rest
    return notes


def full_chords(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    """Chords of five to eight notes in one rhythm: the right hand's with its lowest note doubled, the left hand's."""
    rhythm = draw_rhythm(plan, rng, plan.harmony[0][1], min(plan.notes_per_beat, 2 * 60 / plan.tempo))
    n_left = int(rng.integers(1, 4))
    notes = []
    for beat, _, chord, bass in voice_chords(plan, plan.centre):
        hands = [*(bass, bass - 12, chord[-1] - 12)[:n_left], *chord, chord[0] + 12]
        for offset, beats in rhythm:
            notes += strike(beat + offset, beats, hands)
    return notes


def staccato(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    """Another texture whose notes are let go after a fifth to two fifths of their length."""
    write = (melody, melody_with_chords, block_chords, stride)[rng.integers(4)]
    share = rng.uniform(0.2, 0.4)
    return [dataclasses.replace(note, beats=note.beats * share) for note in write(plan, rng)]


def repetitions(plan: Plan, rng: np.random.Generator) -> list[ScoreNote]:
    """A note, an octave or a chord, repeated evenly eight to twelve times a second, over held bass notes."""
    unit = 1 / round(rng.uniform(8, 12) * 60 / plan.tempo)
    kind = rng.integers(3)
    notes = []
    for beat, beats, chord, bass in voice_chords(plan, plan.centre):
        pitches = (chord[-1:], (chord[-1], chord[-1] - 12), chord)[kind]
        notes += strike(beat, beats, [bass], -2)
        for index in range(round(beats / unit)):
            notes += strike(beat + index * unit, unit, pitches, -6)
    return notes


def even_length(plan: Plan, notes_per_second: float) -> float:
    """The length in beats, of those that divide a bar evenly, that comes nearest to a number of notes a second."""
    lengths = (0.25, 0.5, 1.5) if plan.metre == "6/8" else (0.25, 1 / 3, 0.5, 1.0)
    return min(lengths, key=lambda length: abs(np.log(plan.tempo / 60 / length / notes_per_second)))


# Each texture with its weight in a mixed etude and in a melody, where only the highest note of each onset is kept.
SECTION_TEXTURES: dict[str, tuple[Callable[[Plan, np.random.Generator], list[ScoreNote]], float, float]] = {
    "melody": (melody, 1.5, 6),
    "melody with bass": (melody_with_bass, 2.5, 0),
    "melody with chords": (melody_with_chords, 3, 0),
    "chords": (chords, 2, 0),
    "block chords": (block_chords, 1.5, 0),
    "arpeggio": (arpeggio, 3, 1),
    "two voices": (two_voices, 2.5, 0),
    "repeated notes": (repeated_notes, 1, 1),
    "runs": (runs, 1.5, 1.5),
    "leaps": (leaps, 0.7, 0.7),
    "stride": (stride, 1.5, 0),
    "sparse": (sparse, 1, 1),
    "full chords": (full_chords, 1.5, 0),
    "staccato": (staccato, 1.5, 0),
    "repetitions": (repetitions, 0.7, 0),
}
