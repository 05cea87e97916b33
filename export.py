"""Export a generator: as an ONNX file, which runs without this project, or as a weights file of half the size.

docs/export.md describes what goes into the network and what comes out of it.
"""

from __future__ import annotations

import common.environment

import argparse
import importlib.util
import pathlib
from collections.abc import Sequence

from common import cli, devices
from common.errors import InputError
from common.files import replacing
from conversion.converter import INPUT_LEVELS
from conversion.models import describe_generator

# Greatest differences from Keras. In hum2guitar, instance normalisation amplifies the rounding, which differs from one
# number of threads to another: on whole segments up to 7e-5 were measured.
TOLERANCES, TOLERANCE_FLOAT16 = {"unet": 1e-5, "global_generator": 1e-4, "local_enhancer": 1e-4}, 5e-3


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--model", required=True, help="weights file (.h5), or a folder with one")
    add("--output", required=True, help=".onnx or .h5 file to write")
    add("--float16", action="store_true", help="store the weights as float16: half the size, slightly different output")
    add(
        "--input_level",
        choices=INPUT_LEVELS,
        help="that of predict.py with this model unless it is told otherwise; peak if it was trained on such levels",
    )
    add("--check", action="store_true", help="compare the output with that of the Keras network; needs TensorFlow")
    return cli.run(parser, export, argv)


def export(arguments: argparse.Namespace) -> int:
    """Write the file that the arguments ask for; the exit status."""
    output = pathlib.Path(arguments.output)
    if output.suffix.lower() not in (".onnx", ".h5"):
        raise InputError(f"--output: the name has to end in .onnx or .h5, not {output.name}")
    if arguments.check and importlib.util.find_spec("tensorflow") is None:
        raise InputError("--check needs TensorFlow: pip install -r requirements.txt")
    from common import weights
    from conversion.network import build_graph

    description = describe_generator(arguments.model)
    recommended = {"input_level": arguments.input_level} if arguments.input_level else {}
    with replacing(output) as beside:
        if output.suffix.lower() == ".onnx":
            beside.write_bytes(build_graph(description.path, arguments.float16, recommended).SerializeToString())
        else:
            weights.copy(description, beside, {"exported": True, **recommended}, arguments.float16)
        if arguments.check:
            difference = compare(beside, description)
            print(f"Greatest difference from Keras: {difference:.1e}")
            tolerance = TOLERANCE_FLOAT16 if arguments.float16 else TOLERANCES[description.network]
            if difference > tolerance:
                raise InputError(f"{output}: differs from Keras by {difference:.1e}, more than {tolerance:g}")
    print(output)
    return 0


def compare(path: pathlib.Path, description) -> float:
    """Greatest difference between an exported file and the Keras network of its source, on two random slices."""
    import numpy as np
    import onnxruntime

    from common import weights
    from conversion.network import load_network

    is_unet = description.network == weights.UNET
    shape = (2, *((256, 256) if is_unet else (64, 32)), description.in_channels)
    slices = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    devices.start_tensorflow(-1)
    import model
    from hum2guitar import networks

    network = (model.load_generator if is_unet else networks.load_hum2guitar)(description.path)
    if path.suffix.lower() == ".h5":
        output = load_network(path)(slices)
    else:
        output = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"input": slices})[0]
    return float(np.abs(output - network(slices, training=False).numpy()).max())


if __name__ == "__main__":
    raise SystemExit(main())
