"""Train one model for several targets: a style slice in the generator's second channel says which one is wanted.

Several origins are allowed too. Writes ``trained/<origin>_2_any/``, or ``any_2_any/``; otherwise as train.py.
"""

from __future__ import annotations

import common.environment

import argparse
import re
from collections.abc import Sequence

import lr_finder
from common import InputError, cli
from training import run


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    text = "instruments: a b, a,b or \"['a','b']\", or any for all that the data set has"
    parser.add_argument("--target", required=True, nargs="+", help=text)
    text = "train the generator alone, on L1, as train_generator.py does for one pair"
    parser.add_argument("--generator_only", action="store_true", help=text)
    run.add_arguments(parser, several_origins=True)
    lr_finder.add_arguments(parser)
    return cli.run(parser, train_multitarget, argv)


def train_multitarget(arguments: argparse.Namespace) -> int:
    """Train the model that the arguments name."""
    origins = parse_instruments(arguments.origin, "--origin")
    targets = parse_instruments(arguments.target, "--target")
    adversarial = not arguments.generator_only
    prepared = run.prepare(arguments, origins, targets, style=True, adversarial=adversarial)
    from training import loop

    if arguments.findlr:
        lr_finder.find(prepared)
    else:
        loop.fit(prepared)
    return 0


def parse_instruments(words: Sequence[str], flag: str) -> list[str]:
    """Instruments from the words after `flag`: separated by spaces or commas, or written as a Python list.

    Raises:
        InputError: no name, other signs, or a name that is given twice.
    """
    text = " ".join(words)
    names = re.findall(r"[\w.@+-]+", text)
    if not names or re.search(r"[^\w.@+\-\[\]'\",\s]", text):
        raise InputError(f"{flag}: expected instruments like a b, a,b or \"['a','b']\", found {text!r}")
    if len(set(names)) < len(names):
        raise InputError(f"{flag} names an instrument twice: {', '.join(names)}")
    return names


if __name__ == "__main__":
    raise SystemExit(main())
