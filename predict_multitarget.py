"""Convert recordings to the instrument of a style recording; without --input, list the generators found in --model.

Otherwise as predict.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from common import cli
from common.errors import InputError
from conversion import command


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    command.add_arguments(parser)
    parser.add_argument("--style", help="recording of the target instrument")
    parser.add_argument("--style_slice", type=cli.number(int, minimum=0, word="random"), help="number of the slice of the style recording to follow, or random (default: the loudest)")  # fmt: skip  # noqa: E501
    parser.add_argument("--seed", type=cli.seed, help="of --style_slice random")
    return cli.run(parser, predict_multitarget, argv)


def predict_multitarget(arguments: argparse.Namespace) -> int:
    """Convert what the arguments name, in the style that they name."""
    if arguments.input is None:
        return command.list_models(arguments)
    description = command.find_generator(arguments.model, n_inputs=2)
    if arguments.style is None:
        raise InputError("--style: expected a recording of the target instrument, found nothing")

    def read_style() -> np.ndarray:
        from conversion.pix2pix import read_style

        return read_style(arguments.style, description.representation, arguments.style_slice, arguments.seed)

    return command.convert(arguments, description, read_style)


if __name__ == "__main__":
    raise SystemExit(main())
