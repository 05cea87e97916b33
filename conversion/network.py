"""The U-Net generator for conversion only: batch normalisation folded in, on the CPU without TensorFlow.

A network here is a callable: float32 slices ``(n, 256 k, 256 m, in_channels)`` in [-1, 1] to ``(n, 256 k, 256 m, 1)``.
Three of them compute the same thing. `NumpyUNet` writes each convolution as one matrix product and leaves it to
NumPy's BLAS: it starts at once and runs several times faster on a CPU than TensorFlow's convolutions do.
`tensorflow_unet` is for a CUDA device or for bfloat16, `compiled` for a live Keras model while it is trained.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable

import numpy as np

from common import cli, weights
from common.errors import InputError

Network = Callable[[np.ndarray], np.ndarray]

PRECISIONS = ("auto", "float32", "mixed_bfloat16")
BATCH_SIZE = 4  # slices at once: more makes the matrix products no faster, and costs 40 MB each at 64 base filters
LEAKY_SLOPE = 0.3  # Keras' default in the year of the published system
BATCH_NORM_EPSILON = 1e-3


@dataclasses.dataclass(frozen=True)
class Convolution:
    """One layer with stride 2 and its batch normalisation folded in.

    Attributes:
        kernel: ``(4, 4, in, out)``, or ``(4, 4, out, in)`` of a transposed convolution.
        bias: ``(out,)``.
    """

    kernel: np.ndarray
    bias: np.ndarray


@dataclasses.dataclass(frozen=True)
class UNet:
    """The folded layers of a generator: eight convolutions down, eight transposed ones up, the last of them to 1."""

    down: list[Convolution]
    up: list[Convolution]


def load_network(path: str | os.PathLike, precision: str = "auto", gpu: int | None = -1) -> Network:
    """The generator of a weights file as a network, on the CUDA device `gpu` if there is one, else on the CPU.

    Says on stderr where a device was asked for and there is none.

    Args:
        path: a generator's weights file, published or ours.
        precision: "mixed_bfloat16" computes in bfloat16 with TensorFlow; "auto" and "float32" in float32.
        gpu: number of the device, -1 for the CPU, None for device 0 if there is one.

    Raises:
        InputError: as `weights.describe`, if the file holds another network, or if its weights are no finite numbers.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision: expected one of {' '.join(PRECISIONS)}, found {precision}")
    unet = fold_batch_norm(path)
    device = gpu or 0
    on_gpu = cli.has_gpu(device)
    if not on_gpu and gpu not in (None, -1):
        print(f"{path}: found no CUDA GPU for --gpu {gpu}, works on the CPU", file=sys.stderr)
    if not on_gpu and precision != "mixed_bfloat16":
        return NumpyUNet(unet)
    cli.start_tensorflow(device if on_gpu else -1)
    return tensorflow_unet(unet, "bfloat16" if precision == "mixed_bfloat16" else "float32")


def fold_batch_norm(path: str | os.PathLike) -> UNet:
    """The layers of a generator's weights file, ``gamma * (x - mean) / sqrt(variance + 1e-3) + beta`` folded into them.

    Every convolution but the last has no bias and is followed by batch normalisation (the first one: by nothing), which
    in inference only scales and shifts each output channel.

    Raises:
        InputError: as `load`.
    """
    description = weights.describe(path)
    if description.network != weights.UNET:
        raise InputError(f"{path}: expected the weights of a generator, found those of a {description.network}")
    layers = []
    for index, (name, arrays) in enumerate(weights.read(path)):
        if not all(np.isfinite(array).all() for array in arrays):
            raise InputError(f"{path}: expected finite weights, found NaN or infinite ones in layer {name}")
        kernel, *others = arrays
        channel_axis = 3 if index < 8 else 2
        if len(others) == 4:
            gamma, beta, mean, variance = others
            scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
            kernel *= scale if channel_axis == 3 else scale[:, np.newaxis]  # in place: a full-size kernel is 33 MB
            bias = beta - mean * scale
        else:
            bias = others[0] if others else np.zeros(kernel.shape[channel_axis], np.float32)
        layers.append(Convolution(kernel, bias))
    return UNet(layers[:8], layers[8:])


