"""Find the generators that convert: by file, by folder, or by the name of the instrument that they make; and styles.

The models of the folder ``models`` are known by name: ``--to guitar`` is the one whose target is ``guitar_acoustic``. A
multitarget model also has a name for each style that is stored beside it: ``styles/harp.npy``, a feature slice.
"""

from __future__ import annotations

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
from data import PUBLISHED, Representation, amplitude_to_db, to_network
from sound.blocks import regroup_frames, stft_blocks
from sound.files import read_blocks

MODELS = pathlib.Path(__file__).resolve().parents[1] / "models"  # those that come with the project
EXTENSION = ".h5"
COMMANDS = {1: "predict.py", 2: "predict_multitarget.py"}  # by the number of channels of the network's input
SOURCES = ("_acoustic", "_electronic", "_synthetic")  # NSynth's endings of an instrument's name
FAR = 0.12  # difference of outputs from that of the nearest stored style above which a style resembles none of them


@dataclasses.dataclass(frozen=True)
class Model:
    """A generator and, if it is multitarget, the file of the stored style that it is to follow.

    Attributes:
        description: of the weights file.
        instrument: what it makes, for the names of outputs.
        style: a .npy file.
    """

    description: weights.Description
    instrument: str
    style: pathlib.Path | None = None

    def load_style(self) -> np.ndarray | None:
        """The stored style as `load_style` gives it; None without one."""
        return None if self.style is None else load_style(self.style, self.description.representation)


def shorten(instrument: str) -> str:
    """An instrument's name without NSynth's ending, as a part of a file name."""
    for ending in SOURCES:
        instrument = instrument.removesuffix(ending)
    return re.sub(r"\W+", "_", instrument) or "converted"


# --- by file or folder ------------------------------------------------------------------------------------------------


