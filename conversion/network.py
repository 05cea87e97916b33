"""The generator of a weights file as an ONNX graph, run by ONNX Runtime; no TensorFlow.

Three networks can be in a file: the U-Net of pix2pix with 1 or 2 input channels, the global generator and the local
enhancer of hum2guitar, each with any number of base filters. `load_network` gives a network to convert with: a callable
from float32 ``(batch, bins, frames, channels)`` to ``(batch, bins, frames, 1)``, both in [-1, 1]. `build_graph` gives
the model that export.py writes, and `load_network` also takes such a file.

Graphs are built from *layers*: the kernel and bias of each convolution by its name, in the order of axes that ONNX
uses, batch normalisation folded in.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from common import weights
from common.errors import InputError
from common.files import open_regular, parse_json, silence_stderr

if TYPE_CHECKING:
    import onnx
    import onnxruntime

Network = Callable[[np.ndarray], np.ndarray]
Layers = dict[str, tuple[np.ndarray, np.ndarray]]

BATCH_SIZE = 2  # slices to convert at once: more is no faster on two cores, and takes 10 MB each at 16 base filters
OPSET, IR_VERSION = 17, 8  # read by ONNX Runtime 1.13 and later
INPUT, OUTPUT, DESCRIPTION = "input", "output", "description"
WEIGHTS_FILE = "weights.bin"
# Calls that run at the same time. hum2guitar's windows come one by one; two of them on half of the cores each take less
# time than one after the other on all cores.
N_PARALLEL = {weights.UNET: 1, weights.GLOBAL_GENERATOR: 2, weights.LOCAL_ENHANCER: 2}
MAX_ONNX_BYTES = 2**30  # of a file, which is in memory twice while it is read; Protocol Buffers allow twice as much
MAX_GRAPH_BYTES = 2**21  # of a file without its weights; 40 kB are usual
_GRAPH_FIELDS, _RAW_DATA = (7, 5), 9  # of ModelProto: its graph, of which the initializers; and their content
MAX_BASE_FILTERS = 1024
MAX_SLICE = 2**20  # bins times frames

LEAKY_SLOPE = 0.3
BATCH_NORM_EPSILON = 1e-3
INSTANCE_NORM_EPSILON = 1e-5

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class OnnxNetwork:
    """A network that ONNX Runtime runs. Any number of threads may call it; `N_PARALLEL` calls run at the same time.

    Attributes:
        description: of the weights file.
        provider: where it runs: "CPUExecutionProvider" or "CUDAExecutionProvider".
    """

    def __init__(self, session: onnxruntime.InferenceSession, description: weights.Description) -> None:
        self.description = description
        self.provider = session.get_providers()[0]
        self._session = session
        self._slots = threading.Semaphore(N_PARALLEL[description.network])

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
        with self._slots:
            return self._session.run([OUTPUT], {INPUT: np.asarray(x, np.float32)})[0]


def load_network(path: str | os.PathLike, gpu: int | None = -1) -> OnnxNetwork:
    """The generator of a weights file, ready to run on a CUDA device or on all cores of the CPU.

    Says on stderr that it works on the CPU where a device was asked for and cannot be used.

    Args:
        path: weights of a generator, published or ours, or an .onnx file of `build_graph`.
        gpu: number of the CUDA device, -1 for the CPU, None for device 0 if there is one.

    Raises:
        InputError: as `build_graph` or `describe`.
    """
    import onnxruntime

    path = pathlib.Path(path)
    on_gpu = gpu != -1 and CUDA in onnxruntime.get_available_providers()
    providers = [(CUDA, {"device_id": gpu or 0, "use_tf32": 0}), CPU] if on_gpu else [CPU]
    if path.suffix.lower() == ".onnx":
        description = _read_onnx(path, check_values=True)
        _check_representation(description)
        session = _start(path, description.network, providers)
    else:
        description, session = _start_from_layers(path, providers)
    network = OnnxNetwork(session, description)
    if gpu not in (None, -1) and network.provider != CUDA:
        reason = f"ONNX Runtime cannot use CUDA device {gpu}" if on_gpu else "onnxruntime-gpu is not installed"
        print(f"{path}: --gpu {gpu}: {reason}, works on the CPU", file=sys.stderr)
    return network


def _check_representation(description: weights.Description) -> None:
    """Refuse a description whose slices the network cannot work on, or could not work on in reasonable memory."""
    expected = "pix2pix" if description.network == weights.UNET else "hum2guitar"
    if description.system != expected:
        raise InputError(f"{description.path}: expected the system {expected}, found {description.system}")
    if description.network == weights.UNET:
        bins, frames = description.representation.n_bins, description.representation.n_frames
        if bins % 256 or frames % 256 or bins * frames > MAX_SLICE:
            raise InputError(
                f"{description.path}: expected slices of multiples of 256 bins and 256 frames, up to {MAX_SLICE} "
                f"values in all, found {bins} and {frames}"
            )


def _start_from_layers(path: pathlib.Path, providers: list):
    """The description of an .h5 file and a session of its network.

    ONNX Runtime maps the weights from a temporary file and releases each one after rearranging it. In memory they would
    be there two or three times while the session starts: 218 MB each with 64 base filters. That is only done where the
    temporary file cannot be written.
    """
    description, layers = _read_layers(path)
    _check_representation(description)
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            model_path = pathlib.Path(folder, "model.onnx")
            with model_path.with_name(WEIGHTS_FILE).open("wb") as file:
                model = _build(description, layers, file=file)
            model_path.write_bytes(model.SerializeToString())
            del layers
            return description, _start(model_path, description.network, providers)
    except OSError:
        description, layers = _read_layers(path)
        model = _build(description, layers).SerializeToString()
        return description, _start(model, description.network, providers)


def _start(model: pathlib.Path | bytes, network: str, providers: list) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Only the processors that this process may use, without joblib, whose import takes 15 MB.
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    options.intra_op_num_threads = max(1, n_cores // N_PARALLEL[network])
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # which keeps a second block of memory for the maps of each shape
    options.log_severity_level = 3  # errors only
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait leave others the core
    with silence_stderr():  # the reasons why a CUDA device cannot be used take many lines
        return onnxruntime.InferenceSession(model, options, providers=providers)


def build_graph(path: str | os.PathLike, float16: bool = False, settings: dict | None = None) -> onnx.ModelProto:
    """The generator of a weights file (.h5) as an ONNX model.

    Batch normalisation is folded into the convolutions. Input ``(batch, bins, frames, channels)`` and output ``(batch,
    bins, frames, 1)`` are float32 in [-1, 1]; batch, bins and frames are dynamic. The metadata entry ``description`` is
    a JSON object: what the weights file says of itself, completed by ``system``, ``network``, ``representation``,
    ``in_channels``, ``base_filters``, ``input`` and ``output``.

    Args:
        path: weights of a generator, published or ours.
        float16: store the kernels as float16 (of hum2guitar, the largest ones); the network still computes in float32.
        settings: added to the description.

    Raises:
        InputError: as `weights.describe`, if the file holds no generator, or if its weights are not finite numbers.
    """
    description, layers = _read_layers(pathlib.Path(path))
    model = _build(description, layers, float16)
    import onnx

    onnx.helper.set_model_props(model, {DESCRIPTION: json.dumps({**_describe_model(description), **(settings or {})})})
    return model


def describe(path: str | os.PathLike) -> weights.Description:
    """What network a weights file (.h5 or .onnx) holds, from its description and the shapes of its arrays.

    Raises:
        InputError: as `weights.describe`, or an .onnx file that is not one of `build_graph`.
    """
    path = pathlib.Path(path)
    return _read_onnx(path) if path.suffix.lower() == ".onnx" else weights.describe(path)


# --- files ------------------------------------------------------------------------------------------------------------


def _read_layers(path: pathlib.Path) -> tuple[weights.Description, Layers]:
    """The description of an .h5 file and its layers.

    Raises:
        InputError: as `build_graph`.
    """
    description = weights.describe(path)
    if description.network not in BUILDERS:
        raise InputError(f"{path}: expected the weights of a generator, found those of a {description.network}")
    groups = weights.read(path)
    for name, arrays in groups:
        _check_finite(path, name, arrays)
    return description, _to_layers(description.network, groups)


def _check_finite(path: pathlib.Path, layer: str, arrays: list[np.ndarray]) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise InputError(f"{path}: expected finite weights, found NaN or infinite ones in layer {layer}")


def _describe_model(description: weights.Description) -> dict:
    """The description that an .onnx file carries."""
    settings = {"system": description.system, **description.settings, "network": description.network}
    if description.network == weights.UNET:
        settings["representation"] = description.representation.to_dict()
    in_channels = description.in_channels or 1
    axes = {"axes": ["batch", "bins", "frames", "channels"], "dtype": "float32", "range": [-1, 1]}
    return {
        **settings, "in_channels": in_channels, "base_filters": description.base_filters,
        "input": {"name": INPUT, **axes, "shape": [None, None, None, in_channels]},
        "output": {"name": OUTPUT, **axes, "shape": [None, None, None, 1]},
    }  # fmt: skip


def _read_onnx(path: pathlib.Path, check_values: bool = False) -> weights.Description:
    """The description of an .onnx file whose graph is exactly the one that `build_graph` makes for it.

    So a file cannot bring other operators, other shapes or weights in other files.

    Args:
        path: the file.
        check_values: whether to check that the weights are finite numbers.

    Raises:
        InputError: no such file, or another kind of file, or another graph.
    """
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    with open_regular(path, "an .onnx file") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_ONNX_BYTES:
            raise InputError(f"{path}: expected an .onnx file of up to 1 GB, found {size / 1e9:.1f} GB")
        content = file.read()
    try:
        _check_size_of_graph(path, content)
        model.ParseFromString(content)
        del content
    except DecodeError:
        raise InputError(f"{path}: expected an .onnx file, found a damaged one or another kind of file") from None
    description = _parse_description(path, {entry.key: entry.value for entry in model.metadata_props})
    float16 = False
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise InputError(f"{path}: expected all weights in the file, found {tensor.name} in another file")
        if not isinstance(tensor.name, str):  # what is no UTF-8 is left as bytes
            raise InputError(f"{path}: expected names of weights, found {tensor.name[:100]!r}")
        layer, _, part = tensor.name.rpartition("/")
        if part in ("kernel", "bias"):
            half = tensor.data_type == onnx.TensorProto.FLOAT16
            float16 |= half
            n_bytes = math.prod(tensor.dims) * (2 if half else 4)
            if len(tensor.raw_data) != n_bytes:
                raise InputError(f"{path}: expected {n_bytes} bytes of {tensor.name}, found {len(tensor.raw_data)}")
            if check_values:
                _check_finite(path, layer, [np.frombuffer(tensor.raw_data, "<f2" if half else "<f4")])
            tensor.ClearField("raw_data")
    expected = _outline(description, float16)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for tensor in expected.graph.initializer:
        if shapes.get(tensor.name) != tuple(tensor.dims):
            found = shapes.get(tensor.name, "nothing")
            raise InputError(f"{path}: expected {tensor.name} of shape {tuple(tensor.dims)}, found {found}")
    operators = {node.op_type for node in model.graph.node} - {node.op_type for node in expected.graph.node}
    del model.metadata_props[:]
    if operators or model != expected:
        found = f"the operator {min(operators)}" if operators else "another graph"
        raise InputError(f"{path}: expected the graph that export.py writes for {description.network}, found {found}")
    return description


def _check_size_of_graph(path: pathlib.Path, content: bytes) -> None:
    """Refuse an .onnx file that holds much besides the weights: each node and name takes far more memory than space.

    Raises:
        InputError: it holds more than `MAX_GRAPH_BYTES` of it, or is damaged.
    """
    n_other = 0
    waiting = [(0, len(content), _GRAPH_FIELDS)]
    while waiting:
        place, end, wanted = waiting.pop()
        for number, start, stop in _fields(path, content, place, end):
            if wanted and number == wanted[0]:
                waiting.append((start, stop, wanted[1:]))
                n_other += 8
            elif wanted or number != _RAW_DATA:
                n_other += 8 + stop - start
            if n_other > MAX_GRAPH_BYTES:
                raise InputError(f"{path}: expected up to {MAX_GRAPH_BYTES} bytes beside the weights, found more")


def _fields(path: pathlib.Path, content: bytes, place: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and stop of each field of a message of Protocol Buffers in ``content[place:end]``."""

    def read_number(place: int) -> tuple[int, int]:
        number = shift = 0
        while place < end and shift < 70:
            number |= (content[place] & 0x7F) << shift
            place, shift = place + 1, shift + 7
            if content[place - 1] < 0x80:
                return number, place
        raise InputError(f"{path}: expected an .onnx file, found a damaged one or another kind of file")

    while place < end:
        key, place = read_number(place)
        length = {0: 0, 1: 8, 5: 4}.get(key & 7)
        if key & 7 == 0:
            _, place = read_number(place)
        elif key & 7 == 2:
            length, place = read_number(place)
        if length is None or place + length > end:
            raise InputError(f"{path}: expected an .onnx file, found a damaged one or another kind of file")
        yield key >> 3, place, place + length
        place += length


