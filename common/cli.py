"""What the commands share: argument types, one-line errors and exit statuses.

Imports nothing heavy, so that ``--help`` and argument errors answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import operator
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from common.errors import InputError, describe_missing, one_line

# Exit statuses; the last two are those that shells report after Ctrl-C and after a closed pipe.
SOME_LEFT_OUT = 1
BAD_INPUT = 2
INTERRUPTED = 130
CLOSED_PIPE = 141


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults except those that mean nothing: None, False and empty ones."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        if default is None or default is False or default in ("", [], ()):
            return action.help
        if isinstance(default, (list, tuple)):
            return f"{action.help} (default: {' '.join(map(str, default))})"
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An argument parser that shows defaults in ``--help`` and reports an error in one line."""

    def __init__(self, description: str | None, **kwargs) -> None:
        # The description is a module's docstring, of which only the first paragraph is shown.
        summary = (description or "").strip().split("\n\n")[0]
        kwargs.setdefault("formatter_class", _Formatter)
        super().__init__(description=summary, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {one_line(message)}\n")


def run(parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], int], argv: Sequence[str] | None) -> int:
    """Parse `argv`, do `work` and return the exit status; what the user can fix becomes one line on stderr."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell (2>&-): the next file would take its number
            setattr(sys, name, open(os.devnull, "r+", errors="backslashreplace"))  # noqa: SIM115
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may hold any bytes
    try:
        try:
            arguments = parser.parse_args(argv)
            with _quiet_libraries():
                return work(arguments)
        finally:
            sys.stdout.flush()  # so that a closed pipe raises here and not at exit
    except InputError as error:
        message = str(error)
    except BrokenPipeError:  # for example by `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except OSError as error:
        if error.errno is None:  # of a library, not of the system
            raise
        message = f"{error.filename or 'writing'}: {error.strerror}"
    except MemoryError:
        message = "there is not enough memory for this"
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or package in sys.modules:
            raise
        message = describe_missing(package)
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return INTERRUPTED
    print(f"{parser.prog}: error: {one_line(message)}", file=sys.stderr)
    return BAD_INPUT


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Do not show the warnings of libraries, which no user can act on; ``python -W default`` shows them.

    Where the user has no home, as in a container, the caches of Numba and Matplotlib go to a temporary folder.
    """
    os.environ["MPLBACKEND"] = "agg"  # no window is ever opened
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            os.environ.setdefault("PYTHONWARNINGS", "ignore")  # for the processes of --jobs
        if not os.access(os.path.expanduser("~"), os.W_OK):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="caches-"))
            os.environ.setdefault("MPLCONFIGDIR", folder)
            os.environ.setdefault("NUMBA_CACHE_DIR", folder)
        yield


def count(n: int, noun: str) -> str:
    """A number with its noun: "1 slice", "2 slices"."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def report_left_out(left_out: Sequence[tuple[str, str]]) -> int:
    """Print each (file, reason) on stderr, after work on many files; the exit status: 1 if there are any, else 0."""
    if not left_out:
        return 0
    print(f"{len(left_out)} left out:", file=sys.stderr)
    for name, reason in left_out:
        text = reason if str(name) in reason else f"{name}: {reason}"
        print(f"  {one_line(text)}", file=sys.stderr)
    return SOME_LEFT_OUT


def number(
    kind: type,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    word: str | None = None,
):
    """An argparse type: a finite int or float within the bounds (`above` excludes its value), or the `word` itself."""
    expected = f"{word} or {_NAMES[kind]}" if word else _NAMES[kind]

    def convert(text: str):
        if text == word:
            return word
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}") from None
        checks = {"at least": (minimum, operator.ge), "above": (above, operator.gt), "at most": (maximum, operator.le)}
        limits = {f"{name} {b}": is_within(value, b) for name, (b, is_within) in checks.items() if b is not None}
        if not (math.isfinite(value) and all(limits.values())):
            raise argparse.ArgumentTypeError(f"expected {expected} {' and '.join(limits)}, found {text}")
        return value

    return convert


_NAMES = {int: "a whole number", float: "a number"}
positive_int = number(int, minimum=1)
positive_float = number(float, above=0)
seed = number(int, minimum=0, maximum=2**32 - 1)  # the range that NumPy and TensorFlow accept
