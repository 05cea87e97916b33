"""What a run says of itself: the status line, history.csv and the plain words when something looks wrong."""

from __future__ import annotations

import csv
import itertools
import math
import sys
import time

from common.files import replacing

STATUS_SECONDS = 30  # between two lines in a log file
RISING_EPOCHS = 5


class Status:
    """Progress of an epoch: a bar on a terminal, otherwise a plain line now and then, without control characters."""

    def __init__(self, label: str, n_steps: int, first: int = 0, stream=None) -> None:
        self.label, self.n_steps, self.step = label, n_steps, first
        self.stream = stream or sys.stdout
        self.started = self.said = time.monotonic()
        self.first = first
        self.bar = None
        if self.stream.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=n_steps, initial=first, desc=label, file=self.stream, leave=False, unit="step")

    def advance(self, n: int, values: dict[str, float]) -> None:
        """`n` more steps are done; `values` are the latest losses."""
        self.step += n
        text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(n)
        elif time.monotonic() - self.said > STATUS_SECONDS:
            self.said = time.monotonic()
            left = (self.said - self.started) / max(1, self.step - self.first) * (self.n_steps - self.step)
            print(
                f"{self.label}  step {self.step}/{self.n_steps}  {text}  {left:.0f} s left",
                file=self.stream,
                flush=True,
            )

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()


def write_csv(path, rows: list[dict]) -> None:
    """Write history.csv whole or not at all; columns are the union of the rows' keys, in the order they appear."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def summary(row: dict, n_epochs: int) -> str:
    """One line for an epoch that is done."""
    parts = [f"epoch {row['epoch']}/{n_epochs}", f"step {row['step']}"]
    parts += [f"{key} {row[key]:.4f}" for key in ("generator_loss", "discriminator_loss", "mae") if key in row]
    if math.isfinite(row.get("val_mae", math.nan)):
        parts.append(f"validation MAE {row['val_mae']:.4f} (copying the input: {row['val_copy_mae']:.4f})")
    parts.append(f"{row['slices_per_second']:.2f} slices/s")
    return "  ".join(parts)


def warnings(rows: list[dict]) -> list[str]:
    """What is worth a word after the last of `rows` and was not before it; docs/training.md explains each."""
    before = _signs(rows[:-1])
    return [text for text in _signs(rows) if text not in before]


def _signs(rows: list[dict]) -> list[str]:
    """What looks wrong after the last of `rows`."""
    if not rows:
        return []
    said, last = [], rows[-1]
    if last.get("discriminator_loss", math.nan) < 0.01:
        said.append(
            "the discriminator's loss was near 0 for the whole epoch: it tells every output from the truth and teaches "
            "the generator nothing; try a smaller --disc_lr (docs/training.md)"
        )
    if len(rows) > 1 and all(abs(row.get("adversarial", math.nan) - math.log(2)) < 0.005 for row in rows[-2:]):
        said.append(
            "the generator's adversarial loss stays near log 2: the discriminator is guessing; try a larger --disc_lr "
            "(docs/training.md)"
        )
    errors = [row.get("val_mae", math.nan) for row in rows[-RISING_EPOCHS - 1 :]]
    if len(errors) > RISING_EPOCHS and all(a < b for a, b in itertools.pairwise(errors)):
        said.append(
            f"the validation MAE has risen for {RISING_EPOCHS} epochs: the network is learning the training pieces by "
            "heart; generator_best.h5 keeps the best one, --patience stops in time (docs/training.md)"
        )
    return said
