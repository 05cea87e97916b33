"""Check this installation: Python, packages, the models found, and a short conversion.

Each line says ok, or what is wrong and the command that mends it. The exit status is 1 if something is wrong. What is
only needed for training may be missing.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence

from common import InputError, cli
from common.errors import ROOT

MODELS = ROOT / "models"
SECONDS = 2  # of the test conversion
INSTALL = f"{sys.executable} -m pip install -r {ROOT}{os.sep}"
OK, MISSING, WRONG = "ok", "missing", "wrong"

# State, what was checked, what was found, and the command that mends it, or else nothing.
Finding = tuple[str, str, str, str]


def main(argv: Sequence[str] | None = None) -> int:
    return cli.run(cli.Parser(__doc__), examine, argv)


def examine(_: argparse.Namespace) -> int:
    """Print the findings; the exit status: 1 if something is wrong, else 0."""
    states = set()
    for state, name, detail, remedy in find_all():
        print(f"{state:8}{name}: {' '.join(detail.split())}{remedy and f': {remedy}'}", flush=True)
        states.add(state)
    return int(WRONG in states)


def find_all() -> Iterator[Finding]:
    """All findings, one after the other; a check that fails is a finding too."""
    checks = {
        "Python": check_python,
        "packages": check_packages,
        "ONNX Runtime": check_onnxruntime,
        "models": check_models,
    }
    for name, check in checks.items():
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # a package that cannot be imported may print there
                yield from list(check())
        except Exception as error:  # whatever it is, it belongs in the report
            yield WRONG, name, f"{type(error).__name__}: {error}", INSTALL + "conversion/requirements.txt"


def check_python() -> Iterator[Finding]:
    """The Python version, with the system beside it."""
    found = f"{platform.python_version()} on {platform.platform()}, {os.cpu_count()} processors"
    if (3, 10) <= sys.version_info[:2] <= (3, 13):
        yield OK, "Python", found, ""
    else:
        yield WRONG, "Python", f"needs 3.10 to 3.13, found {found}", "python3.13 -m venv .venv"


def check_packages() -> Iterator[Finding]:
    """The version of each package in conversion/requirements.txt, which have to be there, and in requirements.txt."""
    from packaging.requirements import Requirement  # comes with ONNX Runtime

    for file, state in (("conversion/requirements.txt", WRONG), ("requirements.txt", MISSING)):
        lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
        for required in (Requirement(line) for line in lines if line and not line.startswith("-")):
            version = find_version(required.name)
            if version is None:
                detail = "not installed" + (", needed for training only" if state == MISSING else "")
                yield state, required.name, detail, INSTALL + file
            elif not required.specifier.contains(version, prereleases=True):
                yield WRONG, required.name, f"needs {required.specifier}, found {version}", INSTALL + file
            else:
                yield OK, required.name, version, ""


def find_version(package: str) -> str | None:
    """The installed version of a package, if there is one; onnxruntime may be there as its variant for GPUs."""
    for name in [package, "onnxruntime-gpu"] if package == "onnxruntime" else [package]:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def check_onnxruntime() -> Iterator[Finding]:
    """What ONNX Runtime can run networks on; "Azure" is a remote service, which is not used."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # as conversion/network.py does
    import onnxruntime

    names = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    yield OK, "ONNX Runtime", f"runs networks on {', '.join(name for name in names if name != 'Azure')}", ""


def check_models() -> Iterator[Finding]:
    """The weights files that come with the project, and a conversion with the smallest generator."""
    import numpy as np

    from common import weights
    from common.files import find_files
    from conversion.converter import load_converter
    from conversion.recordings import convert_audio

    generators = []
    for path in find_files(MODELS, (".h5",)):
        try:
            description = weights.describe(path)
        except InputError as error:
            yield WRONG, str(path), str(error), f"rm {path}"
            continue
        yield OK, str(path), description.summary, ""
        generators += [description] if description.in_channels == 1 else []  # others need a style, or are no generators
    if not generators:
        yield WRONG, "models", f"none in {MODELS}", f"git checkout {MODELS}"
        return
    smallest = min(generators, key=lambda found: found.path.stat().st_size)
    start = time.perf_counter()
    converter = load_converter(smallest)
    seconds = np.arange(SECONDS * converter.sample_rate) / converter.sample_rate
    converted = convert_audio((0.3 * np.sin(2 * np.pi * 220 * seconds)).astype(np.float32), converter)
    if np.isfinite(converted).all():
        took = time.perf_counter() - start
        yield OK, "conversion", f"{SECONDS} s of audio with {smallest.path} in {took:.1f} s", ""
    else:
        yield WRONG, "conversion", f"{smallest.path} makes no finite samples", f"rm {smallest.path}"


if __name__ == "__main__":
    raise SystemExit(main())
