"""Convert recordings with a trained generator; without --input, list the generators in the folder --model.

Any length, sample rate and number of channels; wav, flac, ogg, mp3, aiff, and what ffmpeg reads where it is installed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from common import cli
from conversion import command


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    command.add_arguments(parser)
    command.add_hum_arguments(parser)
    return cli.run(parser, predict, argv)


def predict(arguments: argparse.Namespace) -> int:
    """Convert what the arguments name."""
    if arguments.input is None:
        return command.list_models(arguments)
    return command.convert(arguments, command.find_generator(arguments.model, n_inputs=1))


if __name__ == "__main__":
    raise SystemExit(main())
