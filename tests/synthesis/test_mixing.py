"""Mixing notes to the recording of a piece, against hand-computed samples."""

from __future__ import annotations

import numpy as np
import pytest
from made_notes import measured_f0, piece_of, write_notes

from sound.files import read_audio
from synthesis.mixing import Playing, recording_seconds, synthesize, vary, write_piece
from synthesis.notes import NSYNTH_RATE, find_notes

RATE = NSYNTH_RATE


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """Every pitch from 48 to 72 in three velocities."""
    folder = tmp_path_factory.mktemp("notes")
    write_notes(folder, "keyboard_acoustic", range(48, 73, 4), (25, 100, 127))
    return find_notes(folder, "keyboard_acoustic")


def test_a_note_is_cut_and_released_by_the_published_formula(bank):
    # 0.25 s times 4 is 1 s; what follows in the piece is far below in level and later.
    piece = piece_of((0.5, 0.75, 60, 100), (2.9, 3, 48, 25))
    audio, _ = synthesize(piece, bank, sample_rate=RATE)
    note = bank.note(60, 100)[0].astype(np.float64)
    expected = np.zeros(3 * RATE)
    expected[8000:24000] = note[:16000]
    expected[8000 + 14400 : 24000] *= np.exp(-np.arange(1600) / 3000)
    expected[:46400] *= 32000 / 32768 / np.abs(expected).max()
    np.testing.assert_allclose(audio[:46400], expected[:46400], atol=1e-6)
    assert np.abs(audio).max() == pytest.approx(32000 / 32768, abs=1e-6)


def test_duration_rate_and_playback_speed(bank):
    def sounding(piece, **playing):
        audio, _ = synthesize(piece, bank, Playing(**playing, ending="cut"), sample_rate=RATE)
        return len(audio) / RATE, np.flatnonzero(np.abs(audio[: int(0.9 * len(audio))]) > 1e-4)[[0, -1]] / RATE

    piece = piece_of((0.5, 0.75, 60, 100), (7.9, 8, 60, 25))
    for playing, length, start, end in (
        ({"duration_rate": 1}, 8, 0.5, 0.75),
        ({}, 8, 0.5, 1.5),
        ({"playback_speed": 2}, 4, 0.25, 0.75),
        ({"playback_speed": 0.5, "duration_rate": 1}, 16, 1, 1.5),
        ({"duration_rate": 100}, 8, 0.5, 4.5),  # no longer than the recorded note
    ):
        measured, sound = sounding(piece, **playing)
        assert measured == length
        np.testing.assert_allclose(sound, (start, end), atol=0.005)


