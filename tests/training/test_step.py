"""Optimizers against Keras' and by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf

from training import step

keras = tf.keras


def run(optimizer, gradients, rates, start):
    """The variables after each step; those of `start` are updated together."""
    variables = [keras.Variable(value) for value in start]
    optimizer.build(variables)
    found = []
    for row, rate in zip(gradients, rates, strict=True):
        optimizer.learning_rate.assign(rate)
        optimizer.apply([tf.constant(g) for g in row], variables)
        found.append([variable.numpy() for variable in variables])
    return found


@pytest.mark.parametrize("beta_1", [0.9, 0.5])
def test_fused_adam_is_keras_adam(beta_1):
    rng = np.random.default_rng(0)
    start, steps = [rng.normal(0, 1, shape).astype(np.float32) for shape in ((3, 4), (5,))], range(12)
    gradients = [[rng.normal(0, 10.0**-n, v.shape).astype(np.float32) for n, v in enumerate(start)] for _ in steps]
    rates = rng.uniform(1e-4, 1e-1, len(steps))
    ours = run(step.Adam(beta_1=beta_1), gradients, rates, start)
    theirs = run(keras.optimizers.Adam(beta_1=beta_1), gradients, rates, start)
    for of_ours, of_theirs in zip(ours, theirs, strict=True):
        for a, b in zip(of_ours, of_theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert np.abs(ours[-1][0] - start[0]).max() > 0.1


def test_the_discriminator_sees_noise_in_training_alone(monkeypatch):
    """Another one for the target and the output, and in each step; the same for the same step, so that runs resume."""
    seen, spectrogram = [], tf.zeros((1, 256, 256, 1))
    monkeypatch.setattr("model.discriminate", lambda *given: seen.append(given[2].numpy()))
    networks = step.Networks(lambda x, training: x, "discriminator", None, None, instance_noise=0.1)
    for training, number in ((True, 0), (True, 1), (True, 0), (False, 0)):
        step.forward(networks, spectrogram, spectrogram, training, 3, number)
    assert [x.std() for x in seen] == pytest.approx([0.1] * 6 + [0] * 2, rel=0.02)
    assert len({x.tobytes() for x in seen[:6]}) == 4
    assert np.array_equal(seen[0], seen[4])


def test_loss_scale_skips_a_step_that_overflowed():
    """As with mixed_float16: an infinite gradient leaves the weights alone and halves the scale."""
    optimizer = keras.optimizers.LossScaleOptimizer(step.Adam(), initial_scale=8.0)
    variable = keras.Variable(np.ones(2, np.float32))
    optimizer.build([variable])
    optimizer.learning_rate.assign(0.1)
    optimizer.apply([tf.constant([np.inf, 1.0])], [variable])
    assert np.array_equal(variable.numpy(), [1, 1])
    optimizer.apply([tf.constant([4.0, -4.0])], [variable])
    np.testing.assert_allclose(variable.numpy(), [0.9, 1.1], atol=1e-6)
    assert float(optimizer.scale_loss(tf.constant(1.0))) == 4.0


def test_schedules_by_hand():
    """Linear, 100 steps: five up, full to step 50, then down a fiftieth a step to zero just after the last."""
    linear = [step.rate_factor("linear", n, 100) for n in range(100)]
    assert linear[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert set(linear[5:51]) == {1.0}
    assert [linear[n] for n in (51, 75, 98, 99)] == pytest.approx([0.98, 0.5, 0.04, 0.02])
    decay = [step.rate_factor("decay", n, 200) for n in (0, 50, 100, 150, 199)]
    assert decay == pytest.approx([1, 1, 1, 0.5, 0.01])
    for n_steps in (1, 2, 3, 7, 20):  # short runs never stand still
        factors = [step.rate_factor("linear", n, n_steps) for n in range(n_steps)]
        assert min(factors) > 0
        assert max(factors) == 1


def test_adabelief_takes_the_hand_computed_steps():
    variable = keras.Variable(np.array([1.0, -2.0], np.float32))
    optimizer = step.AdaBelief(learning_rate=0.1)
    optimizer.build([variable])
    optimizer.apply([tf.constant([4.0, -1.0])], [variable])
    # m = g / 2, s = 0.001 (g / 2)^2; unbiased: g and (g / 2)^2: a step of twice the rate against the gradient's sign.
    np.testing.assert_allclose(variable.numpy(), [1 - 0.2, -2 + 0.2], rtol=1e-5)
    optimizer.apply([tf.constant([2.0, -1.0])], [variable])
    # First: m = 1 + 1 = 2, / 0.75; s = 0.999 * 0.004 + 0.001 * 0, / (1 - 0.999^2).
    # Second: m = -0.25 - 0.5 = -0.75, / 0.75; s = 0.999 * 0.00025 + 0.001 * 0.0625, / (1 - 0.999^2).
    correction = 1 - 0.999**2
    first = 0.8 - 0.1 * (2 / 0.75) / math.sqrt(0.003996 / correction)
    second = -1.8 + 0.1 * 1.0 / math.sqrt(0.00031225 / correction)
    np.testing.assert_allclose(variable.numpy(), [first, second], rtol=1e-4)
