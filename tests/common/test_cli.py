"""Help, exit statuses and error messages that all commands share."""

import argparse
import os
import subprocess
import sys
import warnings

import pytest
from conftest import COMMANDS, ROOT

from common import InputError, cli


def test_every_outcome_has_its_exit_status_and_at_most_one_line(capsys):
    def run_failing(error):
        def work(_):
            raise error

        return cli.run(cli.Parser("A command."), work, [])

    with warnings.catch_warnings(record=True) as shown:
        assert cli.run(cli.Parser("A command."), lambda _: warnings.warn("of a library", stacklevel=1) or 0, []) == 0
    assert not shown
    for error, status in (
        (InputError("two\nlines"), cli.BAD_INPUT),
        (PermissionError(13, "Permission denied", "a.wav"), cli.BAD_INPUT),
        (MemoryError(), cli.BAD_INPUT),
        (ModuleNotFoundError("none", name="nobody_has.part"), cli.BAD_INPUT),
        (KeyboardInterrupt(), cli.INTERRUPTED),
    ):
        assert run_failing(error) == status
        assert capsys.readouterr().err.count("\n") == 1
    for bug in (RuntimeError("a bug"), ModuleNotFoundError("none", name="common.none")):
        with pytest.raises(type(bug)):
            run_failing(bug)


def test_a_closed_pipe_ends_a_command_without_a_word():
    code = "from common import cli; raise SystemExit(cli.run(cli.Parser('Help.'), lambda _: print('much') or 0, []))"
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (cli.CLOSED_PIPE, b"")


def test_a_command_runs_with_its_streams_closed():
    code = (
        "from common import cli, files; raise SystemExit(cli.run("
        "cli.Parser('Help.'), lambda _: open('README.md').fileno() < 3 or files.silence_stderr().__enter__(), []))"
    )
    command = ["sh", "-c", '"$0" "$@" <&- >&- 2>&-', sys.executable, "-c", code]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def test_numbers_keep_to_their_bounds():
    for kind, bounds, taken, refused in (
        (int, {"minimum": 1, "maximum": 3}, {"1": 1, "3": 3}, ["0", "4", "1.5", "x"]),
        (float, {"above": 0}, {"1e-3": 1e-3}, ["0", "nan", "inf"]),
        (int, {"minimum": -1, "word": "auto"}, {"auto": "auto", "-1": -1}, ["-2", "automatic"]),
    ):
        convert = cli.number(kind, **bounds)
        assert {text: convert(text) for text in taken} == taken
        for text in refused:
            with pytest.raises(argparse.ArgumentTypeError):
                convert(text)


def test_what_was_left_out_is_listed_and_counts(capsys):
    assert cli.report_left_out([]) == 0
    assert cli.report_left_out([("a.wav", "too short"), ("b.wav", "b.wav: no audio")]) == cli.SOME_LEFT_OUT
    assert capsys.readouterr().err == "2 left out:\n  a.wav: too short\n  b.wav: no audio\n"


def test_control_characters_do_not_reach_the_terminal():
    assert str(InputError("a\nb\x1b[31m\tc é 吉 \udcff\u202e")) == "a b\\x1b[31m c é 吉 \udcff\\u202e"


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "doctor"])  # it lists all of them
def test_a_python_without_packages_is_told_in_one_line(command):
    """Without its site-packages, as outside the environment."""
    command = [sys.executable, "-ES", ROOT / f"{command}.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "numpy" in done.stderr
