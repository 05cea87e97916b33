"""The start of TensorFlow, and what the GPU and the processor of this machine can do."""

from __future__ import annotations

import os
import shutil
import sys

from common.files import silence_stderr


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


def has_gpu(gpu: int) -> bool:
    """Whether `gpu` names a CUDA device and this machine has a CUDA driver; does not import TensorFlow."""
    return gpu >= 0 and shutil.which("nvidia-smi") is not None


def has_bfloat16() -> bool:
    """Whether this processor has instructions for bf16, according to Linux; False on other systems."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = next((line for line in file if line.startswith("flags")), "").split()
    except OSError:  # not on Linux
        return False
    return bool({"avx512_bf16", "amx_bf16"} & set(flags))
