"""Learning rates, Adam's beta_1 and the schedule of a Pix2Pix run: given, found by the finder, or of a preset.

The published rates belong to the published size: 64 filters and hours of audio. In a small network or on little data
they are so low that a run ends worse than copying its input (docs/training.md).
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib

from common import cli
from common.errors import InputError
from common.files import read_json
from training.checkpoints import LR_FINDER

PUBLISHED, SMALL = "published", "small"

# Learning rates of generator and discriminator that the published weights were trained with, by target.
PUBLISHED_RATES = {
    "guitar_acoustic": (5e-5, 5e-6),
    "string_acoustic": (1e-5, 1e-5),
    "synth_lead_synthetic": (1e-4, 1e-5),
    "any": (1e-5, 5e-6),
}
OTHER_RATES = PUBLISHED_RATES["guitar_acoustic"]
PUBLISHED_FILTERS = 64
MIN_SLICES = 5000  # from which on the published rates are the default: 4 hours; the published training had 19

# The preset "small": the rate of pix2pix at its 64 filters, higher in proportion where there are fewer.
SMALL_RATE, MAX_SMALL_RATE = 2e-4, 1e-3
DISCRIMINATOR_SHARE = 0.1  # of the generator's rate


@dataclasses.dataclass(frozen=True)
class Rates:
    """What a run is trained with.

    Attributes:
        gen_lr, disc_lr: learning rates of generator and discriminator.
        beta_1: of Adam.
        lr_schedule: "constant" or "linear", as `optimizers.Schedule`.
        reason: where the learning rates come from, for the run's first lines.
    """

    gen_lr: float
    disc_lr: float
    beta_1: float
    lr_schedule: str
    reason: str


def add_arguments(parser: argparse.ArgumentParser, rate_type, adversarial: bool = True) -> None:
    """Add the arguments that `choose_rates` reads; `rate_type` is the argparse type of a learning rate."""
    text = "a number, auto for the suggestion of --findlr, or nothing for that of the preset"
    add = parser.add_argument
    if adversarial:
        add("--gen_lr", type=rate_type, help=f"learning rate of the generator: {text}")
        add("--disc_lr", type=rate_type, help=f"learning rate of the discriminator: {text}")
    else:
        add("--lr", dest="gen_lr", type=rate_type, help=f"learning rate: {text}")
    add(
        "--preset",
        choices=[PUBLISHED, SMALL],
        help="rates, --beta_1 and --lr_schedule where they are not given: as published, or for small networks and "
        "little data (default: small below 64 filters or 5000 slices, unless a number is given as a rate)",
    )


def choose_rates(
    arguments: argparse.Namespace, target: str, folder: pathlib.Path, n_slices: int, adversarial: bool = True
) -> Rates:
    """The rates that the arguments ask for, and those of the preset in place of what they leave open.

    Args:
        arguments: of `add_arguments`, with ``base_filters``, ``beta_1`` and ``lr_schedule`` (None if not given).
        target: the published rates depend on it.
        folder: the model's, with the suggestion of the finder.
        n_slices: to train on.
        adversarial: whether there is a discriminator.

    Raises:
        InputError: auto, and no suggestion in the model's folder.
    """
    flags = ("gen_lr", "disc_lr") if adversarial else ("gen_lr",)
    given = {flag: getattr(arguments, flag) for flag in flags if getattr(arguments, flag) is not None}
    preset, reason = _choose_preset(arguments, n_slices, any(rate != "auto" for rate in given.values()))
    if preset == PUBLISHED:
        rates, beta_1, schedule = PUBLISHED_RATES.get(target, OTHER_RATES), 0.9, "constant"
    else:
        rates, beta_1, schedule = small_rates(arguments.base_filters), 0.5, "linear"
    chosen = dict(zip(("gen_lr", "disc_lr"), rates, strict=True))
    for flag, rate in given.items():
        chosen[flag] = _suggested(folder, flag, adversarial) if rate == "auto" else rate
    if len(given) == len(flags):
        reason = "suggested by --findlr" if all(rate == "auto" for rate in given.values()) else "as given"
    return Rates(
        **chosen,
        beta_1=beta_1 if arguments.beta_1 is None else arguments.beta_1,
        lr_schedule=arguments.lr_schedule or schedule,
        reason=reason,
    )


def small_rates(base_filters: int) -> tuple[float, float]:
    """Learning rates of generator and discriminator for a network of that size on little data."""
    rate = min(SMALL_RATE * PUBLISHED_FILTERS / base_filters, MAX_SMALL_RATE)
    return rate, DISCRIMINATOR_SHARE * rate


def _choose_preset(arguments: argparse.Namespace, n_slices: int, has_number: bool) -> tuple[str, str]:
    """The preset, and why it is that one."""
    if arguments.preset:
        return arguments.preset, f"of --preset {arguments.preset}"
    if has_number:
        return PUBLISHED, "the published one where none is given"
    found = f"{arguments.base_filters} filters and {cli.count(n_slices, 'slice')}"
    if arguments.base_filters >= PUBLISHED_FILTERS and n_slices >= MIN_SLICES:
        return PUBLISHED, f"the published ones, for {found}"
    return SMALL, (
        f"chosen for {found}, because the published ones (--preset published) belong to {PUBLISHED_FILTERS} filters "
        f"and at least {MIN_SLICES} slices"
    )


def _suggested(folder: pathlib.Path, flag: str, adversarial: bool) -> float:
    """The rate that ``--findlr`` wrote into `folder`."""
    path = folder / f"{LR_FINDER}.json"
    suggestion = read_json(path).get(flag) if path.exists() else None
    shown = flag if adversarial else "lr"
    if suggestion is None:
        raise InputError(f"--{shown}: expected the suggestion of --findlr in {path}, found none")
    if not isinstance(suggestion, float) or not 0 < suggestion <= 1:
        raise InputError(
            f"--{shown}: expected the suggestion of --findlr in {path}, above 0 and up to 1, "
            f"found {repr(suggestion)[:100]}"
        )
    return suggestion
