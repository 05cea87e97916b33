"""The hum2guitar networks as published, layer by layer."""

import math

import numpy as np
import pytest
import tensorflow as tf

import model
from common import InputError
from hum2guitar import networks
from hum2guitar.harmonics import halve_bins

keras = tf.keras

# Output (bins, frames, filters) of layers at 64 base filters, for one segment of 216 frames.
GLOBAL = {
    **dict.fromkeys(("global_0", "global_up_0"), (256, 216, 64)),
    **dict.fromkeys(("global_1", "global_up_1"), (254, 214, 128)),
    **dict.fromkeys(("global_2", "global_up_2"), (252, 212, 256)),
    **{f"global_residual_{i}_{part}": (250, 210, 512) for i in range(3) for part in (1, 2)},
    "global_3": (250, 210, 512),
}
LOCAL = {
    **GLOBAL,
    **{f"local_residual_{i}_{part}": (256, 216, 64) for i in range(3) for part in (1, 2)},
    "local_down": (256, 216, 32),
    "local_1": (256, 216, 64),
    "local_add": (256, 216, 64),
    "local_up": (514, 218, 32),
    "local_last": (512, 216, 1),
}
DISCRIMINATOR = [
    [(255, 107, 64), (126, 52, 128), (62, 25, 256), (30, 11, 512), (31, 12, 1)],
    [(127, 107, 64), (62, 52, 128), (30, 25, 256), (14, 11, 512), (15, 12, 1)],
    [(63, 107, 64), (30, 52, 128), (14, 25, 256), (6, 11, 512), (7, 12, 1)],
]


def output_shapes(network: keras.Model, shape: tuple) -> dict:
    """Output shape of every layer for one input shape, without computing anything."""
    named = [layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)]
    all_outputs = keras.Model(network.inputs, [layer.output for layer in named])
    found = all_outputs.compute_output_spec(keras.KerasTensor((1, *shape)))
    return {layer.name: tuple(spec.shape[1:]) for layer, spec in zip(named, found, strict=True)}


@pytest.mark.parametrize(
    ("build", "bins", "expected", "n_parameters"),
    [
        (networks.build_global_generator, 256, {**GLOBAL, "global_last": (256, 216, 1)}, 17_257_985),
        (networks.build_local_enhancer, 512, LOCAL, 17_517_569),
    ],
)
def test_the_generators_are_the_published_ones(build, bins, expected, n_parameters):
    network = build()
    assert network.count_params() == n_parameters
    found = output_shapes(network, (bins, 216, 1))
    assert {name: found[name] for name in expected} == expected


def test_the_three_discriminators_are_the_published_ones():
    network = networks.build_multiscale_discriminator()
    assert network.count_params() == 8_291_139
    spectrogram = keras.KerasTensor((1, 512, 216, 1))
    scales = network.compute_output_spec([spectrogram, spectrogram])
    assert [[tuple(spec.shape[1:]) for spec in maps] for maps in scales] == DISCRIMINATOR


def test_a_discriminator_answers_with_a_list_a_scale_and_sees_both_inputs():
    network = networks.build_multiscale_discriminator(2, seed=1)
    x, y = tf.random.stateless_uniform((2, 1, 256, 96, 1), (0, 1), -1, 1)
    answer = model.discriminate(network, x, y, training=False)
    assert [len(maps) for maps in answer] == [5, 5, 5]
    for other in (model.discriminate(network, x, -y, training=False), model.discriminate(network, -x, y, False)):
        assert all(np.abs(a[-1] - b[-1]).max() > 1e-3 for a, b in zip(answer, other, strict=True))


def test_halving_and_padding_are_numpys():
    x = np.array([1.0, 2.0, 6.0, 4.0, 5.0, 9.0], np.float32)
    np.testing.assert_allclose(networks.halve_bins(x.reshape(1, 6, 1, 1))[0, :, 0], halve_bins(x[:, np.newaxis]))
    square = x.reshape(3, 2).repeat(2, axis=1)
    padded = networks.reflect_pad(square[np.newaxis, ..., np.newaxis], 2)[0, ..., 0]
    np.testing.assert_array_equal(padded, np.pad(square, 2, "reflect"))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_instance_norm_is_keras_group_normalization_of_single_channels(batch_size):
    x = tf.random.stateless_normal((batch_size, 7, 5, 4), (1, 2)) * [1.0, 10.0, 0.1, 3.0] + [0.0, 5.0, 1.0, -2.0]
    reference = keras.layers.GroupNormalization(groups=-1, epsilon=1e-5, center=False, scale=False)
    with tf.GradientTape() as tape, tf.GradientTape() as reference_tape:
        tape.watch(x)
        reference_tape.watch(x)
        ours, theirs = networks.InstanceNorm()(x), reference(x)
        loss, reference_loss = tf.reduce_sum(ours**3), tf.reduce_sum(theirs**3)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    np.testing.assert_allclose(tape.gradient(loss, x), reference_tape.gradient(reference_loss, x), atol=1e-3, rtol=1e-3)


def test_biases_start_at_a_hundredth_and_kernels_with_kaimings_spread():
    network = networks.build_global_generator(16, seed=3)
    kernel, bias = network.get_layer("global_residual_0_1").get_weights()
    assert (bias == np.float32(0.01)).all()
    assert kernel.std() == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.02)


def test_the_local_enhancer_takes_over_and_keeps_the_global_part(tmp_path):
    generator, enhancer = networks.build_global_generator(2, seed=1), networks.build_local_enhancer(2, seed=2)
    model.save(generator, tmp_path / "global.h5", {})
    networks.load_shared(enhancer, tmp_path / "global.h5")
    with pytest.raises(InputError):
        networks.load_shared(networks.build_local_enhancer(4), tmp_path / "global.h5")
    x = tf.random.stateless_uniform((1, 64, 24, 1), (0, 1), -1, 1)
    last = keras.Model(generator.inputs, generator.get_layer("global_up_0_relu").output)
    inside = keras.Model(enhancer.inputs, enhancer.get_layer("global_up_0_relu").output)
    np.testing.assert_allclose(inside(x), last(networks.halve_bins(x)), atol=1e-5)
