"""Export a generator: as an ONNX file, which runs without this project, or as a weights file of half the size.

docs/export.md describes what goes into the network and what comes out of it.
"""

from __future__ import annotations

import common.environment

import argparse
import importlib.util
import os
import pathlib
from collections.abc import Sequence

from common import cli
from common.errors import InputError
from common.files import replacing
from conversion.converter import INPUT_LEVELS
from conversion.models import describe_generator
from conversion.phase import PHASES

# Greatest differences from Keras. In hum2guitar, instance normalisation amplifies the rounding, which differs from one
# number of threads to another: on whole segments up to 7e-5 were measured.
TOLERANCE, TOLERANCE_HUM2GUITAR, TOLERANCE_FLOAT16 = 1e-5, 1e-4, 5e-3


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--model", required=True, help="weights file (.h5), or a folder with one")
    add("--output", required=True, help=".onnx or .h5 file to write")
    add("--float16", action="store_true", help="store the weights as float16: half the size, slightly different output")
    add("--phase", choices=PHASES, help="phase that predict.py uses with this model unless it is told otherwise")
    add("--input_level", choices=INPUT_LEVELS, help="the same for --input_level; peak if it was trained on such levels")
    add("--check", action="store_true", help="compare the output with that of the Keras network; needs TensorFlow")
    return cli.run(parser, export, argv)


def export(arguments: argparse.Namespace) -> int:
    """Write the file that the arguments ask for; the exit status."""
    output = pathlib.Path(arguments.output)
    if output.suffix.lower() not in (".h5", ".onnx"):
        raise InputError(f"--output: expected a file name that ends in .onnx or .h5, found {output}")
    if arguments.check and importlib.util.find_spec("tensorflow") is None:
        raise InputError("--check: expected TensorFlow, found none: pip install -r requirements.txt")
    from common import weights
    from conversion.network import build_graph

    description = describe_generator(arguments.model)
    if description.path.suffix.lower() == ".onnx":
        raise InputError(f"--model: expected a weights file (.h5), found {description.path}")
    recommended = {"phase": arguments.phase, "input_level": arguments.input_level}
    recommended = {name: value for name, value in recommended.items() if value}
    with replacing(output) as beside:
        if output.suffix.lower() == ".onnx":
            graph = build_graph(description.path, arguments.float16, recommended)
            beside.write_bytes(graph.SerializeToString())
        else:
            weights.copy(description, beside, {"exported": True, **recommended}, arguments.float16)
        if arguments.check:
            difference = compare(beside, description)
            print(f"Greatest difference from Keras: {difference:.1e}")
            tolerance = TOLERANCE if description.network == weights.UNET else TOLERANCE_HUM2GUITAR
            tolerance = TOLERANCE_FLOAT16 if arguments.float16 else tolerance
            if difference > tolerance:
                raise InputError(
                    f"{output}: expected the output of Keras within {tolerance:g}, "
                    f"found a difference of {difference:.1e}"
                )
    print(output)
    return 0


def compare(path: str | os.PathLike, description) -> float:
    """Greatest difference between an .onnx file and the Keras network of the weights that `description` names.

    Both are given two random slices: 256 x 256 for the U-Net, 64 x 32 for hum2guitar.
    """
    import numpy as np

    from common import weights
    from conversion.network import load_network

    size = (256, 256) if description.network == weights.UNET else (64, 32)
    shape = (2, *size, description.in_channels or 1)
    slices = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    cli.start_tensorflow(-1)
    import model
    from hum2guitar import networks

    load = model.load_generator if description.network == weights.UNET else networks.load_hum2guitar
    expected = np.asarray(load(description.path)(slices, training=False))
    return float(np.abs(load_network(path)(slices) - expected).max())


if __name__ == "__main__":
    raise SystemExit(main())