def _parse_description(path: pathlib.Path, metadata: dict[str, str]) -> weights.Description:
    """What an .onnx file says of itself.

    Raises:
        InputError: there is no description, or one of no network of this project.
    """
    try:
        settings = parse_json(metadata[DESCRIPTION], path)
        network, in_channels, base_filters = (settings[key] for key in ("network", "in_channels", "base_filters"))
    except (LookupError, InputError):
        raise InputError(f"{path}: expected a file written by export.py, found no description in it") from None
    weights.check_settings(path, settings)
    channels = (1, 2) if network == weights.UNET else (1,)
    if network not in BUILDERS or not 0 < base_filters <= MAX_BASE_FILTERS or in_channels not in channels:
        raise InputError(
            f"{path}: expected {', '.join(BUILDERS)} with 1 or (unet) 2 input channels and up to {MAX_BASE_FILTERS} "
            f"base filters, found {network!r} with {in_channels!r} and {base_filters!r}"
        )
    settings = {key: value for key, value in settings.items() if key not in ("input", "output")}
    return weights.Description(path, network, in_channels, base_filters, settings)


def _outline(description: weights.Description, float16: bool) -> onnx.ModelProto:
    """The model of `build_graph` without its weights and description."""
    if description.network == weights.UNET:
        layout = weights.unet_layout(description.in_channels, description.base_filters)
    else:
        layout = weights.hum2guitar_layout(description.network, description.base_filters)
    empty = np.float32(0)
    groups = [
        (group, [np.broadcast_to(empty, shape) for name, shape in arrays if name.endswith(("kernel:0", "bias:0"))])
        for group, arrays in layout
        if arrays
    ]
    return _build(description, _to_layers(description.network, groups), float16, outline=True)


