"""The generator of a weights file as an ONNX graph, run by ONNX Runtime; no TensorFlow.

Three networks can be in a file: the U-Net of pix2pix with 1 or 2 input channels, the global generator and the local
enhancer of hum2guitar, each with any number of base filters. `load_network` gives a network to convert with: a callable
from float32 ``(batch, bins, frames, channels)`` to ``(batch, bins, frames, 1)``, both in [-1, 1]. `build_graph` gives
the model that export.py writes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from common import InputError, weights
from common.files import silence_stderr, temporary_folder
from common.jobs import count_cores

if TYPE_CHECKING:
    import onnx

# Before ONNX Runtime is imported: from version 1.32 on, it otherwise writes a device id below the home folder and
# reports to a host.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

Network = Callable[[np.ndarray], np.ndarray]

BATCH_SIZE = 2  # slices to convert at once: more is no faster on two cores, and takes 10 MB each at 16 base filters
OPSET, IR_VERSION = 17, 8  # read by ONNX Runtime 1.13 and later
INPUT, OUTPUT, DESCRIPTION = "input", "output", "description"
MAX_SLICE = 2**20  # bins times frames
MAX_INSIDE = 2**22  # bytes of an array that is part of the model while it is loaded

LEAKY_SLOPE = 0.3
BATCH_NORM_EPSILON = 1e-3
INSTANCE_NORM_EPSILON = 1e-5

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def load_network(description: weights.Description, gpu: int | None = -1) -> Network:
    """The generator of a weights file, ready to run on a CUDA device or on all cores of the CPU.

    Bins and frames: multiples of 256 (U-Net), at least 8 (global generator), even from 16 and from 8 (enhancer).

    Says on stderr that it works on the CPU where a device was asked for and cannot be used.

    Args:
        description: of a generator.
        gpu: number of the CUDA device, -1 for the CPU, None for device 0 if there is one.

    Raises:
        InputError: as `build_graph`, or the file describes slices that the network cannot work on.
    """
    import onnxruntime

    graph, path = _Graph(description), description.path
    if description.network == weights.UNET:
        bins, frames = description.representation.n_bins, description.representation.n_frames
        if bins % 256 or frames % 256 or bins * frames > MAX_SLICE:
            raise InputError(f"{path}: describes slices of {bins} x {frames}, on which the network cannot work")
    on_gpu = gpu != -1 and CUDA in onnxruntime.get_available_providers()
    providers = [(CUDA, {"device_id": gpu or 0, "use_tf32": 0}), CPU] if on_gpu else [CPU]
    options = onnxruntime.SessionOptions()
    # hum2guitar's windows come one by one: two of them on half of the cores each are faster than one after the other.
    options.intra_op_num_threads = max(1, count_cores() // (1 if description.system == "pix2pix" else 2))
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # which keeps a second block of memory for the maps of each shape
    options.log_severity_level = 3  # errors only
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait leave others the core
    with temporary_folder() as folder, silence_stderr():  # why a CUDA device cannot be used takes many lines
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        session = onnxruntime.InferenceSession(graph.serialize(str(folder)), options, providers=providers)
    if gpu not in (None, -1) and session.get_providers()[0] != CUDA:
        reason = f"ONNX Runtime cannot use CUDA device {gpu}" if on_gpu else "onnxruntime-gpu is not installed"
        print(f"{path}: --gpu {gpu}: {reason}, works on the CPU", file=sys.stderr)
    return lambda x: session.run([OUTPUT], {INPUT: np.asarray(x, np.float32)})[0]


def build_graph(found: weights.Description, float16: bool = False, settings: dict | None = None) -> onnx.ModelProto:
    """The generator of a weights file as an ONNX model.

    Batch normalisation is folded into the convolutions. Input ``(batch, bins, frames, channels)`` and output ``(batch,
    bins, frames, 1)`` are float32 in [-1, 1]; batch, bins and frames are dynamic. The metadata entry ``description`` is
    a JSON object: what the weights file says of itself, completed by ``system``, ``network``, ``representation``,
    ``in_channels``, ``base_filters``, ``input`` and ``output``.

    Args:
        found: description of a generator.
        float16: store the kernels as float16 (of hum2guitar, the largest ones); the network still computes in float32.
        settings: added to the description.

    Raises:
        InputError: as `weights.read`, if the file holds no generator, or if its weights are not finite numbers.
    """
    import onnx

    model = _Graph(found, float16).make_model()
    axes = {"axes": ["batch", "bins", "frames", "channels"], "dtype": "float32", "range": [-1, 1]}
    described = {
        **found.settings, "system": found.system, "network": found.network, "in_channels": found.in_channels,
        "base_filters": found.base_filters, **(settings or {}),
        "input": {"name": INPUT, **axes, "shape": [None, None, None, found.in_channels]},
        "output": {"name": OUTPUT, **axes, "shape": [None, None, None, 1]},
    }  # fmt: skip
    if found.network == weights.UNET:
        described["representation"] = found.representation.to_dict()
    onnx.helper.set_model_props(model, {DESCRIPTION: json.dumps(described)})
    return model


class _Graph:
    """Nodes and weights of a network, added one after the other; maps are ``(batch, channels, bins, frames)``.

    Arguments and errors are those of `build_graph`.
    """

    def __init__(self, description: weights.Description, float16: bool = False) -> None:
        if description.network not in _BUILDERS:
            raise InputError(f"{description.path}: holds the weights of a {description.network}, not of a generator")
        self.layers = {name: list(arrays.values()) for name, arrays in weights.read(description.path).items() if arrays}
        self.description, self._float16 = description, float16
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: dict[str, np.ndarray] = {}
        self._channels = {INPUT: description.in_channels}
        x = self.add("Transpose", INPUT, perm=[0, 3, 1, 2])
        x = self.add("Tanh", _BUILDERS[description.network](self, x))
        self.add("Transpose", x, output=OUTPUT, perm=[0, 2, 3, 1])
        if self.layers or self._channels[x] != 1:
            raise self.refuse("has other layers")

    def refuse(self, text: str) -> InputError:
        """The error that the weights are not those of the network."""
        return InputError(f"{self.description.path}: {text} than a {self.description.network} of this project")

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes) -> str:
        """Add a node; the name of its output."""
        import onnx

        output = output or f"{operator}_{len(self._nodes)}"
        self._nodes.append(onnx.helper.make_node(operator, inputs, [output], **attributes))
        channels = [self._channels[name] for name in inputs if name in self._channels]
        if operator == "Add" and len(set(channels)) > 1:
            raise self.refuse("has other numbers of filters")
        self._channels[output] = sum(channels) if operator == "Concat" else channels[0]
        return output

    def convolve(self, operator: str, x: str, name: str, size: int, **attributes) -> str:
        """Add the layer `name`: "Conv" or "ConvTranspose" with kernels of `size` x `size`, and batch normalisation."""
        kernel, *others = self.layers.pop(name, [np.zeros(0)])
        # Keras keeps the kernel of a transposed convolution as (height, width, out, in).
        is_transposed = operator == "ConvTranspose" or name.startswith("global_up")
        if kernel.ndim != 4 or kernel.shape[:2] != (size, size):
            raise self.refuse(f"has another kernel {name} {kernel.shape}")
        n_in, n_out = kernel.shape[2:][:: -1 if is_transposed else 1]
        if n_in != self._channels[x] or len(others) not in (0, 1, 4) or {a.shape for a in others} - {(n_out,)}:
            raise self.refuse(f"has other shapes in the layer {name}")
        bias = others[0] if len(others) == 1 else np.zeros(n_out, np.float32)
        if len(others) == 4:
            # In inference batch normalisation is gamma * (x - mean) / sqrt(variance + 1e-3) + beta.
            gamma, beta, mean, variance = others
            scale = gamma / np.sqrt(variance + np.float32(BATCH_NORM_EPSILON))
            kernel *= scale[:, np.newaxis] if is_transposed else scale
            bias = beta - mean * scale
        if is_transposed and operator == "Conv":
            # A transposed convolution with stride 1 is a padded convolution with the mirrored kernel, which is a faster
            # operator.
            kernel = kernel[::-1, ::-1].swapaxes(2, 3)
        # Of hum2guitar only the largest kernels are rounded: rounding all would change the output by more than 5e-3.
        is_half = self._float16 and (self.description.network == weights.UNET or name.startswith("global_residual"))
        with np.errstate(over="ignore"):
            kernel = kernel.transpose(3, 2, 0, 1).astype(np.float16 if is_half else np.float32, order="C")
        if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
            limit = ", or that are beyond the range of float16" if is_half else ""
            raise InputError(f"{self.description.path}: layer {name} has weights that are not finite{limit}")
        stored, stored_bias = f"{name}/kernel", f"{name}/bias"
        self._arrays |= {stored: kernel, stored_bias: bias}
        if is_half:
            self._channels[stored] = n_in
            stored = self.add("Cast", stored, to=1)  # to float32
        x = self.add(operator, x, stored, stored_bias, kernel_shape=[size, size], **attributes)
        self._channels[x] = n_out
        return x

    def normalise(self, x: str) -> str:
        """Instance normalisation: each channel of each example to mean 0 and variance 1 over bins and frames."""
        n = self._channels[x]
        self._arrays |= {f"ones_{n}": np.ones(n, np.float32), f"zeros_{n}": np.zeros(n, np.float32)}
        return self.add("InstanceNormalization", x, f"ones_{n}", f"zeros_{n}", epsilon=INSTANCE_NORM_EPSILON)

    def reflect(self, x: str, size: int) -> str:
        """x with `size` bins and frames mirrored at each edge."""
        self._arrays[f"pads_{size}"] = np.array([0, 0, size, size] * 2, np.int64)
        return self.add("Pad", x, f"pads_{size}", mode="reflect")

    def serialize(self, folder: str) -> bytes:
        """The model, without its large weights: they are moved to a file in `folder`, which ONNX Runtime maps.

        Given in memory, they would be there twice while a session starts.
        """
        import onnx

        model = self.make_model()
        onnx.external_data_helper.convert_model_to_external_data(model, size_threshold=MAX_INSIDE)
        onnx.external_data_helper.write_external_data_tensors(model, folder)
        return model.SerializeToString()

    def make_model(self) -> onnx.ModelProto:
        """The model with its weights, without a description. The graph loses its weights, so that memory holds one."""
        import onnx

        ends = [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", "bins", "frames", channels])
            for name, channels in ((INPUT, self.description.in_channels), (OUTPUT, 1))
        ]
        made = onnx.helper.make_graph(self._nodes, self.description.network, ends[:1], ends[1:])
        opset = onnx.helper.make_opsetid("", OPSET)
        model = onnx.helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION)
        for name in list(self._arrays):
            model.graph.initializer.append(onnx.numpy_helper.from_array(self._arrays.pop(name), name))
        return model


def _unet(graph: _Graph, x: str) -> str:
    """Eight convolutions that halve bins and frames, eight transposed ones that double them, in the file's order."""
    halving = {"strides": [2, 2], "pads": [1, 1, 1, 1]}  # Keras' padding "same" of a 4x4 kernel
    names = iter([*graph.layers, *[""] * 16])
    skips = []
    for _ in range(8):
        x = graph.add("LeakyRelu", graph.convolve("Conv", x, next(names), 4, **halving), alpha=LEAKY_SLOPE)
        skips.append(x)
    for skip in skips[-2::-1]:
        x = graph.add("Relu", graph.convolve("ConvTranspose", x, next(names), 4, **halving))
        x = graph.add("Concat", x, skip, axis=1)
    return graph.convolve("ConvTranspose", x, next(names), 4, **halving)


