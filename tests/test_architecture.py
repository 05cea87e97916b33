"""Imports run downward only, in the order that docs/architecture.md gives; nothing heavy is imported for ``--help``."""

from __future__ import annotations

import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
COMMANDS = sorted(
    path.stem for path in ROOT.glob("*.py") if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)
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


def find_modules(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Files by module name, such as "data" or "training.loop": the top level's and those of its packages, which are
    folders with an ``__init__.py``. A package's ``__init__.py`` is a module under the package's name."""
    modules = {path.stem: path for path in root.glob("*.py")}
    for init in root.glob("*/__init__.py"):
        package = init.parent
        for path in package.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            modules[".".join(parts[:-1] if path.name == "__init__.py" else parts)] = path
    return modules


def imported_names(path: pathlib.Path) -> set[str]:
    """Full dotted names of all that a file imports, also inside functions: ``from a import b`` gives "a.b"."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            names |= {f"{origin}.{alias.name}" for alias in node.names}
    return names


def imported_modules(modules: dict[str, pathlib.Path]) -> dict[str, set[str]]:
    """By module, the modules of ours that it imports. ``import a.b`` and ``from a.b import name`` import "a.b";
    ``from a import b`` imports "a.b" where that is a module, else "a"."""
    graph = {}
    for module, path in modules.items():
        graph[module] = set()
        for name in imported_names(path):
            parts = name.split(".")
            prefixes = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
            graph[module] |= set([prefix for prefix in prefixes if prefix in modules][:1])
    return graph


def read_floors(document: str) -> dict[str, int]:
    """The floor of each file in the table of docs/architecture.md: 0 for the first one named, larger further down."""
    rows = ROW.findall(document)
    order = list(dict.fromkeys(floor for floor, _, _ in rows))
    return {path: order.index(floor) for floor, path, _ in rows}


def box(path: str) -> str:
    """The box of a file in a drawing of the project: the commands, or the top-level file or folder. What imports
    nothing, and everything may import, is a box of its own."""
    if path in ("common/errors.py", "common/representation.py"):
        return path
    return "commands" if path.removesuffix(".py") in COMMANDS else path.partition("/")[0]


def find_cycle(graph: dict[str, set[str]]) -> set[str]:
    """The nodes on cycles and on paths between two cycles; empty where there is no cycle."""
    left = {node: set(others) for node, others in graph.items()}
    while left:
        imported = set().union(*left.values())
        ends = {node for node, others in left.items() if not others or node not in imported}
        if not ends:
            break
        left = {node: others - ends for node, others in left.items() if node not in ends}
    return set(left)


def find_faults(root: pathlib.Path, document: str) -> list[str]:
    """What is wrong with the imports of the project in `root`, judged by the table in `document`; one line a fault."""
    modules = find_modules(root)
    floors = read_floors(document)
    paths = {module: path.relative_to(root).as_posix() for module, path in modules.items()}
    files = {path for path in paths.values() if not path.endswith("__init__.py")}
    faults = [f"{path}: no row in the table" for path in sorted(files - floors.keys())]
    faults += [f"{path}: a row in the table, no such file" for path in sorted(floors.keys() - files)]
    faults += [f"{path}: several rows" for path in floors if document.count(f"| `{path}` |") > 1]
    boxes: dict[str, set[str]] = {}
    graph = imported_modules(modules)
    for module, others in graph.items():
        path = paths[module]
        relative = [name for name in imported_names(modules[module]) if name.startswith(".")]
        faults += [f"{path}: relative import of {name}" for name in relative]
        boxes.setdefault(box(path), set()).update({box(paths[other]) for other in others} - {box(path)})
        for other in sorted(others):
            if floors.get(paths[other], 0) < floors.get(path, 0):
                faults.append(f"{path} imports {paths[other]}, which is above it")
            elif paths[other].removesuffix(".py") in COMMANDS:
                faults.append(f"{path} imports the command {paths[other]}")
    faults += [f"{len(boxes)} boxes are too many for a drawing"] * (len(boxes) > MAX_BOXES)
    for kind, edges in (("modules", graph), ("boxes", boxes)):
        if cycle := find_cycle(edges):
            faults.append(f"{kind} that import each other in a circle: {', '.join(sorted(cycle))}")
    return faults


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_imports_follow_the_table():
    faults = find_faults(ROOT, read("docs/architecture.md"))
    assert not faults, "\n" + "\n".join(faults)


# A small project in order: commands above training above data; tests add one line that breaks it.
FILES = {
    "train.py": "import training.loop\n",
    "training/__init__.py": "",
    "training/loop.py": "from data import stft\nfrom training import step\n",
    "training/step.py": "",
    "common/__init__.py": "",
    "common/cli.py": "from data import stft\n",
    "common/errors.py": "",
    "data.py": "from common.errors import InputError\n",
}
FLOORS = {
    "commands": ["train.py"],
    "training": ["training/loop.py", "training/step.py"],
    "common": ["common/cli.py"],
    "data": ["data.py"],
    "errors": ["common/errors.py"],
}
TABLE = "".join(f"| {floor} | `{path}` | a line | |\n" for floor, paths in FLOORS.items() for path in paths)


def write_project(folder: pathlib.Path, path: str = "train.py", line: str = "") -> pathlib.Path:
    """The small project with one more line in one of its files."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text + line if name == path else text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("path", "line", "fault"),
    [
        (
            "common/cli.py",
            "import training.loop as loop\n",
            "common/cli.py imports training/loop.py, which is above it",
        ),
        ("common/cli.py", "from training.loop import fit\n", "common/cli.py imports training/loop.py, which is above"),
        ("data.py", "def f():\n    from common import cli\n", "data.py imports common/cli.py, which is above it"),
        ("common/__init__.py", "import train\n", "common/__init__.py imports the command train.py"),
        ("training/step.py", "from training.loop import fit\n", "modules that import each other in a circle: training"),
        ("training/step.py", "from . import loop\n", "training/step.py: relative import of ..loop"),
        ("data.py", "", None),
    ],
)
def test_what_breaks_the_order_is_reported(tmp_path, path, line, fault):
    faults = find_faults(write_project(tmp_path, path, line), TABLE)
    assert [found for found in faults if found.startswith(fault)] if fault else not faults, faults


def test_a_circle_between_folders_is_reported_though_no_module_is_in_one(tmp_path):
    project = write_project(tmp_path, "training/loop.py", "import other.a\n")
    (project / "other").mkdir()
    for name, text in {"__init__.py": "", "a.py": "", "b.py": "import training.step\n"}.items():
        (project / "other" / name).write_text(text)
    rows = "".join(f"| training | `other/{name}.py` | a line | |\n" for name in "ab")
    assert find_faults(project, TABLE + rows) == ["boxes that import each other in a circle: other, training"]


def test_a_file_without_a_row_and_a_row_without_a_file_are_reported(tmp_path):
    project = write_project(tmp_path)
    (project / "common" / "new.py").write_text("")
    faults = find_faults(project, TABLE + "| common | `common/old.py` | a line | |\n")
    assert faults == ["common/new.py: no row in the table", "common/old.py: a row in the table, no such file"]


def test_commands_are_the_files_that_run_as_scripts():
    rows = ROW.findall(read("docs/architecture.md"))
    assert sorted(path.removesuffix(".py") for floor, path, _ in rows if floor == "commands") == COMMANDS


def test_the_table_names_what_imports_tensorflow():
    listed = {path for _, path, tensorflow in ROW.findall(read("docs/architecture.md")) if tensorflow}
    needing = {
        path.relative_to(ROOT).as_posix()
        for path in find_modules(ROOT).values()
        if {name.split(".")[0] for name in imported_names(path)} & {"tensorflow", "keras"}
    }
    assert listed == needing


def test_every_import_from_outside_is_a_requirement():
    lines = (read("requirements.txt") + read("conversion/requirements.txt")).splitlines()
    required = {re.split(r"[<>=]", line)[0].lower() for line in lines if line[:1] != "#"}
    modules = find_modules(ROOT)
    imported = {name.split(".")[0] for path in modules.values() for name in imported_names(path)}
    outside = imported - {name.split(".")[0] for name in modules} - set(sys.stdlib_module_names)
    names = {"PIL": "pillow", "swift_f0": "swift-f0"}
    assert {names.get(name, name).lower() for name in outside} - {"packaging"} <= required  # comes with onnxruntime


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_an_argument_error_import_nothing_heavy(command):
    for flag, status in (("--help", 0), ("--no_such_flag", 2)):
        argv = [sys.executable, "-c", LIGHT, f"{command}.py", flag]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert (done.stdout or done.stderr).startswith(f"{command}.py: error: " if status else f"usage: {command}.py")
        assert done.stderr.count("\n") == (status == 2)