def describe_generator(path: str | os.PathLike) -> weights.Description:
    """The description of the generator at `path`: a weights file, or a folder with a generator.h5 or one weights file.

    If the generator_best.h5 beside a folder's generator.h5 has a lower validation MAE, it is taken in its place.

    Raises:
        InputError: there is no weights file, there are several, or it holds no generator that converts recordings.
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
        description = min(description, weights.describe(best), key=_validation_mae)
    if description.network in weights.DISCRIMINATORS:
        raise InputError(f"{file}: holds a discriminator, not a generator")
    if description.in_channels not in COMMANDS:
        raise InputError(f"{file}: expected 1 or 2 input channels, found {description.in_channels}")
    return description


def _validation_mae(description: weights.Description) -> float:
    """The validation MAE that a weights file names; infinite if it names none."""
    mae = description.settings.get("validation_mae", math.inf)
    return mae if math.isfinite(mae) else math.inf


def find_model(path: str | os.PathLike, n_inputs: int | None = None) -> Model:
    """The generator at `path`, called "hum2guitar" for one of that system, "any" for a multitarget one, or else by its
    first target.

    Raises:
        InputError: as `describe_generator`, or the network does not have `n_inputs` channels; names the right command.
    """
    description = describe_generator(path)
    if n_inputs not in (None, description.in_channels):
        command = COMMANDS[description.in_channels]
        raise InputError(f"{description.path}: has {description.in_channels} input channels: use {command}")
    return Model(description, _name(description))


def _name(description: weights.Description) -> str:
    if description.system == "hum2guitar":
        return "hum2guitar"
    return "any" if description.in_channels == 2 else shorten((description.settings.get("targets") or [""])[0])


# --- by name ----------------------------------------------------------------------------------------------------------


def find_by_name(name: str, root: str | os.PathLike | None = None) -> Model:
    """The model in the folder `root` (None: `MODELS`) that makes the instrument `name`.

    Case, spaces and a plural do not matter, and the beginning of a name is enough: "Strings", "synth". A model for one
    pair of instruments is preferred to a multitarget model with a stored style.

    Raises:
        InputError: there is none, with the names that there are; or there are several.
    """
    root = MODELS if root is None else root
    known, wanted = list(_name_models(root)), _plain(name)
    found: dict[tuple[bool, bool], dict[pathlib.Path, Model]] = {}  # by how well they match; the best is the smallest
    for names, model in known:
        if any(own.startswith(wanted) for own in names):
            rank = wanted not in names, bool(model.style)
            found.setdefault(rank, {})[model.description.path] = model
    if not found:
        offered = ", ".join(sorted({model.instrument for _, model in known})) or "no models"
        raise InputError(f"--to: found no instrument {name!r} in {root} ({offered})")
    best = found[min(found)]
    if len(best) > 1:
        raise InputError(f"--to: {name} may be any of {', '.join(path.parent.name for path in best)}; name one of them")
    return next(iter(best.values()))


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower()).removesuffix("s")


def _name_models(root: str | os.PathLike) -> Iterator[tuple[set[str], Model]]:
    """The models below `root`, each with the names that it is known by; one model for each stored style."""
    for folder in sorted(path for path in pathlib.Path(root).glob("*") if path.is_dir()):
        try:
            model = find_model(folder)
        except InputError:
            continue
        description = model.description
        for style in stored_styles(description):
            name = shorten(style.stem)
            yield {_plain(style.stem), _plain(name)}, Model(description, name, style)
        if description.in_channels == 1:
            # "guitar" means the guitar of pix2pix, not that of hum2guitar.
            targets = [] if description.system == "hum2guitar" else description.settings.get("targets", [])
            yield {_plain(own) for own in (model.instrument, folder.name, *targets)}, model


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
            names = [shorten(style.stem) for style in stored_styles(description)]
            names += [_name(description)] if description.in_channels == 1 else []
            used = f"--to {', '.join(names)}" if names and root == MODELS else str(path)
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


def stored_styles(description: weights.Description) -> list[pathlib.Path]:
    """The styles beside the weights of a multitarget generator, sorted."""
    is_multitarget = description.in_channels == 2
    return sorted(description.path.parent.glob("styles/*.npy")) if is_multitarget else []


def load_style(path: pathlib.Path, representation: Representation = PUBLISHED) -> np.ndarray:
    """A stored style slice: log level [0, 1], float32 ``(n_bins, n_frames)``.

    Raises:
        InputError: the file holds something else.
    """
    array, shape = read_array(path), (representation.n_bins, representation.n_frames)
    if array.size != math.prod(shape):
        raise InputError(f"{path}: expected a slice of {shape}, found {array.shape}")
    return array.reshape(shape).astype(np.float32)


def say_nearest(style: np.ndarray, description: weights.Description, network: Callable) -> None:
    """Print as which stored style the network of a multitarget generator hears a style, or warn on stderr: as none.

    It hears two styles as alike if they make nearly the same of one slice. That is measured by the mean absolute
    difference of the outputs, in [-1, 1]. Prints nothing if no styles are stored.
    """
    stored = {shorten(path.stem): load_style(path, description.representation) for path in stored_styles(description)}
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
    index = int(np.argmax(loudness)) if choice is None else choice
    if index not in sounding:
        raise InputError(f"--style_slice: expected a slice of {path} that sounds, one of {sounding}, found {index}")
    return next(itertools.islice(_style_slices(path, representation, warn=False), index, None))


def _style_slices(path: str | os.PathLike, representation: Representation, warn: bool = True) -> Iterator[np.ndarray]:
    """The slices of a recording, log level ``(n_bins, n_frames)`` each.

    A last slice that is not full is left out, unless it is the only one: then it is repeated to fill a slice.
    """
    n_frames, scale = representation.n_frames, representation.magnitude_scale
    spectra = stft_blocks(read_blocks(path, representation.sample_rate, warn=warn), representation)
    is_first = True
    for frames, _ in regroup_frames(spectra, n_frames, 0):
        level = amplitude_to_db(np.abs(frames[: representation.n_bins]) * scale, representation.amin)
        if level.shape[1] < n_frames:
            if not is_first:
                return
            level = np.tile(level, -(-n_frames // level.shape[1]))[:, :n_frames]
        yield level
        is_first = False
