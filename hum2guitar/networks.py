"""The networks of hum2guitar (pix2pixHD): two generators and the discriminators."""

from __future__ import annotations

import os

import tensorflow as tf
from tensorflow import keras

import model
from common import InputError, weights

layers, ops = keras.layers, keras.ops

N_SCALES = 3


class InstanceNorm(keras.layers.Layer):
    """Normalises each channel of each example to mean 0 and variance 1 (Ulyanov et al., 2016), without weights.

    Moves the examples to the channel axis and applies one fused batch normalisation. On a CPU that is four times as
    fast as ``GroupNormalization(groups=-1)``, and equal to it up to rounding.
    """

    def call(self, x):
        n, height, width, channels = tf.unstack(tf.shape(x))
        side_by_side = tf.reshape(tf.transpose(x, [1, 2, 0, 3]), [1, height, width, n * channels])
        ones, zeros = tf.ones([n * channels]), tf.zeros([n * channels])
        y = tf.raw_ops.FusedBatchNormV3(
            x=side_by_side, scale=ones, offset=zeros, mean=[], variance=[], epsilon=1e-5, is_training=True
        ).y
        y = tf.transpose(tf.reshape(y, [height, width, n, channels]), [2, 0, 1, 3])
        return tf.ensure_shape(y, x.shape)


def halve_bins(x):
    """Average pool 3x1, stride (2, 1), padding (1, 0) that does not count: 512 bins to 256, as published."""
    sums, counts = (_sum_neighbours(values) for values in (x, ops.ones_like(x[:1, :, :1, :1])))
    return sums / counts


def _sum_neighbours(x):
    x = ops.pad(x, [[0, 0], [1, 1], [0, 0], [0, 0]])
    return x[:, :-2:2] + x[:, 1:-1:2] + x[:, 2::2]


def reflect_pad(x, size: int):
    """`x` with `size` more rows and columns at each edge, mirrored at the edge without repeating it."""
    return ops.pad(x, [[0, 0], [size, size], [size, size], [0, 0]], mode="reflect")


def build_global_generator(base_filters: int = 64, precision: str = "float32", seed: int | None = None) -> keras.Model:
    """Global generator: (batch, bins, frames, 1) in [-1, 1] to the same shape and range, float32.

    17 257 985 parameters with 64 base filters. Published on 256 bins, half of those of the representation. Any number
    of bins and frames from 8 on is valid.
    """
    blocks = _Blocks(precision, seed)
    inputs = layers.Input((None, None, 1))
    x = blocks.global_features(inputs, base_filters)
    outputs = blocks.conv(x, 1, 3, "global_last", padding="same", activation="tanh", dtype="float32")
    return keras.Model(inputs, outputs, name=weights.GLOBAL_GENERATOR)


