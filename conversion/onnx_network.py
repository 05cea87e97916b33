"""The generator of a weights file as an ONNX graph, run by ONNX Runtime; no TensorFlow.

`build_graph` gives a model that stands for itself, `load` a network: a callable from float32 ``(batch, bins, frames,
channels)`` to ``(batch, bins, frames, 1)``, both in [-1, 1]. Three networks can be in a file: the U-Net of pix2pix with
1 or 2 input channels, the global generator and the local enhancer of hum2guitar, each with any number of base filters.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from common import weights
from common.errors import InputError

if TYPE_CHECKING:
    import onnx
    import onnxruntime

Network = Callable[[np.ndarray], np.ndarray]

BATCH_SIZE = 4  # slices to convert at once: more is no faster, and takes 40 MB each at 64 base filters
OPSET, IR_VERSION = 17, 8  # read by ONNX Runtime 1.13 and later
INPUT, OUTPUT = "input", "output"
WEIGHTS_FILE = "weights.bin"

LEAKY_SLOPE = 0.3
BATCH_NORM_EPSILON = 1e-3
INSTANCE_NORM_EPSILON = 1e-5

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class OnnxNetwork:
    """A network that ONNX Runtime runs. Several threads may call it at once.

    Attributes:
        description: of the weights file.
        provider: where it runs: "CPUExecutionProvider" or "CUDAExecutionProvider".
    """

    def __init__(self, session: onnxruntime.InferenceSession, description: weights.Description) -> None:
        self.description = description
        self.provider = session.get_providers()[0]
        self._session = session

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Output ``(batch, bins, frames, 1)`` of ``(batch, bins, frames, channels)``, both float32 in [-1, 1].

        Raises:
            ValueError: bins and frames are not multiples of 256 (U-Net), or fewer than 8 (global generator), or bins
                are odd or fewer than 16, or frames fewer than 8 (local enhancer).
        """
        bins, frames = x.shape[1:3]
        if self.description.network == weights.UNET:
            if bins % 256 or frames % 256:
                raise ValueError(f"expected bins and frames in multiples of 256, found {bins} x {frames}")
        elif self.description.network == weights.GLOBAL_GENERATOR:
            if min(bins, frames) < 8:
                raise ValueError(f"expected at least 8 bins and 8 frames, found {bins} x {frames}")
        elif bins % 2 or bins < 16 or frames < 8:
            raise ValueError(f"expected an even number of bins from 16 and frames from 8, found {bins} x {frames}")
        return self._session.run([OUTPUT], {INPUT: np.asarray(x, np.float32)})[0]


def load(path: str | os.PathLike, gpu: int | None = -1) -> OnnxNetwork:
    """The generator of a weights file, ready to run on a CUDA device or on all cores of the CPU.

    Says on stderr that it works on the CPU where a device was asked for and cannot be used.

    Args:
        path: weights of a generator, published or ours.
        gpu: number of the CUDA device, -1 for the CPU, None for device 0 if there is one.

    Raises:
        InputError: as `build_graph`.
    """
    import joblib
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = joblib.cpu_count()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    on_gpu = gpu != -1 and CUDA in onnxruntime.get_available_providers()
    providers = [(CUDA, {"device_id": gpu or 0, "use_tf32": 0}), CPU] if on_gpu else [CPU]
    # ONNX Runtime maps the weights from a file and lets go of each when it has rearranged it. Weights in memory would
    # be there two or three times while the session starts: 218 MB each with 64 base filters.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        model_path = pathlib.Path(folder, "model.onnx")
        with model_path.with_name(WEIGHTS_FILE).open("wb") as file:
            description, model = _build(path, file)
        model_path.write_bytes(model.SerializeToString())
        session = onnxruntime.InferenceSession(model_path, options, providers=providers)
    network = OnnxNetwork(session, description)
    if gpu not in (None, -1) and network.provider != CUDA:
        reason = f"ONNX Runtime cannot use CUDA device {gpu}" if on_gpu else "onnxruntime-gpu is not installed"
        print(f"{path}: --gpu {gpu}: {reason}, works on the CPU", file=sys.stderr)
    return network


