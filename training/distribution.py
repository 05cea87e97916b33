"""Training on several devices of one machine, or on several machines."""

from __future__ import annotations

import tensorflow as tf

from common.errors import InputError


def make_strategy(name: str, batch_size: int) -> tf.distribute.Strategy:
    """The strategy that networks are built and trained under: "none", "mirrored" or "multiworker".

    Losses and batch normalisation are those of the whole batch, of which every replica gets an equal share.

    Raises:
        InputError: the replicas cannot share a batch equally.
    """
    strategies = {"mirrored": tf.distribute.MirroredStrategy, "multiworker": tf.distribute.MultiWorkerMirroredStrategy}
    strategy = strategies.get(name, tf.distribute.get_strategy)()
    n_replicas = strategy.num_replicas_in_sync
    if batch_size % n_replicas:
        raise InputError(f"--batch_size: expected a multiple of the {n_replicas} replicas, found {batch_size}")
    if name != "none":
        share = batch_size // n_replicas
        print(f"{n_replicas} replicas, {share} slices each; an epoch's last batch is left out if it is smaller")
    return strategy


def is_chief() -> bool:
    """Whether this process writes the files of the run: one of a distributed run's workers does, or the only process.

    The other workers compute the same and write nothing.
    """
    resolver = tf.distribute.get_strategy().cluster_resolver
    if resolver is None or resolver.task_type in (None, "chief"):
        return True
    return resolver.task_id == 0 and not resolver.cluster_spec().as_dict().get("chief")


def wait_for_all() -> None:
    """Wait until every worker of a distributed run has called this; return at once if there is only one process."""
    strategy = tf.distribute.get_strategy()
    if strategy.cluster_resolver is not None:
        strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(lambda: tf.ones(())), axis=None)
