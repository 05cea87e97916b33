"""The U-Net generator and the PatchGAN discriminator, and reading and writing of weights files.

Pix2Pix (Isola et al., 2017) as in hmartelb/Pix2Pix-Timbre-Transfer: all kernels 4x4, no bias except in the last layer,
weights drawn from N(0, 0.02), LeakyReLU slope 0.3, batch normalisation with Keras' defaults. Spectrograms are (batch,
bins, frames, channels) in [-1, 1]; bins and frames of the generator's input may be any multiple of 256.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from common import cli, weights
from common.errors import InputError

keras = tf.keras
layers = tf.keras.layers
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def build_generator(
    in_channels: int = 1,
    base_filters: int = 64,
    precision: str = "float32",
    seed: int | None = None,
    batch_norm: Callable[..., keras.layers.Layer] | None = None,
) -> keras.Model:
    """U-Net generator: (batch, 256 k, 256 m, in_channels) in [-1, 1] to (batch, 256 k, 256 m, 1) in [-1, 1], float32.

    54 419 713 parameters with one input channel and 64 base filters, 54 420 737 with two.

    Args:
        in_channels: 1, or 2 for multitarget: origin and style.
        base_filters: filters of the first layer; the other layers have multiples of it.
        precision: one of `PRECISIONS`: the type that layers compute in; variables are float32.
        seed: of the weights and of dropout; None draws one.
        batch_norm: class of the batch normalisation layers; None is `FusedBatchNormalization`, or Keras' own where
            several replicas share a batch.
    """
    seeds = draw_seeds(seed)
    down, up = weights.unet_filters(base_filters)
    inputs = layers.Input((None, None, in_channels))
    x, skips = inputs, []
    for index, filters in enumerate(down):
        x = layers.Conv2D(filters, 4, 2, **_conv(precision, seeds))(x)
        if index:
            x = _batch_norm(precision, batch_norm)(x)
        x = layers.LeakyReLU(negative_slope=0.3, dtype=layer_policy(precision))(x)
        skips.append(x)
    for index, filters in enumerate(up):
        x = layers.Conv2DTranspose(filters, 4, 2, **_conv(precision, seeds))(x)
        x = _batch_norm(precision, batch_norm)(x)
        if index < 3:
            x = layers.Dropout(0.5, seed=next(seeds), dtype=layer_policy(precision))(x)
        x = layers.ReLU(dtype=layer_policy(precision))(x)
        x = layers.Concatenate(dtype=layer_policy(precision))([x, skips[6 - index]])
    last = _conv("float32", seeds) | {"use_bias": True, "activation": "tanh"}
    outputs = layers.Conv2DTranspose(1, 4, 2, **last)(x)
    return keras.Model(inputs, outputs, name=weights.UNET)


def build_discriminator(
    base_filters: int = 64,
    precision: str = "float32",
    seed: int | None = None,
    batch_norm: Callable[..., keras.layers.Layer] | None = None,
) -> keras.Model:
    """PatchGAN discriminator: [condition, spectrogram], each (batch, 256, 256, 1), to its feature maps, logits last.

    2 766 337 parameters with 64 base filters; the logits are (batch, 16, 16, 1), float32. Arguments as
    `build_generator`.
    """
    seeds = draw_seeds(seed)
    condition, spectrogram = layers.Input((None, None, 1)), layers.Input((None, None, 1))
    x = layers.Concatenate(dtype=layer_policy(precision))([condition, spectrogram])
    maps = []
    for index in range(4):
        x = layers.Conv2D(base_filters * 2**index, 4, 2, **_conv(precision, seeds))(x)
        if index:
            x = _batch_norm(precision, batch_norm)(x)
        x = layers.LeakyReLU(negative_slope=0.3, dtype=layer_policy(precision))(x)
        maps.append(x)
    logits = layers.Conv2D(1, 4, 1, **(_conv("float32", seeds) | {"use_bias": True}))(x)
    return keras.Model([condition, spectrogram], [*maps, logits], name=weights.PATCHGAN)


def discriminate(
    discriminator: keras.Model, condition: tf.Tensor, spectrogram: tf.Tensor, training: bool
) -> list[list[tf.Tensor]]:
    """Feature maps of a discriminator: one list for each of its scales, in which the logits come last."""
    maps = discriminator([condition, spectrogram], training=training)
    return list(maps) if isinstance(maps[0], (list, tuple)) else [list(maps)]


def choose_precision(name: str) -> str:
    """The precision that "auto" stands for on this machine; any other name is returned unchanged.

    "auto" is mixed_bfloat16 on a GPU of compute capability 8 or more and on a CPU with bf16 instructions, mixed_float16
    on a GPU of compute capability 7, and float32 otherwise.
    """
    if name != "auto":
        return name
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        major = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))[0]
        return "mixed_bfloat16" if major >= 8 else "mixed_float16" if major == 7 else "float32"
    return "mixed_bfloat16" if cli.has_bfloat16() else "float32"


class FusedBatchNormalization(layers.BatchNormalization):
    """Keras' batch normalisation, with the same variables and values, computed by one fused operation in training.

    Keras 3 computes it by a dozen operations in float32. A compiled step takes 23 % longer with them at 16 filters in
    bfloat16 and 13 % in float32; with Keras' own Adam too (see `optimizers.Adam`) it takes 27 % longer at 16 filters
    and 16 % at 64 in bfloat16, 17 % and 7 % in float32 (batch 8, on a CPU with bfloat16 instructions).
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


