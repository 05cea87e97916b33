"""Convert recordings to the instrument of a style recording; without --input, list the generators in --model.

The rest is as in predict.py.
"""

from __future__ import annotations

import common.environment

import argparse
import functools
from collections.abc import Sequence

from common import cli
from common.errors import InputError
from conversion import command, models
from conversion.pix2pix import read_style

SHIPPED = models.MODELS / "keyboard_acoustic_2_any"  # without --model


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    command.add_arguments(parser)
    add = parser.add_argument
    add("--style", help="recording of the target instrument")
    add(
        "--style_slice",
        type=cli.number(int, minimum=0, word="random"),
        help="slice of the style recording to follow: a number from 0, or random (default: the loudest)",
    )
    add("--seed", type=cli.seed, help="seed of --style_slice random")
    return cli.run(parser, predict_multitarget, argv)


def predict_multitarget(arguments: argparse.Namespace) -> int:
    """Convert or list what the arguments name; the exit status."""
    if arguments.input is None:
        return models.list_models(arguments)
    description = models.find_generator(arguments.model or SHIPPED, n_inputs=2)
    if arguments.style is None:
        raise InputError("--style: expected a recording of the target instrument, found nothing")
    settings = command.read_settings(arguments)
    load_style = functools.partial(
        read_style, arguments.style, description.representation, arguments.style_slice, arguments.seed
    )
    return command.convert(arguments, description, settings, load_style)


if __name__ == "__main__":
    raise SystemExit(main())
