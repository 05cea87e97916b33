"""The folded forward passes against the Keras network, and the weights that they refuse."""

import numpy as np
import pytest

import model
from common import weights
from common.errors import InputError
from conversion.network import compiled, fold_batch_norm, load_network, tensorflow_unet


def slices(shape, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize(("in_channels", "base_filters", "shape"), [(1, 4, (3, 256, 256, 1)), (2, 3, (1, 256, 512, 2))])
def test_folded_passes_equal_the_keras_network(tmp_path, write_generator, in_channels, base_filters, shape):
    path = write_generator(tmp_path / "generator.h5", in_channels, base_filters)
    x = slices(shape)
    expected = np.asarray(model.load_generator(path)(x, training=False))
    assert expected.std() > 0.05  # the comparison would see a difference
    np.testing.assert_allclose(load_network(path)(x), expected, atol=1e-5)
    unet = fold_batch_norm(path)
    np.testing.assert_allclose(tensorflow_unet(unet)(x), expected, atol=1e-5)
    # bfloat16 has 8 bits of mantissa: the layers' rounding errors add up to a few hundredths.
    np.testing.assert_allclose(load_network(path, "mixed_bfloat16")(x), expected, atol=0.1)


def test_numpy_network_serves_changing_batches_and_leaves_its_input_alone(tmp_path, write_generator):
    network = load_network(write_generator(tmp_path / "generator.h5"))
    x = slices((4, 256, 256, 1))
    kept = x.copy()
    four = network(x)
    one = network(x[2:3])
    np.testing.assert_allclose(network(x)[:, 0], four[:, 0], atol=1e-6)
    np.testing.assert_allclose(one[0], four[2], atol=1e-5)
    np.testing.assert_array_equal(x, kept)


def test_compiled_follows_a_live_model_through_one_trace(tmp_path, write_generator):
    live = model.load_generator(write_generator(tmp_path / "a.h5", seed=1))
    traces = []

    def counting(x):
        traces.append(x.shape)
        return live(x, training=False)

    network = compiled(counting, batch_size=2)
    x = slices((5, 256, 256, 1))
    before = network(x)
    np.testing.assert_allclose(before, np.asarray(live(x, training=False)), atol=1e-5)
    model.load_into(live, write_generator(tmp_path / "b.h5", seed=2))
    after = network(x[:1])
    np.testing.assert_allclose(after, np.asarray(live(x[:1], training=False)), atol=1e-5)
    assert np.abs(after - before[:1]).max() > 0.01
    assert len(traces) == 1


def test_inputs_that_the_network_cannot_halve_eight_times_are_named(tmp_path, write_generator):
    with pytest.raises(ValueError, match="256 x 300"):
        load_network(write_generator(tmp_path / "generator.h5"))(np.zeros((1, 256, 300, 1), np.float32))


def test_refuses_damaged_weights_other_networks_and_unknown_precisions(tmp_path, write_generator):
    path = write_generator(tmp_path / "generator.h5")
    groups = [(name, [(f"{i}/w:0", array) for i, array in enumerate(arrays)]) for name, arrays in weights.read(path)]
    groups[5][1][0][1][0, 0, 0, 0] = np.nan
    weights.write(tmp_path / "nan.h5", groups, {})
    with pytest.raises(InputError, match=f"finite weights, found NaN or infinite ones in layer {groups[5][0]}"):
        load_network(tmp_path / "nan.h5")
    model.save(model.build_discriminator(2), tmp_path / "discriminator.h5", {})
    with pytest.raises(InputError, match="expected the weights of a generator, found those of a patchgan"):
        load_network(tmp_path / "discriminator.h5")
    with pytest.raises(InputError, match="float16"):
        load_network(path, "float16")
