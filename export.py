"""Export a generator: as an ONNX file, which runs without this project, or as a weights file of half the size.

docs/export.md describes what goes into the network and what comes out of it.
"""

from __future__ import annotations

import common.environment

import argparse
import pathlib
from collections.abc import Sequence

from common import InputError, cli, weights
from common.files import replacing
from conversion.converter import INPUT_LEVELS
from conversion.models import describe_generator
from conversion.network import build_graph


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--model", required=True, help="weights file (.h5), or a folder with one")
    add("--output", required=True, help=".onnx or .h5 file to write")
    add("--float16", action="store_true", help="store the weights as float16: half the size, slightly different output")
    text = "the default of predict.py's --input_level with this model; peak if it was trained at full scale"
    add("--input_level", choices=INPUT_LEVELS, help=text)
    return cli.run(parser, export, argv)


def export(arguments: argparse.Namespace) -> int:
    """Write the file that the arguments ask for; the exit status."""
    output = pathlib.Path(arguments.output)
    if output.suffix.lower() not in (".onnx", ".h5"):
        raise InputError(f"--output: the name has to end in .onnx or .h5, not {output.name}")
    description = describe_generator(arguments.model)
    recommended = {"input_level": arguments.input_level} if arguments.input_level else {}
    if output.suffix.lower() == ".onnx":
        with replacing(output) as beside:
            beside.write_bytes(build_graph(description, arguments.float16, recommended).SerializeToString())
    else:
        settings = {**description.settings, "exported": True, **recommended}
        weights.write(output, weights.read(description.path), settings, arguments.float16)
    print(output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
