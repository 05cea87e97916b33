"""The fused Adam against Keras' own; AdaBelief and the schedules by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf

from training import optimizers

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


def drawn(n_steps, seed=0):
    rng = np.random.default_rng(seed)
    start = [rng.normal(0, 1, shape).astype(np.float32) for shape in ((3, 4), (5,))]
    gradients = [
        [rng.normal(0, 10.0**-n, v.shape).astype(np.float32) for n, v in enumerate(start)] for _ in range(n_steps)
    ]
    return start, gradients, rng.uniform(1e-4, 1e-1, n_steps)


@pytest.mark.parametrize("beta_1", [0.9, 0.5])
def test_fused_adam_is_keras_adam(beta_1):
    start, gradients, rates = drawn(12)
    ours = run(optimizers.Adam(beta_1=beta_1), gradients, rates, start)
    theirs = run(keras.optimizers.Adam(beta_1=beta_1), gradients, rates, start)
    for step in range(12):
        for a, b in zip(ours[step], theirs[step], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert np.abs(ours[-1][0] - start[0]).max() > 0.1


def test_two_steps_by_hand():
    g1, g2, b1, b2, rate = 2.0, -1.0, 0.5, 0.999, 0.1
    m = b1 * (1 - b1) * g1 + (1 - b1) * g2
    v = b2 * (1 - b2) * g1**2 + (1 - b2) * g2**2
    second = rate * (m / (1 - b1**2)) / (np.sqrt(v / (1 - b2**2)) + 1e-7)
    steps = run(optimizers.Adam(beta_1=b1), [[np.array([g1], np.float32)], [np.array([g2], np.float32)]], [rate] * 2, [np.ones(1, np.float32)])  # fmt: skip  # noqa: E501
    assert steps[1][0][0] == pytest.approx(1 - rate - second, rel=1e-5)


def test_loss_scale_skips_a_step_that_overflowed():
    """As with mixed_float16: an infinite gradient leaves the weights alone and halves the scale."""
    optimizer = keras.optimizers.LossScaleOptimizer(optimizers.Adam(), initial_scale=8.0)
    variable = keras.Variable(np.ones(2, np.float32))
    optimizer.build([variable])
    optimizer.inner_optimizer.learning_rate.assign(0.1)
    optimizer.apply([tf.constant([np.inf, 1.0])], [variable])
    assert np.array_equal(variable.numpy(), [1, 1])
    optimizer.apply([tf.constant([4.0, -4.0])], [variable])
    np.testing.assert_allclose(variable.numpy(), [0.9, 1.1], atol=1e-6)
    assert float(optimizer.scale_loss(tf.constant(1.0))) == 4.0


def test_linear_schedule_by_hand():
    """100 steps: five up, full to step 50, then down a fiftieth a step to zero just after the last."""
    factor = optimizers.Schedule("linear", 100).factor
    assert [factor(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert {factor(step) for step in range(5, 51)} == {1.0}
    assert [factor(step) for step in (51, 75, 98, 99)] == pytest.approx([0.98, 0.5, 0.04, 0.02])


@pytest.mark.parametrize("n_steps", [1, 2, 3, 7, 20])
def test_linear_schedule_of_short_runs_never_stands_still(n_steps):
    factors = [optimizers.Schedule("linear", n_steps).factor(step) for step in range(n_steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == 1


def test_adabelief_takes_the_hand_computed_steps():
    variable = keras.Variable(np.array([1.0, -2.0], np.float32))
    optimizer = optimizers.AdaBelief(learning_rate=0.1)
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


def test_the_decay_schedule_holds_to_the_middle_and_ends_at_zero():
    schedule = optimizers.Schedule("decay", 200)
    assert [schedule.factor(step) for step in (0, 50, 99, 100)] == [1.0] * 4
    assert schedule.factor(150) == pytest.approx(0.5)
    assert schedule.factor(199) == pytest.approx(0.01)
