"""Convert recordings with a trained generator: predict.py --to guitar piano.wav; without recordings, list the models.

Recordings may have any length, sample rate and number of channels, as wav, flac, ogg, mp3, m4a and more.
"""

from __future__ import annotations

import common.environment

import argparse
import os
from collections.abc import Sequence

from common import InputError, cli
from conversion import models, recordings
from conversion.converter import Converter, load_converter


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    text = "instrument of a shipped model, such as guitar, in place of --model; without a name, the models are listed"
    parser.add_argument("--to", metavar="INSTRUMENT", nargs="?", const="", help=text)
    recordings.add_arguments(parser)
    recordings.add_hum_arguments(parser)
    return cli.run(parser, predict, argv)


def predict(arguments: argparse.Namespace) -> int:
    """Convert or list what the arguments name; the exit status."""
    sources, name = [*arguments.recordings, *arguments.input], arguments.to
    if name is not None and arguments.model is not None:
        raise InputError("--to cannot be combined with --model")
    if not sources and arguments.output:
        raise InputError("--output needs --input")
    if not sources or name == "":
        return models.list_models(arguments.model)
    if not name and not arguments.model:
        raise InputError("--to INSTRUMENT or --model FILE is required")
    model = models.find_by_name(name) if name else models.Model(models.describe_generator(arguments.model, 1))
    settings = recordings.read_settings(arguments, model.description)

    def load() -> Converter:
        converter = load_converter(model.description, settings, arguments.gpu, model.load_style())
        if name or os.path.isdir(arguments.model):
            print(f"Model: {models.introduce(model.description)}")
        return converter

    outputs = arguments.output, arguments.plot, arguments.overwrite
    return recordings.convert_all(sources, model.instrument, load, settings, *outputs)


if __name__ == "__main__":
    raise SystemExit(main())