def _batch_norm(precision: str, kind: Callable[..., keras.layers.Layer] | None) -> keras.layers.Layer:
    """Batch normalisation with Keras' defaults, over the whole batch even if several replicas share it."""
    if kind is not None:
        return kind(dtype=layer_policy(precision))
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        return layers.BatchNormalization(dtype=layer_policy(precision), synchronized=True)
    return FusedBatchNormalization(dtype=layer_policy(precision))


def layer_policy(precision: str) -> keras.DTypePolicy:
    """Keras' policy for one of `PRECISIONS`."""
    return keras.DTypePolicy(precision)


def draw_seeds(seed: int | None) -> Iterator[int]:
    """An endless sequence of seeds for layers, which `seed` determines."""
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(2**31))


def _conv(precision: str, seeds: Iterator[int]) -> dict:
    """Arguments that all convolutions share."""
    return {
        "padding": "same",
        "use_bias": False,
        "kernel_initializer": keras.initializers.RandomNormal(0.0, 0.02, seed=next(seeds)),
        "dtype": layer_policy(precision),
    }


def save(network: keras.Model, path: str | os.PathLike, settings: dict) -> None:
    """Write the weights of a network in the Keras 2 HDF5 layout, completely or not at all.

    `settings` is the file's description of itself (see common/weights.py), to which the network's name, base filters
    and input channels are added.
    """
    arrays = network.get_weights()
    if network.name in (weights.UNET, weights.PATCHGAN):
        in_channels, base_filters = arrays[0].shape[2:]
        is_unet = network.name == weights.UNET
        layout = weights.unet_layout(in_channels, base_filters) if is_unet else weights.patchgan_layout(base_filters)
        settings = {"in_channels": in_channels, "base_filters": base_filters, **settings}
    else:
        layout = _own_layout(network)
    remaining = iter(arrays)
    groups = [(group, [(name, next(remaining)) for name, _ in members]) for group, members in layout]
    weights.write(path, groups, {**settings, "network": network.name})


def _own_layout(network: keras.Model) -> weights.Layout:
    """One group for each layer, with the layers' own names: for networks that no other program reads."""
    return [
        (layer.name, [(f"{weight.path.split('/', 1)[-1]}:0", tuple(weight.shape)) for weight in layer.weights])
        for layer in network.layers
    ]


def load_into(network: keras.Model, path: str | os.PathLike) -> None:
    """Set the weights of `network` from a file, in the file's order.

    Raises:
        InputError: the file is not a weights file, or holds another network.
    """
    found = [array for _, arrays in weights.read(path) for array in arrays]
    expected = [tuple(weight.shape) for weight in network.weights if "seed_generator" not in weight.path]
    shapes = [array.shape for array in found]
    if shapes != expected:
        different = next((i for i, pair in enumerate(zip(shapes, expected, strict=False)) if pair[0] != pair[1]), None)
        detail = (
            f"{len(expected)} arrays, found {len(shapes)}"
            if different is None
            else f"shape {expected[different]} as array {different}, found {shapes[different]}"
        )
        raise InputError(f"{path}: expected {detail}: these weights belong to another architecture")
    network.set_weights(found)


def load_generator(path: str | os.PathLike, precision: str = "float32") -> keras.Model:
    """The pix2pix generator of a weights file, published or written here, built to fit the shapes found in it.

    Raises:
        InputError: as `weights.describe`, or if the file holds another network.
    """
    description = weights.describe(path)
    if description.network != weights.UNET:
        raise InputError(f"{path}: expected the weights of a generator, found those of a {description.network}")
    generator = build_generator(description.in_channels, description.base_filters, precision)
    load_into(generator, path)
    return generator
