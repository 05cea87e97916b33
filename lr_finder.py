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
from collections.abc import Callable
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
MIN_STEPS = 50  # fewer are more than half of a factor of 10 apart, and one noisy batch decides
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


def find(run: Run) -> dict:
    """Test the networks of a run on its batches; print the suggested rates and write them, curves and plots.

    Args:
        run: of `run.prepare`; its weights are unchanged afterwards. Its `max_steps` is the length of each test, over
            the batches from the start as often as needed; None is one pass over the data, at least 100 steps.

    Returns:
        gen_lr and, with a discriminator, disc_lr, as in ``lr_finder.json``.

    Raises:
        InputError: too few steps, or as `suggest`; then ``lr_finder.csv`` has been written.
    """
    folder = run.folder
    n_steps = run.max_steps or max(DEFAULT_MIN_STEPS, run.steps_per_epoch)
    if n_steps < MIN_STEPS:
        raise InputError(f"--findlr cannot tell in --max_steps {n_steps}; it needs {MIN_STEPS}")
    tests = run_tests(run, n_steps)
    path = folder / f"{LR_FINDER}.csv"
    write_csv(path, [{"test": test, **row} for test, rows in tests.items() for row in rows])
    print(f"Curves: {path}")  # written first, so that a long test is kept if no rate can be suggested
    suggestions = suggest_rates(tests, folder)
    described = {"divisor": DIVISOR, "steps": n_steps, "batch_size": run.training_batches.batch_size}
    write_json(folder / f"{LR_FINDER}.json", suggestions | described)
    flags = {"gen_lr": "--gen_lr", "disc_lr": "--disc_lr"} if "disc_lr" in suggestions else {"gen_lr": "--lr"}
    print("Suggested: " + " ".join(f"{flag} {suggestions[key]:.2g}" for key, flag in flags.items()))
    print(f"Plots are in {folder}; {' '.join(f'{flag} auto' for flag in flags.values())} takes the suggestion")
    return suggestions


# --- tests ------------------------------------------------------------------------------------------------------------


def run_tests(run: Run, n_steps: int) -> dict[str, list[dict[str, float]]]:
    """The rows of the tests "generator" and, with a discriminator, "discriminator", as `range_test` returns them.

    Each begins with the present weights of the networks, which are restored at the end.
    """
    import tensorflow as tf

    from training.step import make_step

    networks, tests = run.networks, {}
    step, rates = make_step(networks, run.seed), np.geomspace(MIN_RATE, MAX_RATE, n_steps)
    before = [variable.numpy() for _, variable in networks.variables()]
    for test in ("generator", "discriminator"):
        if test == "discriminator" and networks.discriminator is None:
            continue
        stream = iterate_batches(run.training_batches, 0, n_steps)
        status = Status(f"{test} rates {MIN_RATE:g} to {MAX_RATE:g}", n_steps)

        def update(number: int, rate: float, test=test, stream=stream, status=status) -> dict[str, float]:
            both = (rate, 0.0) if test == "generator" else (0.0, rate)
            tensors = step(*next(stream), *map(tf.constant, both), tf.constant(number, tf.int32))
            losses = {name: float(value) for name, value in tensors.items()}
            status.advance(1, {"rate": rate, "loss": losses["generator_loss"]})
            return losses

        with contextlib.closing(status):
            tests[test] = range_test(update, rates, f"{test}_loss")
        for (_, variable), array in zip(networks.variables(), before, strict=True):
            variable.assign(array)
    return tests


def range_test(
    update: Callable[[int, float], dict[str, float]], rates: np.ndarray, watched: str
) -> list[dict[str, float]]:
    """Rate and losses of each step: `update(step, rate)` for each rate, until the loss `watched` diverges or is NaN.

    A step's losses are computed before its update, as in training. The last row is the one that diverged, if it is a
    finite number.
    """
    rows, lowest = [], math.inf
    for number, rate in enumerate(rates.tolist()):
        losses = update(number, rate)
        if not math.isfinite(losses[watched]):
            break
        rows.append({"rate": rate, **losses})
        lowest = min(lowest, losses[watched])
        if losses[watched] > DIVERGED * abs(lowest):
            break
    return rows


# --- suggestions ------------------------------------------------------------------------------------------------------


def suggest_rates(tests: dict[str, list[dict[str, float]]], folder: pathlib.Path) -> dict[str, float]:
    """The rates that `tests` suggest: gen_lr and, with a discriminator, disc_lr; their plots in `folder`.

    Each is the rate of the steepest fall divided by `DIVISOR`. The MAE is only plotted, if it falls.

    Raises:
        InputError: as `suggest`, if the loss of generator or discriminator never falls.
    """
    from common import plots

    curves = [("generator", "generator_loss", "gen_lr", "generator_loss")]
    if "discriminator" in tests:  # a generator alone is trained on the MAE itself
        curves += [("discriminator", "discriminator_loss", "disc_lr", "discriminator_loss")]
        curves += [("generator", "mae", "", "generator_mae")]
    suggestions = {}
    for test, loss, flag, title in curves:
        rates, losses = (np.array([row[name] for row in tests[test]]) for name in ("rate", loss))
        try:
            steepest, smoothed = suggest(rates, losses)
        except InputError:
            if flag:
                raise
            continue
        rate = steepest / DIVISOR
        plots.save_lr_curve(folder / f"{LR_FINDER}_{title}.png", rates, losses, smoothed, rate, title)
        if flag:
            suggestions[flag] = rate
    return suggestions


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
