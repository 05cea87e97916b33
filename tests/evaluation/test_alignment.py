"""The check of recordings on made pairs whose lag, tuning, transposition, length and level are known."""

import numpy as np
import pytest
from made_sounds import write

from common.errors import InputError
from evaluation import alignment
from sound.files import read_audio

RATE = alignment.SAMPLE_RATE
STARTS = (0.2, 0.9, 1.3, 2.1, 2.5, 3.3)


def scale(cents=0.0, bright=1.0, decay=4.0, starts=STARTS, pitches=(60, 64, 67, 72, 65, 69)):
    """Four seconds of a broken chord; `bright` changes the timbre."""
    audio = np.zeros(4 * RATE)
    time = np.arange(int(0.6 * RATE)) / RATE
    for start, pitch in zip(starts, pitches, strict=True):
        f0 = 440 * 2 ** ((pitch - 69 + cents / 100) / 12)
        note = sum(np.sin(2 * np.pi * m * f0 * time) / m**bright for m in range(1, 9))
        audio[int(start * RATE) :][: len(note)] += 0.1 * note * np.exp(-decay * time) * np.clip(8 - time / 0.075, 0, 1)
    return audio.astype(np.float32)


@pytest.fixture(scope="module")
def reference():
    return scale()


def test_another_timbre_of_the_same_notes_is_a_pair(reference):
    check = alignment.check_pair(reference, scale(bright=0.3))
    assert (check.problems, check.length_difference) == ((), 0)
    assert check.match > 0.6
    assert (check.lag, check.cents) == (pytest.approx(0, abs=0.01), pytest.approx(0, abs=5))


@pytest.mark.parametrize("lag", [-0.25, -0.11, 0.13, 1.0])
def test_a_lag_is_measured_to_a_few_milliseconds(reference, lag):
    n = round(abs(lag) * RATE)
    shifted = np.pad(reference, (n, 0))[: len(reference)] if lag > 0 else np.pad(reference, (0, n))[n:]
    check = alignment.check_pair(reference, shifted)
    assert check.lag == pytest.approx(lag, abs=0.004)
    assert check.problems == (f"{1000 * abs(check.lag):.0f} ms {'late' if lag > 0 else 'early'}",)


@pytest.mark.parametrize(("cents", "semitones"), [(-35, 0), (30, 0), (0, -3), (0, 2)])
def test_a_difference_in_tuning_or_a_transposition_is_measured(reference, cents, semitones):
    check = alignment.check_pair(reference, scale(cents + 100 * semitones))
    assert check.cents == pytest.approx(cents, abs=6)
    assert (check.semitones, len(check.problems)) == (semitones, 1)


@pytest.mark.parametrize(
    "other",
    [
        scale(starts=0.2 + 0.33 * np.arange(6)),
        scale(pitches=(55, 58, 62, 63, 70, 51), starts=(0.1, 0.5, 1.1, 1.7, 2.9, 3.2)),
        np.random.default_rng(0).normal(0, 0.1, 6 * RATE).astype(np.float32),
    ],
    ids=["rhythm", "piece", "noise"],
)
def test_another_performance_is_called_that_and_nothing_else(reference, other):
    check = alignment.check_pair(reference, other)
    assert check.problems == ("not the same performance",)
    assert np.isnan([check.lag, check.cents]).all()


def test_length_and_silence_are_reported(reference):
    longer = alignment.check_pair(reference, np.pad(reference, (0, RATE)))
    assert (longer.length_difference, longer.problems) == (pytest.approx(1), ("1.00 s longer",))
    for silent in (reference * np.float32(1e-6), 0 * reference):
        assert alignment.check_pair(reference, silent).problems == ("silent",)


def test_a_soft_attack_is_still_a_pair(reference):
    swell, time = scale(bright=0.5, decay=0.5), np.arange(len(reference)) / RATE
    for start in STARTS:
        inside = (time >= start) & (time < start + 0.15)
        swell[inside] *= ((time[inside] - start) / 0.15).astype(np.float32)
    check = alignment.check_pair(reference, swell)
    assert check.problems == ()
    assert 0.01 < check.lag < 0.1


@pytest.fixture
def audios(tmp_path, reference):
    """Pieces of two instruments: a good pair, a late one, another one, and one that only the piano has."""
    for piece in ("good", "late", "other", "alone"):
        write(tmp_path / "audios" / "piano" / f"{piece}.wav", reference, RATE)
    write(tmp_path / "audios" / "guitar" / "good.flac", scale(bright=0.3), RATE)
    write(tmp_path / "audios" / "guitar" / "late.wav", np.pad(reference, (RATE // 5, 0)), RATE)
    write(tmp_path / "audios" / "guitar" / "other.wav", scale(starts=0.2 + 0.33 * np.arange(6)), RATE)
    return tmp_path / "audios"


def test_a_check_reports_what_is_wrong_and_writes_copies_without_lag(audios, capsys):
    """The late guitar loses what it is late; what is no pair is not written."""
    assert alignment.check_folder(audios) == 1
    output = capsys.readouterr()
    lines = {line.split()[0]: line for line in output.out.splitlines()}
    assert lines["good"].endswith("ok")
    assert lines["late"].endswith("200 ms early, 0.20 s shorter")  # the piano, beside the guitar
    assert lines["other"].endswith("not the same performance")
    assert output.out.splitlines()[-1].startswith("1 of 3 recordings")
    assert "alone" in output.err

    folder = audios.parent / "aligned"
    assert alignment.check_folder(audios, folder) == 1
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.wav")) == [
        "guitar/good.wav", "guitar/late.wav", "piano/good.wav", "piano/late.wav",
    ]  # fmt: skip
    piano, guitar = (read_audio(folder / name / "late.wav", RATE) for name in ("piano", "guitar"))
    assert len(piano) == len(guitar) == pytest.approx(4 * RATE, abs=0.01 * RATE)
    assert alignment.find_lag(piano, guitar)[0] == pytest.approx(0, abs=0.003)
    assert alignment.check_folder(folder) == 0

    for instrument in ("guitar", "piano"):
        (folder / instrument / "broken.wav").write_text("no audio")
    assert alignment.check_folder(folder) == 1
    assert "broken" in capsys.readouterr().err


def test_folders_without_pairs_are_refused(tmp_path):
    for name in ("piano/a.wav", "guitar/b.wav"):
        write(tmp_path / name)
        with pytest.raises(InputError):
            alignment.check_folder(tmp_path)
    write(tmp_path / "guitar" / "a.wav")
    with pytest.raises(InputError):
        alignment.check_folder(tmp_path, tmp_path)
