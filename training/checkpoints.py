"""The state of a training run on disk: written completely or not at all, and checked byte by byte when it is read.

A state is one file, ``state-<step>.npz``: NumPy's zip of arrays, each with its checksum, and the run's counters as
JSON. The last two are kept, so that a run can fall back to the older one if the newest is damaged. No TensorFlow here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from common import npy
from common.errors import InputError
from common.files import open_regular, parse_json, replacing

FOLDER = "checkpoints"
LR_FINDER = "lr_finder"  # first part of the names of the learning-rate finder's files
REHEARSAL = ".rehearsal-"  # first part of the name of a folder that is used before the first step
N_KEPT = 2
_LOCK, _OWNER = ".lock", ".pid"
_RUN = "run.json"
_FORMAT = 1
_NAME = re.compile(r"state-\d{9,18}\.npz")
# What reading a damaged state may raise. RuntimeError: zipfile takes some damaged bytes for a compression or an
# encryption that it does not know.
_DAMAGED = (zipfile.BadZipFile, LookupError, ValueError, EOFError, RuntimeError, ArithmeticError, struct.error)


@dataclasses.dataclass(frozen=True)
class State:
    """A state that was found undamaged.

    Attributes:
        path: its file.
        run: the `run` that was given to `save`.
        damaged: one line for each newer state that is damaged.
    """

    path: pathlib.Path
    run: dict
    damaged: list[str]


def save(folder: pathlib.Path, step: int, arrays: Iterable[tuple[str, np.ndarray]], run: dict) -> pathlib.Path:
    """Write the state of step `step` below `folder` and delete all but the last two; the path of the new state.

    Args:
        arrays: (name, array), taken one at a time, so that a large network is not held in memory twice.
        run: everything else that the run needs, as JSON can store it.
    """
    path = folder / FOLDER / f"state-{step:09d}.npz"
    with replacing(path) as beside:
        with zipfile.ZipFile(beside, "w") as archive:
            for name, array in arrays:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
            archive.writestr(_RUN, json.dumps({"format": _FORMAT, **run}))
        with beside.open("rb+") as file:
            os.fsync(file.fileno())  # otherwise a power cut may leave the new name with an empty file
    for later in states(folder):
        if _step(later) > step:  # damaged or of another batch size: this run has gone on from an earlier state
            later.unlink()
    for old in states(folder)[:-N_KEPT]:
        old.unlink()
    return path


def states(folder: pathlib.Path) -> list[pathlib.Path]:
    """The states below `folder`, oldest first; files of any other name are left alone."""
    return sorted((path for path in (folder / FOLDER).glob("state-*.npz") if _NAME.fullmatch(path.name)), key=_step)


def _step(path: pathlib.Path) -> int:
    return int(path.stem.rpartition("-")[2])


def load(folder: pathlib.Path, check: Callable[[dict], None] | None = None) -> State | None:
    """The newest undamaged state below `folder`; None if there are no states at all.

    Args:
        check: raises ValueError if a state's `run` is not what `save` was given.

    Raises:
        InputError: there are states, but none that can be read.
    """
    damaged = []
    for path in reversed(states(folder)):
        try:
            run = _read_run(path)
            if type(run.get("format")) is int and run["format"] != _FORMAT:
                raise InputError(f"{path}: expected a training state of format {_FORMAT}, found {run['format']}")
            if run.get("format") != _FORMAT:
                raise ValueError(f"no format in {_RUN}")
            if check:
                check(run)
        except InputError:
            raise
        except (OSError, *_DAMAGED) as error:
            damaged.append(f"{path}: damaged training state ({error}), falling back to the one before")
            continue
        return State(path, run, damaged)
    if damaged:
        raise InputError(f"{folder / FOLDER}: expected an undamaged training state, found none; --fresh starts over")
    return None


def _read_run(path: pathlib.Path) -> dict:
    """The `run` of a state, all of whose arrays are there and whole.

    Raises:
        OSError, ValueError and others: see `_DAMAGED`.
    """
    try:
        with _open(path) as archive:
            member = archive.testzip()
            if member is not None:
                raise ValueError(f"{member} is damaged")
            for info in archive.infolist():
                if info.filename != _RUN:
                    with archive.open(info) as member:
                        npy.read_header(member, info.file_size)
            return parse_json(archive.read(_RUN), _RUN)
    except InputError as error:
        raise ValueError(str(error)) from None


def arrays(path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
    """Names and arrays of a state that `load` has found undamaged, one at a time."""
    with _open(path) as archive:
        for info in archive.infolist():
            if info.filename != _RUN:
                with archive.open(info) as member:
                    dtype, shape, order, _ = npy.read_header(member, info.file_size)
                    content = np.frombuffer(member.read(), dtype)
                    yield info.filename.removesuffix(".npy"), content.reshape(shape, order=order)


def shapes(path: pathlib.Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the arrays of a state that `load` has found undamaged, without reading the arrays."""
    with _open(path) as archive:
        for info in archive.infolist():
            if info.filename != _RUN:
                with archive.open(info) as member:
                    yield info.filename.removesuffix(".npy"), npy.read_header(member, info.file_size)[1]


