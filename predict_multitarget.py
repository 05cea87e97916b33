"""Convert recordings to the instrument of a style recording; without recordings, list the models.

The rest is as in predict.py.
"""

from __future__ import annotations

import common.environment

import argparse
import pathlib
from collections.abc import Sequence

from common import InputError, cli
from conversion import models, recordings
from conversion.converter import Converter, load_converter

SHIPPED = models.MODELS / "keyboard_acoustic_2_any"  # without --model


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    recordings.add_arguments(parser)
    add = parser.add_argument
    add("--style", help="recording of the target instrument")
    text = "slice of the style recording to follow: a number from 0, or random (default: the loudest)"
    add("--style_slice", type=cli.number(int, minimum=0, word="random"), help=text)
    return cli.run(parser, predict_multitarget, argv)


def predict_multitarget(arguments: argparse.Namespace) -> int:
    """Convert or list what the arguments name; the exit status."""
    sources = [*arguments.recordings, *arguments.input]
    if not sources:
        return models.list_models(arguments.model)
    model = models.describe_generator(arguments.model or SHIPPED, 2)
    if arguments.style is None:
        raise InputError("--style is required: a recording of the target instrument")
    settings = recordings.read_settings(arguments, model)
    style = models.read_style(arguments.style, model.representation, arguments.style_slice)

    def load() -> Converter:
        converter = load_converter(model, settings, arguments.gpu, style)
        models.say_nearest(style, model, converter.network)
        return converter

    outputs = arguments.output, arguments.plot, arguments.overwrite
    name = f"like_{models.shorten(pathlib.Path(arguments.style).stem)}"  # not the name of an output of predict.py --to
    return recordings.convert_all(sources, name, load, settings, *outputs)


if __name__ == "__main__":
    raise SystemExit(main())
