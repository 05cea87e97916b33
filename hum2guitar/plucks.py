"""Find the notes of a melody, give each the loudness and attack of a plucked string, and tell what is no melody."""

from __future__ import annotations

import numpy as np

from hum2guitar import harmonics
from hum2guitar.harmonics import HumRepresentation
from hum2guitar.pitch import SILENCE_DB

NEW_NOTE_SEMITONES = 0.7  # change of pitch from one frame to the next that begins a note
NEW_NOTE_DB = 6.0  # rise within two frames that begins a note
RISING_DB = 1.0  # from frame to frame, by which that rise goes on
SHORTEST_NOTE = 3  # frames (70 ms)
SWELL_FRAMES = 12  # in which a voice has reached the loudness of its note (0.28 s)
ATTACK_FRAMES = 8  # of a pluck, which are loud however softly the voice begins (0.19 s)
SILENCE = 1e-12  # energy that counts as none
SEEN_DECAY = 10.0  # dB per second of the notes that networks are trained with and see
# The fall of a plucked string, measured on the notes of the guitar trained on (FluidR3, program 24): fast at first and
# slow from the knee on, faster for high notes. In dB per second at `DECAY_HZ`.
FIRST_DECAY, LATE_DECAY, DECAY_HZ, DECAY_EXPONENT, KNEE_SECONDS = 20.0, 5.0, 261.6, 2 / 3, 0.8
# A network's attack takes a mel frame. So each note begins `EARLY_FRAMES` too early in what the network sees,
# and what is heard before the onset is faded out.
EARLY_FRAMES = 1
FADE_SECONDS, GAP_SECONDS = 0.01, 0.006  # of a note that the next one ends: its fade, and the silence after it
RISE_SECONDS = 0.003  # of an attack
RELEASE_DB_PER_SECOND, RELEASE_DB = 200.0, 80.0  # fall of a note that ends in a rest, and where it becomes silence
# What is no melody: `describe_melody`
LOUD_PERCENTILE, LOUD_DB = 95, 20.0  # frames count that are so far below the loudest ones at most
MIN_PURITY, MIN_NOTE_FRAMES = 0.7, 6
MAX_UNCLEAR, MAX_OUTSIDE = 0.25, 0.05  # shares of the frames above which a line is printed


def find_notes(f0: np.ndarray, decibels: np.ndarray) -> np.ndarray:
    """First frame and frame after the last of each note, int ``(n_notes, 2)``.

    A note begins where voicing begins, where the pitch jumps, and where the energy begins to rise suddenly. It ends
    where the next one begins or voicing ends. What is shorter than `SHORTEST_NOTE`, such as the way from one pitch to
    the next, belongs to the note before, or to the next one if there is none right before.
    """
    voiced = np.concatenate([[False], np.asarray(f0) > 0, [False]])
    pitch = np.log2(np.where(voiced, np.pad(f0, 1), 1.0)) * 12
    begins = voiced[1:] & (~voiced[:-1] | (np.abs(np.diff(pitch)) > NEW_NOTE_SEMITONES))
    sudden = np.pad(np.asarray(decibels[2:]) - decibels[:-2], (2, 1))[: len(begins)] > NEW_NOTE_DB
    steps = np.diff(decibels, prepend=0)
    for found in np.flatnonzero(sudden[1:] & ~sudden[:-1]) + 1:
        frame = found
        while voiced[frame] and not begins[frame] and steps[frame - 1] > RISING_DB:
            frame -= 1
        begins[frame] |= voiced[frame] and voiced[frame + 1] and not begins[frame + 1]
    ends = voiced[:-1] & (begins | ~voiced[1:])
    notes: list[list[int]] = []
    for start, stop in zip(np.flatnonzero(begins), np.flatnonzero(ends), strict=True):
        follows = notes and notes[-1][1] == start
        if follows and min(stop - start, notes[-1][1] - notes[-1][0]) < SHORTEST_NOTE:
            notes[-1][1] = stop
        else:
            notes.append([start, stop])
    return np.array([note for note in notes if note[1] - note[0] >= SHORTEST_NOTE], int).reshape(-1, 2)


