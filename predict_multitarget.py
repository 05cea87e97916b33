"""Convert recordings to the instrument of a style recording; without --input, list the generators found in --model.

Otherwise as predict.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

import commands
import conversion
from data import InputError


def main(argv: Sequence[str] | None = None) -> int:
    parser = commands.Parser(__doc__)
    conversion.add_arguments(parser)
    parser.add_argument("--style", help="recording of the target instrument")
    parser.add_argument("--style_slice", type=commands.number(int, minimum=0, word="random"), help="number of the slice of the style recording to follow, or random (default: the loudest)")  # fmt: skip  # noqa: E501
    parser.add_argument("--seed", type=commands.seed, help="of --style_slice random")
    return commands.run(parser, predict_multitarget, argv)


def predict_multitarget(arguments: argparse.Namespace) -> int:
    """Convert what the arguments name, in the style that they name."""
    if arguments.input is None:
        return conversion.list_models(arguments)
    description = conversion.find_generator(arguments.model, n_inputs=2)
    if arguments.style is None:
        raise InputError("--style: expected a recording of the target instrument, found nothing")

    def read_style() -> np.ndarray:
        import transfer

        return transfer.read_style(arguments.style, description.representation, arguments.style_slice, arguments.seed)

    return conversion.convert(arguments, description, read_style)


if __name__ == "__main__":
    raise SystemExit(main())