# --- NumPy ------------------------------------------------------------------------------------------------------------


class NumpyUNet:
    """The forward pass in NumPy; it keeps its buffers from call to call, so it serves one thread at a time."""

    def __init__(self, unet: UNet) -> None:
        self._unet = unet
        self._shape: tuple[int, ...] | None = None

    def __call__(self, slices: np.ndarray) -> np.ndarray:
        """Output ``(n, 256 k, 256 m, 1)`` in [-1, 1] of slices ``(n, 256 k, 256 m, in_channels)``."""
        slices = np.asarray(slices, np.float32)
        if slices.shape != self._shape:
            self._allocate(slices.shape)
        x = slices
        skips = []
        for layer, joined in zip(self._unet.down, self._joined, strict=True):
            # Each map is written where the way up will find it: behind the channels that it is concatenated with.
            skips.append(joined[..., joined.shape[-1] - len(layer.bias) :])
            self._convolve(x, layer, skips[-1])
            x = skips[-1]
        for layer, joined in zip(self._unet.up, [*self._joined[-2::-1], self._output], strict=True):
            out = joined[..., : len(layer.bias)]
            self._transposed(x, layer, out)
            x = joined if layer is self._unet.up[-1] else _relu(out, joined)
        return np.tanh(self._output)

    def _allocate(self, shape: tuple[int, ...]) -> None:
        """Buffers for inputs of `shape`: the concatenated maps of each depth, and one for all matrix products."""
        n, height, width, _ = shape
        if height % 256 or width % 256:
            raise ValueError(f"expected bins and frames in multiples of 256, found {height} x {width}")
        down, up = self._unet.down, self._unet.up
        self._joined, patches, products = [], 0, 0
        for depth, layer in enumerate(down):
            pixels = n * (height >> depth + 1) * (width >> depth + 1)
            beside = len(up[6 - depth].bias) if depth < 7 else 0
            self._joined.append(
                np.empty((n, height >> depth + 1, width >> depth + 1, beside + len(layer.bias)), np.float32)
            )
            patches = max(patches, pixels * 16 * max(layer.kernel.shape[2], len(up[7 - depth].bias)))
            products = max(products, pixels * len(layer.bias))
        self._patches, self._products = np.empty(patches, np.float32), np.empty(products, np.float32)
        self._output = np.empty((n, height, width, 1), np.float32)
        self._shape = shape

    def _convolve(self, x: np.ndarray, layer: Convolution, out: np.ndarray) -> None:
        """4x4 convolution with stride 2, padding "same", bias and LeakyReLU of `x` into `out`.

        Output pixel i sees input pixels ``2 i - 1 ... 2 i + 2``; those outside are zero.
        """
        n, height, width, filters = out.shape
        patches = self._patches[: n * height * width * 16 * x.shape[-1]].reshape(n, height, width, 4, 4, -1)
        patches[:, 0, :, 0] = patches[:, -1, :, 3] = 0
        patches[:, :, 0, :, 0] = patches[:, :, -1, :, 3] = 0
        for row in range(4):
            rows_out, rows_in = _inside(row, height)
            for column in range(4):
                columns_out, columns_in = _inside(column, width)
                patches[:, rows_out, columns_out, row, column] = x[:, rows_in, columns_in]
        product = self._products[: n * height * width * filters].reshape(-1, filters)
        np.matmul(patches.reshape(len(product), -1), layer.kernel.reshape(-1, filters), out=product)
        product += layer.bias
        product = product.reshape(out.shape)
        np.multiply(product, np.float32(LEAKY_SLOPE), out=out)
        np.maximum(product, out, out=out)

    def _transposed(self, x: np.ndarray, layer: Convolution, out: np.ndarray) -> None:
        """Transposed 4x4 convolution with stride 2, padding "same", and bias of `x` into `out`.

        Input pixel i adds to output pixels ``2 i - 1 ... 2 i + 2``, one for each row of the kernel: the even output
        pixel 2 i is fed by kernel row 1 of input i and row 3 of input i - 1, the odd one by row 2 of i and 0 of i + 1.
        """
        n, height, width, channels = x.shape
        filters = len(layer.bias)
        product = self._patches[: n * height * width * 16 * filters].reshape(-1, 16 * filters)
        np.matmul(x.reshape(-1, channels), layer.kernel.reshape(-1, channels).T, out=product)
        product = product.reshape(n, height, width, 4, 4, filters)
        for row, (row_near, row_far) in enumerate(((1, 3), (2, 0))):
            rows_to, rows_from = _neighbours(row)
            for column, (column_near, column_far) in enumerate(((1, 3), (2, 0))):
                columns_to, columns_from = _neighbours(column)
                target = out[:, row::2, column::2]
                np.add(product[:, :, :, row_near, column_near], layer.bias, out=target)
                target[:, rows_to] += product[:, rows_from, :, row_far, column_near]
                target[:, :, columns_to] += product[:, :, columns_from, row_near, column_far]
                target[:, rows_to, columns_to] += product[:, rows_from, columns_from, row_far, column_far]


