"""The check of recordings on made pairs whose lag, tuning, transposition, length and level are known."""

import numpy as np
import pytest
from made_sounds import write

from common.errors import InputError
from evaluation import alignment

RATE = alignment.SAMPLE_RATE


def scale(cents=0.0, bright=1.0, decay=4.0, starts=(0.2, 0.9, 1.3, 2.1, 2.5, 3.3)):
    """Four seconds of a broken chord; `bright` changes the timbre."""
    audio = np.zeros(4 * RATE)
    time = np.arange(int(0.6 * RATE)) / RATE
    for start, pitch in zip(starts, (60, 64, 67, 72, 65, 69), strict=True):
        f0 = 440 * 2 ** ((pitch - 69 + cents / 100) / 12)
        note = sum(np.sin(2 * np.pi * m * f0 * time) / m**bright for m in range(1, 9))
        audio[int(start * RATE) :][: len(note)] += 0.1 * note * np.exp(-decay * time) * np.clip(8 - time / 0.075, 0, 1)
    return audio.astype(np.float32)


@pytest.fixture(scope="module")
def reference():
    return scale()


def test_another_timbre_of_the_same_notes_is_a_pair(reference):
    check = alignment.check_pair(reference, scale(bright=0.3))
    assert check.problems == ()
    assert check.match > 0.6
    assert check.lag == pytest.approx(0, abs=0.01)
    assert check.cents == pytest.approx(0, abs=5)
    assert (check.semitones, check.length_difference) == (0, 0)


@pytest.mark.parametrize("lag", [-0.25, -0.11, 0.13, 1.0])
def test_a_lag_is_measured_to_a_few_milliseconds(reference, lag):
    n = round(abs(lag) * RATE)
    shifted = np.pad(reference, (n, 0))[: len(reference)] if lag > 0 else np.pad(reference, (0, n))[n:]
    check = alignment.check_pair(reference, shifted)
    assert check.lag == pytest.approx(lag, abs=0.004)
    assert check.problems == (f"{1000 * abs(check.lag):.0f} ms {'late' if lag > 0 else 'early'}",)


@pytest.mark.parametrize("cents", [-35, 30])
def test_a_tuning_difference_is_measured(reference, cents):
    check = alignment.check_pair(reference, scale(cents))
    assert check.cents == pytest.approx(cents, abs=6)
    assert len(check.problems) == 1
    assert "cents " + ("high" if cents > 0 else "low") in check.problems[0]


@pytest.mark.parametrize("semitones", [-3, 2])
def test_a_transposition_is_found(reference, semitones):
    check = alignment.check_pair(reference, scale(100 * semitones))
    assert check.semitones == semitones
    assert check.problems == (f"transposed by {semitones:+d} semitones",)


def test_length_silence_and_another_rhythm_are_reported(reference):
    longer = alignment.check_pair(reference, np.pad(reference, (0, RATE)))
    assert longer.length_difference == pytest.approx(1)
    assert longer.problems == ("1.00 s longer",)
    silent = alignment.check_pair(reference, reference * 1e-6, instrument="guitar")
    assert silent.problems == ("guitar silent",)
    assert np.isnan(silent.lag)
    assert alignment.check_pair(reference, 0 * reference, instrument="guitar").peak_db == -np.inf
    other = alignment.check_pair(reference, scale(starts=0.2 + 0.33 * np.arange(6)))
    assert other.problems == ("other notes, or at other times",)


def test_a_soft_attack_is_still_a_pair(reference):
    time = np.arange(len(reference)) / RATE
    swell = scale(bright=0.5, decay=0.5)
    for start in (0.2, 0.9, 1.3, 2.1, 2.5, 3.3):
        inside = (time >= start) & (time < start + 0.15)
        swell[inside] *= ((time[inside] - start) / 0.15).astype(np.float32)
    check = alignment.check_pair(reference, swell)
    assert check.problems == ()
    assert 0.01 < check.lag < 0.1


def test_a_sound_without_any_change_has_no_lag():
    constant = np.full(RATE, 0.5, np.float32)
    assert alignment.find_lag(constant * 0, constant * 0) == (0, 0)


def test_peak_by_hand():
    assert alignment.peak_db(np.array([0.1, -0.5])) == pytest.approx(-6.02, abs=0.01)


@pytest.fixture
def audios(tmp_path, reference):
    """Pieces of two instruments: a good pair, a late one, and one that only the piano has."""
    for piece in ("good", "late", "alone"):
        write(tmp_path / "piano" / f"{piece}.wav", reference, RATE)
    write(tmp_path / "guitar" / "good.flac", scale(bright=0.3), RATE)
    write(tmp_path / "guitar" / "late.wav", np.pad(reference, (RATE // 5, 0)), RATE)
    return tmp_path


def test_the_check_prints_a_line_a_pair_and_what_is_wrong(audios, capsys):
    assert alignment.check_folder(audios) == 1
    output = capsys.readouterr()
    lines = {line.split()[0]: line for line in output.out.splitlines()}
    assert lines["good"].endswith("ok")
    assert lines["late"].endswith("0.20 s shorter, 200 ms early")  # the piano, beside the guitar
    assert output.out.splitlines()[-1] == "1 of 2 recordings fit their piece's first one."
    assert "alone: expected in every instrument's folder, found nothing in guitar" in output.err


def test_good_pairs_alone_are_status_0_and_a_bad_file_is_left_out(audios, capsys):
    for name in ("piano/late.wav", "guitar/late.wav", "piano/alone.wav"):
        (audios / name).unlink()
    assert alignment.check_folder(audios) == 0
    (audios / "guitar" / "broken.wav").write_text("no audio")
    (audios / "piano" / "broken.wav").write_text("no audio")
    assert alignment.check_folder(audios) == 1
    assert "broken" in capsys.readouterr().err


def test_folders_without_pairs_are_refused(tmp_path):
    with pytest.raises(InputError, match="--check: expected a folder"):
        alignment.check_folder(tmp_path / "none")
    write(tmp_path / "piano" / "a.wav")
    with pytest.raises(InputError, match="two or more instruments"):
        alignment.check_folder(tmp_path)
    write(tmp_path / "guitar" / "b.wav")
    with pytest.raises(InputError, match="in common"):
        alignment.check_folder(tmp_path)