def build_graph(path: str | os.PathLike) -> onnx.ModelProto:
    """The generator of a weights file as an ONNX model with float32 weights.

    Batch normalisation is folded into the convolutions. Input ``(batch, bins, frames, channels)`` and output ``(batch,
    bins, frames, 1)`` are float32 in [-1, 1]; batch, bins and frames are dynamic. The metadata entry ``description`` is
    a JSON object: ``network``, ``in_channels``, ``base_filters``, and what the weights file says of itself.

    Raises:
        InputError: as `weights.describe`, if the file holds no generator, if its arrays are not those of the network,
            or if its weights are not finite numbers.
    """
    return _build(path)[1]


# --- graphs -----------------------------------------------------------------------------------------------------------


class _Graph:
    """Nodes and weights, added one after the other; maps are ``(batch, channels, bins, frames)``.

    Args:
        file: takes the bytes of large weights, so that they are not part of the model.
    """

    def __init__(self, file: BinaryIO | None = None) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._file = file

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes) -> str:
        """Add a node; the name of its output."""
        import onnx

        output = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add an array under a name, which is given back."""
        import onnx

        tensor = onnx.TensorProto(name=name, data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype))
        tensor.dims.extend(array.shape)
        content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        if self._file is None or len(content) < 1024:
            tensor.raw_data = content
        else:
            self._file.write(bytes(-self._file.tell() % 2**16))  # a multiple of the page size can be mapped
            place = {"location": WEIGHTS_FILE, "offset": self._file.tell(), "length": len(content)}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            tensor.data_location = onnx.TensorProto.EXTERNAL
            self._file.write(content)
        self.initializers[name] = tensor
        return name

    def convolve(self, operator: str, x: str, name: str, kernel: np.ndarray, bias: np.ndarray, **attributes) -> str:
        """A "Conv" with Keras' kernel ``(height, width, in, out)``, or a "ConvTranspose" with ``(..., out, in)``."""
        parts = self.constant(f"{name}/kernel", kernel.transpose(3, 2, 0, 1)), self.constant(f"{name}/bias", bias)
        return self.add(operator, x, *parts, kernel_shape=kernel.shape[:2], **attributes)


def _build(path: str | os.PathLike, file: BinaryIO | None = None) -> tuple[weights.Description, onnx.ModelProto]:
    """What a weights file says of itself, and its model; with a `file`, which takes the large weights.

    Raises:
        InputError: as `build_graph`.
    """
    import onnx

    description = weights.describe(path)
    builders = {weights.UNET: _unet, weights.GLOBAL_GENERATOR: _global_generator, weights.LOCAL_ENHANCER: _enhancer}
    if description.network not in builders:
        raise InputError(f"{path}: expected the weights of a generator, found those of a {description.network}")
    groups = weights.read(path)
    for name, arrays in groups:
        if not all(np.isfinite(array).all() for array in arrays):
            raise InputError(f"{path}: expected finite weights, found NaN or infinite ones in layer {name}")
    if description.network != weights.UNET:
        _check_hum2guitar(description, groups)
    graph = _Graph(file)
    x = graph.add("Transpose", INPUT, perm=[0, 3, 1, 2])
    x = graph.add("Tanh", builders[description.network](graph, x, groups))
    graph.add("Transpose", x, output=OUTPUT, perm=[0, 2, 3, 1])

    in_channels = description.in_channels or 1
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", "bins", "frames", channels])
        for name, channels in ((INPUT, in_channels), (OUTPUT, 1))
    ]
    made = onnx.helper.make_graph(graph.nodes, description.network, ends[:1], ends[1:], graph.initializers.values())
    opset = onnx.helper.make_opsetid("", OPSET)
    model = onnx.helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION)
    shapes = {"in_channels": in_channels, "base_filters": description.base_filters}
    settings = {**description.settings, "network": description.network, **shapes}
    onnx.helper.set_model_props(model, {"description": json.dumps(settings)})
    return description, model


