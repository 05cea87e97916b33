"""Find the generators that convert: by file, by folder, or by the name of the instrument that they make.

The models of the folder ``models`` are known by name: ``--to guitar`` is the one whose target is ``guitar_acoustic``.
"""

from __future__ import annotations

import argparse
import math
import os
import pathlib

from common import cli, weights
from common.errors import InputError
from common.files import find_files
from conversion.network import describe

MODELS = pathlib.Path(__file__).resolve().parents[1] / "models"  # those that come with the project
EXTENSIONS = (".h5", ".onnx")
COMMANDS = {1: "predict.py", 2: "predict_multitarget.py"}  # by the number of channels of the network's input
SOURCES = ("_acoustic", "_electronic", "_synthetic")  # NSynth's endings of an instrument's name


def short_name(description: weights.Description) -> str:
    """The name of what a generator makes: the first target without NSynth's ending.

    It is "any" for a generator with a style input, "hum2guitar" for one of that system, and "converted" if unknown.
    """
    if description.system == "hum2guitar":
        return "hum2guitar"
    if description.in_channels == 2:
        return "any"
    target = (description.settings.get("targets") or ["converted"])[0]
    for ending in SOURCES:
        target = target.removesuffix(ending)
    return target.replace(os.sep, "_") or "converted"


def find_weights(path: str | os.PathLike) -> list[pathlib.Path]:
    """The weights files at or below `path`, sorted, without hidden ones.

    Raises:
        InputError: there are none.
    """
    path, extensions = pathlib.Path(path), " or ".join(EXTENSIONS)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(
            f"--model: expected a weights file ({extensions}) or a folder with one, found nothing at {path}"
        )
    files = find_files(path, EXTENSIONS)
    if not files:
        raise InputError(f"--model: expected weights ({extensions}) in the folder, found none in {path}")
    return files


def list_models(arguments: argparse.Namespace) -> int:
    """Print a line about each generator at or below ``--model``, or else in `MODELS`; the exit status.

    Raises:
        InputError: ``--output`` was given without ``--input``, or ``--model`` is a file that holds no weights.
    """
    if arguments.output is not None:
        raise InputError("--input: expected with --output, found nothing")
    root = arguments.model or MODELS
    left_out = []
    for path in find_weights(root):
        try:
            description = describe(path)
            if description.network not in weights.DISCRIMINATORS:
                print(f"{path}: {description.summary} ({COMMANDS[count_inputs(description)]})")
        except InputError as error:
            if path == pathlib.Path(root):
                raise
            left_out.append((str(path), str(error)))
    return cli.report_left_out(left_out)


def find_by_name(name: str, root: str | os.PathLike = MODELS) -> weights.Description:
    """The generator of the folder `root` that makes the instrument `name`, for predict.py.

    A model is known by its `short_name` and by the name of its folder, one of Pix2Pix also by its target's full name.

    Raises:
        InputError: there is none, with the names that there are; or there are several.
    """
    folders = [path for path in sorted(pathlib.Path(root).iterdir()) if path.is_dir()] if os.path.isdir(root) else []
    known, found = [], []
    for folder in folders:
        try:
            description = describe_generator(folder)
        except InputError:
            continue
        if count_inputs(description) != 1:
            continue
        names = {short_name(description), folder.name}
        if description.system != "hum2guitar":  # "guitar" means that of pix2pix
            names.update(description.settings.get("targets", []))
        known.append(short_name(description))
        if name in names:
            found.append(description)
    if not found:
        offered = ", ".join(sorted(set(known))) or "no models"
        raise InputError(f"--to: expected an instrument with a model in {root} ({offered}), found {name!r}")
    exact = [description for description in found if description.path.parent.name == name]
    if len(exact or found) > 1:
        folders = ", ".join(description.path.parent.name for description in found)
        raise InputError(f"--to: expected one model, found several for {name}: {folders}; give the name of one")
    return (exact or found)[0]


def describe_generator(path: str | os.PathLike) -> weights.Description:
    """The description of the generator at `path`.

    In a folder this is the generator.h5 directly in it, or else the only generator.h5 below it, or else the only
    weights file in it or below it. If the generator_best.h5 beside that generator.h5 has a lower validation MAE, it is
    taken in its place.

    Raises:
        InputError: there is no weights file, there are several, or it holds no generator that converts recordings.
    """
    files = find_weights(path)
    candidates = [file for file in files if file.name == "generator.h5"] or files
    candidates = [file for file in candidates if file.parent == pathlib.Path(path)] or candidates
    if len(candidates) > 1:
        raise InputError(f"--model: expected one generator, found several in {path}: {', '.join(map(str, candidates))}")
    description = describe(candidates[0])
    best = description.path.with_name("generator_best.h5")
    if description.path != pathlib.Path(path) and description.path.name == "generator.h5" and best in files:
        of_best = describe(best)
        if _validation_mae(of_best) < _validation_mae(description):
            description = of_best
    if description.network in weights.DISCRIMINATORS:
        raise InputError(f"{candidates[0]}: expected the weights of a generator, found those of a discriminator")
    count_inputs(description)
    return description


def _validation_mae(description: weights.Description) -> float:
    """The validation MAE that a weights file names; infinite if it names none."""
    mae = description.settings.get("validation_mae")
    return mae if isinstance(mae, float) and math.isfinite(mae) else math.inf


def find_generator(path: str | os.PathLike, n_inputs: int) -> weights.Description:
    """The description of the generator at `path`, which must have `n_inputs` input channels.

    Raises:
        InputError: as `describe_generator`, or the generator is one for the other command.
    """
    description = describe_generator(path)
    n_found = count_inputs(description)
    if n_found != n_inputs:
        kinds = {1: "a network without style input", 2: "multitarget weights (two input channels)"}
        raise InputError(
            f"{description.path}: expected {kinds[n_inputs]}, found {kinds[n_found]}: use {COMMANDS[n_found]}"
        )
    return description


def count_inputs(description: weights.Description) -> int:
    """Number of recordings that a generator takes: 1, or 2 if one of them is the style.

    Raises:
        InputError: another number of input channels.
    """
    n_inputs = 1 if description.in_channels is None else description.in_channels
    if n_inputs not in COMMANDS:
        raise InputError(f"{description.path}: expected 1 or 2 input channels, found {n_inputs}")
    return n_inputs
