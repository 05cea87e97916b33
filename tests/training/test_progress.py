"""What a run says: history.csv, the status line, the warnings."""

import csv
import io
import math

import pytest

from training.progress import Status, duration, outcome, summary, time, warnings, write_csv


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_csv_is_read_back_to_the_bit(tmp_path):
    rows = [{"epoch": 1, "mae": 1 / 3}, {"epoch": 2, "mae": 0.1, "val_mae": 2e-17}]
    write_csv(tmp_path / "history.csv", rows)
    with (tmp_path / "history.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == ["epoch", "mae", "val_mae"]
    assert float(found[0]["mae"]) == 1 / 3
    assert found[0]["val_mae"] == ""
    assert float(found[1]["val_mae"]) == 2e-17


def test_status_line_in_a_log_file_has_no_control_characters(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    log = io.StringIO()
    status = Status("epoch 1/2", 100, first=20, stream=log)
    for _ in range(4):
        now[0] += 20
        status.advance(10, {"generator_loss": 12.5, "mae": 0.125})
    status.close()
    lines = log.getvalue().splitlines()
    assert len(lines) == 2  # one line in 30 s, not one a step
    assert all(character.isprintable() for line in lines for character in line)
    # 20 steps took 40 s, 60 are left
    assert lines[0].split("  ") == ["epoch 1/2", "step 40/100", "generator_loss 12.5", "mae 0.125", "120 s left"]


def test_time_left_of_the_whole_run(monkeypatch):
    """40 steps in 80 s, 60 are left of the epoch, then 400 of the run and what its ends take."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    log, terminal = io.StringIO(), Terminal()
    for stream in (log, terminal):
        now[0] = 0.0
        status = Status("epoch 1/5", 100, stream=stream, later_steps=400, later_seconds=280)
        now[0] = 80.0
        status.advance(40, {"mae": 0.125})
        if status.bar is not None:
            status.bar.refresh()
        status.close()
    assert "120 s left of the epoch, 20 min of the run" in log.getvalue()
    assert "20 min of the run left" in terminal.getvalue()


def test_compiling_the_step_is_not_counted(monkeypatch):
    """The first 10 steps take 100 s, the next 10 take 40 s; 80 are left."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    log = io.StringIO()
    status = Status("epoch 1/1", 100, stream=log, later_steps=0, is_first=True)
    for at in (100.0, 140.0):
        now[0] = at
        status.advance(10, {"mae": 0.125})
    first, second = log.getvalue().splitlines()
    assert "left" not in first
    assert second.endswith("320 s left of the epoch, 5 min of the run")


@pytest.mark.parametrize(("seconds", "text"), [
    (0.4, "0 s"), (99.4, "99 s"), (101, "2 min"), (3600, "60 min"), (99 * 60, "99 min"), (7500, "2 h 05 min"),
])  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_progress_bar_on_a_terminal():
    terminal = Terminal()
    status = Status("epoch 1/2", 4, stream=terminal)
    for _ in range(4):
        status.advance(1, {"mae": 0.125})
    status.bar.refresh()
    status.close()
    assert "mae 0.125" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()


def row(epoch=1, **values):
    return {"epoch": epoch, "step": 10 * epoch, "slices_per_second": 2.0, "adversarial": 1.5, **values}


def test_summary_puts_copying_beside_the_validation_mae():
    text = summary(row(3, mae=0.25, val_mae=0.5, val_copy_mae=0.125, generator_loss=26.0), 100)
    for part in ("epoch 3/100", "step 30", "mae 0.2500", "validation MAE 0.5000", "copying the input: 0.1250"):
        assert part in text
    assert "validation" not in summary(row(), 100)


def test_discriminator_that_knows_everything():
    rows = [row(1, discriminator_loss=0.5), row(2, discriminator_loss=0.001)]
    assert warnings(rows[:1]) == []
    [text] = warnings(rows)
    assert "discriminator" in text
    assert "docs/training.md" in text
    assert warnings([*rows, row(3, discriminator_loss=0.001)]) == []  # said once
    assert warnings([*rows, row(3, discriminator_loss=0.5), row(4, discriminator_loss=0.001)]) == [text]


def test_discriminator_that_guesses():
    log2 = math.log(2)
    assert warnings([row(1, adversarial=log2)]) == []  # as every run begins
    assert warnings([row(1, adversarial=1.2), row(2, adversarial=log2)]) == []
    [text] = warnings([row(1, adversarial=log2 + 0.003), row(2, adversarial=log2 - 0.003)])
    assert "log 2" in text
    assert "--disc_lr" in text
    [text] = warnings([row(i, adversarial=log2, val_mae=0.5, val_copy_mae=0.125) for i in (1, 2)])
    assert "--disc_lr" not in text  # both are too low where copying is better


@pytest.mark.parametrize(("errors", "n_warnings"), [
    ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1),
    ([0.1, 0.2, 0.3, 0.4, 0.5], 0),
    ([0.1, 0.2, 0.3, 0.2, 0.4, 0.5, 0.6], 0),
    ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], 0),  # said an epoch ago
    ([math.nan] * 7, 0),
])  # fmt: skip
def test_validation_error_that_rises(errors, n_warnings):
    found = warnings([row(i, val_mae=error) for i, error in enumerate(errors)])
    assert len(found) == n_warnings
    assert all("generator_best.h5" in text for text in found)
    worse = [row(i, val_mae=error, val_copy_mae=0.05) for i, error in enumerate(errors)]
    assert warnings(worse) == []  # nothing was learnt that could be memorised


def test_outcome_of_a_run():
    good = outcome("m/generator_best.h5", 3, 0.0625, 0.125, "raise --lr")
    assert good == "Best: m/generator_best.h5 (epoch 3), validation MAE 0.0625; copying the input: 0.1250"
    for mae in (0.125, 0.5):
        text = outcome("m/generator_best.h5", 3, mae, 0.125, "raise --lr")
        assert f"validation MAE {mae:.4f}, worse than copying the input (0.1250): raise --lr" in text
    text = outcome("m/generator.h5", 3, math.nan, math.nan, "raise --lr")
    assert "m/generator.h5 (epoch 3)" in text
    assert "nan" not in text
