"""Convert recordings with a trained generator; without --input, list the generators in --model.

Recordings may have any length, sample rate and number of channels, as wav, flac, ogg, mp3 or aiff, or in any other
format that ffmpeg reads, if it is installed.
"""

from __future__ import annotations

import common.environment

import argparse
from collections.abc import Sequence

from common import cli
from common.errors import InputError
from conversion import command, models


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--to",
        metavar="INSTRUMENT",
        nargs="?",
        const="",
        help="instrument of a model that comes with the project, such as guitar, in place of --model; without a name, "
        "the models are listed",
    )
    command.add_arguments(parser)
    command.add_hum_arguments(parser)
    return cli.run(parser, predict, argv)


def predict(arguments: argparse.Namespace) -> int:
    """Convert or list what the arguments name; the exit status."""
    if arguments.to is not None and arguments.model is not None:
        raise InputError("expected --to or --model, found both")
    if arguments.input is None or arguments.to == "":
        return models.list_models(arguments)
    if arguments.to:
        description = models.find_by_name(arguments.to)
    elif arguments.model:
        description = models.find_generator(arguments.model, n_inputs=1)
    else:
        raise InputError("expected --to INSTRUMENT or --model FILE with --input, found neither")
    settings = command.read_settings(arguments, command.read_hum_settings(arguments))
    return command.convert(arguments, description, settings)


if __name__ == "__main__":
    raise SystemExit(main())