# --- layers -----------------------------------------------------------------------------------------------------------


def _to_layers(network: str, groups: weights.Groups) -> Layers:
    """The layers of a network from the arrays of its file; empties `groups`."""
    layers = {}
    for index in range(len(groups)):
        name, (kernel, *others) = groups.pop(0)
        if network == weights.UNET:
            name = f"down_{index}" if index < 8 else f"up_{index - 8}"
            kernel, bias = _fold(kernel, others, channel_axis=3 if index < 8 else 2)
        else:
            (bias,) = others
            if name.startswith("global_up"):
                # A transposed convolution with stride 1 is a padded convolution with the mirrored kernel, which is a
                # faster operator.
                kernel = kernel[::-1, ::-1].swapaxes(2, 3)
        layers[name] = kernel.transpose(3, 2, 0, 1), bias
    return layers


def _fold(kernel: np.ndarray, others: list[np.ndarray], channel_axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a convolution and what follows it: batch normalisation, a bias, or nothing.

    In inference batch normalisation is ``gamma * (x - mean) / sqrt(variance + 1e-3) + beta``. The kernel is scaled in
    place.
    """
    if len(others) < 4:
        return kernel, others[0] if others else np.zeros(kernel.shape[channel_axis], np.float32)
    gamma, beta, mean, variance = others
    scale = gamma / np.sqrt(variance + np.float32(BATCH_NORM_EPSILON))
    kernel *= scale if channel_axis == 3 else scale[:, np.newaxis]
    return kernel, beta - mean * scale


# --- graphs -----------------------------------------------------------------------------------------------------------


class _Graph:
    """Nodes and weights, added one after the other; maps are ``(batch, channels, bins, frames)``.

    Args:
        layers: of the network; each is removed when it is added.
        float16: store kernels as float16.
        file: takes the weights, so that they are not part of the model.
        outline: leave out the weights.
    """

    def __init__(self, layers: Layers, float16: bool, file: BinaryIO | None, outline: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._layers, self._float16, self._file, self._outline = layers, float16, file, outline

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes) -> str:
        """Add a node; the name of its output."""
        import onnx

        output = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add a small array under a name, which is given back."""
        import onnx

        self.initializers[name] = onnx.numpy_helper.from_array(array, name)
        return name

    def convolve(self, operator: str, x: str, name: str, **attributes) -> str:
        """Add a "Conv" or "ConvTranspose" with the kernel and bias of the layer `name`."""
        kernel, bias = self._layers.pop(name)
        # Of hum2guitar only the largest kernels are rounded: rounding all would change the output by more than 5e-3.
        is_half = self._float16 and name.startswith(("down_", "up_", "global_residual"))
        stored = self._weight(f"{name}/kernel", kernel, np.float16 if is_half else np.float32)
        if is_half:
            stored = self.add("Cast", stored, to=1)  # to float32
        stored_bias = self._weight(f"{name}/bias", bias, np.float32)
        return self.add(operator, x, stored, stored_bias, kernel_shape=kernel.shape[2:], **attributes)

    def _weight(self, name: str, array: np.ndarray, dtype: type) -> str:
        import onnx

        tensor = onnx.TensorProto(name=name, data_type=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
        tensor.dims.extend(array.shape)
        self.initializers[name] = tensor
        if self._outline:
            return name
        with np.errstate(over="ignore"):
            array = array.astype(np.dtype(dtype).newbyteorder("<"), copy=False)
        if not np.isfinite(array).all():
            raise InputError(f"{name}: expected weights within the range of float16, found larger ones")
        content = array.tobytes()
        if self._file is None:
            tensor.raw_data = content
        else:
            self._file.write(bytes(-self._file.tell() % 2**16))  # a multiple of the page size can be mapped
            place = {"location": WEIGHTS_FILE, "offset": self._file.tell(), "length": len(content)}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            tensor.data_location = onnx.TensorProto.EXTERNAL
            self._file.write(content)
        return name


def _build(
    description: weights.Description,
    layers: Layers,
    float16: bool = False,
    file: BinaryIO | None = None,
    outline: bool = False,
) -> onnx.ModelProto:
    """The model of the layers of a network, without a description; arguments as of `_Graph`."""
    import onnx

    graph = _Graph(layers, float16, file, outline)
    x = graph.add("Transpose", INPUT, perm=[0, 3, 1, 2])
    x = graph.add("Tanh", BUILDERS[description.network](graph, x))
    graph.add("Transpose", x, output=OUTPUT, perm=[0, 2, 3, 1])
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", "bins", "frames", channels])
        for name, channels in ((INPUT, description.in_channels or 1), (OUTPUT, 1))
    ]
    made = onnx.helper.make_graph(graph.nodes, description.network, ends[:1], ends[1:], graph.initializers.values())
    opset = onnx.helper.make_opsetid("", OPSET)
    return onnx.helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION)


