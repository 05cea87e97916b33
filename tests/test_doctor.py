"""What doctor.py finds: a sound installation, and each fault with its remedy."""

import collections
import importlib.metadata
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import pytest

import doctor

ROOT = pathlib.Path(doctor.__file__).parent


@pytest.fixture(autouse=True)
def no_tensorflow(monkeypatch):
    """TensorFlow counts as not installed, so that the checks are quick."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorflow" else find(name))


def examine(capsys, *argv):
    """Exit status and findings by name."""
    status = doctor.main(["--json", *map(str, argv)])
    return status, {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_a_sound_installation_is_ok_and_converts_without_a_model(tmp_path, capsys):
    status, findings = examine(capsys, "--models_path", tmp_path)
    assert status == 0
    assert {finding["state"] for finding in findings.values()} <= {"ok", "missing"}
    assert findings["numpy"]["detail"] == importlib.metadata.version("numpy")
    assert "CPU" in findings["ONNX Runtime"]["detail"]
    assert findings["models"]["state"] == "ok"
    assert "random weights" in findings["conversion"]["detail"]


def test_models_are_listed_damaged_ones_are_wrong_and_the_smallest_converts(tmp_path, write_generator, capsys):
    small = write_generator(tmp_path / "small/generator.h5", 2, 2, origin="piano", targets=["guitar", "flute"])
    write_generator(tmp_path / "large/generator.h5", base_filters=4)
    cut = tmp_path / "cut.h5"
    cut.write_bytes(small.read_bytes()[:1000])
    status, findings = examine(capsys, "--models_path", tmp_path)
    assert status == 1
    assert "piano to guitar, flute" in findings[str(small)]["detail"]
    assert findings[str(cut)]["state"] == "wrong"
    assert findings[str(cut)]["remedy"] == f"rm {cut}"
    assert str(small) in findings["conversion"]["detail"]
    assert findings["conversion"]["state"] == "ok"


def test_a_network_that_makes_nan_is_wrong(tmp_path, write_generator, capsys, monkeypatch):
    write_generator(tmp_path / "generator.h5", base_filters=2)
    monkeypatch.setattr("conversion.network.OnnxNetwork.__call__", lambda _, x: x[..., :1] * float("nan"))
    status, findings = examine(capsys, "--models_path", tmp_path)
    assert status == 1
    assert findings["conversion"]["state"] == "wrong"


def test_packages_that_are_missing_or_of_another_version_are_told_with_the_command(tmp_path, capsys, monkeypatch):
    version = importlib.metadata.version

    def other_version(name):
        if name in ("soxr", "mido"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.8" if name == "librosa" else version(name)

    monkeypatch.setattr(importlib.metadata, "version", other_version)
    status, findings = examine(capsys, "--models_path", tmp_path)
    assert status == 1
    assert findings["soxr"]["state"] == "wrong"
    assert findings["soxr"]["remedy"] == f"{sys.executable} -m pip install -r {ROOT / 'requirements-convert.txt'}"
    assert findings["librosa"]["detail"] == "expected >=0.11,<0.12, found 0.8"
    assert findings["mido"]["state"] == "missing"
    assert findings["mido"]["remedy"].endswith("requirements.txt")


def test_onnxruntime_for_gpus_counts_as_onnxruntime(monkeypatch):
    def version(name):
        if name == "onnxruntime-gpu":
            return "1.20.0"
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert doctor.find_version("onnxruntime") == "1.20.0"


@pytest.mark.parametrize(
    ("version", "bounds", "expected"),
    [
        ("2.4.6", ">=1.26,<3", True), ("1.26", ">=1.26,<3", True), ("3.0", ">=1.26,<3", False),
        ("1.25.9", ">=1.26,<3", False), ("0.2.11.post0", ">=0.2.11,<0.3", True), ("1.9", ">=1.11.1,<2", False),
        ("3.0rc1", ">=1.26,<3", False),
    ],
)  # fmt: skip
def test_versions_are_compared_as_numbers(version, bounds, expected):
    assert doctor.is_within(version, bounds) == expected


def test_little_space_and_memory_are_wrong(tmp_path, capsys, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**10, 10**10, 10**7))
    monkeypatch.setattr(doctor, "MIN_MEMORY_GB", 10**6)
    status, findings = examine(capsys, "--models_path", tmp_path)
    assert status == 1
    assert findings["disk"]["state"] == findings["temporary files"]["state"] == findings["memory"]["state"] == "wrong"
    assert "0.01 GB" in findings["disk"]["detail"]


def test_a_check_that_fails_is_a_line_and_the_others_go_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert doctor.main(["--models_path", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    (wrong,) = [line for line in lines if line.startswith("wrong") and "onnxruntime:" in line]
    assert "requirements-convert.txt" in wrong
    assert any(line.startswith("ok      disk") for line in lines)


def test_it_answers_without_numpy():
    code = (
        "import sys; sys.modules['numpy'] = None; sys.modules['tensorflow'] = None\n"
        "import doctor; sys.exit(doctor.main(['--models_path', 'none']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert any(line.startswith("wrong") and "requirements-convert.txt" in line for line in done.stdout.splitlines())
    assert done.stderr == ""
