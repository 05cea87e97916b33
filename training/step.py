"""The training step: networks, and the compiled update of their weights by one batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import tensorflow as tf

import losses
import model

keras = tf.keras


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
    generator_optimizer: keras.optimizers.Optimizer
    discriminator_optimizer: keras.optimizers.Optimizer | None = None
    instance_noise: float = 0.0

    def build(self) -> None:
        """Create the optimizers' variables, before the first step is traced and before a state is restored."""
        pairs = [(self.generator, self.generator_optimizer), (self.discriminator, self.discriminator_optimizer)]
        for network, optimizer in pairs:
            if network is not None and not optimizer.built:  # LossScaleOptimizer would add its own variables twice
                optimizer.build(network.trainable_variables)

    def variables(self) -> Iterator[tuple[str, keras.Variable]]:
        """Everything that changes during training, by name: weights, moments, dropout seeds, loss scale."""
        parts = {"generator": self.generator, "generator_optimizer": self.generator_optimizer}
        if self.discriminator is not None:
            parts |= {"discriminator": self.discriminator, "discriminator_optimizer": self.discriminator_optimizer}
        for part, owner in parts.items():
            for index, variable in enumerate(owner.variables):
                yield f"{part}/{index:03d}", variable


def make_step(networks: Networks, seed: int = 0) -> Callable:
    """The compiled update of both networks by one batch.

    Returns:
        A function of (inputs, target, generator's learning rate, discriminator's, step number) that returns the losses
        by name: those of the objective, ``generator_loss``, ``discriminator_loss`` and ``mae``. The gradients of both
        networks are taken at the same weights, as published.
    """
    generator, discriminator, objective = networks.generator, networks.discriminator, networks.objective

    def judge(inputs, spectrogram, noise_seed):
        if networks.instance_noise:
            noise = tf.random.stateless_normal(tf.shape(spectrogram), noise_seed, stddev=networks.instance_noise)
            spectrogram += noise
        return model.discriminate(discriminator, inputs[..., :1], spectrogram, training=True)

    def replica_step(inputs, target, number):
        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            # Forward: the generator's output, and what the discriminator says of the target and of the output.
            output = generator(inputs, training=True)
            real, fake = [], []
            if discriminator is not None:
                real = judge(inputs, target, tf.stack([seed, 2 * number]))
                fake = judge(inputs, output, tf.stack([seed, 2 * number + 1]))
            # Losses: sums of named terms with the weights of the objective (losses.py).
            outcome = losses.Outcome(target, output, real, fake)
            generator_loss, terms = losses.evaluate(objective.generator, outcome)
            scaled = _scale(networks.generator_optimizer, generator_loss)
            if discriminator is not None:
                discriminator_loss, _ = losses.evaluate(objective.discriminator, outcome)
                discriminator_scaled = _scale(networks.discriminator_optimizer, discriminator_loss)
        # Updates: both networks, each down the gradient of its own loss.
        trainable = generator.trainable_variables
        networks.generator_optimizer.apply(generator_tape.gradient(scaled, trainable), trainable)
        values = {"generator_loss": generator_loss, "mae": losses.l1(outcome), **terms}
        if discriminator is not None:
            trainable = discriminator.trainable_variables
            gradient = discriminator_tape.gradient(discriminator_scaled, trainable)
            networks.discriminator_optimizer.apply(gradient, trainable)
            values["discriminator_loss"] = discriminator_loss
        return values

    @tf.function(reduce_retracing=True, autograph=False)
    def step(inputs, target, generator_rate, discriminator_rate, number):
        strategy = tf.distribute.get_strategy()
        _set_rate(networks.generator_optimizer, generator_rate)
        if discriminator is not None:
            _set_rate(networks.discriminator_optimizer, discriminator_rate)
        values = strategy.run(replica_step, (inputs, target, number))
        return {name: strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None) for name, value in values.items()}

    return step


def _scale(optimizer: keras.optimizers.Optimizer, loss: tf.Tensor) -> tf.Tensor:
    """The loss to take gradients of: multiplied by the loss scale if the optimizer has one (mixed_float16).

    It is divided by the number of replicas, because optimizers add up the gradients of all replicas.
    """
    return optimizer.scale_loss(loss) / tf.distribute.get_strategy().num_replicas_in_sync


def _set_rate(optimizer: keras.optimizers.Optimizer, rate: tf.Tensor) -> None:
    getattr(optimizer, "inner_optimizer", optimizer).learning_rate.assign(rate)


def make_evaluation(networks: Networks) -> Callable:
    """The compiled losses of one batch in inference mode: a function of (inputs, target) that returns them by name."""
    generator, discriminator, objective = networks.generator, networks.discriminator, networks.objective

    @tf.function(reduce_retracing=True, autograph=False)
    def evaluation(inputs, target):
        output = generator(inputs, training=False)
        real, fake = [], []
        if discriminator is not None:
            real = model.discriminate(discriminator, inputs[..., :1], target, training=False)
            fake = model.discriminate(discriminator, inputs[..., :1], output, training=False)
        outcome = losses.Outcome(target, output, real, fake)
        values = {"val_mae": losses.l1(outcome)}
        values["val_generator_loss"], _ = losses.evaluate(objective.generator, outcome)
        if discriminator is not None:
            values["val_discriminator_loss"], _ = losses.evaluate(objective.discriminator, outcome)
        return values

    return evaluation


def copy_error(inputs: tf.Tensor, target: tf.Tensor) -> dict[str, tf.Tensor]:
    """The mean absolute error of a batch if the input itself were the output."""
    return {"mae": tf.reduce_mean(tf.abs(target - inputs[..., :1]))}
