"""The networks, and their weights files in and out.

Pix2Pix (Isola et al., 2017) as in hmartelb/Pix2Pix-Timbre-Transfer: a U-Net generator and a PatchGAN discriminator.
All kernels 4x4, no bias but in the last layer, weights drawn from N(0, 0.02), LeakyReLU slope 0.3, batch normalisation
with Keras' defaults. Spectrograms are (batch, bins, frames, channels) in [-1, 1]; bins and frames of the generator's
input may be any multiple of 256.
"""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf

from common import cli, weights
from data import InputError

keras = tf.keras
layers = tf.keras.layers

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def build_generator(
    in_channels: int = 1, base_filters: int = 64, precision: str = "float32", seed: int | None = None
) -> keras.Model:
    """U-Net generator: (batch, 256 k, 256 m, in_channels) in [-1, 1] to (batch, 256 k, 256 m, 1) in [-1, 1], float32.

    54 419 713 parameters with one input channel and 64 base filters, 54 420 737 with two.

    Args:
        in_channels: 1, or 2 for multitarget: origin and style.
        base_filters: filters of the first layer; the others are multiples of it.
        precision: "float32", "mixed_bfloat16" or "mixed_float16": what layers compute in; variables are float32.
        seed: of the weights and of dropout; None draws one.
    """
    seeds = _seeds(seed)
    down, up = weights.unet_filters(base_filters)
    inputs = layers.Input((None, None, in_channels))
    x, skips = inputs, []
    for index, filters in enumerate(down):
        x = layers.Conv2D(filters, 4, 2, **_conv(precision, seeds))(x)
        if index:
            x = _batch_norm(precision)(x)
        x = layers.LeakyReLU(negative_slope=0.3, dtype=_policy(precision))(x)
        skips.append(x)
    for index, filters in enumerate(up):
        x = layers.Conv2DTranspose(filters, 4, 2, **_conv(precision, seeds))(x)
        x = _batch_norm(precision)(x)
        if index < 3:
            x = layers.Dropout(0.5, seed=next(seeds), dtype=_policy(precision))(x)
        x = layers.ReLU(dtype=_policy(precision))(x)
        x = layers.Concatenate(dtype=_policy(precision))([x, skips[6 - index]])
    last = _conv("float32", seeds) | {"use_bias": True, "activation": "tanh"}
    outputs = layers.Conv2DTranspose(1, 4, 2, **last)(x)
    return keras.Model(inputs, outputs, name=weights.UNET)


def build_discriminator(base_filters: int = 64, precision: str = "float32", seed: int | None = None) -> keras.Model:
    """PatchGAN discriminator: [condition, spectrogram], each (batch, 256, 256, 1), to its feature maps, logits last.

    2 766 337 parameters with 64 base filters; the logits are (batch, 16, 16, 1), float32.
    """
    seeds = _seeds(seed)
    condition, spectrogram = layers.Input((None, None, 1)), layers.Input((None, None, 1))
    x = layers.Concatenate(dtype=_policy(precision))([condition, spectrogram])
    maps = []
    for index in range(4):
        x = layers.Conv2D(base_filters * 2**index, 4, 2, **_conv(precision, seeds))(x)
        if index:
            x = _batch_norm(precision)(x)
        x = layers.LeakyReLU(negative_slope=0.3, dtype=_policy(precision))(x)
        maps.append(x)
    logits = layers.Conv2D(1, 4, 1, **(_conv("float32", seeds) | {"use_bias": True}))(x)
    return keras.Model([condition, spectrogram], [*maps, logits], name=weights.PATCHGAN)


def discriminate(
    discriminator: keras.Model, condition: tf.Tensor, spectrogram: tf.Tensor, training: bool
) -> list[list[tf.Tensor]]:
    """Feature maps of a discriminator as a list a scale, each a list of maps with the logits last."""
    maps = discriminator([condition, spectrogram], training=training)
    return list(maps) if isinstance(maps[0], (list, tuple)) else [list(maps)]


