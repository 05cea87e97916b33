"""Help, exit statuses and error messages that all commands share."""

import argparse
import os
import subprocess
import sys
import warnings

import pytest
from conftest import ROOT

from common import cli
from common.errors import InputError


def test_help_shows_the_defaults_that_say_something(capsys):
    parser = cli.Parser("A command.")
    defaults = {"none": None, "no": False, "empty": "", "nothing": [], "nil": 0, "few": ["a", "b"]}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", default=default, help=f"is {name}")
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for ending in ("is none ", "is no ", "is empty ", "is nothing ", "is nil (default: 0) ", "is few (default: a b)"):
        assert ending in f"{shown} "
    assert shown.count("(default: ") == 2


@pytest.mark.parametrize(("argv", "named"), [
    (["--inptu", "a"], "no flag --inptu: did you mean --input?"),
    (["-input", "a"], "no flag -input: did you mean --input?"),
    (["--griffin_iterations=3", "--input", "a"], "no flag --griffin_iterations: did you mean --griffinlim_iterations?"),
    (["--zzz"], "no flag --zzz: --help lists the flags"),
])  # fmt: skip
def test_a_misspelt_flag_is_named_with_the_nearest_one(argv, named, capsys):
    parser = cli.Parser("A command.")
    for flag in ("--input", "--output", "--griffinlim_iterations"):
        parser.add_argument(flag, required=flag == "--input")
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(argv)
    assert stopped.value.code == cli.BAD_INPUT
    assert named in capsys.readouterr().err


def test_values_that_begin_with_a_minus_are_no_flags():
    parser = cli.Parser("A command.")
    parser.add_argument("--gpu", type=int)
    parser.add_argument("--output", nargs="*")
    assert parser.parse_args(["--gpu", "-1", "--output", "-"]).gpu == -1


