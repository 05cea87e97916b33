"""Variations: drawn from seed, name and number alone, and what they do to a piece."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from made_notes import piece_of

from common.errors import InputError
from synthesis.scores import Variation, draw_variation, plan_scores, vary_piece


def test_variation_zero_is_the_piece_as_it_is():
    piece = piece_of((0, 1, 60, 100), (1, 2, 64, 1))
    assert vary_piece(piece, draw_variation(5, "piece", 0)) == piece


def test_notes_are_transposed_timed_and_scaled():
    piece = vary_piece(piece_of((0.5, 1, 60, 100), (1, 3, 64, 2)), Variation(-5, 1.25, 1.3))
    assert piece.notes == ((0.4, 0.8, 55, 127), (0.8, 2.4, 59, 3))
    assert piece.seconds == pytest.approx(2.4)
    soft = vary_piece(piece_of((0, 1, 60, 1)), Variation(0, 1, 0.3))
    assert soft.notes[0].velocity == 1


def test_a_variation_depends_on_seed_name_and_number():
    drawn = {
        (seed, name, number): draw_variation(seed, name, number)
        for seed in (0, 1)
        for name in ("a", "b", "naïve")
        for number in (1, 2)
    }
    assert len(set(drawn.values())) == 12
    assert all(draw_variation(*key) == variation for key, variation in drawn.items())


def test_variations_fill_their_ranges():
    drawn = [draw_variation(0, f"piece {index}", 1) for index in range(400)]
    assert {variation.transpose for variation in drawn} == set(range(-5, 7))
    tempo = np.array([variation.tempo for variation in drawn])
    assert 0.8 <= tempo.min() < 0.82
    assert 1.22 < tempo.max() <= 1.25
    assert abs(np.log(tempo).mean()) < 0.02  # as often slower as faster
    velocity = np.array([variation.velocity for variation in drawn])
    assert 0.7 <= velocity.min() < 0.72
    assert 1.27 < velocity.max() <= 1.3


def test_every_recording_takes_one_of_the_note_lengths():
    pieces = {f"etude_{index:03d}": pathlib.Path(f"{index}.mid") for index in range(100)}
    scores = plan_scores(pieces, 3, 0, [1, 4])
    assert list(scores)[::100] == ["etude_000", "etude_000_v01", "etude_000_v02"]
    rates = [score.duration_rate for score in scores.values()]
    assert set(rates) == {1, 4}
    assert 100 < rates.count(1) < 200
    assert plan_scores(dict(list(pieces.items())[50:]), 1, 0, [1, 4]).items() <= scores.items()
    assert plan_scores(pieces, 1, 1, [1, 4]) != plan_scores(pieces, 1, 0, [1, 4])
    assert {score.duration_rate for score in plan_scores(pieces, 1, 0, [2.5]).values()} == {2.5}
    with pytest.raises(InputError):
        plan_scores({**pieces, "etude_003_v01": pathlib.Path("a.mid")}, 2, 0, [4])
