"""What a folder of recordings was made with, in its file synthesis.json."""

from __future__ import annotations

import contextlib
import glob
import os
import pathlib
import re
from collections.abc import Iterator

from common.errors import InputError
from common.files import read_json, remove_files, write_json

MERGED = ("instruments", "pieces")  # a later run may add some


@contextlib.contextmanager
def keep_parameters(folder: pathlib.Path, parameters: dict, overwrite: bool) -> Iterator[None]:
    """Write `parameters` to the folder's file, merged with those there, before recordings are made in the block.

    Other instruments and pieces may be added, and parameters that had no effect before (None). Recordings of a piece
    whose checksum is another one now are removed. With `overwrite`, parameters may change: all recordings that were
    made with the old ones are removed. The file and the folder are removed again if no recording was made.

    Raises:
        InputError: a parameter has changed and `overwrite` is off; or the file is damaged.
    """
    path = folder / "synthesis.json"
    is_new = not os.path.lexists(path)
    kept = {} if is_new else _read_parameters(path)
    old = {key: kept.get(key, {}) for key in MERGED}
    differing = {
        key: f"{key} {kept[key]} (now {now})"
        for key, now in parameters.items()
        if key not in MERGED and None not in (kept.get(key), now) and kept[key] != now
    }
    renewed = {
        name: f"{name} {old['instruments'][name]} (now {now})"
        for name, now in parameters["instruments"].items()
        if old["instruments"].get(name, now) != now
    }
    if (differing or renewed) and not overwrite:
        others = ", ".join([*differing.values(), *renewed.values()])
        raise InputError(
            f"--audios_path: {path} tells of other parameters: {others}; take another folder or --overwrite"
        )
    if differing or renewed:
        remove_files(folder, "*.wav", old["instruments"] if differing else renewed)
    for piece, checksum in parameters["pieces"].items():
        if old["pieces"].get(piece, checksum) != checksum:
            remove_files(folder, f"{glob.escape(piece)}.wav", old["instruments"])
    joined = {key: kept.get(key) if now is None else now for key, now in parameters.items()}
    joined |= {key: parameters[key] if differing else {**old[key], **parameters[key]} for key in MERGED}
    if joined != kept:
        write_json(path, joined)
    try:
        yield
    finally:
        if is_new and not any(folder.rglob("*.wav")):
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                folder.rmdir()


def _read_parameters(path: pathlib.Path) -> dict:
    """The parameters of an earlier run.

    Raises:
        InputError: the file holds none, or names that are none of folders beside it.
    """
    kept = read_json(path)
    if not all(isinstance(kept.get(key, {}), dict) for key in MERGED):
        raise InputError(f"{path}: not written by this program, or damaged")
    for name in kept.get("instruments", {}):  # none may lead out of the folder, whose recordings may be removed
        if name in ("", ".", "..") or re.search(r"[/\\:\x00-\x1f\x7f]", name):
            raise InputError(f"{path}: expected the names of folders in it, found {name!r}")
    return kept
