"""Learning-rate range test (Smith, 2017) on the same compiled step that training uses.

Step by step the learning rate grows geometrically from 1e-9 to 1. The rate at which the loss falls most steeply over
the logarithm of the rate is lower than the one with the lowest loss, but still too high for a whole run. A third of it
is suggested (docs/training.md). There are two tests, each from the same weights: the generator alone (the rate of the
discriminator is 0), and the discriminator alone.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from common import InputError
from common.files import write_json
from training.checkpoints import LR_FINDER
from training.dataset import iterate_batches
from training.outputs import Status, write_csv

if TYPE_CHECKING:
    from training.loop import Run

MIN_RATE, MAX_RATE = 1e-9, 1.0
MIN_STEPS = 50  # fewer are more than a factor of 1.5 apart, and one noisy batch decides
MIN_POINTS = 10  # before the loss diverges
DEFAULT_MIN_STEPS = 100  # if --max_steps is not given
DIVISOR = 3.0  # of the steepest rate
DIVERGED = 100.0  # a test stops when the loss is this many times the lowest so far


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the train scripts that ask for a range test."""
    text = "find learning rates instead of training, in --max_steps steps of each network (by default one pass over "
    text += f"the data, at least {DEFAULT_MIN_STEPS})"
    parser.add_argument("--findlr", type=_parse_bool, nargs="?", const=True, default=False, help=text)


def _parse_bool(text: str) -> bool:
    """An argparse type: true, yes and 1, or false, no and 0."""
    values = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"expected True or False, found {text!r}")
    return values[text.lower()]


def find(run: Run) -> dict[str, float]:
    """Test the networks of a run on its batches; print the suggested rates and write them, curves and plots.

    Args:
        run: of `run.prepare`; its weights are unchanged afterwards. Its `max_steps` is the length of each test, over
            the batches from the start as often as needed; None is one pass over the data, at least 100 steps.

    Returns:
        gen_lr and, with a discriminator, disc_lr, as in ``lr_finder.json``.

    Raises:
        InputError: too few steps, or as `suggest`; then ``lr_finder.csv`` has been written.
    """
    from training.step import make_step

    folder, networks = run.folder, run.networks
    n_steps = run.max_steps or max(DEFAULT_MIN_STEPS, run.steps_per_epoch)
    if n_steps < MIN_STEPS:
        raise InputError(f"--findlr cannot tell in --max_steps {n_steps}; it needs {MIN_STEPS}")
    step = make_step(networks, run.seed)
    before = [(variable, variable.numpy()) for _, variable in networks.variables()]
    tests = {}
    for tested in ("generator",) if networks.discriminator is None else ("generator", "discriminator"):
        tests[tested] = until_divergence(sweep(run, step, tested, n_steps), f"{tested}_loss")
        for variable, array in before:
            variable.assign(array)
    path = folder / f"{LR_FINDER}.csv"
    write_csv(path, [{"test": tested, **row} for tested, rows in tests.items() for row in rows])
    print(f"Curves: {path}")  # written first, so that a long test is kept if no rate can be suggested
    suggestions = suggest_rates(tests, folder)
    described = {"divisor": DIVISOR, "steps": n_steps, "batch_size": run.training_batches.batch_size}
    write_json(folder / f"{LR_FINDER}.json", suggestions | described)
    print("Suggested: " + " ".join(f"--{flag} {rate:.2g}" for flag, rate in suggestions.items()))
    print(f"Plots are in {folder}; {' '.join(f'--{flag} auto' for flag in suggestions)} takes the suggestion")
    return suggestions


def sweep(run: Run, step: Callable, tested: str, n_steps: int) -> Iterator[dict[str, float]]:
    """Train one of the networks for `n_steps`; the rate and the losses of each step.

    A step's losses are computed before its update, as in training.
    """
    import tensorflow as tf

    rates = np.geomspace(MIN_RATE, MAX_RATE, n_steps).tolist()
    with contextlib.closing(Status(f"{tested} rates {MIN_RATE:g} to {MAX_RATE:g}", n_steps)) as status:
        for number, batch in enumerate(iterate_batches(run.training_batches, 0, n_steps)):
            rate = rates[number]
            both = (rate, 0.0) if tested == "generator" else (0.0, rate)
            losses = step(*batch, *map(tf.constant, both), tf.constant(number, tf.int32))
            row = {"rate": rate, **{name: float(value) for name, value in losses.items()}}
            status.advance(1, {"rate": rate, "loss": row["generator_loss"]})
            yield row


