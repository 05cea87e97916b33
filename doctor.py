"""Check this installation: packages, devices, tools, space, the models found, and a short conversion.

Each line says ok, or what is wrong and the command that mends it. The exit status is 1 if something is wrong. What is
only needed for training may be missing.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib.metadata
import importlib.util
import io
import json
import os
import pathlib
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

from common import cli
from common.errors import InputError

ROOT = pathlib.Path(__file__).parent
PYTHON = (3, 10), (3, 13)  # first and last version
MIN_DISK_GB, MIN_MEMORY_GB = 1, 1
SECONDS = 2  # of the test conversion

OK, OPTIONAL, WRONG = "ok", "missing", "wrong"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was checked.
        state: "ok", "missing" (only needed for some work, as the detail says) or "wrong".
        detail: what was found.
        remedy: command that mends it, or what to do; empty if nothing has to be done.
    """

    name: str
    state: str
    detail: str
    remedy: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--models_path", default="models", help="folder of the models to check")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON, for a bug report")
    return cli.run(parser, examine, argv)


def examine(arguments: argparse.Namespace) -> int:
    """Print the findings; the exit status: 1 if something is wrong, else 0."""
    findings = []
    for finding in find_all(arguments.models_path):
        findings.append(finding)
        if not arguments.json:
            remedy = f": {finding.remedy}" if finding.remedy else ""
            print(f"{finding.state:8}{finding.name}: {' '.join(finding.detail.split())}{remedy}", flush=True)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    return int(any(finding.state == WRONG for finding in findings))


def find_all(models_path: str | os.PathLike) -> Iterator[Finding]:
    """All findings, one after the other; a check that fails is a finding too."""
    models = functools.partial(check_models, models_path)
    conversion = functools.partial(check_conversion, models_path)
    checks = (
        check_python, check_packages, check_onnxruntime, check_tensorflow, check_ffmpeg, check_soundfont, check_disk,
        check_memory, models, conversion,
    )  # fmt: skip
    for check in checks:
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # a package that cannot be imported may print there
                yield from list(check())
        except Exception as error:  # whatever it is, it belongs in the report
            name = getattr(check, "func", check).__name__.removeprefix("check_")
            yield Finding(name, WRONG, f"{type(error).__name__}: {error}", _install("requirements-convert.txt"))


# --- the program ------------------------------------------------------------------------------------------------------


def check_python() -> Iterator[Finding]:
    """The Python version, with the system beside it."""
    found = f"{platform.python_version()} on {platform.platform()}, {os.cpu_count()} processors"
    first, last = (".".join(map(str, version)) for version in PYTHON)
    if PYTHON[0] <= sys.version_info[:2] <= PYTHON[1]:
        yield Finding("Python", OK, found)
    else:
        yield Finding("Python", WRONG, f"expected {first} to {last}, found {found}", f"python{last} -m venv .venv")


def check_packages() -> Iterator[Finding]:
    """The version of each package in requirements-convert.txt, which have to be there, and in requirements.txt."""
    for file, state in (("requirements-convert.txt", WRONG), ("requirements.txt", OPTIONAL)):
        for name, bounds in read_requirements(ROOT / file):
            try:
                version = find_version(name)
            except importlib.metadata.PackageNotFoundError:
                detail = "not installed" if state == WRONG else "not installed, needed for training only"
                yield Finding(name, state, detail, _install(file))
                continue
            if is_within(version, bounds):
                yield Finding(name, OK, version)
            else:
                yield Finding(name, WRONG, f"expected {bounds}, found {version}", _install(file))


def read_requirements(path: pathlib.Path) -> list[tuple[str, str]]:
    """Name and bounds, such as ">=0.11,<0.12", of each package in a requirements file, without those it includes."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [re.fullmatch(r"([\w-]+)(.*)", line).groups() for line in lines if line and not line.startswith("-")]


def find_version(package: str) -> str:
    """The installed version of a package; onnxruntime may be there under the name of its variant for GPUs.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    for name in [package, "onnxruntime-gpu"] if package == "onnxruntime" else [package]:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    raise importlib.metadata.PackageNotFoundError(package)


def is_within(version: str, bounds: str) -> bool:
    """Whether a version such as "2.4.6" lies within bounds such as ">=1.26,<3"; what follows the numbers is ignored."""

    def numbers(text: str) -> list[int]:
        parts = [int(part) for part in re.match(r"\d+(\.\d+)*", text)[0].split(".")]
        return parts + [0] * (4 - len(parts))

    compare: dict[str, Callable] = {">=": list.__ge__, "<": list.__lt__}
    parts = (re.fullmatch(r"(>=|<)(.+)", part).groups() for part in bounds.split(","))
    return all(compare[sign](numbers(version), numbers(bound)) for sign, bound in parts)


def _install(file: str) -> str:
    return f"{sys.executable} -m pip install -r {ROOT / file}"


# --- the machine ------------------------------------------------------------------------------------------------------


def check_onnxruntime() -> Iterator[Finding]:
    """What ONNX Runtime can run networks on."""
    import onnxruntime

    names = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    names = [name for name in names if name != "Azure"]  # a remote service, which is not used here
    yield Finding("ONNX Runtime", OK, f"runs networks on {', '.join(names)}")


