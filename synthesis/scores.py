"""Scores: the pieces to play, each in variations of key, tempo, loudness and note length."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np

from common.errors import InputError
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
    rng = _generator(seed, piece, number)
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
    return piece._replace(notes=notes, seconds=piece.seconds / variation.tempo)


@dataclasses.dataclass(frozen=True)
class Score:
    """What is played: a MIDI file, how its piece is varied, and what multiplies the length of its notes."""

    midi_path: pathlib.Path
    variation: Variation
    duration_rate: float


def plan_scores(
    pieces: dict[str, pathlib.Path], n_variations: int, seed: int, duration_rates: Sequence[float]
) -> dict[str, Score]:
    """The scores by the names of their recordings: <piece>, then the variations <piece>_v01 and so on.

    Each takes one of `duration_rates`, drawn from the seed and its name.

    Raises:
        InputError: a piece has the name of another one's variation.
    """
    scores = {}
    for number in range(n_variations):
        for piece, path in pieces.items():
            name = f"{piece}_v{number:02d}" if number else piece
            if number and name in pieces:
                raise InputError(f"--variations: {pieces[name]} has the name of variation {number} of {path}")
            rate = float(_generator(seed, name).choice(duration_rates))
            scores[name] = Score(path, draw_variation(seed, piece, number), rate)
    return scores


def _generator(seed: int, name: str, *numbers: int) -> np.random.Generator:
    """Random numbers that depend on the seed, a name and some numbers alone."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"), *numbers])
