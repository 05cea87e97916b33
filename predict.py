"""Convert recordings with a trained generator; without --input, list the generators in the folder --model.

Any length, sample rate and number of channels; wav, flac, ogg, mp3, aiff, and what ffmpeg reads where it is installed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import commands
import conversion


def main(argv: Sequence[str] | None = None) -> int:
    parser = commands.Parser(__doc__)
    conversion.add_arguments(parser)
    conversion.add_hum_arguments(parser)
    return commands.run(parser, predict, argv)


def predict(arguments: argparse.Namespace) -> int:
    """Convert what the arguments name."""
    if arguments.input is None:
        return conversion.list_models(arguments)
    return conversion.convert(arguments, conversion.find_generator(arguments.model, n_inputs=1))


if __name__ == "__main__":
    raise SystemExit(main())
