"""Train the generator of one pair alone, on L1, without a discriminator.

Writes ``trained/<origin>_2_<target>_generator/``; otherwise as train.py.
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
    run.add_arguments(parser, adversarial=False)
    lr_finder.add_arguments(parser)
    return cli.run(parser, train_generator, argv)


def train_generator(arguments: argparse.Namespace) -> int:
    """Train the generator that the arguments name."""
    prepared = run.prepare(arguments, [arguments.origin], [arguments.target], adversarial=False)
    from training import loop

    if arguments.findlr:
        lr_finder.find(prepared)
    else:
        loop.fit(prepared)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
