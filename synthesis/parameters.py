"""What a folder of recordings was made with, in a JSON file in it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re

from common.errors import InputError
from common.files import read_json, remove_files, write_json

GROWING = ("variations", "etudes")  # a later run may ask for more, or for fewer


def keep_parameters(path: pathlib.Path, parameters: dict, overwrite: bool) -> None:
    """Write `parameters` to `path`, merged with those that are there.

    Other instruments may be added, more variations and etudes, and parameters that had no effect before (None). With
    `overwrite`, parameters may change: all recordings that were made with the old ones are removed.

    Raises:
        InputError: a parameter has changed and `overwrite` is off; or the file is damaged.
    """
    kept = _read_parameters(path) if os.path.lexists(path) else parameters
    old, new = kept["instruments"], parameters["instruments"]
    common = {key: (kept.get(key), parameters.get(key)) for key in {**kept, **parameters} if key != "instruments"}
    changed = {
        key: (before, now)
        for key, (before, now) in common.items()
        if key not in GROWING and None not in (before, now) and before != now
    }
    renewed = {name: (old[name], new[name]) for name in new if name in old and old[name] != new[name]}
    if (changed or renewed) and not overwrite:
        others = ", ".join(f"{key} {before} (now {now})" for key, (before, now) in {**changed, **renewed}.items())
        raise InputError(
            f"--audios_path: {path} tells of other parameters: {others}; take another folder or --overwrite"
        )
    if changed or renewed:
        remove_files(path.parent, "*.wav", old if changed else renewed)
    joined = {**parameters, "instruments": {**({} if changed else old), **new}}
    if not changed:
        joined |= {key: max(common[key]) for key in GROWING if None not in common.get(key, (None,))}
        joined |= {key: before for key, (before, now) in common.items() if now is None}
    if not path.exists() or joined != kept:
        write_json(path, joined)


def _read_parameters(path: pathlib.Path) -> dict:
    """The parameters of an earlier run.

    Raises:
        InputError: the file holds none, or names that are none of folders beside it.
    """
    kept = read_json(path)
    names = kept.get("instruments")
    numbers = [kept[key] for key in GROWING if key in kept]
    if not isinstance(names, dict) or not all(type(number) is int for number in numbers):
        raise InputError(f"{path}: not written by this program, or damaged")
    for name in names:  # none may lead out of the folder, whose recordings may be removed
        if name in ("", ".", "..") or re.search(r"[/\\:\x00-\x1f\x7f]", name):
            raise InputError(f"{path}: expected the names of folders in it, found {name!r}")
    return kept


def remove_if_alone(path: pathlib.Path) -> None:
    """Remove a file of parameters and its folder if nothing was recorded there, so that mistakes leave nothing."""
    if not any(path.parent.rglob("*.wav")):
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()
