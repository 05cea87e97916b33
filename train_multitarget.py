"""Train one model for several targets: a style slice in the generator's second channel says which one is wanted.

Writes ``models/<origin>_2_any/``; otherwise as train.py.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

import lr_finder
from common import cli
from common.errors import InputError
from training import pix2pix


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--target", required=True, nargs="+", help="instruments: a b, a,b or \"['a','b']\"")
    pix2pix.add_arguments(parser)
    lr_finder.add_arguments(parser)
    return cli.run(parser, train_multitarget, argv)


def train_multitarget(arguments: argparse.Namespace) -> int:
    """Train the model that the arguments name."""
    return pix2pix.train(
        arguments, parse_targets(arguments.target), style=True, adversarial=True, find_rates=lr_finder.find
    )


def parse_targets(words: Sequence[str]) -> list[str]:
    """Instruments from the words after ``--target``: separated by spaces or commas, or written as a Python list.

    Raises:
        InputError: an empty or malformed list, or a name that stands twice.
    """
    text = " ".join(words).strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    names = re.split(r"\s*,\s*|\s+", text.strip()) if text.strip() else []
    names = [name[1:-1] if len(name) > 1 and name[0] == name[-1] and name[0] in "'\"" else name for name in names]
    if not names or not all(re.fullmatch(r"[\w.+-]+", name) for name in names):
        raise InputError(f"--target: expected instruments like a b, a,b or \"['a','b']\", found {' '.join(words)!r}")
    if len(set(names)) < len(names):
        raise InputError(f"--target: expected each instrument once, found {', '.join(names)}")
    return names


if __name__ == "__main__":
    raise SystemExit(main())
