"""Convert recordings with a trained generator; without --input, list the generators in the folder --model.

Recordings may have any length, sample rate and number of channels, as wav, flac, ogg, mp3 or aiff, or in any other
format that ffmpeg reads, if it is installed.
"""

from __future__ import annotations

import common.environment

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
    """Convert or list what the arguments name; the exit status."""
    if arguments.input is None:
        return command.list_models(arguments)
    settings = command.read_settings(arguments, command.read_hum_settings(arguments))
    return command.convert(arguments, command.find_generator(arguments.model, n_inputs=1), settings)


if __name__ == "__main__":
    raise SystemExit(main())