def test_the_last_note_rings_out_or_is_cut_as_published(bank):
    piece = piece_of((0, 0.5, 60, 100), (0.25, 0.5, 64, 100))  # for 2 s and for 1 s, from 0 and from 0.25 s on
    audio, _ = synthesize(piece, bank, sample_rate=RATE)
    expected = np.zeros(2 * RATE)
    for first, seconds, pitch in ((0, 2, 60), (RATE // 4, 1, 64)):
        sound = bank.note(pitch, 100)[0][: seconds * RATE].astype(np.float64)
        n_release = len(sound) // 10
        sound[-n_release:] *= np.exp(-np.arange(n_release) / 3000)
        expected[first : first + len(sound)] += sound
    np.testing.assert_allclose(audio, expected * (32000 / 32768 / np.abs(expected).max()), atol=1e-6)
    audio, _ = synthesize(piece, bank, Playing(ending="cut"), sample_rate=RATE)
    expected = expected[: RATE // 2]
    np.testing.assert_allclose(audio, expected * (32000 / 32768 / np.abs(expected).max()), atol=1e-6)


@pytest.mark.parametrize(("notes", "playing", "seconds"), [
    ([(0, 0.5), (0.25, 0.5)], {}, 2),  # the first note rings longest
    ([(0, 0.5), (0.25, 0.5)], {"playback_speed": 2}, 1),
    ([(0, 0.5)], {"duration_rate": 0.5}, 0.5),  # the piece itself is longer
    ([(1, 6)], {}, 6),  # no longer than a recorded note: 4 s
    ([(1, 3)], {}, 5),
    ([(1, 3)], {"playback_speed": 2}, 4.5),
    ([(1, 3)], {"ending": "cut"}, 3),
])  # fmt: skip
def test_length_of_a_recording(notes, playing, seconds):
    piece = piece_of(*((start, end, 60, 100) for start, end in notes))
    assert recording_seconds(piece, Playing(**playing)) == pytest.approx(seconds)


def test_transposing_an_octave_doubles_the_pitch(bank):
    piece = piece_of((0, 2, 56, 100))
    pitches = []
    for transpose in (0, 12, -8):
        audio, _ = synthesize(piece, bank, Playing(transpose=transpose))
        pitches.append(measured_f0(audio[4410:44100], 44100))
    assert pitches[0] == pytest.approx(440 * 2 ** (-13 / 12), rel=1e-3)
    assert pitches[1] / pitches[0] == pytest.approx(2, rel=1e-3)
    assert pitches[2] / pitches[0] == pytest.approx(2 ** (-8 / 12), rel=1e-3)


@pytest.mark.parametrize("block", [1000, 70000])
def test_blocks_leave_no_seam(bank, tmp_path, monkeypatch, block):
    rng = np.random.default_rng(0)
    starts = np.sort(rng.uniform(0, 5, 40))
    piece = piece_of(*((s, s + rng.uniform(0.01, 1), int(rng.integers(48, 73)), 100) for s in starts))
    whole, counts = synthesize(piece, bank)
    monkeypatch.setattr("sound.blocks.MIX_BLOCK", block)
    in_blocks, counts_in_blocks = synthesize(piece, bank)
    # What rings on is added before what begins, so that sums of floats may differ in their last bits.
    np.testing.assert_allclose(in_blocks, whole, atol=1e-6)
    assert counts_in_blocks == counts
    assert write_piece(tmp_path / "a" / "long.wav", piece, bank, Playing()) == counts
    written = read_audio(tmp_path / "a" / "long.wav")
    np.testing.assert_allclose(written, whole, atol=2 * 2**-15)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["long.wav"]


# --- variations -------------------------------------------------------------------------------------------------------


def test_variations_fill_their_ranges_and_depend_on_seed_name_and_number():
    keys = [(seed, f"piece {index}", number) for seed in (0, 1) for index in range(100) for number in (1, 2)]
    drawn = {key: vary(Playing(2, 1, 3), [4], *key) for key in keys}
    assert all(vary(Playing(2, 1, 3), [4], *key) == varied for key, varied in drawn.items())
    assert {name for name, _ in drawn.values()} == {f"{piece}_v{number:02d}" for _, piece, number in keys}
    varied = [playing for _, playing in drawn.values()]
    assert len(set(varied)) == len(keys)
    assert {playing.transpose - 3 for playing in varied} == set(range(-5, 7))
    for factors, low, high in (
        ([playing.playback_speed / 2 for playing in varied], 0.8, 1.25),
        ([playing.velocity for playing in varied], 0.7, 1.3),
    ):
        assert low <= min(factors) < 1.03 * low
        assert 0.97 * high < max(factors) <= high
        assert abs(np.log(factors).mean() - np.log(low * high) / 2) < 0.03


def test_every_recording_takes_one_of_the_note_lengths():
    names = [(f"etude_{index:03d}", number) for index in range(100) for number in range(3)]
    rates = [vary(Playing(), [1, 4], 0, *name)[1].duration_rate for name in names]
    assert set(rates) == {1, 4}
    assert 100 < rates.count(1) < 200
    assert rates != [vary(Playing(), [1, 4], 1, *name)[1].duration_rate for name in names]
    assert vary(Playing(), [2.5], 0, "a") == ("a", Playing(duration_rate=2.5))


def test_a_scaled_velocity_chooses_another_note(bank):
    piece = piece_of((0, 1, 60, 100), (0.5, 1, 60, 127))
    loud, soft = (synthesize(piece, bank, Playing(velocity=factor))[0] for factor in (5, 0.001))
    for audio, velocity in ((loud, 127), (soft, 25)):
        expected, _ = synthesize(piece_of((0, 1, 60, velocity), (0.5, 1, 60, velocity)), bank)
        np.testing.assert_array_equal(audio, expected)
