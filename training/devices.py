"""The start of TensorFlow, and what the GPU and the processor of this machine can do."""

from __future__ import annotations

import os
import sys

from common import InputError
from common.files import silence_stderr


def start(gpu: int | str, batch_size: int, seed: int, precision: str) -> str:
    """Start TensorFlow, and let networks be built and trained on the devices that were asked for.

    Args:
        gpu: CUDA device; -1 for the CPU, "all" for all.
        precision: "auto", or as of `model.build_generator`.

    Returns:
        The precision that "auto" stands for here.

    Raises:
        InputError: several GPUs cannot share a batch equally.
    """
    start_tensorflow(None if gpu == "all" else gpu)
    import tensorflow as tf

    if gpu == "all":  # losses and batch normalisation are those of the whole batch
        strategy = tf.distribute.MirroredStrategy()
        n_gpus = strategy.num_replicas_in_sync
        if batch_size % n_gpus:
            raise InputError(f"--batch_size: expected a multiple of the {n_gpus} GPUs, found {batch_size}")
        if n_gpus > 1:
            print(f"GPUs: {n_gpus}, with {batch_size // n_gpus} slices of each batch; a smaller last one is left out")
        tf.distribute.experimental_set_strategy(strategy)
    tf.keras.utils.set_random_seed(seed)
    precision = fastest_precision() if precision == "auto" else precision
    print(f"Computing in {precision}")
    return precision


def start_tensorflow(gpu: int | None) -> None:
    """Import TensorFlow with only CUDA device `gpu` visible (-1: none, None: all), without reserving all GPU memory.

    Has to run before anything else imports TensorFlow. Prints a line if a GPU was asked for and there is none.
    """
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu) if gpu >= 0 else "-1"
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # faster convolutions, off by default on some processors
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3" if gpu == -1 else "2")
    with silence_stderr():  # its start-up messages bypass Python's logging
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
    for device in devices:
        tf.config.experimental.set_memory_growth(device, True)
    if gpu != -1 and not devices:
        print("No CUDA GPU found: working on the CPU (--gpu -1 hides this line).", file=sys.stderr)


def fastest_precision() -> str:
    """The number format in which this machine trains fastest; TensorFlow has been started.

    mixed_bfloat16 on a GPU of compute capability 8 or more and on a CPU with bf16 instructions, mixed_float16 on a GPU
    of compute capability 7, and float32 otherwise.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        major = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))[0]
        return "mixed_bfloat16" if major >= 8 else "mixed_float16" if major == 7 else "float32"
    return "mixed_bfloat16" if has_bfloat16() else "float32"


def has_bfloat16() -> bool:
    """Whether this processor has instructions for bf16, according to Linux; False on other systems."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = next((line for line in file if line.startswith("flags")), "").split()
    except OSError:  # not on Linux
        return False
    return bool({"avx512_bf16", "amx_bf16"} & set(flags))