# --- U-Net ------------------------------------------------------------------------------------------------------------


def _unet(graph: _Graph, x: str, groups: weights.Groups) -> str:
    """Eight convolutions that halve bins and frames, eight transposed ones that double them; empties `groups`."""
    halving = {"strides": [2, 2], "pads": [1, 1, 1, 1]}  # Keras' padding "same" of a 4x4 kernel
    skips = []
    for index in range(8):
        x = graph.convolve("Conv", x, f"down_{index}", *_folded(groups.pop(0)[1], 3), **halving)
        x = graph.add("LeakyRelu", x, alpha=LEAKY_SLOPE)
        skips.append(x)
    for index in range(7):
        x = graph.convolve("ConvTranspose", x, f"up_{index}", *_folded(groups.pop(0)[1], 2), **halving)
        x = graph.add("Concat", graph.add("Relu", x), skips[6 - index], axis=1)
    return graph.convolve("ConvTranspose", x, "up_7", *groups.pop(0)[1], **halving)


def _folded(arrays: list[np.ndarray], channel_axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a convolution and its batch normalisation, if it has one.

    In inference batch normalisation is ``gamma * (x - mean) / sqrt(variance + 1e-3) + beta``. The kernel is scaled in
    place.
    """
    kernel, *norm = arrays
    if not norm:
        return kernel, np.zeros(kernel.shape[channel_axis], np.float32)
    gamma, beta, mean, variance = norm
    scale = gamma / np.sqrt(variance + np.float32(BATCH_NORM_EPSILON))
    kernel *= scale if channel_axis == 3 else scale[:, np.newaxis]
    return kernel, beta - mean * scale


# --- hum2guitar -------------------------------------------------------------------------------------------------------


def hum2guitar_layout(network: str, base_filters: int) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Kernel and bias shape of each layer of the global generator or the local enhancer, by the layer's name."""
    f, few = base_filters, max(1, base_filters // 2)
    kernels = {"global_0": (3, 3, 1, f)}
    for index in (1, 2, 3):
        kernels[f"global_{index}"] = (3, 3, f * 2 ** (index - 1), f * 2**index)
    for index in range(3):
        kernels |= {f"global_residual_{index}_{part}": (3, 3, 8 * f, 8 * f) for part in (1, 2)}
    for index in (2, 1, 0):
        kernels[f"global_up_{index}"] = (3, 3, f * 2**index, f * 2 ** (index + 1))
    if network == weights.GLOBAL_GENERATOR:
        kernels["global_last"] = (3, 3, f, 1)
    else:
        kernels |= {"local_down": (5, 5, 1, few), "local_1": (3, 3, few, f)}
        for index in range(3):
            kernels |= {f"local_residual_{index}_{part}": (3, 3, f, f) for part in (1, 2)}
        kernels |= {"local_up": (3, 3, few, f), "local_last": (5, 5, few, 1)}
    return {name: (kernel, (kernel[2 if "up" in name else 3],)) for name, kernel in kernels.items()}


def _check_hum2guitar(description: weights.Description, groups: weights.Groups) -> None:
    base_filters = description.base_filters
    if not isinstance(base_filters, int) or base_filters < 1:
        raise InputError(f"{description.path}: expected a number of base filters, found {base_filters!r}")
    expected = hum2guitar_layout(description.network, base_filters)
    found = {name: tuple(array.shape for array in arrays) for name, arrays in groups}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise InputError(
                f"{description.path}: expected {description.network} with {base_filters} base filters, whose layer "
                f"{name} has {_shapes(expected.get(name))}, found {_shapes(found.get(name))}: another architecture"
            )


def _shapes(shapes: tuple[tuple[int, ...], ...] | None) -> str:
    return "no weights" if shapes is None else " and ".join(map(str, shapes))


def _global_generator(graph: _Graph, x: str, groups: weights.Groups) -> str:
    layers = dict(groups)
    x = _global_features(graph, x, layers)
    return graph.convolve("Conv", x, "global_last", *layers["global_last"], pads=[1, 1, 1, 1])


def _enhancer(graph: _Graph, x: str, groups: weights.Groups) -> str:
    layers = dict(groups)
    halved = graph.add("AveragePool", x, kernel_shape=[3, 1], strides=[2, 1], pads=[1, 0, 1, 0], count_include_pad=0)
    of_global = _global_features(graph, halved, layers)
    x = graph.convolve("Conv", _reflected(graph, x, 2), "local_down", *layers["local_down"], strides=[2, 1])
    x = _normed(graph, x)
    x = _normed(graph, graph.convolve("Conv", x, "local_1", *layers["local_1"], pads=[1, 1, 1, 1]))
    x = graph.add("Add", x, of_global)
    for index in range(3):
        x = _residual(graph, x, f"local_residual_{index}", layers)
    doubling = {"strides": [2, 1], "output_padding": [1, 0]}
    x = _normed(graph, graph.convolve("ConvTranspose", x, "local_up", *layers["local_up"], **doubling))
    return graph.convolve("Conv", _reflected(graph, x, 1), "local_last", *layers["local_last"])


def _global_features(graph: _Graph, x: str, layers: dict[str, list[np.ndarray]]) -> str:
    """The global generator without its last convolution: as many bins and frames, `base_filters` channels."""
    x = _normed(graph, graph.convolve("Conv", x, "global_0", *layers["global_0"], pads=[1, 1, 1, 1]))
    for index in (1, 2, 3):
        x = _normed(graph, graph.convolve("Conv", x, f"global_{index}", *layers[f"global_{index}"]))
    for index in range(3):
        x = _residual(graph, x, f"global_residual_{index}", layers)
    for index in (
        2,
        1,
        0,
    ):  # a transposed convolution with stride 1 is a mirrored one that is padded: a faster operator
        kernel, bias = layers[f"global_up_{index}"]
        mirrored = kernel[::-1, ::-1].swapaxes(2, 3)
        x = _normed(graph, graph.convolve("Conv", x, f"global_up_{index}", mirrored, bias, pads=[2, 2, 2, 2]))
    return x


def _residual(graph: _Graph, x: str, name: str, layers: dict[str, list[np.ndarray]]) -> str:
    """x plus two 3x3 convolutions of it, mirrored at the edges; ReLU between them."""
    y = _normed(graph, graph.convolve("Conv", _reflected(graph, x, 1), f"{name}_1", *layers[f"{name}_1"]))
    y = graph.convolve("Conv", _reflected(graph, y, 1), f"{name}_2", *layers[f"{name}_2"])
    return graph.add("Add", x, _instance_norm(graph, y))


def _reflected(graph: _Graph, x: str, size: int) -> str:
    """x with `size` bins and frames mirrored at each edge."""
    pads = graph.constant(f"pads_{size}", np.array([0, 0, size, size] * 2, np.int64))
    return graph.add("Pad", x, pads, mode="reflect")


def _normed(graph: _Graph, x: str) -> str:
    return graph.add("Relu", _instance_norm(graph, x))


def _instance_norm(graph: _Graph, x: str) -> str:
    """Each channel of each example to mean 0 and variance 1 over bins and frames."""
    n_channels = graph.initializers[graph.nodes[-1].input[2]].dims[0]  # the bias of the convolution just added
    scale = graph.constant(f"ones_{n_channels}", np.ones(n_channels, np.float32))
    offset = graph.constant(f"zeros_{n_channels}", np.zeros(n_channels, np.float32))
    return graph.add("InstanceNormalization", x, scale, offset, epsilon=INSTANCE_NORM_EPSILON)
