"""Folders, JSON and arrays on disk. Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import pathlib
import platform
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator

import numpy as np

from common.errors import OF_ALL_FILES, InputError

MAX_JSON_BYTES = 2**24  # objects take up to twenty times as much memory
_NPY_HEADER = re.compile(
    rb"\{'descr': '(<f2|<f4|<f8)', 'fortran_order': False, 'shape': \((\d{1,9}(?:, \d{1,9}){1,3})\), \} *\n"
)


# --- temporary names --------------------------------------------------------------------------------------------------


def _process_mark() -> str:
    """What the names of temporary folders begin with: the number of the process and its machine."""
    return f".{os.getpid()}-{zlib.crc32(platform.node().encode()) & 0xFFFF:04x}-"


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Remove the temporary folders in `folder` that killed processes of this machine have left. It need not exist."""
    machine = _process_mark().partition("-")[2]
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(os.fspath(folder))):
            match = re.fullmatch(rf"\.(\d+)-{machine}\w+\.part", entry.name)
            if match and not _is_running(int(match[1])):
                shutil.rmtree(entry, ignore_errors=True)  # another user's stay


def _is_running(process: int) -> bool:
    if os.name == "nt":  # where signal 0 would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass
    return True


@contextlib.contextmanager
def temporary_folder(parent: str | os.PathLike | None = None) -> Iterator[pathlib.Path]:
    """A hidden folder in `parent`, which is made if it is missing, until the block ends.

    None stands for the system's folder for temporary files, where leftovers of killed processes are removed before.
    """
    if parent is None:
        remove_leftovers(tempfile.gettempdir())
    else:
        os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(".part", _process_mark(), parent, ignore_cleanup_errors=True) as folder:
        yield pathlib.Path(folder)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A temporary path of the same name to write to, which replaces `path` if the block succeeds.

    It lies in a `temporary_folder` beside `path`, so that threads, processes and machines may write the same file at
    the same time.
    """
    path = pathlib.Path(path)
    try:
        with temporary_folder(path.parent) as folder:
            yield folder / path.name
            os.replace(folder / path.name, path)
    except OSError as error:
        if error.filename is None or _process_mark() in str(error.filename):
            error.filename = str(path)
        raise


# --- reading and writing ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def concerning_one_file(path: str | os.PathLike) -> Iterator[None]:
    """Turn a system error that concerns one file, such as a missing permission, into an InputError, so that work on
    many files goes on; `path` is named where the error names no file."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or os.fspath(path)
        if error.errno in OF_ALL_FILES or error.errno is None:
            raise
        raise InputError(f"{error.filename}: {error.strerror}") from None


def open_regular(path: str | os.PathLike, expected: str = "a file") -> io.BufferedReader:
    """The open file at `path`, to read bytes from: only a regular file, because a pipe may block and a device may never
    end. `expected` says in the error what should be there.

    Raises:
        InputError: there is no such file, it is not a regular one, or it may not be read.
    """
    if os.path.isfile(path):
        with concerning_one_file(path):
            return open(path, "rb")
    found = "a folder" if os.path.isdir(path) else "a pipe or a device" if os.path.exists(path) else "nothing"
    raise InputError(f"{path}: expected {expected}, found {found}")


def write_json(path: str | os.PathLike, content: dict) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike) -> dict:
    """The object in a JSON file; errors as of `open_regular` and `parse_json`."""
    with open_regular(path, "a JSON file") as file:
        return parse_json(file.read(MAX_JSON_BYTES + 1), path)


def parse_json(content: str | bytes, where: str | os.PathLike) -> dict:
    """The object that a JSON text describes; `where` names its place for the error.

    Raises:
        InputError: it is no JSON, describes no object, or is too long or nested too deeply.
    """
    if len(content) > MAX_JSON_BYTES:
        raise InputError(f"{where}: expected up to {MAX_JSON_BYTES} bytes of JSON, found more")
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: expected a JSON text ({error})") from None
    if not isinstance(parsed, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(parsed).__name__}")
    return parsed


def read_array(path: str | os.PathLike) -> np.ndarray:
    """The array in a .npy file, mapped from disk, read-only: float16, float32 or float64, of 2 to 4 dimensions.

    The header is not left to NumPy, whose ``ast.literal_eval`` fails in threads after some 100 000 files in Python 3.11
    (CPython issue 106905).

    Raises:
        InputError: the file holds something else, or is no regular file.
        OSError: the file cannot be read.
    """
    expected = "a floating-point array in C order (.npy)"
    with open_regular(path, expected) as file:
        # Version 1.0 of ``numpy.lib.format``: magic string and version, length of the header, header, samples.
        start = file.read(10)
        header = file.read(int.from_bytes(start[8:], "little")) if start.startswith(b"\x93NUMPY\x01\x00") else b""
        match = _NPY_HEADER.fullmatch(header)
        if match is None:
            raise InputError(f"{path}: expected {expected}, found another file")
        dtype, shape = np.dtype(match[1].decode()), tuple(map(int, match[2].split(b", ")))
        n_bytes, size = os.fstat(file.fileno()).st_size - file.tell(), math.prod(shape)
        if n_bytes != dtype.itemsize * size:
            raise InputError(f"{path}: expected {dtype} {shape}, found {n_bytes} bytes of samples")
        return np.memmap(file, dtype, "r", file.tell(), shape) if size else np.empty(shape, dtype)


