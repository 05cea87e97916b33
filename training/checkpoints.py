"""The state of a training run on disk: written completely or not at all, and checked byte by byte when it is read.

A state is one file, ``checkpoints/state-<step>.bin``: the arrays one after another, then a JSON header with their
names, types and shapes, the run's flags and its progress, the header's length and a checksum of it all. The last two
states are kept, so that a run can fall back to the older one if the newest is damaged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from common.errors import InputError
from common.files import open_regular, parse_json, replacing

FOLDER = "checkpoints"
LR_FINDER = "lr_finder"  # first part of the names of the learning-rate finder's files
N_KEPT = 2
_MAGIC = b"training state 2\n"
_LOCK = ".lock"
_NAME = re.compile(r"state-(\d{9,18})\.bin")


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
        copy_mae: validation MAE of copying the input.
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
    copy_mae: float = math.nan
    epoch_offset: int = 0


@dataclasses.dataclass(frozen=True)
class State:
    """An undamaged state in the file `path`: flags and progress of its run, and where its arrays are.

    `layout` holds the type and shape of each array by name, in the file's order.
    """

    path: pathlib.Path
    flags: dict
    progress: Progress
    layout: dict[str, tuple[np.dtype, tuple[int, ...]]]

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """Names and arrays, one at a time."""
        with open_regular(self.path) as file:
            file.seek(len(_MAGIC))
            for name, (dtype, shape) in self.layout.items():
                yield name, np.fromfile(file, dtype, math.prod(shape)).reshape(shape)


def save(
    folder: pathlib.Path, step: int, arrays: Iterable[tuple[str, np.ndarray]], flags: dict, progress: Progress
) -> pathlib.Path:
    """Write the state of step `step` below `folder` and delete all but the last two; the path of the new state.

    Args:
        arrays: (name, array), taken one at a time, so that a large network is not held in memory twice.
        flags: of the run, as JSON can store them.
    """
    path = folder / FOLDER / f"state-{step:09d}.bin"
    layout, checksum = [], 0
    with replacing(path) as beside, beside.open("wb") as file:

        def write(content: bytes) -> None:
            nonlocal checksum
            checksum = zlib.crc32(content, checksum)
            file.write(content)

        write(_MAGIC)
        for name, array in arrays:
            layout.append([name, array.dtype.name, array.shape])
            write(array.tobytes())
        header = json.dumps({"flags": flags, "progress": dataclasses.asdict(progress), "arrays": layout}).encode()
        write(header + len(header).to_bytes(8, "little"))
        file.write(checksum.to_bytes(4, "little"))
        file.flush()
        os.fsync(file.fileno())  # otherwise a power cut may leave the new name with an empty file
    written = states(folder)
    # Later ones are damaged or of another batch size: this run has gone on from an earlier state.
    kept = written[: written.index(path) + 1][-N_KEPT:]
    for other in set(written) - set(kept):
        other.unlink()
    return path


def states(folder: pathlib.Path) -> list[pathlib.Path]:
    """The states below `folder`, oldest first; files of any other name are left alone."""
    return sorted((path for path in (folder / FOLDER).glob("state-*.bin") if _NAME.fullmatch(path.name)), key=_step)


def _step(path: pathlib.Path) -> int:
    return int(_NAME.fullmatch(path.name)[1])


def load(folder: pathlib.Path) -> State | None:
    """The newest undamaged state below `folder`; None if there are no states at all. Prints which are damaged.

    Raises:
        InputError: there are states, but none that can be read.
    """
    paths = states(folder)
    for path in reversed(paths):
        try:
            return _read(path)
        except (OSError, InputError, ValueError, TypeError, LookupError, OverflowError) as error:
            print(f"{path}: damaged training state ({error}), falling back to the one before")
    if paths:
        raise InputError(f"{folder / FOLDER}: no training state in it is undamaged; --fresh starts over")
    return None


def _read(path: pathlib.Path) -> State:
    """The state in a file; any error of reading and parsing says that it is damaged."""
    with open_regular(path, "a training state") as file:
        size = os.fstat(file.fileno()).st_size
        checksum, left = 0, size - 4
        while left > 0 and (block := file.read(min(left, 2**20))):
            checksum, left = zlib.crc32(block, checksum), left - len(block)
        if left or checksum.to_bytes(4, "little") != file.read(4):
            raise ValueError("its checksum is wrong")
        file.seek(size - 12)
        length = int.from_bytes(file.read(8), "little")
        file.seek(size - 12 - length)
        header = parse_json(file.read(length), "header")
    layout = {name: (np.dtype(dtype), tuple(shape)) for name, dtype, shape in header["arrays"]}
    return State(path, header["flags"], Progress(**header["progress"]), layout)


def resume(folder: pathlib.Path, variables: Mapping, flags: dict) -> Progress | None:
    """Set all variables from the newest state below `folder`, and print what has changed since; its progress.

    None if there is no state. `variables` are Keras variables by name, `flags` those of the run that goes on.

    Raises:
        InputError: as `load`, or the state belongs to another network.
    """
    state = load(folder)
    if state is None:
        return None
    changed = {flag: value for flag, value in flags.items() if state.flags.get(flag, value) != value}
    shapes = {name: shape for name, (_, shape) in state.layout.items()}
    if {name: tuple(variable.shape) for name, variable in variables.items()} != shapes:
        other = ", ".join(f"--{flag} {state.flags[flag]}" for flag in changed)
        raise InputError(f"{state.path} is of another network{f' ({other})' if other else ''}; --fresh starts over")
    for name, array in state.arrays():
        variables[name].assign(array)
    for flag, value in changed.items():
        print(f"Going on with other settings: {flag} {value} (started with {state.flags[flag]})")
    if changed:
        state.progress.copy_mae = math.nan  # may have been measured on other data
        share = state.flags.get("batch_size", 1) / flags.get("batch_size", 1)
        state.progress.step = int(state.progress.step * share)  # the same share of the epoch is done
    print(f"Resuming from {state.path} (epoch {state.progress.epoch + 1}, step {state.progress.step})")
    return state.progress


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Lock a model's folder for a block; the lock ends with the process, even if the process is killed.

    The folder is made if it is missing. Unfinished files of a process that was killed are deleted.

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
        for unfinished in folder.rglob(".*.part.*"):
            unfinished.unlink()
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file
            os.unlink(folder / _LOCK)
        lock.release()


def set_aside(folder: pathlib.Path) -> pathlib.Path | None:
    """Move what a model's folder holds to the first free ``<folder>.old<N>``; its path, or None if nothing was moved.

    The lock stays, so that its owner keeps it. The learning-rate finder's files stay too, because their suggestions are
    for the next run.
    """
    moved = [entry for entry in folder.iterdir() if not entry.name.startswith((_LOCK, LR_FINDER))]
    if not moved:
        return None
    number = 1
    while (aside := folder.with_name(f"{folder.name}.old{number}")).exists():
        number += 1
    aside.mkdir()
    for entry in moved:
        entry.rename(aside / entry.name)
    return aside
