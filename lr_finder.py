"""Learning-rate range test on the very step that training uses (Smith, 2017).

Batch by batch the rate grows geometrically from 1e-9 to 1; the best rate is where the loss falls most steeply over the
logarithm of the rate, not where it is lowest. Run for the generator alone (the other's rate 0), for the discriminator
alone, and for both jointly, each from the same weights.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import pathlib
import sys
from collections.abc import Callable

import numpy as np

from common.errors import InputError
from common.files import write_json
from training.batches import Batches, iterate_batches, stream_batches
from training.progress import Status, write_csv

LOWEST, HIGHEST = 1e-9, 1.0
MIN_STEPS = 100  # where no number is asked for
LEAST_STEPS = 7  # that a rate can be suggested from
DIVERGED = 100.0  # times the lowest loss so far: the test stops
SKIPPED_FIRST, SKIPPED_LAST = 10, 5  # points left out of the plots, as published


@dataclasses.dataclass(frozen=True)
class Curve:
    """Losses of a range test: rates (n,), and by name losses (n,), one for each step that was done."""

    rates: np.ndarray
    losses: dict[str, np.ndarray]


def geometric_rates(n_steps: int, lowest: float = LOWEST, highest: float = HIGHEST) -> np.ndarray:
    """Rates (n_steps,) from `lowest` to `highest`, each the same factor above the one before."""
    return np.geomspace(lowest, highest, n_steps)


def range_test(update: Callable[[int, float], dict[str, float]], rates: np.ndarray, watched: str) -> Curve:
    """Call `update(step, rate)` for each rate until the loss `watched` diverges or is no number.

    A step's losses are computed before its update, as training does; the last point is the one that diverged, where it
    is a finite number.
    """
    rows, lowest = [], math.inf
    for number, rate in enumerate(rates):
        values = update(number, float(rate))
        loss = values[watched]
        if not math.isfinite(loss):
            break
        rows.append(values)
        lowest = min(lowest, loss)
        if loss > DIVERGED * abs(lowest):
            break
    names = rows[0] if rows else ()
    return Curve(rates[: len(rows)], {name: np.array([row[name] for row in rows]) for name in names})


def suggest(rates: np.ndarray, losses: np.ndarray) -> tuple[float, np.ndarray]:
    """The rate at which the smoothed loss falls most steeply over log(rate), and the smoothed loss (n,).

    Smoothed by a second-order polynomial in a window of about one factor of 10 in the rate (Savitzky & Golay, 1964).
    Looked for only until the loss has risen again: what it falls from after that is its own divergence.

    Raises:
        InputError: too few points, or a loss that never falls.
    """
    from scipy.signal import savgol_filter

    n = len(losses)
    if n < LEAST_STEPS:
        raise InputError(f"--findlr: expected at least {LEAST_STEPS} steps before the loss diverges, found {n}: the data or the network is damaged, or --findlr_steps too small")  # fmt: skip  # noqa: E501
    decade = math.log(10) / math.log(rates[1] / rates[0])
    window = int(np.clip(decade, 5, n - 1)) // 2 * 2 + 1
    window = min(window, n if n % 2 else n - 1)
    smoothed = savgol_filter(losses, window, 2)
    slope = savgol_filter(losses, window, 2, deriv=1)
    best = int(np.argmin(slope[: _first_rise(losses, smoothed, window)]))
    if slope[best] >= 0:
        raise InputError("--findlr: expected a loss that falls at some rate, found none: try more --findlr_steps")
    return float(rates[best]), smoothed


def _first_rise(losses: np.ndarray, smoothed: np.ndarray, window: int) -> int:
    """How many points there are until the smoothed loss has lost half of what it had fallen (a fall beyond noise)."""
    noise = np.std((losses - smoothed)[:window])
    fallen = smoothed[0] - np.minimum.accumulate(smoothed)
    risen = smoothed - np.minimum.accumulate(smoothed)
    rises = np.flatnonzero((fallen > 3 * noise) & (risen > fallen / 2))
    return int(rises[0]) if len(rises) else len(losses)


def find(system, batches: Batches, folder: pathlib.Path, n_steps: int | None, seed: int) -> dict:
    """Test `system` on `batches`, print the suggestions and write them with curves and plots into `folder`.

    Args:
        system: a `training.System`; its weights are afterwards what they were.
        n_steps: of each test; None means one pass over the data, at least 100. The batches are cycled.
        seed: of the noise of the step.

    Returns:
        What ``lr_finder.json`` holds: gen_lr and, with a discriminator, disc_lr and, where there is one, joint_lr.

    Raises:
        InputError: as `suggest`; the curves are in ``lr_finder.csv`` by then.
    """
    from common import plots

    n_steps = n_steps or max(MIN_STEPS, batches.steps_per_epoch)
    rates = geometric_rates(n_steps)
    tests = {"generator": (1.0, 0.0, "generator_loss")}
    if system.discriminator is not None:
        tests |= {"discriminator": (0.0, 1.0, "discriminator_loss"), "joint": (1.0, 1.0, "generator_loss")}
    curves = _run_tests(system, batches, rates, tests, seed)

    rows = [
        {"test": test, "rate": rate, **{name: values[i] for name, values in curve.losses.items()}}
        for test, curve in curves.items()
        for i, rate in enumerate(curve.rates)
    ]
    write_csv(folder / "lr_finder.csv", rows)  # first of all: a long sweep is not lost if nothing falls in it
    print(f"Curves: {folder / 'lr_finder.csv'}")

    generator, by_loss = curves["generator"], {}
    rate, smoothed = suggest(generator.rates, generator.losses["generator_loss"])
    found = {"gen_lr": rate}
    if system.discriminator is not None:  # without one it is the MAE
        by_loss["generator_loss"] = (generator, smoothed, rate)
        discriminator = curves["discriminator"]
        found["disc_lr"], smoothed = suggest(discriminator.rates, discriminator.losses["discriminator_loss"])
        by_loss["discriminator_loss"] = (discriminator, smoothed, found["disc_lr"])
    with contextlib.suppress(InputError):  # these two are good to know, but nothing hangs on them
        rate, smoothed = suggest(generator.rates, generator.losses["mae"])
        by_loss["generator_mae"] = (generator, smoothed, rate)
    with contextlib.suppress(InputError):
        if "joint" in curves:
            found["joint_lr"], _ = suggest(curves["joint"].rates, curves["joint"].losses["generator_loss"])

    for name, (curve, smoothed, suggestion) in by_loss.items():
        shown = slice(None)
        if len(curve.rates) > 2 * (SKIPPED_FIRST + SKIPPED_LAST):
            shown = slice(SKIPPED_FIRST, -SKIPPED_LAST)
        losses = curve.losses["mae" if name == "generator_mae" else name]
        path = folder / f"lr_finder_{name}.png"
        plots.save_lr_curve(path, curve.rates[shown], losses[shown], smoothed[shown], suggestion, name)
    write_json(folder / "lr_finder.json", {**found, "steps": n_steps, "batch_size": batches.batch_size})
    flags = {"gen_lr": "--gen_lr", "disc_lr": "--disc_lr"} if system.discriminator is not None else {"gen_lr": "--lr"}
    print("Suggested: " + " ".join(f"{flag} {found[key]:.2g}" for key, flag in flags.items()))
    if "joint_lr" in found:
        print(f"(one rate for both, tested jointly: {found['joint_lr']:.2g})")
    print(f"Plots are in {folder}; {' '.join(f'{flag} auto' for flag in flags.values())} takes the suggestion")
    return found


def _run_tests(system, batches, rates: np.ndarray, tests: dict, seed: int) -> dict[str, Curve]:
    """The curve of each test, all from the weights that `system` has now, which it has again afterwards."""
    import tensorflow as tf

    from training import loop

    system.build()
    before = [variable.numpy() for _, variable in system.variables()]
    step = loop.make_step(system, seed)
    curves = {}
    for test, (generator_factor, discriminator_factor, watched) in tests.items():
        status = Status(f"{test} rates {rates[0]:g} to {rates[-1]:g}", len(rates), stream=sys.stdout)
        stream = iterate_batches(stream_batches(batches, 0, len(rates)), batches)

        def update(
            number: int, rate: float, stream=stream, status=status, factors=(generator_factor, discriminator_factor)
        ):
            inputs, target = next(stream)
            both = [tf.constant(factor * rate, tf.float32) for factor in factors]
            values = step(inputs, target, *both, tf.constant(number, tf.int32))
            values = {name: float(value) for name, value in values.items()}
            status.advance(1, {"rate": rate, "loss": values["generator_loss"]})
            return values

        curves[test] = range_test(update, rates, watched)
        status.close()
        for (_, variable), array in zip(system.variables(), before, strict=True):
            variable.assign(array)
    return curves