def _global_generator(graph: _Graph, x: str) -> str:
    return graph.convolve("Conv", _global_features(graph, x), "global_last", 3, pads=[1, 1, 1, 1])


def _local_enhancer(graph: _Graph, x: str) -> str:
    halved = graph.add("AveragePool", x, kernel_shape=[3, 1], strides=[2, 1], pads=[1, 0, 1, 0], count_include_pad=0)
    of_global = _global_features(graph, halved)
    x = _normed(graph, graph.convolve("Conv", graph.reflect(x, 2), "local_down", 5, strides=[2, 1]))
    x = _normed(graph, graph.convolve("Conv", x, "local_1", 3, pads=[1, 1, 1, 1]))
    x = graph.add("Add", x, of_global)
    for index in range(3):
        x = _residual(graph, x, f"local_residual_{index}")
    x = _normed(graph, graph.convolve("ConvTranspose", x, "local_up", 3, strides=[2, 1], output_padding=[1, 0]))
    return graph.convolve("Conv", graph.reflect(x, 1), "local_last", 5)


def _global_features(graph: _Graph, x: str) -> str:
    """The global generator without its last convolution: as many bins and frames, `base_filters` channels."""
    x = _normed(graph, graph.convolve("Conv", x, "global_0", 3, pads=[1, 1, 1, 1]))
    for index in (1, 2, 3):
        x = _normed(graph, graph.convolve("Conv", x, f"global_{index}", 3))
    for index in range(3):
        x = _residual(graph, x, f"global_residual_{index}")
    for index in (2, 1, 0):
        x = _normed(graph, graph.convolve("Conv", x, f"global_up_{index}", 3, pads=[2, 2, 2, 2]))
    return x


def _residual(graph: _Graph, x: str, name: str) -> str:
    """x plus two 3x3 convolutions of it, mirrored at the edges; ReLU between them."""
    y = _normed(graph, graph.convolve("Conv", graph.reflect(x, 1), f"{name}_1", 3))
    y = graph.convolve("Conv", graph.reflect(y, 1), f"{name}_2", 3)
    return graph.add("Add", x, graph.normalise(y))


def _normed(graph: _Graph, x: str) -> str:
    return graph.add("Relu", graph.normalise(x))


_BUILDERS = {
    weights.UNET: _unet,
    weights.GLOBAL_GENERATOR: _global_generator,
    weights.LOCAL_ENHANCER: _local_enhancer,
}