def until_divergence(rows: Iterable[dict[str, float]], watched: str) -> list[dict[str, float]]:
    """The rows to the one in which the loss `watched` diverges, or to the one before it becomes infinite or NaN."""
    kept, lowest = [], math.inf
    for row in rows:
        loss = row[watched]
        if not math.isfinite(loss):
            break
        kept.append(row)
        lowest = min(lowest, loss)
        if loss > DIVERGED * abs(lowest):
            break
    return kept


# --- suggestions ------------------------------------------------------------------------------------------------------


def suggest_rates(tests: dict[str, list[dict[str, float]]], folder: pathlib.Path) -> dict[str, float]:
    """The rates that the rows of `tests` suggest: gen_lr and, with a discriminator, disc_lr; their plots in `folder`.

    Each is the rate of the steepest fall divided by `DIVISOR`. The MAE is only plotted, if it falls.
    """
    curves = {"gen_lr": _plot_suggestion(tests["generator"], "generator_loss", folder, "generator_loss")}
    if "discriminator" in tests:  # a generator alone is trained on the MAE itself
        curves["disc_lr"] = _plot_suggestion(tests["discriminator"], "discriminator_loss", folder, "discriminator_loss")
        with contextlib.suppress(InputError):
            _plot_suggestion(tests["generator"], "mae", folder, "generator_mae")
    return curves


def _plot_suggestion(rows: list[dict[str, float]], loss: str, folder: pathlib.Path, title: str) -> float:
    """The rate that one loss suggests; its curve is plotted."""
    from common import plots

    rates, losses = (np.array([row[name] for row in rows]) for name in ("rate", loss))
    steepest, smoothed = suggest(rates, losses)
    rate = steepest / DIVISOR
    plots.save_lr_curve(folder / f"{LR_FINDER}_{title}.png", rates, losses, smoothed, rate, title)
    return rate


def suggest(rates: np.ndarray, losses: np.ndarray) -> tuple[float, np.ndarray]:
    """The rate at which the smoothed loss falls most steeply over log(rate), and the smoothed loss (n,).

    The loss is smoothed by a second-order polynomial in a window of about one factor of 10 in the rate (Savitzky &
    Golay, 1964). Rates after the loss has risen again are not considered: there it falls back from its divergence.

    Raises:
        InputError: the loss diverges after a few steps, or never falls.
    """
    from scipy.signal import savgol_filter

    n = len(losses)
    if n < MIN_POINTS:
        raise InputError(f"--findlr cannot tell: the loss diverges after {n} steps; try more --max_steps")
    decade = math.log(10) / math.log(rates[1] / rates[0])
    window = min(int(np.clip(decade, 5, n - 1)) // 2 * 2 + 1, n if n % 2 else n - 1)
    smoothed = savgol_filter(losses, window, 2)
    slope = savgol_filter(losses, window, 2, deriv=1)
    best = int(np.argmin(slope[: _count_until_rise(losses, smoothed, window)]))
    if slope[best] >= 0:
        raise InputError("--findlr cannot tell: the loss falls at no rate; try more --max_steps")
    return float(rates[best]), smoothed


def _count_until_rise(losses: np.ndarray, smoothed: np.ndarray, window: int) -> int:
    """Number of points before the smoothed loss has fallen by more than noise and risen again by half of that."""
    noise = np.std((losses - smoothed)[:window])
    fallen = smoothed[0] - np.minimum.accumulate(smoothed)
    risen = smoothed - np.minimum.accumulate(smoothed)
    rises = np.flatnonzero((fallen > 3 * noise) & (risen > fallen / 2))
    return int(rises[0]) if len(rises) else len(losses)