@pytest.mark.parametrize("work", ["parser.parse_args(['--help'])", "print('much') or 0"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_ends_a_command_without_a_word(work, unbuffered):
    code = (
        f"from common import cli; parser = cli.Parser('Help.'); raise SystemExit(cli.run(parser, lambda _: {work}, []))"
    )
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, cwd=ROOT, env=environment, check=False
    )
    os.close(writing)
    assert done.stderr == b""
    # argparse itself swallows the error where nothing is buffered
    assert done.returncode == (0 if unbuffered and "help" in work else cli.CLOSED_PIPE)


@pytest.mark.skipif(sys.platform == "win32", reason="file names are Unicode there")
def test_any_file_name_is_printed_whatever_the_terminal_is_made_for():
    code = (
        "import os\n"
        "from common import cli, errors\n"
        "def work(_):\n"
        "    name = os.fsdecode(b'caf\\xe9.wav')\n"
        "    print(name)\n"
        "    raise errors.InputError(f'{name}: expected another')\n"
        "raise SystemExit(cli.run(cli.Parser('Help.'), work, []))"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == cli.BAD_INPUT
    assert done.stdout.splitlines() == [b"caf\\udce9.wav"]
    assert done.stderr.count(b"\n") == 1
    assert b"caf\\udce9.wav: expected another" in done.stderr


def test_mistakes_interruption_and_success_have_their_exit_status(capsys):
    def failing(error):
        def work(_):
            raise error

        return work

    parser = cli.Parser("A command.")
    assert cli.run(parser, lambda _: 0, []) == 0
    assert cli.run(parser, failing(InputError("expected\nthis")), []) == cli.BAD_INPUT
    assert capsys.readouterr().err.endswith("error: expected this\n")
    assert cli.run(parser, failing(PermissionError(13, "Permission denied", "a.wav")), []) == cli.BAD_INPUT
    assert capsys.readouterr().err.endswith("error: a.wav: Permission denied\n")
    assert cli.run(parser, failing(KeyboardInterrupt()), []) == cli.INTERRUPTED
    with pytest.raises(RuntimeError):
        cli.run(parser, failing(RuntimeError("a bug")), [])


@pytest.mark.parametrize(
    ("bounds", "text", "limits"),
    [
        ({"minimum": 1}, "0", "a whole number at least 1"),
        ({"minimum": 1, "maximum": 3}, "4", "a whole number at least 1 and at most 3"),
        ({"above": 0}, "0", "a whole number above 0"),
        ({"minimum": -1, "word": "auto"}, "-2", "auto or a whole number at least -1"),
        ({}, "1.5", "a whole number"),
    ],
)
def test_a_number_out_of_bounds_is_named_with_its_bounds(bounds, text, limits, capsys):
    parser = cli.Parser("A command.")
    parser.add_argument("--n", type=cli.number(int, **bounds))
    with pytest.raises(SystemExit):
        parser.parse_args(["--n", text])
    assert f"--n: expected {limits}, found {text}" in capsys.readouterr().err.replace("'", "")


def test_numbers_within_bounds_and_the_word_are_taken():
    assert cli.number(int, minimum=1, maximum=3)("3") == 3
    assert cli.number(float, above=0)("1e-3") == 1e-3
    assert cli.number(int, word="auto")("auto") == "auto"
    for text in ("nan", "inf"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"found {text}"):
            cli.number(float)(text)


def test_what_was_left_out_is_listed_and_counts(capsys):
    assert cli.report_left_out([]) == 0
    assert cli.report_left_out([("a.wav", "too short"), ("b.wav", "b.wav: no audio")]) == cli.SOME_LEFT_OUT
    assert capsys.readouterr().err == "2 left out:\n  a.wav: too short\n  b.wav: no audio\n"


@pytest.mark.parametrize("has_home", [True, False])
def test_caches_have_a_place_without_a_home(tmp_path, monkeypatch, has_home):
    home = tmp_path / "home"
    home.mkdir() if has_home else home.touch()
    monkeypatch.setenv("HOME", str(home))
    for name in ("NUMBA_CACHE_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, "")  # so that it is restored, whatever happens
        monkeypatch.delenv(name)
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    cli.find_caches()
    for name in ("NUMBA_CACHE_DIR", "MPLCONFIGDIR"):
        assert (name in os.environ) != has_home
        assert has_home or os.stat(os.environ[name]).st_mode & 0o777 == 0o700
    assert list(tmp_path.rglob("*")) == [home]


@pytest.mark.skipif(os.name == "nt", reason="a shell that closes streams")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_cost_nothing(tmp_path, closed):
    """The first file that is opened would otherwise take the number of the stream, and receive what is printed."""
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from common import cli
def work(arguments):
    with open({str(tmp_path / "out")!r}, "w") as file:
        print("to stdout", flush=True)
        print("to stderr", file=sys.stderr, flush=True)
        file.write("content")
    return 0
sys.exit(cli.run(cli.Parser("A command."), work, []))
"""
    (tmp_path / "command.py").write_text(program)
    command = f"exec {sys.executable} {tmp_path / 'command.py'} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout == ("" if ">&-" in closed.replace("2>&-", "") else "to stdout\n")
    assert done.stderr == ("" if "2>&-" in closed else "to stderr\n")
    assert (tmp_path / "out").read_text() == "content"


def test_control_characters_do_not_reach_the_terminal():
    assert cli.one_line("a\x1b[31m\tb\nc\u4e16\u202e\x07") == "a\\x1b[31m b c\u4e16\\u202e\\x07"


def test_warnings_of_libraries_are_not_shown(capfd):
    def work(_):
        warnings.warn("too short for n_fft", UserWarning, stacklevel=1)
        subprocess.run([sys.executable, "-c", "import warnings; warnings.warn('of a process')"], check=True)
        return 0

    assert cli.run(cli.Parser("A command."), work, []) == 0
    assert capfd.readouterr().err == ""
    assert "PYTHONWARNINGS" not in os.environ


def test_an_error_has_one_line_whatever_a_name_in_a_file_holds():
    error = InputError("a\nb\x1b[31m\tc é 吉 \udcff")
    assert str(error) == "a b\\x1b[31m c é 吉 \udcff"
