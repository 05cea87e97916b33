"""Variations of a piece: the same notes in another key, at another tempo and loudness."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from synthesis.midi import Note, Piece

TRANSPOSITIONS = range(-5, 7)  # semitones: every key once
MIN_TEMPO, MAX_TEMPO = 0.8, 1.25
MIN_VELOCITY, MAX_VELOCITY = 0.7, 1.3


@dataclasses.dataclass(frozen=True)
class Variation:
    """How a variation differs from the piece.

    Attributes:
        transpose: semitones added to every pitch.
        tempo: divides all times.
        velocity: multiplies all velocities.
    """

    transpose: int = 0
    tempo: float = 1.0
    velocity: float = 1.0


def draw_variation(seed: int, piece: str, number: int) -> Variation:
    """Variation `number` of the piece of that name; number 0 is the piece as it is.

    The transposition is uniform, tempo and velocity are uniform on a logarithmic scale. Every voice that plays the
    piece gets the same variation, however many variations are made and in whatever order.
    """
    if number == 0:
        return Variation()
    name = int.from_bytes(hashlib.sha256(piece.encode()).digest()[:8], "big")
    rng = np.random.default_rng([seed, name, number])
    return Variation(
        int(rng.choice(TRANSPOSITIONS)),
        float(np.exp(rng.uniform(np.log(MIN_TEMPO), np.log(MAX_TEMPO)))),
        float(np.exp(rng.uniform(np.log(MIN_VELOCITY), np.log(MAX_VELOCITY)))),
    )


def vary_piece(piece: Piece, variation: Variation) -> Piece:
    """The piece with every note transposed, its times divided by the tempo, and its velocity scaled, from 1 to 127."""
    if variation == Variation():
        return piece
    notes = tuple(
        Note(
            note.start / variation.tempo,
            note.end / variation.tempo,
            note.pitch + variation.transpose,
            min(max(round(note.velocity * variation.velocity), 1), 127),
        )
        for note in piece.notes
    )
    return Piece(notes, piece.seconds / variation.tempo)


def variation_name(piece: str, number: int) -> str:
    """The name of a variation's recordings: the piece's own for number 0, then ``<piece>_v01`` and so on."""
    return f"{piece}_v{number:02d}" if number else piece
