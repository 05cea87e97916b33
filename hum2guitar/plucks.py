"""Find the notes of a melody, give each the loudness and attack of a plucked string, and tell what is no melody."""

from __future__ import annotations

import itertools

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
# The fall of a plucked string, measured on the notes of the guitar trained on (FluidR3, program 24): in proportion to
# the frequency, by `FIRST_DECAY` dB a second at `DECAY_HZ`, until it meets a line of `LATE_FALL` and `LATE_DECAY`.
FIRST_DECAY, DECAY_HZ, LATE_FALL, LATE_DECAY = 20.0, 261.6, 18.0, 6.0
ONSET_FRAMES = 1.5  # by which a note begins and ends before the frames in which its pitch is found
RINGING_FRAMES = 2  # of silence at most between two notes, in which the first one rings on
RISE_SECONDS, FADE_SECONDS = 0.003, 0.02  # of an attack, and of a string that is damped
PLUCK_DB, PLUCK_SECONDS = 3.0, 0.03  # of an attack above the note after it, and the time constant of its fall
LONGEST_NOTE = 432  # frames (10 s), after which a string is plucked again
# What is no melody: `describe_melody`
LOUD_PERCENTILE, LOUD_DB = 95, 20.0  # frames count that are so far below the loudest ones at most
MIN_PURITY, MIN_NOTE_FRAMES = 0.7, 6
MAX_UNCLEAR, MAX_OUTSIDE = 0.25, 0.05  # shares of the frames above which a line is printed


def find_notes(f0: np.ndarray, decibels: np.ndarray) -> np.ndarray:
    """First frame and frame after the last of each note, int ``(n_notes, 2)``.

    A note begins where voicing begins, where the pitch jumps, and where the energy begins to rise suddenly. It ends
    where the next one begins or voicing ends. What is shorter than `SHORTEST_NOTE`, such as the way from one pitch to
    the next, belongs to the note before, or to the next one if there is none right before. A note longer than
    `LONGEST_NOTE` is plucked again.
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
            notes.append([int(start), int(stop)])
    edges = [np.linspace(a, b, 1 - (a - b) // LONGEST_NOTE).astype(int) for a, b in notes if b - a >= SHORTEST_NOTE]
    return np.array([pair for note in edges for pair in itertools.pairwise(note)], int).reshape(-1, 2)


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
    return np.minimum(FIRST_DECAY * f0 / DECAY_HZ * seconds, LATE_FALL + LATE_DECAY * seconds)


def envelope(n_samples: int, sample_rate: int) -> np.ndarray:
    """Gain of a plucked note, float32: it rises steeply, falls a little, and is damped after `n_samples`."""
    n_rise, n_fade = round(RISE_SECONDS * sample_rate), round(FADE_SECONDS * sample_rate)
    seconds = np.arange(n_samples + n_fade) / sample_rate
    gain = 10 ** (PLUCK_DB / 20 * np.exp(-seconds / PLUCK_SECONDS))
    gain[:n_rise] *= np.arange(n_rise) / n_rise
    gain[n_samples:] *= 1 - np.arange(n_fade) / n_fade
    return gain.astype(np.float32)


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
