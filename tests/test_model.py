"""The networks against a forward pass in plain TensorFlow operations, and their weights files."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from made_weights import arrays_of, fill, patchgan_table, published_table, write_published

import model
from common import InputError, weights

SLOPE, EPSILON = 0.3, 1e-3


def norm(x, gamma, beta, mean, variance):
    return gamma * (x - mean) / tf.sqrt(variance + EPSILON) + beta


def leaky(x):
    return tf.where(x > 0, x, SLOPE * x)


def transpose(x, kernel):
    n, height, width, _ = x.shape
    return tf.nn.conv2d_transpose(x, kernel, (n, 2 * height, 2 * width, kernel.shape[2]), 2, "SAME")


def plain_unet(arrays, x):
    """Inference of the published generator, from its arrays in the order of the file."""
    arrays = iter(arrays)
    x = leaky(tf.nn.conv2d(x, next(arrays), 2, "SAME"))
    skips = [x]
    for _ in range(7):
        x = leaky(norm(tf.nn.conv2d(x, next(arrays), 2, "SAME"), *(next(arrays) for _ in range(4))))
        skips.append(x)
    for skip in skips[-2::-1]:
        x = tf.nn.relu(norm(transpose(x, next(arrays)), *(next(arrays) for _ in range(4))))
        x = tf.concat([x, skip], -1)
    x = tf.tanh(transpose(x, next(arrays)) + next(arrays))
    assert next(arrays, None) is None
    return x.numpy()


def plain_patchgan(arrays, condition, spectrogram):
    """Inference of the published discriminator: logits."""
    arrays = iter(arrays)
    x = leaky(tf.nn.conv2d(tf.concat([condition, spectrogram], -1), next(arrays), 2, "SAME"))
    for _ in range(3):
        x = leaky(norm(tf.nn.conv2d(x, next(arrays), 2, "SAME"), *(next(arrays) for _ in range(4))))
    return (tf.nn.conv2d(x, next(arrays), 1, "SAME") + next(arrays)).numpy()


def slices(channels, frames=256):
    return np.random.default_rng(1).uniform(-1, 1, (2, 256, frames, channels)).astype(np.float32)


@pytest.mark.parametrize("in_channels", [1, 2])
def test_published_file_gives_the_published_output(tmp_path, in_channels):
    path = tmp_path / "generator.h5"
    arrays = write_published(path, published_table(in_channels, 4))
    generator, x = model.load_generator(path), slices(in_channels, 512)  # any multiple of 256
    expected = plain_unet(arrays, tf.constant(x))
    assert expected.std() > 0.05
    np.testing.assert_allclose(generator(x, training=False).numpy(), expected, atol=1e-5, rtol=0)
    plain = model.build_generator(in_channels, 4)
    plain.load_weights(path)  # as Keras itself reads it
    np.testing.assert_array_equal(plain(x, training=False), generator(x, training=False))


def test_file_written_here_is_a_published_one(tmp_path):
    generator = model.build_generator(2, 3, seed=1)
    model.save(generator, tmp_path / "g.h5", {"origin": "a", "targets": ["b"]})
    found = weights.read(tmp_path / "g.h5")
    assert [(layer, [(name, array.shape) for name, array in arrays.items()]) for layer, arrays in found.items()] == [
        (layer, members) for layer, members in published_table(2, 3)
    ]
    x, expected = slices(2), generator(slices(2), training=False).numpy()
    np.testing.assert_allclose(plain_unet(arrays_of(tmp_path / "g.h5"), tf.constant(x)), expected, atol=1e-5, rtol=0)
    assert np.array_equal(model.load_generator(tmp_path / "g.h5")(x, training=False).numpy(), expected)
    description = weights.describe(tmp_path / "g.h5")
    assert (description.in_channels, description.base_filters, description.settings["targets"]) == (2, 3, ["b"])
    with pytest.raises(InputError):
        model.load_into(model.build_generator(1, 3), tmp_path / "g.h5")


def test_discriminator_file_and_output(tmp_path):
    rng = np.random.default_rng(0)
    layers = fill(patchgan_table(3), lambda _, shape: rng.uniform(0.5, 1.5, shape))
    weights.write(tmp_path / "d.h5", layers, {})
    assert weights.describe(tmp_path / "d.h5").network == weights.PATCHGAN
    discriminator, (x, y) = model.build_discriminator(3), rng.uniform(-1, 1, (2, 1, 256, 256, 1)).astype(np.float32)
    model.load_into(discriminator, tmp_path / "d.h5")
    [maps] = model.discriminate(discriminator, x, y, training=False)
    assert [tuple(m.shape[1:]) for m in maps] == [(128, 128, 3), (64, 64, 6), (32, 32, 12), (16, 16, 24), (16, 16, 1)]
    expected = plain_patchgan(arrays_of(tmp_path / "d.h5"), x, y)
    np.testing.assert_allclose(maps[-1].numpy(), expected, rtol=1e-4)
    model.save(discriminator, tmp_path / "again.h5", {})
    found = weights.read(tmp_path / "again.h5")
    assert [(name, list(arrays)) for name, arrays in found.items()] == [(name, list(layers[name])) for name in layers]
    with pytest.raises(InputError):
        model.load_generator(tmp_path / "d.h5")


def test_networks_of_full_size_have_the_published_number_of_parameters():
    """Of two input channels, the table that the other tests compare with."""
    assert model.build_generator(1, 64, seed=0).count_params() == 54_419_713
    assert model.build_discriminator(64, seed=0).count_params() == 2_766_337
    assert sum(np.prod(shape) for _, arrays in published_table(2, 64) for _, shape in arrays) == 54_420_737


def test_a_keras_file_loads_without_this_project(tmp_path):
    generator = model.build_generator(base_filters=2, seed=1)
    generator.save(tmp_path / "g.keras")
    np.save(tmp_path / "x.npy", slices(1))
    code = (
        "import numpy, tensorflow; g = tensorflow.keras.models.load_model('g.keras');"
        "numpy.save('y.npy', g(numpy.load('x.npy'), training=False))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    expected = generator(slices(1), training=False)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, atol=1e-6)
    fused = model.build_generator(base_filters=2, seed=1, batch_norm=model.FusedBatchNormalization)
    fused.save(tmp_path / "fused.keras")
    again = tf.keras.models.load_model(tmp_path / "fused.keras")  # where model.py is imported
    np.testing.assert_array_equal(again(slices(1), training=False), fused(slices(1), training=False))


def test_weights_are_drawn_as_published():
    kernels = [w.numpy() for w in model.build_generator(1, 16, seed=3).weights if w.path.endswith("kernel")]
    for kernel in kernels:
        assert abs(kernel.mean()) < 4 * 0.02 / np.sqrt(kernel.size)
        assert abs(kernel.std() / 0.02 - 1) < 4 / np.sqrt(2 * kernel.size)


def test_dropout_of_half_is_in_the_first_three_blocks_upwards():
    """Between normalisation and ReLU; inference shows nothing of it."""
    blocks = [part.layers for part in model.build_generator(1, 2).layers if isinstance(part, tf.keras.Sequential)]
    found = [[type(layer).__name__ for layer in block] for block in blocks]
    up = ["Conv2DTranspose", "BatchNormalization", "ReLU"]
    assert found[8:] == [[*up[:2], "Dropout", up[2]]] * 3 + [up] * 4
    assert [block[2].rate for block in blocks[8:11]] == [0.5] * 3


def test_seed_gives_the_weights_and_the_dropout():
    x = slices(1)
    first, same, other = (model.build_generator(1, 2, seed=seed) for seed in (1, 1, 2))
    of_first = first(x, training=True).numpy()
    assert np.array_equal(of_first, same(x, training=True).numpy())
    assert not np.array_equal(of_first, first(x, training=True).numpy())  # another draw of the dropout
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])


@pytest.mark.parametrize(
    ("precision", "shape"),
    [("float32", (1, 1, 1, 6)), ("mixed_bfloat16", (8, 1, 1, 6)), ("mixed_float16", (2, 4, 4, 6))],
)
def test_fused_batch_norm_is_keras_own(precision, shape):
    """Output, gradients and moving averages, also where there is one value a channel."""
    inputs = tf.constant(np.random.default_rng(0).normal(1, 2, shape).astype(np.float32))
    weighing = tf.constant(np.random.default_rng(1).normal(0, 1, shape).astype(np.float32))
    found = []
    for kind in (model.FusedBatchNormalization, tf.keras.layers.BatchNormalization):
        layer = kind(dtype=tf.keras.DTypePolicy(precision))
        layer.build(shape)
        layer.gamma.assign(np.arange(1, 7))
        layer.beta.assign(np.arange(6))
        x = tf.cast(inputs, layer.compute_dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = layer(x, training=True)
            loss = tf.reduce_sum(tf.cast(output, tf.float32) * weighing)
        gradients = tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])
        values = [output, *gradients, layer.moving_mean.value, layer.moving_variance.value, layer(x, training=False)]
        found.append([tf.cast(value, tf.float32).numpy() for value in values])
    for fused, own in zip(*found, strict=True):
        np.testing.assert_allclose(fused, own, atol=1e-5, rtol=1e-6 if precision == "float32" else 1e-2)