def build_local_enhancer(base_filters: int = 64, precision: str = "float32", seed: int | None = None) -> keras.Model:
    """Local enhancer around the global generator: (batch, bins, frames, 1) in [-1, 1] to the same shape, float32.

    17 517 569 parameters with 64 base filters, including the global part (without its last convolution). Published on
    512 bins. Any even number of bins from 16 on and any number of frames from 8 on is valid.
    """
    blocks, few = _Blocks(precision, seed), max(1, base_filters // 2)
    inputs = layers.Input((None, None, 1))
    global_part = blocks.global_features(halve_bins(inputs), base_filters)
    x = blocks.conv_relu(reflect_pad(inputs, 2), few, 5, "local_down", strides=(2, 1))
    x = blocks.conv_relu(x, base_filters, 3, "local_1", padding="same")
    x = layers.Add(name="local_add", dtype=blocks.policy)([x, global_part])
    for index in range(3):
        x = blocks.residual(x, base_filters, f"local_residual_{index}")
    # 256 rows to 514
    x = blocks.conv_relu(x, few, 3, "local_up", layers.Conv2DTranspose, strides=(2, 1), output_padding=(1, 0))
    x = ops.cast(x, "float32")  # before the edges are mirrored, so that their gradients are summed in float32
    outputs = blocks.conv(reflect_pad(x, 1), 1, 5, "local_last", activation="tanh", dtype="float32")
    return keras.Model(inputs, outputs, name=weights.LOCAL_ENHANCER)


def build_multiscale_discriminator(
    base_filters: int = 64, precision: str = "float32", seed: int | None = None
) -> keras.Model:
    """Three PatchGANs, at full, half and quarter frequency resolution: 8 291 139 parameters with 64 base filters.

    Maps [condition, spectrogram], each (batch, bins, frames, 1), to three lists of five feature maps, of which the last
    are the logits.
    """
    blocks = _Blocks(precision, seed)
    condition, spectrogram = layers.Input((None, None, 1)), layers.Input((None, None, 1))
    joined = layers.Concatenate(dtype=blocks.policy)([spectrogram, condition])
    scales = []
    for scale in range(N_SCALES):
        joined = halve_bins(joined) if scale else joined
        x, maps = joined, []
        for index in range(4):
            name = f"scale_{scale}_{index}"
            x = blocks.norm(blocks.conv(x, base_filters * 2**index, 4, name, strides=2), name)
            x = layers.LeakyReLU(negative_slope=0.2, dtype=blocks.policy)(x)
            maps.append(x)
        x = layers.ZeroPadding2D(2, dtype=blocks.policy)(x)
        maps.append(blocks.conv(x, 1, 4, f"scale_{scale}_logits", dtype="float32"))
        scales.append(maps)
    return keras.Model([condition, spectrogram], scales, name=weights.MULTISCALE_DISCRIMINATOR)


class _Blocks:
    """The blocks of a network of one precision, whose kernels are drawn from one seed in the order of the calls."""

    def __init__(self, precision: str, seed: int | None) -> None:
        self.policy, self._seeds = keras.DTypePolicy(precision), model.draw_seeds(seed)

    def global_features(self, x, base_filters: int):
        """The global generator without its last convolution: (batch, bins, frames, base_filters)."""
        x = self.conv_relu(x, base_filters, 3, "global_0", padding="same")
        for index in (1, 2, 3):  # each removes two bins and two frames, which the transposed ones restore
            x = self.conv_relu(x, base_filters * 2**index, 3, f"global_{index}")
        for index in range(3):
            x = self.residual(x, 8 * base_filters, f"global_residual_{index}")
        for index in (2, 1, 0):
            x = self.conv_relu(x, base_filters * 2**index, 3, f"global_up_{index}", layers.Conv2DTranspose)
        return x

    def residual(self, x, filters: int, name: str):
        """`x` plus two 3x3 convolutions with reflect padding and a ReLU between them."""
        y = self.conv_relu(reflect_pad(x, 1), filters, 3, f"{name}_1")
        y = self.norm(self.conv(reflect_pad(y, 1), filters, 3, f"{name}_2"), f"{name}_2")
        return layers.Add(name=f"{name}_add", dtype=self.policy)([x, y])

    def conv(self, x, filters: int, size: int, name: str, kind=layers.Conv2D, dtype=None, **kwargs):
        """A convolution with Kaiming-normal kernel and bias 0.01, without padding unless `kwargs` ask for it."""
        kaiming = keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal", seed=next(self._seeds))
        given = {"kernel_initializer": kaiming, "bias_initializer": keras.initializers.Constant(0.01), "name": name}
        return kind(filters, size, dtype=dtype or self.policy, **given, **kwargs)(x)

    def conv_relu(self, x, filters: int, size: int, name: str, kind=layers.Conv2D, **kwargs):
        """Convolution, instance normalisation and ReLU."""
        x = self.norm(self.conv(x, filters, size, name, kind, **kwargs), name)
        return layers.ReLU(name=f"{name}_relu", dtype=self.policy)(x)

    def norm(self, x, name: str):
        return InstanceNorm(name=f"{name}_norm", dtype=self.policy)(x)


def load_shared(network: keras.Model, path: str | os.PathLike) -> None:
    """Set the weights of those layers of `network` that a weights file has by the same name: the global part, or all.

    Raises:
        InputError: the file is damaged, or these layers have other sizes.
    """
    found = weights.read(path)
    for layer in network.layers:
        arrays = list(found.get(layer.name, {}).values())
        if arrays:
            if [array.shape for array in arrays] != [tuple(weight.shape) for weight in layer.weights]:
                raise InputError(f"{path} has no generator of the --base_filters asked for")
            layer.set_weights(arrays)
