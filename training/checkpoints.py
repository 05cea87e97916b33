"""The folder of a run: its lock, what made it, and the states from which it resumes exactly.

A state is one zip file, ``checkpoints/state-<step>.zip``, which has a checksum for each of its members: the bytes of
each array, uncompressed, and the run's flags and progress as JSON. The last two states are kept, so that a run can fall
back to the older one if the newest is damaged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from common import InputError
from common.files import open_regular, parse_json, replacing, write_json

FOLDER = "checkpoints"
LR_FINDER = "lr_finder"  # first part of the names of the learning-rate finder's files
N_KEPT = 2
MAX_MEMBERS = 10_000  # of a state, each of which starts with PK\1\2 in the directory that zipfile holds in memory
_HEADER = "progress.json"
_LOCK = ".lock"
_NAME = re.compile(r"state-(\d{9,18})\.zip")


@dataclasses.dataclass
class Progress:
    """How far a run has come.

    Attributes:
        epoch: complete epochs, counted from the first one of the weights that the run began with (`epoch_offset`).
        step: steps done in the current epoch.
        n_slices, sums, seconds: of the current epoch: slices seen, sum of each loss over them, seconds of training.
        rows: rows of history.csv.
        best: lowest validation MAE so far.
        waited: epochs since then.
        epoch_offset: epochs that bare weights were trained for before this run.
    """

    epoch: int = 0
    step: int = 0
    n_slices: int = 0
    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    rows: list[dict] = dataclasses.field(default_factory=list)
    best: float = math.inf
    waited: int = 0
    epoch_offset: int = 0


# --- states -----------------------------------------------------------------------------------------------------------


def save(
    folder: pathlib.Path, step: int, arrays: Iterable[tuple[str, np.ndarray]], flags: Mapping, progress: Progress
) -> None:
    """Write the state of step `step` below `folder`, and delete all but the last two.

    `arrays` are taken one at a time, so that a large network is not held in memory twice.
    """
    path = folder / FOLDER / f"state-{step:09d}.zip"
    with replacing(path) as beside, beside.open("wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays:
                archive.writestr(name, array.tobytes())
            archive.writestr(_HEADER, json.dumps({"flags": dict(flags), "progress": dataclasses.asdict(progress)}))
        file.flush()
        os.fsync(file.fileno())  # otherwise a power cut may leave the new name with an empty file
    written = states(folder)
    # Later ones are damaged or of another batch size: this run has gone on from an earlier state.
    kept = written[: written.index(path) + 1][-N_KEPT:]
    for other in set(written) - set(kept):
        other.unlink()


def states(folder: pathlib.Path) -> list[pathlib.Path]:
    """The states below `folder`, oldest first; files of any other name are left alone."""
    found = [path for path in (folder / FOLDER).glob("state-*.zip") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.stem.rpartition("-")[2]))


def resume(folder: pathlib.Path, variables: Mapping, flags: Mapping) -> Progress | None:
    """Set all variables from the newest undamaged state below `folder`; its progress, or None if there is no state.

    Prints which states are damaged, and which flags have changed since.

    Args:
        variables: Keras variables by name.
        flags: of the run that goes on.

    Raises:
        InputError: the state is of another network, or there are only damaged ones or those of an earlier version.
    """
    paths = states(folder)
    for path in reversed(paths):
        try:
            before, progress, is_same = _restore(path, variables)
            break
        except Exception as error:  # zipfile raises a dozen kinds
            print(f"{path}: damaged training state ({error}), falling back to the one before")
    else:
        if paths:
            raise InputError(f"{folder / FOLDER}: no training state in it is undamaged; --fresh starts over")
        if any((folder / FOLDER).glob("state-*.bin")):
            raise InputError(f"{folder / FOLDER} holds training states of an earlier version; --fresh sets them aside")
        return None
    before["fresh"] = flags.get("fresh")  # says nothing about the run
    changed = {flag: value for flag, value in flags.items() if before.get(flag, value) != value}
    if not is_same:
        other = ", ".join(f"--{flag} {before[flag]}" for flag in changed)
        raise InputError(f"{path} is of another network{f' ({other})' if other else ''}; --fresh starts over")
    for flag, value in changed.items():
        print(f"Going on with other settings: {flag} {value} (started with {before[flag]})")
    share = before.get("batch_size", 1) / flags.get("batch_size", 1)
    progress.step = int(progress.step * share)  # the same share of the epoch is done
    print(f"Resuming from {path} (epoch {progress.epoch + 1}, step {progress.step})")
    return progress


def _restore(path: pathlib.Path, variables: Mapping) -> tuple[dict, Progress, bool]:
    """Set `variables` from a state, if it has just these; its flags and progress, and whether it has.

    Raises an exception of any kind if the state is damaged, perhaps after some variables have been set.
    """
    with open_regular(path, "a training state") as file:
        blocks = iter(functools.partial(file.read, 2**20), b"")
        if sum(block.count(b"PK\1\2") for block in blocks) > MAX_MEMBERS:
            raise ValueError(f"it has more than {MAX_MEMBERS} members")
        with zipfile.ZipFile(file) as archive:  # compares a member's checksum when it is read
            members = archive.infolist()
            if any(member.compress_type or member.file_size != member.compress_size for member in members):
                raise ValueError("it is compressed")
            header = parse_json(archive.read(_HEADER), _HEADER)
            found = {member.filename: member.file_size for member in members}
            del found[_HEADER]
            is_same = found == {name: math.prod(v.shape) * np.dtype(v.dtype).itemsize for name, v in variables.items()}
            if is_same:
                for name, variable in variables.items():
                    variable.assign(np.frombuffer(archive.read(name), variable.dtype).reshape(variable.shape))
            elif damaged := archive.testzip():
                raise ValueError(f"the checksum of {damaged} is wrong")
    header["progress"].pop("copy_mae", None)  # which earlier states hold
    return header["flags"], Progress(**header["progress"]), is_same


# --- the folder -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def claim(folder: pathlib.Path, flags: Mapping, fresh: bool = False) -> Iterator[None]:
    """Lock a model's folder for a block, and write ``run.json`` into it: flags and versions of the run that begins.

    The folder is made if it is missing; with `fresh`, what it holds is set aside. Unfinished files of a process that
    was killed are deleted. The lock ends with the process, even if the process is killed.

    Raises:
        InputError: another process holds the lock, or a run would write elsewhere through a link in the folder.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.rglob("*"):
        if entry.is_symlink() and (entry.is_dir() or entry.name == _LOCK):
            raise InputError(f"{entry} is a link: a run would write to {os.path.realpath(entry)}")
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"{folder}: another training run is using this folder") from None
    try:
        for unfinished in list(folder.rglob(".*.part")):
            shutil.rmtree(unfinished, ignore_errors=True)  # a file of such a name is not ours
        if fresh:
            set_aside(folder)
        write_json(folder / "run.json", {"flags": dict(flags), "versions": _find_versions()})
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file
            os.unlink(folder / _LOCK)
        lock.release()


def set_aside(folder: pathlib.Path) -> None:
    """Move what a model's folder holds to the first free ``<folder>.old<N>``, and print it.

    The lock stays, and so do the suggestions of the learning-rate finder, which are for the next run.
    """
    moved = [entry for entry in folder.iterdir() if not entry.name.startswith((_LOCK, LR_FINDER))]
    if not moved:
        return
    number = 1
    while (aside := folder.with_name(f"{folder.name}.old{number}")).exists():
        number += 1
    aside.mkdir()
    for entry in moved:
        entry.rename(aside / entry.name)
    print(f"Starting over; the old run is now {aside}")


def _find_versions() -> dict[str, str]:
    """The versions of what computes, and the commit of this program."""
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy", "librosa")}
    command = ["git", "-C", str(pathlib.Path(__file__).parent), "rev-parse", "HEAD"]
    with contextlib.suppress(OSError):  # git is not installed
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        versions["commit"] = commit or "unknown"
    return versions
