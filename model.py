"""The U-Net generator and the PatchGAN discriminator, and reading and writing of weights files.

Pix2Pix (Isola et al., 2017) as in hmartelb/Pix2Pix-Timbre-Transfer: all kernels 4x4, no bias except in the last layer,
weights drawn from N(0, 0.02), LeakyReLU slope 0.3, batch normalisation with Keras' defaults. Spectrograms are (batch,
bins, frames, channels) in [-1, 1]; bins and frames of the generator's input may be any multiple of 256.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from tensorflow import keras

from common import InputError, weights

layers = keras.layers
BatchNorm = Callable[..., keras.layers.Layer]  # a class of layers


def build_generator(
    in_channels: int = 1,
    base_filters: int = 64,
    precision: str = "float32",
    seed: int | None = None,
    batch_norm: BatchNorm = layers.BatchNormalization,
) -> keras.Model:
    """U-Net generator: (batch, 256 k, 256 m, in_channels) in [-1, 1] to (batch, 256 k, 256 m, 1) in [-1, 1], float32.

    54 419 713 parameters with one input channel and 64 base filters, 54 420 737 with two.

    Args:
        in_channels: 1, or 2 for multitarget: origin and style.
        base_filters: filters of the first layer; the other layers have multiples of it.
        precision: float32, mixed_bfloat16 or mixed_float16: what layers compute in; variables are float32.
        seed: of the weights and of dropout; None draws one.
        batch_norm: class of the batch normalisation layers; training takes `FusedBatchNormalization`.
    """
    blocks, f = _Blocks(precision, seed, batch_norm), base_filters
    inputs = layers.Input((None, None, in_channels), name="input_1")
    x = inputs
    skips: list = []
    for filters in (f, 2 * f, 4 * f, 8 * f, 8 * f, 8 * f, 8 * f, 8 * f):
        x = blocks.down(filters, is_normalised=bool(skips))(x)
        skips.append(x)
    concatenate = layers.Concatenate(name="concatenate", dtype=blocks.policy)
    for index, filters in enumerate((8 * f, 8 * f, 8 * f, 8 * f, 4 * f, 2 * f, f)):
        x = blocks.up(filters, has_dropout=index < 3)(x)
        x = concatenate([x, skips[6 - index]])
    outputs = blocks.convolution(layers.Conv2DTranspose, 1, is_last=True, activation="tanh")(x)
    return keras.Model(inputs, outputs, name=weights.UNET)


def build_discriminator(
    base_filters: int = 64,
    precision: str = "float32",
    seed: int | None = None,
    batch_norm: BatchNorm = layers.BatchNormalization,
) -> keras.Model:
    """PatchGAN discriminator: [condition, spectrogram], each (batch, 256, 256, 1), to its feature maps, logits last.

    2 766 337 parameters with 64 base filters; the logits are (batch, 16, 16, 1), float32. Arguments as
    `build_generator`.
    """
    blocks = _Blocks(precision, seed, batch_norm)
    condition, spectrogram = (layers.Input((None, None, 1), name=name) for name in ("input_1", "input_2"))
    x = layers.Concatenate(name="concatenate", dtype=blocks.policy)([condition, spectrogram])
    maps = []
    for index in range(4):
        x = blocks.down(base_filters * 2**index, is_normalised=index > 0)(x)
        maps.append(x)
    logits = blocks.convolution(layers.Conv2D, 1, strides=1, is_last=True)(x)
    return keras.Model([condition, spectrogram], [*maps, logits], name=weights.PATCHGAN)


class _Blocks:
    """The blocks of both networks, named as Keras names the layers of a new process: so are those of published files.

    Args:
        precision, seed, batch_norm: as of `build_generator`.
    """

    def __init__(self, precision: str, seed: int | None, batch_norm: BatchNorm) -> None:
        self.policy = keras.DTypePolicy(precision)
        self._seeds, self._batch_norm = draw_seeds(seed), batch_norm
        self._counts: collections.Counter = collections.Counter()

    def down(self, filters: int, is_normalised: bool) -> keras.Sequential:
        """Halves bins and frames: convolution, batch normalisation, leaky ReLU."""
        block = [self.convolution(layers.Conv2D, filters)]
        block += [self._normalisation()] if is_normalised else []
        return self._sequential([*block, layers.LeakyReLU(negative_slope=0.3, dtype=self.policy)])

    def up(self, filters: int, has_dropout: bool) -> keras.Sequential:
        """Doubles bins and frames: transposed convolution, batch normalisation, dropout, ReLU."""
        block = [self.convolution(layers.Conv2DTranspose, filters), self._normalisation()]
        block += [layers.Dropout(0.5, seed=next(self._seeds), dtype=self.policy)] if has_dropout else []
        return self._sequential([*block, layers.ReLU(dtype=self.policy)])

    def convolution(
        self, kind: type, filters: int, strides: int = 2, is_last: bool = False, activation: str | None = None
    ) -> keras.layers.Layer:
        """A 4x4 convolution; the last one of a network has a bias and computes in float32."""
        return kind(
            filters, 4, strides, padding="same", use_bias=is_last, activation=activation,
            kernel_initializer=keras.initializers.RandomNormal(0.0, 0.02, seed=next(self._seeds)),
            name=self._name("conv2d" if kind is layers.Conv2D else "conv2d_transpose"),
            dtype="float32" if is_last else self.policy,
        )  # fmt: skip

    def _normalisation(self) -> keras.layers.Layer:
        return self._batch_norm(name=self._name("batch_normalization"), dtype=self.policy)

    def _sequential(self, block: list[keras.layers.Layer]) -> keras.Sequential:
        return keras.Sequential(block, name=self._name("sequential"))

    def _name(self, kind: str) -> str:
        self._counts[kind] += 1
        return kind if self._counts[kind] == 1 else f"{kind}_{self._counts[kind] - 1}"


def discriminate(
    discriminator: keras.Model, condition: tf.Tensor, spectrogram: tf.Tensor, training: bool
) -> list[list[tf.Tensor]]:
    """Feature maps of a discriminator: one list for each of its scales, in which the logits come last."""
    maps = discriminator([condition, spectrogram], training=training)
    return list(maps) if isinstance(maps[0], (list, tuple)) else [list(maps)]


@keras.utils.register_keras_serializable("pix2pix_timbre_transfer")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalisation, with the same variables and values, computed by one fused operation in training.

    Keras 3 computes it by a dozen operations in float32, with which a compiled step takes 23 % longer at 16 filters in
    bfloat16 and 13 % in float32 (batch 8, on a CPU with bfloat16 instructions).
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


def draw_seeds(seed: int | None) -> Iterator[int]:
    """An endless sequence of seeds for layers, which `seed` determines."""
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(2**31))


def save(network: keras.Model, path: str | os.PathLike, settings: dict) -> None:
    """Write the weights of a network in the Keras 2 HDF5 layout, completely or not at all.

    `settings` is the file's description of itself (see common/weights.py), to which the network's name, base filters
    and input channels are added.
    """
    arrays = {
        layer.name: {f"{'/'.join(weight.path.split('/')[-2:])}:0": weight.numpy() for weight in layer.weights}
        for layer in network.layers
    }
    first = next(array for of_layer in arrays.values() for array in of_layer.values())  # of a convolution
    in_channels, base_filters = first.shape[2:]
    described = {"in_channels": in_channels, "base_filters": base_filters, **settings, "network": network.name}
    weights.write(path, arrays, described)


def load_into(network: keras.Model, path: str | os.PathLike) -> None:
    """Set the weights of `network` from a file, in the file's order.

    Raises:
        InputError: the file is not a weights file, or holds another network.
    """
    found = [array for arrays in weights.read(path).values() for array in arrays.values()]
    if [array.shape for array in found] != [tuple(weight.shape) for weight in network.weights]:
        raise InputError(f"{path}: these weights are of another network than the {network.name} that was asked for")
    network.set_weights(found)


def load_generator(path: str | os.PathLike) -> keras.Model:
    """The pix2pix generator of a weights file, published or written here, built to fit the shapes found in it.

    Raises:
        InputError: as `weights.describe`, or if the file holds another network.
    """
    description = weights.describe(path)
    if description.network != weights.UNET:
        raise InputError(f"{path}: expected the weights of a generator, found those of a {description.network}")
    generator = build_generator(description.in_channels, description.base_filters)
    load_into(generator, path)
    return generator
