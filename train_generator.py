"""Train the generator of one pair alone, on L1, without a discriminator.

Writes ``models/<origin>_2_<target>_generator/``; otherwise as train.py.
"""

from __future__ import annotations

import common.environment

import argparse
from collections.abc import Sequence

import lr_finder
from common import cli
from training import pix2pix


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--target", required=True, help="instrument to convert to")
    pix2pix.add_arguments(parser, adversarial=False)
    lr_finder.add_arguments(parser)
    return cli.run(parser, train_generator, argv)


def train_generator(arguments: argparse.Namespace) -> int:
    """Train the generator that the arguments name."""
    return pix2pix.train(
        arguments,
        [arguments.origin],
        [arguments.target],
        style=False,
        adversarial=False,
        find_rates=lr_finder.find,
    )


if __name__ == "__main__":
    raise SystemExit(main())
