"""What to do where a command runs with a Python that lacks its packages, in one line in place of a traceback."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).absolute().parents[1]
FIRST_VERSION = (3, 10)


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
    remedy = f"{sys.executable} -m pip install -r {ROOT / 'requirements.txt'}"
    if python.exists() and pathlib.Path(sys.prefix).absolute() != ROOT / ".venv":
        remedy = f"run the command with {python}"
    return f"needs the package {package}, which {sys.executable} does not have: {remedy}"
