"""Train one fixed pair of instruments: a U-Net generator against a PatchGAN discriminator.

Reads the features of compute_features.py and writes ``trained/<origin>_2_<target>/``. The same command again goes on
where it stopped.
"""

from __future__ import annotations

import common.environment

import argparse
from collections.abc import Sequence

import lr_finder
from common import cli
from training import run


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--target", required=True, help="instrument to convert to")
    run.add_arguments(parser)
    lr_finder.add_arguments(parser)
    return cli.run(parser, train, argv)


def train(arguments: argparse.Namespace) -> int:
    """Train the pair that the arguments name: pairs of slices, networks and settings first, then step by step."""
    prepared = run.prepare(arguments, [arguments.origin], [arguments.target])
    from training import loop  # imports TensorFlow, which `prepare` has started on the right device

    if arguments.findlr:
        lr_finder.find(prepared)
    else:
        loop.fit(prepared)  # each step: training/step.py
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
