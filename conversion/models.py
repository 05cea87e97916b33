"""Find the generators that convert: by file, by folder, or by the name of the instrument that they make; and styles.

The models of the folder ``models`` are known by name: ``--to guitar`` is the one whose target is ``guitar_acoustic``. A
multitarget model also has a name for each style that is stored beside it: ``styles/harp.npy``, a feature slice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator

import numpy as np

from common import InputError, cli, weights
from common.files import find_files, read_array
from data import PUBLISHED, Representation, to_network
from sound.files import read_levels

MODELS = pathlib.Path(__file__).resolve().parents[1] / "models"  # those that come with the project
EXTENSION = ".h5"
COMMANDS = {1: "predict.py", 2: "predict_multitarget.py"}  # by the number of channels of the network's input
FAR = 0.12  # difference of outputs from that of the nearest stored style above which a style resembles none of them


@dataclasses.dataclass(frozen=True)
class Model:
    """A generator and, if it is multitarget, the file of the stored style that it is to follow.

    Attributes:
        description: of the weights file.
        style: a .npy file.
    """

    description: weights.Description
    style: pathlib.Path | None = None

    @property
    def instrument(self) -> str:
        """What it makes, for ``--to`` and for the names of outputs: that of the style, or else the first target."""
        if self.description.system == "hum2guitar":  # whose target is a guitar, too
            return "hum2guitar"
        return shorten(self.style.stem if self.style else (self.description.settings.get("targets") or [""])[0])

    def load_style(self) -> np.ndarray | None:
        """The stored style: log level [0, 1], float32 ``(n_bins, n_frames)``; None without one.

        Raises:
            InputError: the file holds something else.
        """
        if self.style is None:
            return None
        representation = self.description.representation
        array, shape = read_array(self.style), (representation.n_bins, representation.n_frames)
        if array.size != math.prod(shape):
            raise InputError(f"{self.style}: expected a slice of {shape}, found {array.shape}")
        return array.reshape(shape).astype(np.float32)


def shorten(instrument: str) -> str:
    """An instrument's name without NSynth's ending, as a part of a file name."""
    return re.sub(r"\W+", "_", re.sub("_(acoustic|electronic|synthetic)$", "", instrument)) or "converted"


def describe_generator(path: str | os.PathLike, in_channels: int | None = None) -> weights.Description:
    """The description of the generator at `path`: a weights file, or a folder with a generator.h5 or one weights file.

    If the generator_best.h5 beside a folder's generator.h5 has a lower validation MAE, it is taken in its place.

    Raises:
        InputError: there is no weights file, there are several, or it holds no generator that converts recordings; or
            its network has other than `in_channels`, which another command takes: names it.
    """
    file = pathlib.Path(path)
    is_folder = file.is_dir()
    if is_folder:
        found = sorted(file.glob(f"[!.]*{EXTENSION}"))
        found = [name for name in found if name.name == "generator.h5"] or found
        if len(found) != 1:
            listed = ", ".join(name.name for name in found) or "none"
            raise InputError(f"--model: expected one weights file ({EXTENSION}) in {path}, found {listed}")
        file = found[0]
    description, best = weights.describe(file), file.with_name("generator_best.h5")
    if is_folder and best.is_file():
        both = description, weights.describe(best)
        description = min(both, key=lambda each: each.settings.get("validation_mae", np.inf))
    if description.network in weights.DISCRIMINATORS:
        raise InputError(f"{file}: holds a discriminator, not a generator")
    n_found = description.in_channels
    if n_found not in COMMANDS:
        raise InputError(f"{file}: expected 1 or 2 input channels, found {n_found}")
    if in_channels not in (None, n_found):
        raise InputError(f"{file}: has {n_found} input channels: use {COMMANDS[n_found]}")
    return description


# --- by name ----------------------------------------------------------------------------------------------------------


def named_models(description: weights.Description) -> list[Model]:
    """The generator of a weights file; in place of a multitarget one, it with each style that is stored beside it."""
    if description.in_channels == 1:
        return [Model(description)]
    return [Model(description, style) for style in sorted(description.path.parent.glob("styles/*.npy"))]


def find_by_name(name: str) -> Model:
    """The model in the folder `MODELS` that makes the instrument `name`.

    Case, spaces and a plural do not matter, and the beginning of a name is enough: "Strings", "synth". A model for one
    pair of instruments is preferred to a multitarget model with a stored style.

    Raises:
        InputError: there is none, with the names that there are; or there are several.
    """
    known: list[Model] = []
    for folder in sorted(MODELS.iterdir()):
        with contextlib.suppress(InputError):  # what else is there
            known += named_models(describe_generator(folder))
    wanted = shorten(name.strip().lower())
    singular = wanted.removesuffix("s")
    found = [model for model in known if model.instrument in (wanted, singular)]
    found = found or [model for model in known if model.instrument.startswith(singular)]
    found = [model for model in found if not model.style] or found
    if not found:
        offered = ", ".join(sorted({model.instrument for model in known})) or "no models"
        raise InputError(f"--to: found no instrument {name!r} in {MODELS} ({offered})")
    if len(found) > 1:
        listed = ", ".join(f"{model.instrument} ({model.description.path.parent.name})" for model in found)
        raise InputError(f"--to: {name} may be any of {listed}; name one of them, or its folder after --model")
    return found[0]


def list_models(root: str | os.PathLike | None = None) -> int:
    """Print a line about each generator at or below `root` (None: `MODELS`); the exit status.

    Raises:
        InputError: there is no weights file, or `root` is a damaged one.
    """
    root = MODELS if root is None else pathlib.Path(root)
    paths, left_out = find_files(root, (EXTENSION,)) if root.is_dir() else [root], []
    if not paths:
        raise InputError(f"--model: found no weights file ({EXTENSION}) in {root}")
    for path in paths:
        try:
            description = weights.describe(path)
        except InputError as error:
            if path == root:
                raise
            left_out.append((str(path), str(error)))
            continue
        if description.network not in weights.DISCRIMINATORS:
            names = ", ".join(model.instrument for model in named_models(description))
            used = f"--to {names}" if names and root == MODELS else path
            command = f" ({COMMANDS[2]})" if description.in_channels == 2 else ""
            print(f"{used}: {introduce(description)}{command}")
    return cli.report_left_out(left_out)


def introduce(description: weights.Description) -> str:
    """What a model was trained on and how good it is, in one line: that of its card, or else of its weights file.

    The line of a card, the README.md beside the weights, begins with ``In one line:``.
    """
    card = description.path.with_name("README.md")
    if card.is_file():
        with open(card, encoding="utf-8", errors="replace") as file:
            if line := re.search(r"^In one line: (.*)$", file.read(2**16), re.M):
                return line[1].rstrip(".")
    return description.summary


# --- styles -----------------------------------------------------------------------------------------------------------


def say_nearest(style: np.ndarray, description: weights.Description, network: Callable) -> None:
    """Print which stored style the network of a multitarget generator takes a style for, or warn that it is like none.

    It hears two styles as alike if they make nearly the same of one slice. That is measured by the mean absolute
    difference of the outputs, in [-1, 1]. Prints nothing if no styles are stored.
    """
    levels = {model.instrument: model.load_style() for model in named_models(description)}
    stored = {name: level for name, level in levels.items() if level is not None}
    if not stored:
        return
    probe = np.mean(list(stored.values()), axis=0)
    outputs = [network(to_network(np.stack([probe, heard], -1)[np.newaxis])) for heard in (style, *stored.values())]
    distances = {name: np.abs(output - outputs[0]).mean() for name, output in zip(stored, outputs[1:], strict=True)}
    nearest = min(distances, key=distances.__getitem__)
    if distances[nearest] > FAR:
        print(f"Warning: the style resembles nothing that the model knows (nearest: {nearest})", file=sys.stderr)
    else:
        print(f"Nearest stored style, as the model hears it: {nearest}")


def read_style(
    path: str | os.PathLike,
    representation: Representation = PUBLISHED,
    choice: int | str | None = None,
) -> np.ndarray:
    """The style slice of a recording: log level [0, 1], float32 ``(n_bins, n_frames)``.

    Args:
        path: the recording; if it is shorter than a slice, it is repeated.
        representation: the network's spectrogram settings.
        choice: number of the slice from 0, "random" for any slice that is not silent, or None for the slice with the
            greatest mean log level.

    Raises:
        InputError: there is no recording or no such slice, or it is silent.
    """
    loudness = [float(level.mean()) for level in _style_slices(path, representation)]
    if not max(loudness):
        raise InputError(f"{path}: a style recording has to sound, found silence")
    sounding = np.flatnonzero(loudness).tolist()
    if choice == "random":
        choice = int(np.random.default_rng().choice(sounding))
    index = int(np.argmax(loudness) if choice is None else choice)
    if index not in sounding:
        raise InputError(f"--style_slice: expected a slice of {path} that sounds, one of {sounding}, found {index}")
    return next(itertools.islice(_style_slices(path, representation, warn=False), index, None))


def _style_slices(path: str | os.PathLike, representation: Representation, warn: bool = True) -> Iterator[np.ndarray]:
    """The slices of a recording, log level ``(n_bins, n_frames)`` each.

    A last slice that is not full is left out, unless it is the only one: then it is repeated to fill a slice.
    """
    n_frames = representation.n_frames
    for index, level in enumerate(read_levels(path, n_frames, representation, warn)):
        n_found = level.shape[1]
        if n_found == n_frames:
            yield level
        elif not index:
            yield np.tile(level, -(-n_frames // n_found))[:, :n_frames]