def write_array(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write `array` as .npy, whole or not at all."""
    buffer = io.BytesIO()  # np.save to a file does not report a full disk
    np.save(buffer, array)
    with replacing(path) as beside:
        beside.write_bytes(buffer.getbuffer())


@contextlib.contextmanager
def silence_stderr() -> Iterator[None]:
    """Discard what is written to stderr inside the block, also by C libraries."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            sys.stderr.flush()
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# --- folders ----------------------------------------------------------------------------------------------------------


def existing_folder(path: str | os.PathLike, flag: str) -> pathlib.Path:
    """`path` if it is a folder; otherwise an InputError that names `flag`."""
    folder = pathlib.Path(path)
    if not folder.is_dir():
        raise InputError(f"{flag}: expected a folder, found {'a file' if folder.exists() else 'nothing'} at {folder}")
    return folder


def writable_folder(path: str | os.PathLike, flag: str) -> pathlib.Path:
    """`path` if it is a folder that can be written to, or one that can be made. To be called before long work.

    Raises:
        InputError: naming `flag`, if a file has that name or writing is not allowed there.
    """
    folder = pathlib.Path(path)
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"{flag}: {existing} is no folder that can be written to")
    return folder


def find_files(folder: str | os.PathLike, extensions: tuple[str, ...]) -> list[pathlib.Path]:
    """All files in `folder` and below with one of the `extensions` (lower case), sorted, without hidden ones.

    Links to folders are followed, except to a folder that contains the link. Folders that cannot be looked into are
    named on stderr.
    """
    found = []
    above = {str(folder): {os.path.realpath(folder)}}  # of each folder, the folders that contain it and itself
    for root, folders, names in os.walk(
        os.fspath(folder), followlinks=True, onerror=lambda error: print(f"{error.filename}: left out", file=sys.stderr)
    ):
        real = {name: os.path.realpath(os.path.join(root, name)) for name in folders if not name.startswith(".")}
        folders[:] = [name for name, path in real.items() if path not in above[root]]
        above |= {os.path.join(root, name): {*above[root], real[name]} for name in folders}
        visible = [name for name in names if name.lower().endswith(extensions) and not name.startswith(".")]
        found += [pathlib.Path(root, name) for name in visible]
    return sorted(found)


def without_converted(paths: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """`paths` without outputs of predict.py: ``take.guitar.wav`` is one where there is a ``take.mp3``."""
    paths = list(paths)
    pieces = {name for path in paths for name in (path.stem, path.name)}
    return [path for path in paths if "." not in path.stem or path.stem.rpartition(".")[0] not in pieces]


def remove_files(folder: str | os.PathLike, pattern: str, names: Iterable[str] | None = None) -> None:
    """Remove the files ``<folder>/<name>/<pattern>`` of the folders called `names`, of all if it is None.

    Raises:
        InputError: one of these folders is a link, so that the files lie elsewhere. Nothing has been removed then.
    """
    folders = [path for path in pathlib.Path(folder).glob("*") if names is None or path.name in names]
    found = [path for inner in folders if inner.is_dir() for path in inner.glob(pattern)]
    if links := sorted({str(path.parent) for path in found if path.parent.is_symlink()}):
        raise InputError(f"{links[0]}: is a link, and its outdated files lie elsewhere; remove them there")
    for path in found:
        path.unlink()


def piece_names(
    paths: Iterable[pathlib.Path], folder: str | os.PathLike
) -> tuple[dict[str, pathlib.Path], list[tuple[str, str]]]:
    """A flat name for each file: its path below `folder` without the extension, its parts joined by underscores.

    Bytes of a file's name that are not Unicode become underscores, too.

    Returns:
        names: piece name to file, in the order of `paths`.
        left_out: (file, reason) of each file whose name is taken by an earlier one. Case is ignored, because some file
            systems ignore it.
    """
    names: dict[str, pathlib.Path] = {}
    left_out: list[tuple[str, str]] = []
    taken: dict[str, pathlib.Path] = {}
    for path in paths:
        name = re.sub("[\ud800-\udfff]", "_", "_".join(path.relative_to(folder).with_suffix("").parts))
        other = taken.setdefault(name.casefold(), path)
        if other == path:
            names[name] = path
        else:
            left_out.append((str(path), f"{path}: its piece name {name!r} is taken by {other}"))
    return names, left_out
