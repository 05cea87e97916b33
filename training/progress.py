"""How a run reports its progress: the status line, history.csv, and warnings when something looks wrong."""

from __future__ import annotations

import csv
import itertools
import math
import pathlib
import sys
import time

from common.files import replacing

STATUS_SECONDS = 30  # between two lines in a log file
N_RISING_EPOCHS = 5  # after which a rising validation MAE is reported


class Status:
    """Progress of an epoch: a bar on a terminal, otherwise a line every 30 s without control characters.

    Args:
        label: what the line begins with.
        n_steps: steps of the whole epoch.
        first: steps that were done before.
        stream: a text file; None is standard output.
        later_steps: steps of the run after this epoch; None for work that is not an epoch of a run.
        later_seconds: what the ends of this epoch and of the later ones take together, in seconds.
        is_first: whether the first call of `advance` includes the compilation of the step: no estimate rests on it.
    """

    def __init__(
        self,
        label: str,
        n_steps: int,
        first: int = 0,
        stream=None,
        later_steps: int | None = None,
        later_seconds: float = 0.0,
        is_first: bool = False,
    ) -> None:
        self.label, self.n_steps, self.step = label, n_steps, first
        self.later_steps, self.later_seconds = later_steps, later_seconds
        self.stream = stream or sys.stdout
        self.started = self.printed = time.monotonic()
        self.first, self.is_first = first, is_first
        self.bar = None
        if self.stream.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=n_steps, initial=first, desc=label, file=self.stream, leave=False, unit="step")

    def advance(self, n: int, values: dict[str, float]) -> None:
        """Count `n` more steps; `values` are the latest losses."""
        self.step += n
        text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        now = time.monotonic()
        if self.is_first:
            self.is_first, self.started, self.first = False, now, self.step
        of_epoch, of_run = self._estimate(now)
        if self.bar is not None:  # which shows the time left of the epoch itself
            self.bar.set_postfix_str(f"{text}  {of_run} of the run left" if of_run else text, refresh=False)
            self.bar.update(n)
        elif now - self.printed > STATUS_SECONDS:
            self.printed = now
            left = f"  {of_epoch} left" if of_epoch else ""
            left += f" of the epoch, {of_run} of the run" if of_run else ""
            print(f"{self.label}  step {self.step}/{self.n_steps}  {text}{left}", file=self.stream, flush=True)

    def _estimate(self, now: float) -> tuple[str, str]:
        """The time left of the epoch and of the run as text; empty where nothing is known."""
        if self.step == self.first:
            return "", ""
        seconds_per_step = (now - self.started) / (self.step - self.first)
        left = seconds_per_step * (self.n_steps - self.step)
        if self.later_steps is None:
            return f"{left:.0f} s", ""
        return f"{left:.0f} s", duration(left + seconds_per_step * self.later_steps + self.later_seconds)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self.bar is not None:
            self.bar.close()


def duration(seconds: float) -> str:
    """A time in text, such as "95 s", "12 min" or "3 h 05 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def write_csv(path, rows: list[dict]) -> None:
    """Write `rows` as CSV, completely or not at all; columns are all keys of the rows, in the order they appear."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def summary(row: dict, n_epochs: int) -> str:
    """One line for an epoch that has ended."""
    parts = [f"epoch {row['epoch']}/{n_epochs}", f"step {row['step']}"]
    parts += [f"{key} {row[key]:.4f}" for key in ("generator_loss", "discriminator_loss", "mae") if key in row]
    if math.isfinite(row.get("val_mae", math.nan)):
        parts.append(f"validation MAE {row['val_mae']:.4f} (copying the input: {row['val_copy_mae']:.4f})")
    parts.append(f"{row['slices_per_second']:.2f} slices/s")
    return "  ".join(parts)


def outcome(path: pathlib.Path, epoch: int, mae: float, copy_mae: float, advice: str) -> str:
    """One line for a run that has ended.

    Args:
        path: the best weights or, if nothing was held out, the last ones.
        epoch: they were written after.
        mae, copy_mae: validation MAE of the weights and of copying the input; NaN if nothing was held out.
        advice: what to do if copying the input is better.
    """
    if not math.isfinite(mae):
        return f"Weights: {path} (epoch {epoch}); nothing was held out to find the best epoch with"
    best = f"Best: {path} (epoch {epoch}), validation MAE {mae:.4f}"
    if mae < copy_mae:
        return f"{best}; copying the input: {copy_mae:.4f}"
    return f"{best}, worse than copying the input ({copy_mae:.4f}): {advice} (docs/training.md)"


def warnings(rows: list[dict]) -> list[str]:
    """Warnings that apply after the last of `rows` and did not before it; docs/training.md explains each."""
    before = _find_problems(rows[:-1])
    return [text for text in _find_problems(rows) if text not in before]


def _find_problems(rows: list[dict]) -> list[str]:
    """Everything that looks wrong after the last of `rows`."""
    if not rows:
        return []
    problems, last = [], rows[-1]
    is_worse = last.get("val_mae", math.nan) >= last.get("val_copy_mae", math.nan)  # than copying; False for NaN
    if last.get("discriminator_loss", math.nan) < 0.01:
        problems.append(
            "the discriminator's loss was near 0 for the whole epoch: it recognises every output as generated and "
            "teaches the generator nothing; try a smaller --disc_lr (docs/training.md)"
        )
    if len(rows) > 1 and all(abs(row.get("adversarial", math.nan) - math.log(2)) < 0.005 for row in rows[-2:]):
        remedy = "the learning rates may be too low, both" if is_worse else "try a larger --disc_lr"
        problems.append(
            f"the generator's adversarial loss stays near log 2: the discriminator is guessing; {remedy} "
            "(docs/training.md)"
        )
    errors = [row.get("val_mae", math.nan) for row in rows[-N_RISING_EPOCHS - 1 :]]
    if len(errors) > N_RISING_EPOCHS and all(a < b for a, b in itertools.pairwise(errors)) and not is_worse:
        problems.append(
            f"the validation MAE has risen for {N_RISING_EPOCHS} epochs: the network memorises the training "
            "pieces; generator_best.h5 keeps the best epoch, --patience stops in time (docs/training.md)"
        )
    return problems