def _relu(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`whole` after a ReLU on its `part`, in place: the skip beside it has had its own activation."""
    np.maximum(part, 0, out=part)
    return whole


def _inside(tap: int, n_out: int) -> tuple[slice, slice]:
    """Outputs i and inputs ``2 i + tap - 1`` of one row or column of the kernel, those outside the input left out."""
    first, last = (1 if tap == 0 else 0), (n_out - 1 if tap == 3 else n_out)
    return slice(first, last), slice(2 * first + tap - 1, max(2 * last + tap - 2, 0), 2)


def _neighbours(parity: int) -> tuple[slice, slice]:
    """Outputs and inputs that the far tap of a transposed convolution joins: i with i - 1 (even) or i + 1 (odd)."""
    return (slice(1, None), slice(0, -1)) if parity == 0 else (slice(0, -1), slice(1, None))


# --- TensorFlow -------------------------------------------------------------------------------------------------------


def tensorflow_unet(unet: UNet, dtype: str = "float32") -> Network:
    """The forward pass of the folded layers as one compiled TensorFlow function; the last layer is always float32."""
    import tensorflow as tf

    down = [(tf.constant(layer.kernel, dtype), tf.constant(layer.bias, dtype)) for layer in unet.down]
    up = [(tf.constant(layer.kernel, dtype), tf.constant(layer.bias, dtype)) for layer in unet.up[:-1]]
    last = (tf.constant(unet.up[-1].kernel), tf.constant(unet.up[-1].bias))

    def transposed(x, kernel, bias):
        shape = tf.shape(x)
        size = tf.stack([shape[0], 2 * shape[1], 2 * shape[2], kernel.shape[2]])
        return tf.nn.bias_add(tf.nn.conv2d_transpose(x, kernel, size, 2, "SAME"), bias)

    def forward(slices):
        x, skips = tf.cast(slices, dtype), []
        for kernel, bias in down:
            x = tf.nn.leaky_relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 2, "SAME"), bias), LEAKY_SLOPE)
            skips.append(x)
        for (kernel, bias), skip in zip(up, skips[-2::-1], strict=True):
            x = tf.concat([tf.nn.relu(transposed(x, kernel, bias)), skip], -1)
        return tf.tanh(transposed(tf.cast(x, tf.float32), *last))

    return compiled(forward)


def compiled(model: Callable, batch_size: int = BATCH_SIZE) -> Network:
    """A network of a live Keras model or TensorFlow function: compiled, fed with batches of one size only.

    A smaller batch is filled up with zeros and cut off again, so that one trace serves; a Keras model runs in inference
    mode and follows its weights as they change.
    """
    import tensorflow as tf

    inference = {"training": False} if isinstance(model, tf.keras.Model) else {}
    call = tf.function(lambda slices: model(slices, **inference))

    def network(slices: np.ndarray) -> np.ndarray:
        batches = [slices[start : start + batch_size] for start in range(0, len(slices), batch_size)]
        fill = [(0, batch_size - len(batches[-1])), (0, 0), (0, 0), (0, 0)]
        batches[-1] = np.pad(batches[-1], fill)
        outputs = [call(tf.constant(batch, tf.float32)).numpy() for batch in batches]
        return np.concatenate(outputs)[: len(slices)]

    return network
