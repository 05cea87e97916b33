"""A command that runs with the wrong Python says in one line which one to take."""

import argparse
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from common import cli, packages

COMMANDS = [path for path in sorted(ROOT.glob("*.py")) if '__name__ == "__main__"' in path.read_text(encoding="utf-8")]
SCRIPTS = [path.name for path in COMMANDS if path.name != "doctor.py"]  # which lists all that is missing
PYTHON = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")


@pytest.mark.parametrize("script", SCRIPTS)
def test_command_with_a_python_that_has_no_packages(script):
    """Without its site-packages, as outside the environment."""
    command = [sys.executable, "-ES", str(ROOT / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{script}: error: expected the package numpy, found none for {sys.executable}")
    assert done.stderr.count("\n") == 1


def test_the_environment_of_the_project_is_named(tmp_path, monkeypatch):
    python = tmp_path.joinpath(".venv", *PYTHON)
    python.parent.mkdir(parents=True)
    python.touch()
    monkeypatch.chdir(tmp_path)
    text = packages.describe_missing("numpy", tmp_path)
    assert f"run the command with {os.path.join('.venv', *PYTHON)}, or activate" in text
    monkeypatch.chdir(tmp_path.parent)
    assert os.path.join(tmp_path.name, ".venv", *PYTHON) in packages.describe_missing("numpy", tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))  # it is active, but incomplete
    text = packages.describe_missing("numpy", tmp_path)
    assert f"-m pip install -r {os.path.join(tmp_path.name, 'requirements.txt')}" in text
    assert "activate" not in text


def test_an_environment_is_to_be_made_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    text = packages.describe_missing("numpy", tmp_path)
    assert f"-m venv {tmp_path / '.venv'}" in text
    assert f"{tmp_path.joinpath('.venv', *PYTHON)} -m pip install -r {tmp_path / 'requirements.txt'}" in text


def test_python_that_is_too_old():
    assert "expected Python 3.10 to 3.13, found 3.9" in packages.find_fault((3, 9))
    assert packages.find_fault() == ""


def test_package_that_is_missing_later(capsys):
    def work(_):
        import package_that_nobody_has.part  # noqa: F401

    assert cli.run(argparse.ArgumentParser(prog="a.py"), work, []) == 2
    said = capsys.readouterr().err
    assert said.startswith("a.py: error: expected the package package_that_nobody_has")
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", ["json.no_such_module", "common.no_such_module", "no_such_module_of_ours"])
def test_modules_that_should_be_there_keep_their_traceback(name, tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "ROOT", tmp_path)
    (tmp_path / "no_such_module_of_ours.py").touch()

    def work(_):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    with pytest.raises(ModuleNotFoundError):
        cli.run(argparse.ArgumentParser(), work, [])
