"""The training step: networks, the compiled update of their weights by one batch, optimizers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TypeAlias

import tensorflow as tf
from tensorflow import keras

import losses
import model

Optimizer: TypeAlias = keras.optimizers.Optimizer


# --- the update -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Networks:
    """What is trained.

    Attributes:
        generator: maps (batch, bins, frames, channels) to (batch, bins, frames, 1), both in [-1, 1].
        discriminator: judges (channel 0 of the input, spectrogram); None trains the generator alone.
        objective: the losses of both networks and their weights.
        generator_optimizer, discriminator_optimizer: Keras optimizers; the loop sets their learning rate at every step.
        instance_noise: standard deviation of the noise added to every spectrogram that the discriminator judges.
    """

    generator: keras.Model
    discriminator: keras.Model | None
    objective: losses.Objective
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer | None = None
    instance_noise: float = 0.0

    def variables(self) -> Iterator[tuple[str, keras.Variable]]:
        """Everything that changes during training, by name: weights, moments, dropout seeds, loss scale."""
        parts = {"generator": self.generator, "generator_optimizer": self.generator_optimizer}
        if self.discriminator is not None:
            parts |= {"discriminator": self.discriminator, "discriminator_optimizer": self.discriminator_optimizer}
        for part, owner in parts.items():
            for index, variable in enumerate(owner.variables):
                yield f"{part}/{index:03d}", variable


def make_step(networks: Networks, seed: int = 0) -> Callable:
    """The compiled update of both networks by one batch. The optimizers' variables are created here.

    Returns:
        A function of (inputs, target, generator's learning rate, discriminator's, step number) that returns the losses
        by name: those of the objective, ``generator_loss``, ``discriminator_loss`` and ``mae``.
    """
    generator, generator_optimizer = networks.generator, networks.generator_optimizer
    discriminator, discriminator_optimizer = networks.discriminator, networks.discriminator_optimizer
    generator_optimizer.build(generator.trainable_variables)
    if discriminator is not None and discriminator_optimizer is not None:
        discriminator_optimizer.build(discriminator.trainable_variables)

    @tf.function(reduce_retracing=True, autograph=False)
    def step(inputs, target, generator_rate, discriminator_rate, number):
        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            outcome = forward(networks, inputs, target, True, seed, number)
            generator_loss, terms = losses.evaluate(networks.objective.generator, outcome)
            if discriminator is not None:
                discriminator_loss, _ = losses.evaluate(networks.objective.discriminator, outcome)
        # Both gradients are taken at the weights from before the step, as published.
        update(generator_tape, generator_loss, generator, generator_optimizer, generator_rate)
        values = {"generator_loss": generator_loss, "mae": losses.l1(outcome), **terms}
        if discriminator is not None:
            update(discriminator_tape, discriminator_loss, discriminator, discriminator_optimizer, discriminator_rate)
            values["discriminator_loss"] = discriminator_loss
        return values

    return step


def forward(
    networks: Networks, inputs: tf.Tensor, target: tf.Tensor, training: bool = False, seed: int = 0, number: int = 0
) -> losses.Outcome:
    """The generator's output for one batch, and what the discriminator says of it and of the target.

    In `training`, instance noise is drawn from `seed` and the `number` of the step.
    """
    output = networks.generator(inputs, training=training)
    if networks.discriminator is None:
        return losses.Outcome(target, output)
    shown = [target, output]
    if training and networks.instance_noise:
        seeds = [tf.stack([seed, 2 * number + index]) for index in range(2)]
        noise = [tf.random.stateless_normal(tf.shape(target), s, stddev=networks.instance_noise) for s in seeds]
        shown = [target + noise[0], output + noise[1]]
    judged = [model.discriminate(networks.discriminator, inputs[..., :1], x, training) for x in shown]
    return losses.Outcome(target, output, *judged)


def update(tape: tf.GradientTape, loss: tf.Tensor, network: keras.Model, optimizer: Optimizer, rate: tf.Tensor) -> None:
    """Update the weights of a network by one step down the gradient of its loss."""
    variables = network.trainable_variables
    scale = optimizer.scale_loss(tf.ones_like(loss))  # 1, but for a LossScaleOptimizer (mixed_float16)
    gradients = tape.gradient(loss, variables, output_gradients=scale)
    optimizer.learning_rate.assign(rate)
    optimizer.apply(gradients, variables)


def make_evaluation(networks: Networks) -> Callable:
    """The compiled losses of one batch in inference mode: a function of (inputs, target) that returns them by name."""

    @tf.function(reduce_retracing=True, autograph=False)
    def evaluation(inputs, target):
        outcome, objective = forward(networks, inputs, target), networks.objective
        values = {"val_mae": losses.l1(outcome)}
        values["val_generator_loss"], _ = losses.evaluate(objective.generator, outcome)
        if networks.discriminator is not None:
            values["val_discriminator_loss"], _ = losses.evaluate(objective.discriminator, outcome)
        values["val_copy_mae"] = losses.l1(losses.Outcome(target, inputs[..., :1]))  # if the input were the output
        return values

    return evaluation


# --- optimizers -------------------------------------------------------------------------------------------------------


def rate_factor(schedule: str, step: int, n_steps: int) -> float:
    """Factor in (0, 1] that the learning rate is multiplied by at step `step`, counted from 0, of a run of `n_steps`.

    Args:
        schedule: "constant": the full rate. "linear": up from zero over the first 5 % of the steps, the full rate to
            the middle, then down to zero at the end. "decay": the full rate to the middle, then down to zero at the
            end, as hum2guitar was trained (100 epochs each).
    """
    if schedule == "constant":
        return 1.0
    warm_up = max(1.0, 0.05 * n_steps) if schedule == "linear" else 1.0
    decay = max(1.0, n_steps / 2)
    return min(1.0, (step + 1) / warm_up, max(n_steps - step, 1) / decay)


def scaled(optimizer: Optimizer, precision: str) -> Optimizer:
    """The optimizer, with a loss scale if gradients are computed in float16, which would lose the small ones."""
    return keras.optimizers.LossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer


class Adam(keras.optimizers.Adam):
    """Keras' Adam (Kingma & Ba, 2015), with one fused operation for each variable.

    The fused operation reads and writes the moments once, where Keras runs one operation after another. With Keras' own
    Adam and batch normalisation (see `model.FusedBatchNormalization`), a compiled step takes 27 % longer at 16 filters
    and 16 % at 64 in bfloat16, 17 % and 7 % in float32 (batch 8, on a CPU with bfloat16 instructions).
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, tf.float32)
        beta_1, beta_2 = tf.constant(self.beta_1, tf.float32), tf.constant(self.beta_2, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
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

    m = b1 m + (1 - b1) g;  s = b2 s + (1 - b2) (g - m)^2 + epsilon;  the step is the learning rate times
    m / (1 - b1^t) / (sqrt(s / (1 - b2^t)) + epsilon). It is large where gradients stay close to their average.
    """

    def __init__(self, learning_rate: float = 2e-4) -> None:
        super().__init__(learning_rate, beta_1=0.5, beta_2=0.999, epsilon=1e-12)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
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
