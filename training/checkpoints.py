"""The state of a training run on disk: written whole or not at all, read back with every byte checked.

A state is one file, ``state-<step>.npz``: NumPy's zip of arrays (each with its CRC) and the run's counters as JSON. The
last two are kept, so that a damaged newest one falls back to the one before. No TensorFlow here.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import zipfile
from collections.abc import Iterable, Iterator

import numpy as np

from common.errors import InputError
from common.files import replacing

FOLDER = "checkpoints"
KEPT = 2
LOCK, OWNER = ".lock", ".pid"
_META = "run.json"
_FORMAT = 1


def save(folder: pathlib.Path, step: int, arrays: Iterable[tuple[str, np.ndarray]], run: dict) -> pathlib.Path:
    """Write the state of step `step` below `folder` and delete all but the last two.

    Args:
        arrays: (name, array), taken one at a time, so that a large network is not held twice.
        run: everything else that the run needs, as JSON keeps it.
    """
    path = folder / FOLDER / f"state-{step:09d}.npz"
    with replacing(path) as beside:
        with zipfile.ZipFile(beside, "w") as archive:
            for name, array in arrays:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
            archive.writestr(_META, json.dumps({"format": _FORMAT, **run}))
        with beside.open("rb+") as file:
            os.fsync(file.fileno())  # or a power cut may leave the new name with nothing behind it
    for later in states(folder):
        if _step(later) > step:  # damaged, or of batches of another size: this one goes on from an earlier one
            later.unlink()
    for old in states(folder)[:-KEPT]:
        old.unlink()
    return path


def states(folder: pathlib.Path) -> list[pathlib.Path]:
    """The states below `folder`, oldest first."""
    return sorted((folder / FOLDER).glob("state-*.npz"))


def _step(path: pathlib.Path) -> int:
    return int(path.stem.rpartition("-")[2])


def load(folder: pathlib.Path) -> tuple[pathlib.Path, dict, list[str]] | None:
    """The newest undamaged state below `folder`: its path, the `run` given to `save`, and a line for each damaged one.

    None where there is no state at all.

    Raises:
        InputError: there are states, but none that can be read.
    """
    said = []
    for path in reversed(states(folder)):
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
                if damaged is not None:
                    raise zipfile.BadZipFile(f"{damaged} is damaged")
                run = json.loads(archive.read(_META))
        except (OSError, zipfile.BadZipFile, KeyError, ValueError, EOFError, RuntimeError) as error:
            # RuntimeError: damage can look like a compression or an encryption that zipfile does not know
            said.append(f"{path}: damaged training state ({error}), falling back to the one before")
            continue
        if run.get("format") != _FORMAT:
            raise InputError(f"{path}: expected a training state of format {_FORMAT}, found {run.get('format')!r}")
        return path, run, said
    if said:
        raise InputError(f"{folder / FOLDER}: no undamaged training state is left; --fresh starts over")
    return None


def arrays(path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a state, one at a time."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name != _META:
                with archive.open(name) as member:
                    yield name.removesuffix(".npy"), np.lib.format.read_array(member, allow_pickle=False)


def shapes(path: pathlib.Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the arrays of a state, without reading them."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name != _META:
                with archive.open(name) as member:
                    np.lib.format.read_magic(member)
                    yield name.removesuffix(".npy"), np.lib.format.read_array_header_1_0(member)[0]


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Keep a second process off a model's folder; the lock goes with the process, however it ends.

    What an earlier process was writing when it was killed is cleared away.

    Raises:
        InputError: naming the process that holds it.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock, owner = FileLock(folder / LOCK), folder / OWNER
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            pid = owner.read_text().strip()
        except OSError:
            pid = "unknown"
        raise InputError(f"{folder}: another training (pid {pid}) is at work in this folder") from None
    try:
        owner.write_text(f"{os.getpid()}\n")
        for unfinished in folder.rglob(".*.part.*"):
            unfinished.unlink()
        yield
    finally:
        with contextlib.suppress(OSError):
            owner.unlink()
        lock.release()


def set_aside(folder: pathlib.Path) -> pathlib.Path | None:
    """Move what a model's folder holds to the first free ``<folder>.old<N>``, and give that name; None for nothing.

    The lock stays, and with it whoever holds it (Windows would not rename a folder with an open file in it); so do the
    learning-rate finder's suggestions, which are for what is trained next.
    """
    if not folder.exists():
        return None
    moved = [entry for entry in folder.iterdir() if not entry.name.startswith((LOCK, OWNER, "lr_finder"))]
    if not moved:
        return None
    number = 1
    while (aside := folder.with_name(f"{folder.name}.old{number}")).exists():
        number += 1
    aside.mkdir()
    for entry in moved:
        entry.rename(aside / entry.name)
    return aside