@contextlib.contextmanager
def _open(path: pathlib.Path) -> Iterator[zipfile.ZipFile]:
    """The zip of a state. Nothing in it is compressed, so that it cannot hold more than its own size.

    Raises:
        ValueError: it is not a zip that `save` would write.
    """
    with open_regular(path, "a training state") as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        is_stored = all(m.compress_type == zipfile.ZIP_STORED and m.file_size == m.compress_size for m in members)
        total, size = sum(member.file_size for member in members), os.fstat(file.fileno()).st_size
        if not is_stored or total > size:
            raise ValueError(f"expected {size} bytes of uncompressed arrays at most, found {total} or compressed ones")
        if len({member.filename for member in members}) < len(members):
            raise ValueError("expected each array once, found one twice")
        yield archive


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Lock a model's folder for a block; the lock ends with the process, even if the process is killed.

    The folder is made if it is missing. Unfinished files of a process that was killed are deleted.

    Raises:
        InputError: another process, which is named, holds the lock; or the folder has links in it, through which a run
            would write elsewhere.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    _refuse_links(folder)
    lock, owner = FileLock(folder / _LOCK), folder / _OWNER
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            with open_regular(owner) as file:
                pid = int(file.read(20))
        except (InputError, OSError, ValueError):
            pid = "unknown"
        raise InputError(f"{folder}: another training run (pid {pid}) is using this folder") from None
    try:
        with replacing(owner) as beside:
            beside.write_text(f"{os.getpid()}\n")
        for unfinished in folder.rglob(".*.part.*"):
            unfinished.unlink()
        for rehearsal in folder.rglob(f"{REHEARSAL}*"):
            shutil.rmtree(rehearsal, ignore_errors=True)
        yield
    finally:
        with contextlib.suppress(OSError):
            owner.unlink()
        lock.release()


def _refuse_links(folder: pathlib.Path) -> None:
    """Refuse links to folders in a model's folder, and a lock that is anything but a file."""
    lock = folder / _LOCK
    if os.path.lexists(lock) and not stat.S_ISREG(os.lstat(lock).st_mode):
        raise InputError(f"{lock}: expected a file, found a link or a device")
    for root, names, _ in os.walk(folder):
        for name in names:
            if os.path.islink(os.path.join(root, name)):
                raise InputError(
                    f"{os.path.join(root, name)}: expected a folder, found a link to "
                    f"{os.path.realpath(os.path.join(root, name))}, which a run would write to"
                )


def set_aside(folder: pathlib.Path) -> pathlib.Path | None:
    """Move what a model's folder holds to the first free ``<folder>.old<N>``; its path, or None if nothing was moved.

    The lock stays, so that its owner keeps it (and because Windows cannot rename a folder that has an open file in it).
    The learning-rate finder's files stay too, because their suggestions are for the next run.
    """
    if not folder.exists():
        return None
    moved = [entry for entry in folder.iterdir() if not entry.name.startswith((_LOCK, _OWNER, LR_FINDER))]
    if not moved:
        return None
    number = 1
    while (aside := folder.with_name(f"{folder.name}.old{number}")).exists():
        number += 1
    aside.mkdir()
    for entry in moved:
        entry.rename(aside / entry.name)
    return aside
