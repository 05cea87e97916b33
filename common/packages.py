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
        found, first = (".".join(map(str, numbers)) for numbers in (version, FIRST_VERSION))
        return f"expected Python {first} to 3.13, found {found} ({sys.executable})"
    return "" if importlib.util.find_spec("numpy") else describe_missing("numpy")


def describe_missing(package: str, root: pathlib.Path = ROOT) -> str:
    """One line that says what to do about a missing package.

    Args:
        package: its name.
        root: the project's folder, which may hold the environment ``.venv``.
    """
    folders = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    environment = root / ".venv"
    python = environment.joinpath(*folders)
    found = f"expected the package {package}, found none for {sys.executable}"
    if python.exists() and pathlib.Path(sys.prefix).absolute() != environment:
        activate = _shorten(python.with_name("activate"))
        activate = activate if os.name == "nt" else f"source {activate}"
        return f"{found}: run the command with {_shorten(python)}, or activate the environment first: {activate}"
    install = f"-m pip install -r {_shorten(root / 'requirements.txt')}"
    if sys.prefix == sys.base_prefix:  # no environment
        first, made = f"{sys.executable} -m venv {_shorten(environment)}", _shorten(python)
        return f"{found}: make an environment with {first}, then {made} {install}"
    return f"{found}: {sys.executable} {install}"


def is_missing(package: str) -> bool:
    """Whether a package that an import did not find is one from outside that is not installed."""
    ours = (ROOT / package).exists() or (ROOT / f"{package}.py").exists()
    return not ours and package not in sys.modules and importlib.util.find_spec(package) is None


def _shorten(path: pathlib.Path) -> str:
    """`path` relative to the working folder if it is inside it."""
    here = pathlib.Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
