"""What the commands share: argument types, one-line errors, exit statuses and the start of TensorFlow.

Imports nothing heavy, so that ``--help`` and every argument error answer at once.
"""

from __future__ import annotations

import argparse
import errno
import io
import math
import os
import shutil
import sys
from collections.abc import Callable, Sequence

from common.audio import silence_stderr
from common.errors import InputError

INTERRUPTED = 130  # exit statuses after Ctrl-C, and after the reader of our output has gone, as shells report them
CLOSED_PIPE = 141
BAD_INPUT = 2
SOME_LEFT_OUT = 1

# Failures of the machine that the user can mend; anything else keeps its traceback.
_MENDABLE = {
    errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
    errno.ENAMETOOLONG, errno.ENOENT, errno.EFBIG,
}  # fmt: skip


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        if default is None or default is False or default in ("", [], ()):
            return action.help
        if isinstance(default, (list, tuple)):
            return f"{action.help} (default: {' '.join(default)})"
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An argument parser that shows defaults in ``--help`` and answers a mistake with one line."""

    def __init__(self, description: str | None, **kwargs) -> None:
        # Only the first paragraph of a module's docstring, so that it serves as the description.
        summary = (description or "").strip().split("\n\n")[0]
        kwargs.setdefault("formatter_class", _Formatter)
        super().__init__(description=summary, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> None:
        self.exit(BAD_INPUT, f"{self.prog}: error: {message}\n")


def run(parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], int], argv: Sequence[str] | None) -> int:
    """Parse `argv`, do `work` and return the exit status; what the user can mend becomes one line on stderr."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # the name of a file may be anything
    try:
        try:
            return work(parser.parse_args(argv))
        finally:
            sys.stdout.flush()  # a closed pipe shows here, not when the interpreter ends
    except InputError as error:
        message = str(error)
    except BrokenPipeError:  # as of `| head`: nobody is there to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except OSError as error:
        if error.errno not in _MENDABLE:
            raise
        message = f"{error.filename or 'writing'}: {error.strerror}"
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return INTERRUPTED
    print(f"{parser.prog}: error: {' '.join(message.split())}", file=sys.stderr)
    return BAD_INPUT


def report_left_out(left_out: Sequence[tuple[str, str]]) -> int:
    """Print each (file, reason) on stderr after the work on many files; the exit status: 1 if there are any, else 0."""
    if not left_out:
        return 0
    print(f"{len(left_out)} left out:", file=sys.stderr)
    for name, reason in left_out:
        text = reason if str(name) in reason else f"{name}: {reason}"
        print(f"  {' '.join(text.split())}", file=sys.stderr)
    return SOME_LEFT_OUT


def number(
    kind: type,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    word: str | None = None,
):
    """An argparse type: a finite int or float in [minimum, maximum], or greater than `above`; or the `word` itself."""
    expected = f"{word} or {_NAMES[kind]}" if word else _NAMES[kind]

    def convert(text: str):
        if text == word:
            return word
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}") from None
        inside = math.isfinite(value)
        inside &= minimum is None or value >= minimum
        inside &= maximum is None or value <= maximum
        inside &= above is None or value > above
        if not inside:
            bounds = [f"at least {minimum}"] * (minimum is not None) + [f"above {above}"] * (above is not None)
            bounds += [f"at most {maximum}"] * (maximum is not None)
            raise argparse.ArgumentTypeError(f"expected {expected} {' and '.join(bounds)}, found {text}")
        return value

    return convert


_NAMES = {int: "a whole number", float: "a number"}
positive_int = number(int, minimum=1)
positive_float = number(float, above=0)
seed = number(int, minimum=0, maximum=2**32 - 1)  # what NumPy and TensorFlow take


def add_gpu(parser: argparse.ArgumentParser, default: int | None = 0) -> None:
    """The ``--gpu`` argument of every command that runs a network; None as default: 0 if there is one."""
    words = "CUDA device to use, -1 for the CPU" + " (default: 0 if there is one)" * (default is None)
    parser.add_argument("--gpu", type=number(int, minimum=-1), default=default, help=words)


def add_training(parser: argparse.ArgumentParser) -> None:
    """The arguments of every train script that have to do with the run, not with the data."""
    add = parser.add_argument
    add_gpu(parser)
    add(
        "--base_filters",
        type=positive_int,
        default=64,
        help="filters of the first layer; 64 as published, 16 for a laptop",
    )
    add("--models_path", default="models", help="where the model's folder is made")
    add("--precision", choices=["auto", "float32", "mixed_bfloat16", "mixed_float16"], default="auto", help="what layers compute in; auto takes the fastest that this machine is made for")  # fmt: skip  # noqa: E501
    add("--max_steps", type=positive_int, help="stop after so many steps")
    add("--checkpoint_minutes", type=positive_float, default=10.0, help="between two states within an epoch")
    add("--fresh", action="store_true", help="start over; what is in the model's folder is kept under another name")
    add("--deterministic", action="store_true", help="the same result to the bit, where that is slower")
    add("--tensorboard", action="store_true", help="write scalars, pictures and audio for TensorBoard")
    add("--distribute", choices=["none", "mirrored", "multiworker"], default="none", help="over all GPUs of this machine, or over the machines that TF_CONFIG names")  # fmt: skip  # noqa: E501
    add("--jit", action="store_true", help="compile the step with XLA")


def start_tensorflow(gpu: int | None) -> None:
    """Import TensorFlow with only CUDA device `gpu` visible (-1: none, None: all), without taking all GPU memory.

    Has to run before anything else imports TensorFlow. Says so where a GPU was asked for and none is there.
    """
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu) if gpu >= 0 else "-1"
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # faster convolutions, off by default on some processors
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3" if gpu == -1 else "2")
    with silence_stderr():  # its start-up lines are written past Python's logging
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
    for device in devices:
        tf.config.experimental.set_memory_growth(device, True)
    if gpu != -1 and not devices:
        print("No CUDA GPU found: working on the CPU (--gpu -1 leaves this line out).", file=sys.stderr)


def has_gpu(gpu: int) -> bool:
    """Whether `gpu` names a CUDA device and this machine has the driver of one; TensorFlow need not be asked."""
    return gpu >= 0 and shutil.which("nvidia-smi") is not None


def has_bfloat16() -> bool:
    """Whether this processor has instructions for bf16, as far as Linux says."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = next((line for line in file if line.startswith("flags")), "").split()
    except OSError:  # no Linux: nothing to read it from
        return False
    return bool({"avx512_bf16", "amx_bf16"} & set(flags))