def choose_precision(name: str) -> str:
    """The precision that "auto" stands for on this machine; any other name is given back.

    mixed_bfloat16 on a GPU of compute capability 8 or more and on a CPU with bf16 instructions, mixed_float16 on a GPU
    of compute capability 7, float32 otherwise.
    """
    if name != "auto":
        return name
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        major = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))[0]
        return "mixed_bfloat16" if major >= 8 else "mixed_float16" if major == 7 else "float32"
    return "mixed_bfloat16" if cli.has_bfloat16() else "float32"


class FusedBatchNormalization(layers.BatchNormalization):
    """Keras' batch normalisation, same variables and same values, with its training step in one fused operation.

    Keras 3 computes it from a dozen operations in float32; fused, a whole step of the full-size networks takes about a
    fifth less processor time (docs/performance.md).
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not training:
            return super().call(inputs, training=False)
        outputs, mean, unbiased, _, _, _ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma.value,
            offset=self.beta.value,
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=self.epsilon,
            is_training=True,
        )
        count = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], tf.float32)
        variance = unbiased * (tf.maximum(count - 1, 1) / count)
        self.moving_mean.assign(self.momentum * self.moving_mean + (1 - self.momentum) * mean)
        self.moving_variance.assign(self.momentum * self.moving_variance + (1 - self.momentum) * variance)
        return outputs


def _batch_norm(precision: str) -> keras.layers.Layer:
    """Batch normalisation with Keras' defaults, over the global batch where several replicas share it."""
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        return layers.BatchNormalization(dtype=_policy(precision), synchronized=True)
    return FusedBatchNormalization(dtype=_policy(precision))


def _policy(precision: str) -> keras.DTypePolicy:
    return keras.DTypePolicy(precision)


def _seeds(seed: int | None):
    """An endless row of seeds for layers, the same for the same `seed`."""
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(2**31))


def _conv(precision: str, seeds) -> dict:
    return {
        "padding": "same",
        "use_bias": False,
        "kernel_initializer": keras.initializers.RandomNormal(0.0, 0.02, seed=next(seeds)),
        "dtype": _policy(precision),
    }


# --- weights files ----------------------------------------------------------------------------------------------------


def save(model: keras.Model, path: str | os.PathLike, settings: dict) -> None:
    """Write the weights of a network in the Keras 2 HDF5 layout, with its description, whole or not at all.

    `settings` is what the file says of itself (see weights.py); network, base filters and input channels are added.
    """
    arrays = model.get_weights()
    if model.name in (weights.UNET, weights.PATCHGAN):
        in_channels, base_filters = arrays[0].shape[2:]
        is_unet = model.name == weights.UNET
        layout = weights.unet_layout(in_channels, base_filters) if is_unet else weights.patchgan_layout(base_filters)
        settings = {"in_channels": in_channels, "base_filters": base_filters, **settings}
    else:
        layout = _own_layout(model)
    remaining = iter(arrays)
    groups = [(group, [(name, next(remaining)) for name, _ in members]) for group, members in layout]
    weights.write(path, groups, {**settings, "network": model.name})


def _own_layout(model: keras.Model) -> weights.Layout:
    """One group a layer with the layers' own names, for networks that no other program reads."""
    return [
        (layer.name, [(f"{weight.path.split('/', 1)[-1]}:0", tuple(weight.shape)) for weight in layer.weights])
        for layer in model.layers
    ]


def load_into(model: keras.Model, path: str | os.PathLike) -> None:
    """Set the weights of `model` from a file, in the file's order.

    Raises:
        InputError: the file is none of ours or its shapes are not the model's.
    """
    found = [array for _, arrays in weights.read(path) for array in arrays]
    expected = [tuple(weight.shape) for weight in model.weights if "seed_generator" not in weight.path]
    shapes = [array.shape for array in found]
    if shapes != expected:
        different = next((i for i, pair in enumerate(zip(shapes, expected, strict=False)) if pair[0] != pair[1]), None)
        detail = (
            f"{len(expected)} arrays, found {len(shapes)}"
            if different is None
            else f"shape {expected[different]} as array {different}, found {shapes[different]}"
        )
        raise InputError(f"{path}: expected {detail}: these weights belong to another architecture")
    model.set_weights(found)


