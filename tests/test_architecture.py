"""Imports run downward only, nothing heavy is imported for --help, and the documentation knows every file and flag."""

import ast
import functools
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MODULES = sorted(path.stem for path in ROOT.glob("*.py"))
COMMANDS = [name for name in MODULES if '__name__ == "__main__"' in (ROOT / f"{name}.py").read_text(encoding="utf-8")]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9_]*(?!-)\b")

# Runs a command with everything heavy forbidden.
LIGHT = """
import runpy, sys
HEAVY = {"tensorflow", "keras", "librosa", "scipy", "soundfile", "matplotlib", "numba", "sklearn", "h5py", "mir_eval"}
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HEAVY:
            raise RuntimeError(f"{name} is imported")
sys.meta_path.insert(0, Forbidden())
sys.argv = sys.argv[1:]
sys.path.insert(0, "")
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def imports(module: str) -> set[str]:
    """Top-level names of everything that a module of ours imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}.py imports relatively"
            names.add(node.module.split(".")[0])
    return names


@functools.cache
def run_light(command: str, *argv: str) -> subprocess.CompletedProcess:
    """The outcome of a command that may import nothing heavy."""
    return subprocess.run(
        [sys.executable, "-c", LIGHT, f"{command}.py", *argv], cwd=ROOT, capture_output=True, text=True, check=False
    )


def floors() -> dict[str, int]:
    """The floor of each file in the table of docs/architecture.md, 0 the lowest."""
    rows = re.findall(r"^\| (commands|work|material|ground) \| `(\w+)\.py` \|", read("docs/architecture.md"), re.M)
    order = ["ground", "material", "work", "commands"]
    assert len(rows) == len({name for _, name in rows}), "a file stands in the table twice"
    return {name: order.index(floor) for floor, name in rows}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_file_has_its_row_in_the_architecture_table():
    assert sorted(floors()) == MODULES


def test_commands_are_those_that_run_as_scripts():
    assert sorted(name for name, floor in floors().items() if floor == 3) == COMMANDS


def test_imports_run_downward_only():
    floor = floors()
    upward = [
        f"{module} -> {other}"
        for module in MODULES
        for other in imports(module) & set(MODULES)
        if floor[other] > floor[module] or other in COMMANDS
    ]
    assert upward == []


def test_no_import_cycles():
    """Also imports inside functions count: taking away what imports nothing that is left ends with nothing."""
    left = {module: imports(module) & set(MODULES) for module in MODULES}
    while leaves := [module for module, others in left.items() if not others]:
        left = {module: others.difference(leaves) for module, others in left.items() if module not in leaves}
    assert left == {}


def test_the_table_names_what_needs_tensorflow():
    """In its last column; everything else works without TensorFlow."""
    said = set(re.findall(r"^\| \w+ \| `(\w+)\.py` \|.*\| yes \|$", read("docs/architecture.md"), re.M))
    assert {module for module in MODULES if imports(module) & {"tensorflow", "keras"}} == said


def test_every_import_from_outside_is_a_requirement():
    required = {
        re.split(r"[<>=]", line)[0].lower() for line in read("requirements.txt").splitlines() if line[:1] != "#"
    }
    optional = {"distributed"}
    outside = set().union(*map(imports, MODULES)) - set(MODULES) - set(sys.stdlib_module_names)
    names = {"PIL": "pillow"}
    assert {names.get(name, name).lower() for name in outside} - optional <= required


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command):
    done = run_light(command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {command}.py")


@pytest.mark.parametrize("command", COMMANDS)
def test_an_argument_error_is_one_line_and_imports_nothing_heavy(command):
    done = run_light(command, "--no_such_flag")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{command}.py: error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_is_documented(command):
    documented = set().union(*(FLAG.findall(path.read_text(encoding="utf-8")) for path in DOCUMENTS))
    flags = set(FLAG.findall(run_light(command, "--help").stdout)) - {"--help"}
    assert flags - documented == set()


def test_documented_command_lines_use_flags_that_exist():
    wrong = []
    for path in [*DOCUMENTS, ROOT / "Makefile"]:
        text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
        for command, rest in re.findall(r"^\s*(?:python|\$\(PYTHON\)) (\w+)\.py(.*)$", text, re.M):
            known = FLAG.findall(run_light(command, "--help").stdout)
            wrong += [f"{path.name}: {command}.py {flag}" for flag in FLAG.findall(rest) if flag not in known]
    assert wrong == []


def test_links_between_documents_lead_somewhere():
    broken = []
    for path in [*DOCUMENTS, *(ROOT / "docs").glob("*/**/*.md"), ROOT / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if "://" not in link and not (path.parent / link).exists():
                broken.append(f"{path.name}: {link}")
    assert broken == []
