"""The error for everything that a user can get wrong, and what to do where packages are missing."""

from __future__ import annotations

import errno
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).absolute().parents[1]
# System errors after which the next file would fail as well: a full disk, a closed pipe. Any other concerns one file.
OF_ALL_FILES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EPIPE}


class InputError(ValueError):
    """An error that the user can fix: the text says what was expected, what was found and where, in one line."""

    def __init__(self, text: object = "") -> None:
        super().__init__(one_line(str(text)))  # names in a stranger's file may hold anything


def one_line(text: str) -> str:
    """`text` in one line and without control characters, which a terminal would obey: names of files may hold any."""
    return "".join(c if c.isprintable() or "\ud800" <= c <= "\udfff" else repr(c)[1:-1] for c in " ".join(text.split()))


def describe_missing(package: str) -> str:
    """One line that says what to do about a missing package."""
    python = ROOT / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    remedy = f"{sys.executable} -m pip install -r {ROOT / 'requirements.txt'}"
    if python.exists() and pathlib.Path(sys.prefix).absolute() != ROOT / ".venv":
        remedy = f"run the command with {python}"
    return f"needs the package {package}, which {sys.executable} does not have: {remedy}"
