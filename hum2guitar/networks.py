"""The networks of hum2guitar (pix2pixHD)."""

from __future__ import annotations

import os

import tensorflow as tf

import model
from common import weights
from common.errors import InputError

keras = tf.keras
layers = keras.layers

N_SCALES = 3


class ReflectPad(layers.Layer):
    """Mirrors `size` rows and columns at each edge, which are not repeated themselves."""

    def __init__(self, size: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.size = size

    def call(self, x):
        edges = [self.size, self.size]
        return tf.pad(x, [[0, 0], edges, edges, [0, 0]], mode="REFLECT")

    def compute_output_shape(self, shape):
        return (shape[0], *(n if n is None else n + 2 * self.size for n in shape[1:3]), shape[3])


class InstanceNorm(layers.Layer):
    """Each channel of each example to mean 0 and variance 1 over bins and frames (Ulyanov et al., 2016), no weights.

    Examples become channels, so that one fused batch normalisation does it: four times faster on a CPU than
    ``GroupNormalization(groups=-1)``, which gives the same to rounding.
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

    def compute_output_shape(self, shape):
        return shape


class HalveBins(layers.Layer):
    """Average pool 3x1, stride (2, 1), padding (1, 0), edges not counted: 512 bins to 256, as published."""

    def call(self, x):
        counts = tf.ones_like(x[:1, :, :1, :1])
        return self._sums(x) / self._sums(counts)

    @staticmethod
    def _sums(x):
        x = tf.pad(x, [[0, 0], [1, 1], [0, 0], [0, 0]])
        return x[:, :-2:2] + x[:, 1:-1:2] + x[:, 2::2]

    def compute_output_shape(self, shape):
        return (shape[0], None if shape[1] is None else (shape[1] + 1) // 2, *shape[2:])


def build_global_generator(base_filters: int = 64, precision: str = "float32", seed: int | None = None) -> keras.Model:
    """Global generator: (batch, bins, frames, 1) in [-1, 1] to the same shape and range, float32.

    17 257 985 parameters with 64 base filters. Published on 256 bins, half of the representation's; bins and frames are
    free from 8 on.
    """
    seeds = model.draw_seeds(seed)
    inputs = layers.Input((None, None, 1))
    x = _global_features(inputs, base_filters, precision, seeds)
    outputs = _hd_conv(x, 1, 3, "float32", seeds, "global_last", padding="same", activation="tanh")
    return keras.Model(inputs, outputs, name=weights.GLOBAL_GENERATOR)


def build_local_enhancer(base_filters: int = 64, precision: str = "float32", seed: int | None = None) -> keras.Model:
    """Local enhancer around the global generator: (batch, bins, frames, 1) in [-1, 1] to the same shape, float32.

    17 517 569 parameters with 64 base filters, the global part (without its last convolution) inside. Published on 512
    bins; bins are an even number from 16 on, frames are free from 8 on.
    """
    seeds = model.draw_seeds(seed)
    inputs = layers.Input((None, None, 1))
    of_global = _global_features(HalveBins(name="global_halve")(inputs), base_filters, precision, seeds)
    few = max(1, base_filters // 2)
    x = ReflectPad(2, name="local_pad")(inputs)
    x = _normed(_hd_conv(x, few, 5, precision, seeds, "local_down", strides=(2, 1)), precision, "local_down")
    x = _normed(_hd_conv(x, base_filters, 3, precision, seeds, "local_1", padding="same"), precision, "local_1")
    x = layers.Add(name="local_add", dtype=model.layer_policy(precision))([x, of_global])
    for index in range(3):
        x = _residual(x, base_filters, precision, seeds, f"local_residual_{index}")
    up = {"strides": (2, 1), "output_padding": (1, 0)}  # 256 rows to 514
    x = _normed(_hd_conv(x, few, 3, precision, seeds, "local_up", transposed=True, **up), precision, "local_up")
    x = ReflectPad(1, name="local_last_pad")(x)
    outputs = _hd_conv(x, 1, 5, "float32", seeds, "local_last", activation="tanh")
    return keras.Model(inputs, outputs, name=weights.LOCAL_ENHANCER)


def build_multiscale_discriminator(
    base_filters: int = 64, precision: str = "float32", seed: int | None = None
) -> keras.Model:
    """Three PatchGANs, at full, half and quarter frequency resolution, with 8 291 139 parameters at 64 base filters.

    [condition, spectrogram], each (batch, bins, frames, 1), to a list of three lists of five feature maps, the last of
    each the logits.
    """
    seeds = model.draw_seeds(seed)
    condition, spectrogram = layers.Input((None, None, 1)), layers.Input((None, None, 1))
    joined = layers.Concatenate(dtype=model.layer_policy(precision))([spectrogram, condition])
    scales = []
    for scale in range(N_SCALES):
        joined = HalveBins(name=f"halve_{scale}", dtype=model.layer_policy(precision))(joined) if scale else joined
        x, maps = joined, []
        for index in range(4):
            name = f"scale_{scale}_{index}"
            x = _hd_conv(x, base_filters * 2**index, 4, precision, seeds, name, strides=2)
            x = _instance_norm(x, precision, name)
            x = layers.LeakyReLU(negative_slope=0.2, dtype=model.layer_policy(precision))(x)
            maps.append(x)
        x = layers.ZeroPadding2D(2, dtype=model.layer_policy(precision))(x)
        maps.append(_hd_conv(x, 1, 4, "float32", seeds, f"scale_{scale}_logits"))
        scales.append(maps)
    return keras.Model([condition, spectrogram], scales, name=weights.MULTISCALE_DISCRIMINATOR)


def global_layers(network: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a local enhancer or a global generator that belong to the shared global part and have weights."""
    return [
        layer
        for layer in network.layers
        if layer.name.startswith("global_") and layer.name != "global_last" and layer.weights
    ]


def copy_global(source: keras.Model, target: keras.Model) -> None:
    """Set the global part of `target` from that of `source`; either is a global generator or a local enhancer."""
    for layer in global_layers(target):
        layer.set_weights(source.get_layer(layer.name).get_weights())


def load_hum2guitar(path: str | os.PathLike, precision: str = "float32") -> keras.Model:
    """The global generator or the local enhancer of a weights file.

    Raises:
        InputError: as `weights.describe`, or if the file holds another network.
    """
    description = weights.describe(path)
    builders = {weights.GLOBAL_GENERATOR: build_global_generator, weights.LOCAL_ENHANCER: build_local_enhancer}
    if description.network not in builders or not isinstance(description.base_filters, int):
        raise InputError(f"{path}: expected a hum2guitar generator, found {description.network}")
    generator = builders[description.network](description.base_filters, precision)
    model.load_into(generator, path)
    return generator


def _global_features(x, base_filters: int, precision: str, seeds):
    """The global generator without its last convolution: (batch, bins, frames, base_filters)."""
    x = _normed(_hd_conv(x, base_filters, 3, precision, seeds, "global_0", padding="same"), precision, "global_0")
    for index in (1, 2, 3):  # each takes two bins and two frames, which the transposed ones give back
        filters, name = base_filters * 2**index, f"global_{index}"
        x = _normed(_hd_conv(x, filters, 3, precision, seeds, name), precision, name)
    for index in range(3):
        x = _residual(x, 8 * base_filters, precision, seeds, f"global_residual_{index}")
    for index in (2, 1, 0):
        filters, name = base_filters * 2**index, f"global_up_{index}"
        x = _normed(_hd_conv(x, filters, 3, precision, seeds, name, transposed=True), precision, name)
    return x


def _residual(x, filters: int, precision: str, seeds, name: str):
    """x plus two 3x3 convolutions of it, mirrored at the edges; ReLU between them."""
    y = ReflectPad(1, name=f"{name}_pad_1", dtype=model.layer_policy(precision))(x)
    y = _normed(_hd_conv(y, filters, 3, precision, seeds, f"{name}_1"), precision, f"{name}_1")
    y = ReflectPad(1, name=f"{name}_pad_2", dtype=model.layer_policy(precision))(y)
    y = _instance_norm(_hd_conv(y, filters, 3, precision, seeds, f"{name}_2"), precision, f"{name}_2")
    return layers.Add(name=f"{name}_add", dtype=model.layer_policy(precision))([x, y])


def _hd_conv(x, filters: int, size: int, precision: str, seeds, name: str, transposed: bool = False, **kwargs):
    """A convolution, without padding unless `kwargs` say so."""
    kind = layers.Conv2DTranspose if transposed else layers.Conv2D
    kaiming = keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal", seed=next(seeds))
    bias = keras.initializers.Constant(0.01)
    settings = {
        "kernel_initializer": kaiming,
        "bias_initializer": bias,
        "name": name,
        "dtype": model.layer_policy(precision),
    }
    return kind(filters, size, **settings, **kwargs)(x)


def _instance_norm(x, precision: str, name: str):
    return InstanceNorm(name=f"{name}_norm", dtype=model.layer_policy(precision))(x)


def _normed(x, precision: str, name: str):
    return layers.ReLU(name=f"{name}_relu", dtype=model.layer_policy(precision))(_instance_norm(x, precision, name))