def check_tensorflow() -> Iterator[Finding]:
    """The GPUs that TensorFlow sees; nothing where it is not installed, which `check_packages` says."""
    if importlib.util.find_spec("tensorflow") is None:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from common.files import silence_stderr

    with silence_stderr():
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    yield Finding("TensorFlow", OK, f"sees {len(gpus)} GPUs{': ' if gpus else ''}{', '.join(gpu.name for gpu in gpus)}")


def check_ffmpeg() -> Iterator[Finding]:
    """ffmpeg, which reads what libsndfile does not."""
    from sound.files import find_ffmpeg

    if path := find_ffmpeg():
        yield Finding("ffmpeg", OK, path)
    else:
        detail = "not installed, needed for m4a, wma and other formats only"
        yield Finding("ffmpeg", OPTIONAL, detail, f"{sys.executable} -m pip install imageio-ffmpeg")


def check_soundfont() -> Iterator[Finding]:
    """The SoundFont that training data are made with by default."""
    from synthesis.soundfonts import default_soundfont

    try:
        yield Finding("SoundFont", OK, str(default_soundfont()))
    except InputError:
        detail = "none, needed for synthesize_audios.py only"
        yield Finding("SoundFont", OPTIONAL, detail, _install("requirements.txt"))


def check_disk() -> Iterator[Finding]:
    """Free space here and in the folder for temporary files."""
    for name, folder in (("disk", pathlib.Path.cwd()), ("temporary files", pathlib.Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free / 1e9
        if free >= MIN_DISK_GB:
            yield Finding(name, OK, f"{free:.1f} GB free in {folder}")
        else:
            remedy = "delete files there, or set TMPDIR to another folder"
            yield Finding(name, WRONG, f"expected {MIN_DISK_GB} GB free in {folder}, found {free:.2f} GB", remedy)


def check_memory() -> Iterator[Finding]:
    """Memory that is free or can be freed, where Linux says so."""
    try:
        text = pathlib.Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        yield Finding("memory", OK, "unknown on this system")
        return
    free = int(re.search(r"MemAvailable: +(\d+) kB", text)[1]) * 1024 / 1e9
    if free >= MIN_MEMORY_GB:
        yield Finding("memory", OK, f"{free:.1f} GB free")
    else:
        detail = f"expected {MIN_MEMORY_GB} GB free, found {free:.2f} GB"
        yield Finding("memory", WRONG, detail, "close other programs")


# --- models -----------------------------------------------------------------------------------------------------------


def check_models(models_path: str | os.PathLike) -> Iterator[Finding]:
    """The weights files at or below a folder."""
    from conversion.models import find_weights
    from conversion.network import describe

    try:
        paths = find_weights(models_path)
    except InputError:
        yield Finding("models", OK, f"none in {models_path}; train one, or give --models_path")
        return
    for path in paths:
        try:
            yield Finding(str(path), OK, describe(path).summary)
        except InputError as error:
            yield Finding(str(path), WRONG, str(error), f"rm {path}")


def check_conversion(models_path: str | os.PathLike) -> Iterator[Finding]:
    """A conversion with the smallest generator found, or with a small one of random weights."""
    import numpy as np

    from conversion.converter import load_converter
    from conversion.files import convert_audio
    from conversion.models import find_weights
    from conversion.network import BUILDERS, describe

    def is_generator(path: pathlib.Path) -> bool:
        try:
            return describe(path).network in BUILDERS
        except InputError:
            return False

    with tempfile.TemporaryDirectory() as folder:
        try:
            found = sorted(filter(is_generator, find_weights(models_path)), key=lambda path: path.stat().st_size)
        except InputError:
            found = []
        path = found[0] if found else write_random_generator(pathlib.Path(folder, "generator.h5"))
        start = time.perf_counter()
        description = describe(path)
        style = None
        if description.in_channels == 2:
            r = description.representation
            style = np.full((r.n_bins, r.n_frames), 0.5, np.float32)
        converter = load_converter(description, style=style)
        seconds = np.arange(SECONDS * converter.sample_rate) / converter.sample_rate
        converted = convert_audio((0.3 * np.sin(2 * np.pi * 220 * seconds)).astype(np.float32), converter)
        took = time.perf_counter() - start
    name = str(path) if found else "a small network of random weights"
    if len(converted) == len(seconds) and np.isfinite(converted).all():
        yield Finding("conversion", OK, f"{SECONDS} s of audio with {name} in {took:.1f} s, loading included")
    else:
        yield Finding("conversion", WRONG, f"expected {len(seconds)} finite samples of {name}", f"rm {path}")


def write_random_generator(path: pathlib.Path) -> pathlib.Path:
    """Write the weights of a small U-Net drawn at random; gives the path."""
    import numpy as np

    from common import weights

    rng = np.random.default_rng(0)
    groups = [
        (group, [(name, rng.uniform(0.02, 0.04, shape)) for name, shape in arrays])
        for group, arrays in weights.unet_layout(1, 4)
    ]
    weights.write(path, groups, {})
    return path


if __name__ == "__main__":
    raise SystemExit(main())