def load_generator(path: str | os.PathLike, precision: str = "float32") -> keras.Model:
    """The pix2pix generator of a weights file, published or ours, built to fit the shapes found in it.

    Raises:
        InputError: as `weights.describe`, or if the file holds another network.
    """
    description = weights.describe(path)
    if description.network != weights.UNET:
        raise InputError(f"{path}: expected the weights of a generator, found those of a {description.network}")
    generator = build_generator(description.in_channels, description.base_filters, precision)
    load_into(generator, path)
    return generator


# --- hum2guitar -------------------------------------------------------------------------------------------------------
#
# pix2pixHD (Wang et al., 2018) as in hwang9u/hum2guitar. Kernels Kaiming-normal, bias 0.01; instance normalisation
# without learned scale. Layers of the global part are named global_..., so that they can be frozen and carried over.

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
    seeds = _seeds(seed)
    inputs = layers.Input((None, None, 1))
    x = _global_features(inputs, base_filters, precision, seeds)
    outputs = _hd_conv(x, 1, 3, "float32", seeds, "global_last", padding="same", activation="tanh")
    return keras.Model(inputs, outputs, name=weights.GLOBAL_GENERATOR)


def build_local_enhancer(base_filters: int = 64, precision: str = "float32", seed: int | None = None) -> keras.Model:
    """Local enhancer around the global generator: (batch, bins, frames, 1) in [-1, 1] to the same shape, float32.

    17 517 569 parameters with 64 base filters, the global part (without its last convolution) inside. Published on 512
    bins; bins are an even number from 16 on, frames are free from 8 on.
    """
    seeds = _seeds(seed)
    inputs = layers.Input((None, None, 1))
    of_global = _global_features(HalveBins(name="global_halve")(inputs), base_filters, precision, seeds)
    few = max(1, base_filters // 2)
    x = ReflectPad(2, name="local_pad")(inputs)
    x = _normed(_hd_conv(x, few, 5, precision, seeds, "local_down", strides=(2, 1)), precision, "local_down")
    x = _normed(_hd_conv(x, base_filters, 3, precision, seeds, "local_1", padding="same"), precision, "local_1")
    x = layers.Add(name="local_add", dtype=_policy(precision))([x, of_global])
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
    seeds = _seeds(seed)
    condition, spectrogram = layers.Input((None, None, 1)), layers.Input((None, None, 1))
    joined = layers.Concatenate(dtype=_policy(precision))([spectrogram, condition])
    scales = []
    for scale in range(N_SCALES):
        joined = HalveBins(name=f"halve_{scale}", dtype=_policy(precision))(joined) if scale else joined
        x, maps = joined, []
        for index in range(4):
            name = f"scale_{scale}_{index}"
            x = _hd_conv(x, base_filters * 2**index, 4, precision, seeds, name, strides=2)
            x = _instance_norm(x, precision, name)
            x = layers.LeakyReLU(negative_slope=0.2, dtype=_policy(precision))(x)
            maps.append(x)
        x = layers.ZeroPadding2D(2, dtype=_policy(precision))(x)
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
    load_into(generator, path)
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
    y = ReflectPad(1, name=f"{name}_pad_1", dtype=_policy(precision))(x)
    y = _normed(_hd_conv(y, filters, 3, precision, seeds, f"{name}_1"), precision, f"{name}_1")
    y = ReflectPad(1, name=f"{name}_pad_2", dtype=_policy(precision))(y)
    y = _instance_norm(_hd_conv(y, filters, 3, precision, seeds, f"{name}_2"), precision, f"{name}_2")
    return layers.Add(name=f"{name}_add", dtype=_policy(precision))([x, y])


def _hd_conv(x, filters: int, size: int, precision: str, seeds, name: str, transposed: bool = False, **kwargs):
    """A convolution, without padding unless `kwargs` say so."""
    kind = layers.Conv2DTranspose if transposed else layers.Conv2D
    kaiming = keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal", seed=next(seeds))
    bias = keras.initializers.Constant(0.01)
    settings = {"kernel_initializer": kaiming, "bias_initializer": bias, "name": name, "dtype": _policy(precision)}
    return kind(filters, size, **settings, **kwargs)(x)


def _instance_norm(x, precision: str, name: str):
    return InstanceNorm(name=f"{name}_norm", dtype=_policy(precision))(x)


def _normed(x, precision: str, name: str):
    return layers.ReLU(name=f"{name}_relu", dtype=_policy(precision))(_instance_norm(x, precision, name))
