"""What doctor.py finds: a sound installation, and each fault with its remedy."""

import importlib.metadata
import subprocess
import sys

import pytest
from conftest import ROOT

import doctor


@pytest.fixture
def examine(tmp_path, capsys, monkeypatch):
    """A function that runs the command on the models in `tmp_path`: its exit status, and state and rest of the line by
    what was checked."""
    monkeypatch.setattr(doctor, "MODELS", tmp_path)

    def run():
        status = doctor.main([])
        lines = [line for line in capsys.readouterr().out.splitlines() if line]
        findings = [(line[:8].strip(), *line[8:].split(": ", 1)) for line in lines]
        return status, {name: (state, detail) for state, name, detail in findings}

    return run


def test_damaged_models_are_wrong_and_the_smallest_converts(tmp_path, write_generator, examine, monkeypatch):
    small = write_generator(tmp_path / "small/generator.h5", 1, 2, origin="piano", targets=["guitar", "flute"])
    write_generator(tmp_path / "large/generator.h5", base_filters=4)
    status, findings = examine()
    assert status == 0
    assert findings["numpy"] == ("ok", importlib.metadata.version("numpy"))
    assert "CPU" in findings["ONNX Runtime"][1]
    assert str(small) in findings["conversion"][1]
    (tmp_path / "cut.h5").write_bytes(small.read_bytes()[:1000])
    monkeypatch.setattr("conversion.converter.load_network", lambda *_: lambda x: x[..., :1] * float("nan"))
    status, findings = examine()
    assert status == 1
    assert findings[str(tmp_path / "cut.h5")][0] == findings["conversion"][0] == "wrong"


def test_packages_that_are_missing_are_told_with_the_command(examine, monkeypatch):
    version = importlib.metadata.version

    def other_version(name):
        if name in ("soxr", "mido", "onnxruntime"):
            raise importlib.metadata.PackageNotFoundError(name)
        return {"h5py": "3.1", "onnxruntime-gpu": "1.20.0"}.get(name) or version(name)

    monkeypatch.setattr(importlib.metadata, "version", other_version)
    status, findings = examine()
    assert status == 1
    assert findings["soxr"][0] == findings["h5py"][0] == "wrong"
    assert findings["soxr"][1].endswith(f"{sys.executable} -m pip install -r {ROOT / 'conversion/requirements.txt'}")
    assert findings["mido"][0] == "missing"
    assert findings["onnxruntime"] == ("ok", "1.20.0")


@pytest.mark.parametrize("package", ["numpy", "packaging"])
def test_a_check_that_fails_is_a_line_and_the_others_go_on(package):
    code = f"import sys; sys.modules[{package!r}] = None; import doctor; sys.exit(doctor.main([]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert any(line.startswith("wrong") and "conversion/requirements.txt" in line for line in lines)
    assert any(line.startswith("ok      Python") for line in lines)
