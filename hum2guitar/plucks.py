"""Find the notes of a melody, and give each the loudness of a plucked string."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from hum2guitar import harmonics
from hum2guitar.harmonics import HumRepresentation

NEW_NOTE_SEMITONES = 0.7  # change of pitch from one frame to the next that begins a note
NEW_NOTE_DB = 6.0  # rise within two frames that begins a note
DECAY_DB_PER_SECOND = 10.0
SWELL_FRAMES = 12  # in which a voice has reached the loudness of its note (0.28 s)
ATTACK_FRAMES = 8  # of a pluck, which are loud however softly the voice begins (0.19 s)
CONTEXT_FRAMES = 4  # before a frame that decide whether a note begins there
SILENCE = 1e-12  # energy that counts as none


def find_notes(f0: np.ndarray, decibels: np.ndarray) -> list[tuple[int, int]]:
    """First frame and frame after the last of each note.

    A note begins where voicing begins, where the pitch jumps, and where the energy rises suddenly. It ends where the
    next one begins or voicing ends.
    """
    voiced = np.concatenate([[False], np.asarray(f0) > 0, [False]])
    pitch = np.log2(np.where(voiced, np.pad(f0, 1), 1.0)) * 12
    rise = np.pad(np.asarray(decibels[2:]) - decibels[:-2], (2, 2))[: len(voiced)]
    begins = voiced[1:] & (~voiced[:-1] | (np.abs(np.diff(pitch)) > NEW_NOTE_SEMITONES))
    sudden = voiced[1:] & (rise[:-1] > NEW_NOTE_DB)
    sudden[1:] &= ~sudden[:-1] & ~begins[:-1]  # a rise that lasts for several frames begins one note
    begins |= sudden
    ends = voiced[:-1] & (begins | ~voiced[1:])
    return list(zip(np.flatnonzero(begins).tolist(), np.flatnonzero(ends).tolist(), strict=True))


def pluck(f0: np.ndarray, energy: np.ndarray, representation: HumRepresentation = harmonics.PUBLISHED) -> np.ndarray:
    """The energy that a melody has if its notes are plucked: loudest at the onset, then falling in a straight line.

    A held note falls by `DECAY_DB_PER_SECOND` from the loudness that the voice reaches. A note that falls faster, such
    as that of a guitar or at the end of a breath, keeps its own loudness after the attack.

    Args:
        f0: in Hz ``(n_frames,)``, 0 where unvoiced.
        energy: ``(n_frames,)``, as of `harmonics.frame_energy`.
        representation: gives the frames per second.

    Returns:
        float32 ``(n_frames,)``; unvoiced frames keep their energy.
    """
    decibels = _decibels(energy)
    seconds = np.arange(len(decibels)) * representation.hop_length / representation.sample_rate
    for start, stop in find_notes(f0, decibels):
        note = decibels[start:stop]
        falling = note[:SWELL_FRAMES].max() - DECAY_DB_PER_SECOND * seconds[: stop - start]
        note[ATTACK_FRAMES:] = np.minimum(note, falling)[ATTACK_FRAMES:]
        note[:ATTACK_FRAMES] = falling[:ATTACK_FRAMES]
    return (10 ** (decibels / 10)).astype(np.float32)


def pluck_pieces(
    pieces: Iterable[np.ndarray], representation: HumRepresentation = harmonics.PUBLISHED
) -> Iterator[np.ndarray]:
    """`pluck` for a melody in pieces of F0 and energy ``(2, n)``, with the same result as for the whole.

    A note that reaches the end of a piece waits for the rest of it.
    """
    waiting, n_given = np.zeros((2, 0), np.float32), 0  # the first `n_given` frames of `waiting` were given before
    for piece in itertools.chain(pieces, [None]):
        if piece is not None:
            waiting = np.concatenate([waiting, piece], axis=1)
        n = waiting.shape[1]
        notes = find_notes(waiting[0], _decibels(waiting[1]))
        is_open = piece is not None and notes and notes[-1][1] == n
        n_whole = max(n_given, notes[-1][0]) if is_open else n
        plucked = pluck(waiting[0, :n_whole], waiting[1, :n_whole], representation)
        yield np.stack([waiting[0, n_given:n_whole], plucked[n_given:]])
        n_given = min(n_whole, CONTEXT_FRAMES)
        waiting = waiting[:, n_whole - n_given :]


def _decibels(energy: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.maximum(energy, SILENCE))
