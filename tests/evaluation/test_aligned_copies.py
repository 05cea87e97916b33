"""Aligned copies of recordings that were moved, slowed down, cut and turned down by known amounts."""

import re

import numpy as np
import pytest
import soundfile
from made_sounds import write

import evaluate
from evaluation import aligned_copies, alignment

RATE = alignment.SAMPLE_RATE
SECONDS = 40


def play(bright, stretch=1.0, seed=0, seconds=SECONDS):
    """Notes of random pitches at random times; `stretch` slows the performance down, `bright` changes the timbre."""
    rng = np.random.default_rng(seed)
    audio = np.zeros(round((stretch * seconds + 1) * RATE), np.float32)
    for start in np.sort(rng.uniform(0, seconds - 1, 3 * seconds)):
        time = np.arange(RATE // 2) / RATE
        f0 = 440 * 2 ** ((rng.integers(50, 76) - 69) / 12)
        note = sum(np.sin(2 * np.pi * m * f0 * time) / m**bright for m in range(1, 6)) * np.exp(-6 * time)
        audio[round(stretch * start * RATE) :][: len(note)] += 0.05 * note
    return audio


@pytest.fixture(scope="module")
def piano():
    return play(1.0)


def curve_of(reference, audio):
    return aligned_copies.find_lags(alignment.mel_level(reference), alignment.mel_level(audio))


@pytest.mark.parametrize("lag", [-1.234, 0.04, 7.5])
def test_a_constant_lag_is_one_shift_of_whole_samples(piano, lag):
    guitar = play(0.4)
    n = round(abs(lag) * RATE)
    late = np.pad(guitar, (n, 0)) if lag > 0 else guitar[n:]
    curve = curve_of(piano, late)
    assert curve.lags == pytest.approx([lag], abs=0.006)
    moved, (start, end) = aligned_copies.warp(late[np.newaxis], RATE, curve, SECONDS)
    assert moved.shape == (1, SECONDS * RATE)
    assert start == pytest.approx(max(0, -lag), abs=0.006)
    assert end == SECONDS
    offset = round((lag - curve.lags[0]) * RATE)
    expected = np.roll(guitar, offset)[round(start * RATE) + 300 : (SECONDS - 1) * RATE]
    np.testing.assert_array_equal(moved[0, round(start * RATE) + 300 : (SECONDS - 1) * RATE], expected)


def test_a_drift_of_half_a_percent_is_taken_out(piano):
    slow = np.pad(play(0.4, stretch=1.005), (RATE, 0))
    curve = curve_of(piano, slow)
    assert curve.drift == pytest.approx(0.005, abs=0.0005)
    times = np.array([2.0, 20.0, 38.0])
    np.testing.assert_allclose(curve.at(times), 1 + 0.005 * times, atol=0.008)
    moved, _ = aligned_copies.warp(slow[np.newaxis], RATE, curve, SECONDS)
    check = alignment.check_pair(piano[: SECONDS * RATE], moved[0])
    assert check.problems == ()
    assert check.match > 0.6
    assert abs(check.lag) < 0.006


def test_other_notes_have_no_lag(piano):
    assert curve_of(piano, play(0.4, seed=1)) is None


def test_copies_of_a_folder_are_trimmed_levelled_and_the_hopeless_are_named(tmp_path, piano, capsys):
    guitar = play(0.4)
    write(tmp_path / "in/guitar/good.wav", guitar, RATE)
    write(tmp_path / "in/piano/good.wav", 0.25 * np.pad(piano, (3 * RATE, 0))[: -4 * RATE], RATE)
    write(tmp_path / "in/guitar/other.wav", play(0.4, seed=1), RATE)
    write(tmp_path / "in/piano/other.wav", piano, RATE)
    write(tmp_path / "in/guitar/fast.wav", guitar, RATE)
    write(tmp_path / "in/piano/fast.wav", play(1.0, stretch=1.03), RATE)
    assert evaluate.main(["--check", str(tmp_path / "in"), "--align", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")) == [
        "guitar/good.wav", "piano/good.wav",
    ]  # fmt: skip
    (lag,) = re.findall(r"was (\d+) ms late", said.out)
    assert int(lag) == pytest.approx(3000, abs=6)
    assert said.err.startswith("2 left out:")
    assert str(tmp_path / "in/piano/other.wav") in said.err
    assert str(tmp_path / "in/piano/fast.wav") in said.err
    copies = [soundfile.read(tmp_path / "out" / name / "good.wav")[0] for name in ("guitar", "piano")]
    assert len(copies[0]) == len(copies[1]) == pytest.approx((SECONDS + 1 - 4) * RATE, abs=200)  # what both have
    levels = [20 * np.log10(np.sqrt(np.mean(copy**2))) for copy in copies]
    assert abs(levels[0] - levels[1]) < 1.0
    assert evaluate.main(["--check", str(tmp_path / "out")]) == 0


def test_align_needs_check_and_another_folder(tmp_path, capsys):
    assert evaluate.main(["--origin_audio", "a", "--target_audio", "b", "--align", str(tmp_path)]) == 2
    assert "--check" in capsys.readouterr().err
    for instrument in ("a", "b"):
        write(tmp_path / instrument / "x.wav")
    assert evaluate.main(["--check", str(tmp_path), "--align", str(tmp_path)]) == 2
    assert "another folder" in capsys.readouterr().err
