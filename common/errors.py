"""The error for everything that a user can get wrong, and what to do where packages are missing."""

from __future__ import annotations

import errno
import importlib.util
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).absolute().parents[1]
FIRST_VERSION = (3, 10)
# System errors that concern one file; after any other, such as a full disk, the next file would fail as well.
OF_ONE_FILE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG,
    errno.ENOENT, errno.ELOOP, errno.EINVAL, errno.EILSEQ,
}  # fmt: skip


class InputError(ValueError):
    """An error that the user can fix: the text says what was expected, what was found and where, in one line."""

    def __init__(self, text: object = "") -> None:
        super().__init__(one_line(str(text)))  # names in a stranger's file may hold anything


def one_line(text: str) -> str:
    """`text` in one line and without control characters, which a terminal would obey: names of files may hold any."""
    return "".join(c if c.isprintable() or "\ud800" <= c <= "\udfff" else repr(c)[1:-1] for c in " ".join(text.split()))


def find_fault(version: tuple[int, ...] = sys.version_info[:2]) -> str:
    """What is wrong with the Python that runs this, in one line; empty if nothing is.

    NumPy stands for the packages: whoever lacks it has not installed them, or has not activated their environment.
    """
    if version < FIRST_VERSION:
        return f"needs Python 3.10 to 3.13, {sys.executable} is {'.'.join(map(str, version))}"
    return "" if importlib.util.find_spec("numpy") else describe_missing("numpy")


def describe_missing(package: str) -> str:
    """One line that says what to do about a missing package."""
    python = ROOT / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    remedy = f"{sys.executable} -m pip install -r {ROOT / 'training' / 'requirements.txt'}"
    if python.exists() and pathlib.Path(sys.prefix).absolute() != ROOT / ".venv":
        remedy = f"run the command with {python}"
    return f"needs the package {package}, which {sys.executable} does not have: {remedy}"