def _unet(graph: _Graph, x: str) -> str:
    """Eight convolutions that halve bins and frames, eight transposed ones that double them."""
    halving = {"strides": [2, 2], "pads": [1, 1, 1, 1]}  # Keras' padding "same" of a 4x4 kernel
    skips = []
    for index in range(8):
        x = graph.add("LeakyRelu", graph.convolve("Conv", x, f"down_{index}", **halving), alpha=LEAKY_SLOPE)
        skips.append(x)
    for index in range(7):
        x = graph.add("Relu", graph.convolve("ConvTranspose", x, f"up_{index}", **halving))
        x = graph.add("Concat", x, skips[6 - index], axis=1)
    return graph.convolve("ConvTranspose", x, "up_7", **halving)


def _global_generator(graph: _Graph, x: str) -> str:
    return graph.convolve("Conv", _global_features(graph, x), "global_last", pads=[1, 1, 1, 1])


def _local_enhancer(graph: _Graph, x: str) -> str:
    halved = graph.add("AveragePool", x, kernel_shape=[3, 1], strides=[2, 1], pads=[1, 0, 1, 0], count_include_pad=0)
    of_global = _global_features(graph, halved)
    x = _normed(graph, graph.convolve("Conv", _reflected(graph, x, 2), "local_down", strides=[2, 1]))
    x = _normed(graph, graph.convolve("Conv", x, "local_1", pads=[1, 1, 1, 1]))
    x = graph.add("Add", x, of_global)
    for index in range(3):
        x = _residual(graph, x, f"local_residual_{index}")
    x = _normed(graph, graph.convolve("ConvTranspose", x, "local_up", strides=[2, 1], output_padding=[1, 0]))
    return graph.convolve("Conv", _reflected(graph, x, 1), "local_last")


def _global_features(graph: _Graph, x: str) -> str:
    """The global generator without its last convolution: as many bins and frames, `base_filters` channels."""
    x = _normed(graph, graph.convolve("Conv", x, "global_0", pads=[1, 1, 1, 1]))
    for index in (1, 2, 3):
        x = _normed(graph, graph.convolve("Conv", x, f"global_{index}"))
    for index in range(3):
        x = _residual(graph, x, f"global_residual_{index}")
    for index in (2, 1, 0):
        x = _normed(graph, graph.convolve("Conv", x, f"global_up_{index}", pads=[2, 2, 2, 2]))
    return x


def _residual(graph: _Graph, x: str, name: str) -> str:
    """x plus two 3x3 convolutions of it, mirrored at the edges; ReLU between them."""
    y = _normed(graph, graph.convolve("Conv", _reflected(graph, x, 1), f"{name}_1"))
    y = graph.convolve("Conv", _reflected(graph, y, 1), f"{name}_2")
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


BUILDERS = {
    weights.UNET: _unet,
    weights.GLOBAL_GENERATOR: _global_generator,
    weights.LOCAL_ENHANCER: _local_enhancer,
}
