"""Imports run downward only, in the order that docs/architecture.md gives; nothing heavy is imported for ``--help``."""

import ast
import graphlib
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import COMMANDS, ROOT

MAX_BOXES = 24
ROW = re.compile(r"^\| (?P<floor>[\w ]+) \| `(?P<path>[\w/]+\.py)` \|.*\| (?P<tensorflow>yes)? ?\|$", re.M)

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


def find_modules() -> dict[str, pathlib.Path]:
    """Files by module name, such as "data" or "training.loop": the top level's and those of its packages."""
    modules = {path.stem: path for path in ROOT.glob("*.py")}
    packages = [path for init in ROOT.glob("*/__init__.py") for path in init.parent.rglob("*.py")]
    return modules | {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in packages}


def imported_names(path: pathlib.Path) -> set[str]:
    """Full dotted names of all that a file imports, also inside functions: ``from a import b`` gives "a.b"."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
    return names


def imported_modules(modules: dict[str, pathlib.Path]) -> dict[str, set[str]]:
    """By module, the modules of ours that it imports. ``import a.b`` and ``from a.b import name`` import "a.b";
    ``from a import b`` imports "a.b" where that is a module, else "a"."""
    return {
        module: {name if name in modules else name.rpartition(".")[0] for name in imported_names(path)} & modules.keys()
        for module, path in modules.items()
    }


def box(path: str) -> str:
    """The box of a file in a drawing of the project: the commands, or the top-level file or folder."""
    return "commands" if path.removesuffix(".py") in COMMANDS else path.partition("/")[0]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_imports_follow_the_table():
    rows = [(floor, path) for floor, path, _ in ROW.findall(read("docs/architecture.md"))]
    order = list(dict.fromkeys(floor for floor, _ in rows))
    floors = {path: order.index(floor) for floor, path in rows}  # larger further down
    modules = find_modules()
    paths = {module: path.relative_to(ROOT).as_posix() for module, path in modules.items()}
    assert sorted(path for _, path in rows) == sorted(p for p in paths.values() if not p.endswith("__init__.py"))

    faults = []
    boxes: dict[str, set[str]] = {}
    graph = imported_modules(modules)
    for module, others in graph.items():
        path, imported = paths[module], {paths[other] for other in others}
        faults += [f"{path}: {name} is relative" for name in imported_names(modules[module]) if name.startswith(".")]
        faults += [f"{path}: {other} is above it" for other in imported if floors[other] < floors.get(path, 0)]
        faults += [f"{path}: {other} is a command" for other in imported if box(other) == "commands"]
        boxes.setdefault(box(path), set()).update({box(other) for other in imported} - {box(path)})
    assert not faults, "\n".join(faults)
    assert len(boxes) <= MAX_BOXES
    for edges in (graph, boxes):
        graphlib.TopologicalSorter(edges).prepare()  # an error names the circle


def test_the_table_names_the_commands_and_what_imports_tensorflow():
    rows = ROW.findall(read("docs/architecture.md"))
    assert sorted(path.removesuffix(".py") for floor, path, _ in rows if floor == "commands") == COMMANDS
    needing = {
        path.relative_to(ROOT).as_posix()
        for path in find_modules().values()
        if {name.split(".")[0] for name in imported_names(path)} & {"tensorflow", "keras"}
    }
    assert {path for _, path, tensorflow in rows if tensorflow} == needing


def reached(module: str, graph: dict[str, set[str]]) -> set[str]:
    """A module and all modules of ours that it imports, and that those import."""
    found, new = set(), {module}
    while new:
        found |= new
        new = set().union(*(graph[name] for name in new)) - found
    return found


def test_every_import_from_outside_is_a_requirement():
    """Converting needs neither TensorFlow nor librosa: no function that it may call imports them."""
    modules = find_modules()
    graph = imported_modules(modules)
    pictures = {"pillow", "matplotlib"}  # of predict.py --plot
    few, many = (
        {re.split(r"[<>=]", line)[0].lower() for line in read(name).splitlines() if line[:1] != "#"}
        for name in ("conversion/requirements.txt", "requirements.txt")
    )
    of_onnxruntime, names = {"packaging"}, {"PIL": "pillow", "swift_f0": "swift-f0"}
    ours = {name.split(".")[0] for name in modules} | set(sys.stdlib_module_names)
    for module in modules:
        paths = [modules[name] for name in reached(module, graph)]
        outside = {name.split(".")[0] for path in paths for name in imported_names(path)} - ours
        converts = module in ("predict", "predict_multitarget", "export", "doctor")
        required = few | of_onnxruntime | (pictures if converts else many)
        assert {names.get(name, name).lower() for name in outside} <= required, module


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_an_argument_error_import_nothing_heavy(command):
    for flag, status in (("--help", 0), ("--no_such_flag", 2)):
        argv = [sys.executable, "-c", LIGHT, f"{command}.py", flag]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert (done.stdout or done.stderr).startswith(f"{command}.py: error: " if status else f"usage: {command}.py")
        assert done.stderr.count("\n") == (status == 2)
