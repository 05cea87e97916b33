"""Train one fixed pair of instruments: a U-Net generator against a PatchGAN discriminator.

Reads the features of compute_features.py and writes ``models/<origin>_2_<target>/``. The same command again goes on
where it stopped.
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
    pix2pix.add_arguments(parser)
    lr_finder.add_arguments(parser)
    return cli.run(parser, train, argv)


def train(arguments: argparse.Namespace) -> int:
    """Train the pair that the arguments name."""
    return pix2pix.train(
        arguments,
        [arguments.origin],
        [arguments.target],
        style=False,
        adversarial=True,
        find_rates=lr_finder.find,
    )


if __name__ == "__main__":
    raise SystemExit(main())