def pluck(
    f0: np.ndarray, energy: np.ndarray, representation: HumRepresentation = harmonics.PUBLISHED, heard: bool = False
) -> np.ndarray:
    """The energy that a melody has if its notes are plucked: loudest at the onset, then falling.

    A held note falls from the loudness that the voice reaches. A note that falls faster, such as that of a guitar or at
    the end of a breath, keeps its own loudness after the attack.

    Args:
        f0: in Hz ``(n_frames,)``, 0 where unvoiced.
        energy: ``(n_frames,)``, as of `harmonics.frame_energy`.
        representation: gives the frames per second.
        heard: whether the notes fall as strings do, in the sound, or by `SEEN_DECAY`, in what networks see.

    Returns:
        float32 ``(n_frames,)``; unvoiced frames keep their energy.
    """
    decibels = to_decibels(energy)
    for start, stop in find_notes(f0, decibels):
        note = decibels[start:stop]
        seconds = np.arange(len(note)) * representation.hop_length / representation.sample_rate
        fall = string_fall(np.median(f0[start:stop]), seconds) if heard else SEEN_DECAY * seconds
        falling = note[:SWELL_FRAMES].max() - fall
        note[ATTACK_FRAMES:] = np.minimum(note, falling)[ATTACK_FRAMES:]
        note[:ATTACK_FRAMES] = falling[:ATTACK_FRAMES]
    return (10 ** (decibels / 10)).astype(np.float32)


def string_fall(f0: float, seconds: np.ndarray) -> np.ndarray:
    """By how many dB a plucked string of `f0` Hz has fallen so many seconds after its onset."""
    fall = FIRST_DECAY * np.minimum(seconds, KNEE_SECONDS) + LATE_DECAY * np.maximum(seconds - KNEE_SECONDS, 0)
    return fall * (f0 / DECAY_HZ) ** DECAY_EXPONENT


def begin_early(notes: np.ndarray, *rows: np.ndarray) -> list[np.ndarray]:
    """`rows` ``(n_frames,)`` with the first value of each note also in the `EARLY_FRAMES` frames before it."""
    rows = [np.array(row) for row in rows]
    for start, _ in notes:
        for row in rows:
            row[max(0, start - EARLY_FRAMES) : start] = row[start]
    return rows


def gate(notes: np.ndarray, first: int, n_samples: int, representation: HumRepresentation) -> np.ndarray:
    """Gain float32 ``(n_samples,)`` that makes the attacks and the rests of audio from sample `first` on.

    It rises steeply at each onset, and falls to 0 just before the next one. In a rest it falls until it is 0.
    """
    r = representation
    if not len(notes):
        return np.zeros(n_samples, np.float32)
    seconds = np.arange(first, first + n_samples) / r.sample_rate
    onsets, ends = (notes * (r.hop_length / r.sample_rate)).T
    note = np.searchsorted(onsets, seconds, side="right") - 1  # that has begun last; -1 before the first one
    rise = np.clip((seconds - onsets[note]) / RISE_SECONDS, 0, 1)
    cuts = np.append(onsets[1:], np.inf) - GAP_SECONDS
    fade = np.clip((cuts[note] - seconds) / FADE_SECONDS, 0, 1)
    fall = RELEASE_DB_PER_SECOND * np.maximum(seconds - ends[note], 0)
    release = np.where(fall < RELEASE_DB, 10 ** (-fall / 20), 0)
    return np.where(note >= 0, np.minimum(rise, fade) * release, 0).astype(np.float32)


def describe_melody(
    f0: np.ndarray, energy: np.ndarray, purity: np.ndarray, octaves: int, low: float, high: float
) -> list[str]:
    """What the user should know about a melody, one line each; none for a clear melody in the guitar's range.

    Args:
        f0, energy: of each frame; the pitch as the guitar plays it.
        purity: `harmonics.harmonic_share` of each frame.
        octaves: by which the melody was moved.
        low, high: range of the guitar in Hz.
    """
    if energy.max() <= 10 ** (SILENCE_DB / 10):
        return [f"nothing sounds above {SILENCE_DB:g} dB: the output is silent"]
    lines = []
    if octaves:
        count = f"{abs(octaves)} octave{'s' if abs(octaves) > 1 else ''}"
        lines.append(f"moved {'up' if octaves > 0 else 'down'} by {count}, into the range of the guitar")
    # A frame of a chord has energy between the harmonics of its pitch; the notes of speech are short.
    is_loud = energy > np.percentile(energy, LOUD_PERCENTILE) * 10 ** (-LOUD_DB / 10)
    is_melody = (f0 > 0) & (purity >= MIN_PURITY)
    for start, stop in find_notes(f0, to_decibels(energy)):
        is_melody[start:stop] &= stop - start >= MIN_NOTE_FRAMES
    unclear = 1 - np.mean(is_melody[is_loud])
    if unclear > MAX_UNCLEAR:
        lines.append(f"{unclear:.0%} of the loud frames are no single steady note (chords, speech, noise?)")
    outside = np.mean((f0[f0 > 0] < low) | (f0[f0 > 0] > high)) if f0.any() else 0
    if outside > MAX_OUTSIDE:
        lines.append(f"{outside:.0%} of the melody lies outside the range of the guitar, {low:.0f} to {high:.0f} Hz")
    return lines


def to_decibels(energy: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.maximum(energy, SILENCE))
