"""How every train command starts: check the arguments, start TensorFlow, lock the model's folder."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from common import cli
from common.errors import InputError
from common.files import writable_folder
from training import checkpoints

if TYPE_CHECKING:
    import tensorflow as tf


def check_arguments(arguments: argparse.Namespace) -> None:
    """Check the arguments of `cli.add_training` before the data are read and TensorFlow is imported.

    Raises:
        InputError: the models' folder cannot be written to, TensorBoard is not installed, or no workers are named.
    """
    writable_folder(arguments.models_path, "--models_path")
    if arguments.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise InputError("--tensorboard: expected the package tensorboard, found none: pip install tensorboard")
    if arguments.distribute == "multiworker" and "TF_CONFIG" not in os.environ:
        raise InputError("--distribute multiworker: expected the environment variable TF_CONFIG, found none")


@contextlib.contextmanager
def start_run(arguments: argparse.Namespace) -> Iterator[tf.distribute.Strategy]:
    """Start TensorFlow on the arguments' devices and with their seed, and enter the scope of their strategy.

    Networks are built and trained in the block, which gets the strategy.

    Args:
        arguments: of `cli.add_training`, with ``seed`` and ``batch_size``.

    Raises:
        InputError: as `distribution.make_strategy`.
    """
    is_one_device = arguments.distribute == "none" or arguments.gpu < 0
    cli.start_tensorflow(arguments.gpu if is_one_device else None)
    import tensorflow as tf

    from training import distribution

    strategy = distribution.make_strategy(arguments.distribute, arguments.batch_size)  # before TensorFlow does anything
    tf.keras.utils.set_random_seed(arguments.seed)
    if arguments.deterministic:
        tf.config.experimental.enable_op_determinism()
    with strategy.scope():
        yield strategy


@contextlib.contextmanager
def claim_folder(folder: pathlib.Path, fresh: bool = False) -> Iterator[None]:
    """Lock a model's folder for the block that trains in it; the folder is made if it is missing.

    Args:
        folder: the same for all workers of a distributed run, of which the chief holds the lock.
        fresh: first move what the folder holds to another name, as `checkpoints.set_aside`.

    Raises:
        InputError: another process trains in this folder.
    """
    from training import distribution

    with checkpoints.locked(folder) if distribution.is_chief() else contextlib.nullcontext():
        if fresh:
            aside = checkpoints.set_aside(folder) if distribution.is_chief() else None
            if aside:
                print(f"Starting over; the old run is now {aside}")
            distribution.wait_for_all()  # no worker may read the old run's files
        yield
