"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

keras = tf.keras


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Learning rate over the steps of a run.

    Attributes:
        kind: "constant"; or "linear": up from zero over the first 5 % of the steps, full rate to the middle, then down
            to zero by the last step; or "decay": full rate to the middle, then down to zero, as in hum2guitar: 100
            epochs and 100.
        n_steps: steps of the whole run.
    """

    kind: str
    n_steps: int

    def factor(self, step: int) -> float:
        """What the learning rate of step `step` (from 0) is multiplied by, in (0, 1]."""
        if self.kind == "constant":
            return 1.0
        warm_up = max(1.0, 0.05 * self.n_steps) if self.kind == "linear" else 1.0
        rest = max(1.0, self.n_steps / 2)
        return min(1.0, (step + 1) / warm_up, max(self.n_steps - step, 1) / rest)


class Adam(keras.optimizers.Adam):
    """Keras' Adam (Kingma & Ba, 2015; same formula, same epsilon 1e-7), each variable updated by one fused operation.

    Reading and writing the moments once, instead of an operation at a time, matters with 54 million parameters.
    """

    def update_step(self, gradient, variable, learning_rate) -> None:
        if tf.distribute.has_strategy():  # the fused operation knows nothing of mirrored variables
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, tf.float32)
        beta_1, beta_2 = tf.constant(self.beta_1, tf.float32), tf.constant(self.beta_2, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[index]),
            v=_handle(self._velocities[index]),
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.constant(self.epsilon, tf.float32),
            grad=tf.cast(gradient, tf.float32),
        )


class AdaBelief(keras.optimizers.Adam):
    """AdaBelief (Zhuang et al., 2020) with hum2guitar's settings, without weight decay and rectification.

    m = b1 m + (1 - b1) g;  s = b2 s + (1 - b2) (g - m)^2 + epsilon;  the step is the rate times
    m / (1 - b1^t) / (sqrt(s / (1 - b2^t)) + epsilon): long where the gradient is what its average foretold.
    """

    def __init__(self, learning_rate=2e-4, beta_1=0.5, beta_2=0.999, epsilon=1e-12, name="adabelief", **kwargs) -> None:
        super().__init__(learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, name=name, **kwargs)

    def update_step(self, gradient, variable, learning_rate) -> None:
        index = self._get_variable_index(variable)
        mean, spread = self._momentums[index], self._velocities[index]
        gradient, rate = tf.cast(gradient, variable.dtype), tf.cast(learning_rate, variable.dtype)
        step = tf.cast(self.iterations.value + 1, variable.dtype)
        new_mean = mean + (gradient - mean) * (1 - self.beta_1)
        deviation = tf.square(gradient - new_mean)
        new_spread = spread + (deviation - spread) * (1 - self.beta_2) + self.epsilon
        self.assign(mean, new_mean)
        self.assign(spread, new_spread)
        unbiased_mean = new_mean / (1 - tf.pow(tf.cast(self.beta_1, variable.dtype), step))
        unbiased_spread = new_spread / (1 - tf.pow(tf.cast(self.beta_2, variable.dtype), step))
        self.assign_sub(variable, rate * unbiased_mean / (tf.sqrt(unbiased_spread) + self.epsilon))


def _handle(variable) -> tf.Tensor:
    """The resource of a Keras or TensorFlow variable."""
    return getattr(variable, "value", variable).handle if isinstance(variable, keras.Variable) else variable.handle
