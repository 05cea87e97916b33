"""A data set's slices paired by name, split by piece into training and validation, and put into batches.

A data set is a folder with a folder of features for each instrument, as compute_features.py or the original program
writes it: ``<dataset>/<instrument>/<piece>_<slice:03d>.npy``, each (256, 256, 1) in [0, 1]. Several voices of one
instrument, such as three pianos, lie in ``<instrument>@<voice>``. Only names are kept in memory.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from common import InputError, cli, jobs, weights
from common.files import existing_folder, read_array, read_json
from data import PUBLISHED, Representation, to_network
from training import augmentation

SLICE_NAME = re.compile(r"(.+)_(\d{3,})\.npy$")
FEATURES_FILE = "features.json"
ANY = "any"  # every instrument of a data set
VOICE_MARK = "@"  # between an instrument's name and its voice's in the name of a folder
MIN_LEVEL, MAX_LEVEL = -0.005, 1.005  # of features: [0, 1] with room for rounding
N_AHEAD = 4  # batches that are read or ready before they are needed
VARIATION = re.compile(r"_v\d{2,}$")  # at the end of a piece's name: the same score in another key and tempo


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Slices of one or more origins that have a counterpart in at least one target.

    Attributes:
        folder: the data set.
        origins, targets: the folders of `folder` to convert from and to, one for each voice of an instrument.
        names: (n_names,) sorted file names.
        pieces: (n_names,) the piece of each name as an index into `piece_names`.
        piece_names: sorted; the variations of a score count as one piece.
        samples: int (n_samples, 3): every pair as (name, target, origin), all indices; ordered by target, origin, name.
        left_out: one line for the slices of each folder without a counterpart in a finished piece.
    """

    folder: pathlib.Path
    origins: tuple[str, ...]
    targets: tuple[str, ...]
    names: np.ndarray
    pieces: np.ndarray
    piece_names: tuple[str, ...]
    samples: np.ndarray
    left_out: tuple[str, ...]
    representation: Representation = PUBLISHED


def instrument_of(folder: str) -> str:
    """The instrument that a folder's name stands for: ``keyboard_acoustic`` of ``keyboard_acoustic@upright``."""
    return folder.partition(VOICE_MARK)[0]


def find_pairs(
    dataset_path: str | os.PathLike, origins: Sequence[str], targets: Sequence[str], with_itself: bool = True
) -> Pairs:
    """The pairs of a data set.

    Args:
        origins, targets: instruments, of which every voice counts, single voices such as ``piano@upright``, or "any".
        with_itself: whether pairs of an instrument with itself count.

    Raises:
        InputError: no such folder, an instrument that is not there, or nothing to pair.
    """
    folder = existing_folder(dataset_path, "--dataset_path")
    origin_voices, target_voices = _voices(folder, origins, "--origin"), _voices(folder, targets, "--target")
    slices = {voice: _list_slices(folder / voice) for voice in sorted({*origin_voices, *target_voices})}
    representation, finished, described = PUBLISHED, slices, folder / FEATURES_FILE
    if described.exists():  # by compute_features.py, which writes a piece's slice 0 last; others make any slices
        representation = weights.read_representation(Representation, read_json(described), described)
        finished = {
            voice: {name for name in names if f"{name.rpartition('_')[0]}_000.npy" in names}
            for voice, names in slices.items()
        }
    paired = {
        (t, o): finished[target] & finished[origin]
        for t, target in enumerate(target_voices)
        for o, origin in enumerate(origin_voices)
        if with_itself or instrument_of(origin) != instrument_of(target)
    }
    names = sorted(set().union(*paired.values()), key=_natural)
    if not names:
        shown = f"{', '.join(origin_voices)} and {', '.join(target_voices)}"
        raise InputError(f"{folder}: expected finished slices of {shown} with the same names, found none")
    left_out = []
    for voice, found in slices.items():
        of_pairs = (both for (t, o), both in paired.items() if voice in (target_voices[t], origin_voices[o]))
        if alone := found.difference(*of_pairs):
            counted = f"{cli.count(len(alone), 'slice')} of {voice}"
            left_out.append(f"{counted} without a counterpart in a finished piece, such as {min(alone)}")
    samples = []
    for (t, o), both in paired.items():
        indices = np.array([index for index, name in enumerate(names) if name in both], np.int64)
        samples.append(np.stack([indices, np.full_like(indices, t), np.full_like(indices, o)], axis=1))
    piece_of = [VARIATION.sub("", name.rpartition("_")[0]) for name in names]
    piece_names, pieces = np.unique(piece_of, return_inverse=True)
    return Pairs(
        folder, tuple(origin_voices), tuple(target_voices), np.array(names), pieces, tuple(piece_names.tolist()),
        np.concatenate(samples), tuple(left_out), representation,
    )  # fmt: skip


def _voices(folder: pathlib.Path, instruments: Sequence[str], flag: str) -> list[str]:
    """The folders in `folder` that `instruments` name, each once, in order; an error names `flag`."""
    present = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    found: list[str] = []
    for instrument in instruments:
        voices = [name for name in present if instrument in (ANY, name, instrument_of(name))]
        if not voices:
            listed = ", ".join(present) or "no folders at all"
            raise InputError(f"{flag}: expected an instrument of {folder} ({listed}), found {instrument!r}")
        found += voices
    return list(dict.fromkeys(found))


def _list_slices(folder: pathlib.Path) -> set[str]:
    names = {name for name in os.listdir(folder) if SLICE_NAME.match(name) and name[0] != "."}
    if not names:
        raise InputError(f"{folder} has no features, named <piece>_<slice>.npy")
    return names


def _natural(name: str) -> tuple[str, int, str]:
    """Sort key: by piece, then by the number of the slice."""
    piece, _, number = name.removesuffix(".npy").rpartition("_")
    return piece, int(number), name


def read_pieces(path: str | os.PathLike, known: set[str]) -> set[str]:
    """The pieces that a text file names, one a line, all of which have to be `known`."""
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--holdout: {path} is not a text file that can be read ({error})") from None
    pieces = {line.strip() for line in lines if line.strip()}
    if unknown := sorted(pieces - known):
        raise InputError(f"--holdout: {path} names {unknown[0]!r}, which is no piece of the data set")
    return pieces


def split_by_piece(
    pairs: Pairs, validation_split: float, seed: int, holdout: str | os.PathLike | None = None
) -> tuple[np.ndarray, np.ndarray, str]:
    """Rows of ``pairs.samples`` for training and for validation, and one line that says how they were split.

    Whole pieces are held out, with all their voices and variations: those that the text file `holdout` names, or those
    that `hold_out` draws.
    """
    if holdout is None:
        held_out, summary = hold_out(pairs.pieces, validation_split, seed)
    else:
        pieces = read_pieces(holdout, set(pairs.piece_names))
        held_out = np.isin(np.array(pairs.piece_names)[pairs.pieces], list(pieces))
        summary = f"{len(pieces)} pieces are held out by {holdout} ({held_out.sum()} of {len(held_out)} slices)"
    of_sample = held_out[pairs.samples[:, 0]]
    return pairs.samples[~of_sample], pairs.samples[of_sample], summary


def hold_out(pieces: np.ndarray, validation_split: float, seed: int) -> tuple[np.ndarray, str]:
    """Which slices are held out, bool ``(n_slices,)``, and one line that says how many.

    Whole pieces are drawn with `seed`, as near to the share `validation_split` of all slices as they allow. Of a single
    piece the last slices are held out. ``pieces[i]``, counted from 0, is the piece of slice i.
    """
    n_slices, sizes = len(pieces), np.bincount(pieces)
    wanted = validation_split * n_slices
    if not wanted or n_slices == 1:
        return np.zeros(n_slices, bool), "nothing is held out for validation"
    if len(sizes) == 1:
        n_last = min(max(1, round(wanted)), n_slices - 1)
        summary = f"a single piece: its last {n_last} of {n_slices} slices are held out for validation"
        return np.arange(n_slices) >= n_slices - n_last, summary
    order = np.random.default_rng([seed, 0]).permutation(len(sizes))
    chosen: list[int] = []
    for piece in order:  # take each piece that brings the held-out share nearer to the one asked for
        if abs(sizes[[*chosen, piece]].sum() - wanted) < abs(sizes[chosen].sum() - wanted):
            chosen.append(piece)
    chosen = chosen[: len(sizes) - 1] or [min(order, key=lambda piece: sizes[piece])]
    counted = f"({sizes[chosen].sum()} of {n_slices} slices)"
    return np.isin(pieces, chosen), f"{len(chosen)} of {len(sizes)} pieces are held out for validation {counted}"


# --- batches ----------------------------------------------------------------------------------------------------------


def read_level(path: pathlib.Path, shape: tuple[int, int, int]) -> np.ndarray:
    """The log level in one feature file: float32 `shape`, [0, 1].

    Raises:
        InputError: not a feature file, or not of that shape and range.
    """
    level = read_array(path)
    if level.shape != shape:
        raise InputError(f"{path}: expected a feature slice of shape {shape}, found {level.shape}")
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, which is refused
        level = level.astype(np.float32)  # first, because NumPy takes forty times as long for the extremes of float16
    if not (level.min() >= MIN_LEVEL and level.max() <= MAX_LEVEL):  # also where it is NaN
        raise InputError(f"{path}: expected levels in [0, 1], found values outside or NaN")
    return level


@functools.lru_cache(maxsize=4)
def _draw_order(n_items: int, seed: int, epoch: int | None) -> tuple[np.ndarray, np.ndarray]:
    """See `ByStep.order`; epoch None leaves the items as they stand."""
    rng = np.random.default_rng([seed, 1, epoch or 0])  # 0 is the split's, 2 the augmentation's
    order = np.arange(n_items) if epoch is None else rng.permutation(n_items)
    return order, rng.random(n_items)


class ByStep:
    """Batches as a function of the step, so that a run can be taken up anywhere.

    A batch is ``(inputs, target)``, float32 in [-1, 1]: (batch, bins, frames, channels) and (batch, bins, frames, 1).
    Every epoch visits each item once. Subclasses have ``read(row, epoch, draw)``, which gives one item of a batch.

    Args:
        n_items: of an epoch.
        batch_size: items of a step; an epoch's last one has the rest.
        seed: of the order, which `shuffle` draws for each epoch; otherwise items come as they stand.
    """

    read: Callable[[int, int, float], tuple[np.ndarray, np.ndarray]]

    def __init__(self, n_items: int, batch_size: int, seed: int, shuffle: bool) -> None:
        if shuffle and batch_size > n_items:
            raise InputError(f"--batch_size: there are only {n_items} slices to train on, found {batch_size}")
        self._n_items, self.batch_size, self.seed, self.shuffle = n_items, batch_size, seed, shuffle
        self.steps_per_epoch = math.ceil(n_items / batch_size)

    def order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of an epoch's items, int (n_items,), and for each a number in [0, 1) that `read` may draw with."""
        return _draw_order(self._n_items, self.seed, epoch if self.shuffle else None)

    def load(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of step `step`, counted from the start of the run. A damaged file is an `InputError`."""
        epoch, position = divmod(step, self.steps_per_epoch)
        place = slice(position * self.batch_size, (position + 1) * self.batch_size)
        rows, draws = (part[place] for part in self.order(epoch))
        items = [self.read(row, epoch, draw) for row, draw in zip(rows, draws, strict=True)]
        inputs, target = (np.stack(levels) for levels in zip(*items, strict=True))
        return inputs, target


class Batches(ByStep):
    """Batches of pairs: inputs have one channel, or with `style` two, origin and style.

    Args:
        pairs: the data set.
        samples: rows of ``pairs.samples``.
        batch_size, seed, shuffle: as of `ByStep`. Without `shuffle` each sample has the same style in every epoch.
        style: add another slice of the same target as second channel, never the answer itself: drawn from `samples`,
            or from all pairs where `samples` has only one of that target (and is the answer where there is no other).
        augment: vary the origin as `augmentation.augment`, differently for each sample and epoch.
    """

    def __init__(
        self,
        pairs: Pairs,
        samples: np.ndarray,
        batch_size: int,
        seed: int,
        style: bool = False,
        shuffle: bool = True,
        augment: bool = False,
    ) -> None:
        super().__init__(len(samples), batch_size, seed, shuffle)
        self.pairs, self.samples, self.style, self.augment = pairs, samples, style, augment
        # The slices that may show what each target sounds like: their names as indices, ascending.
        sources = (samples, pairs.samples)
        names = [[np.unique(rows[rows[:, 1] == t, 0]) for rows in sources] for t in range(len(pairs.targets))]
        self._styles = [own if len(own) > 1 else of_all for own, of_all in names]

    def draw_style(self, row: int, draw: float) -> int:
        """The name, as an index, of the slice that shows the target of a sample."""
        name, target, _ = self.samples[row]
        names = self._styles[target]
        j = int(draw * max(1, len(names) - 1))
        return names[(j + (names[j] >= name)) % len(names)]  # the answer's own place is stepped over

    def read(self, row: int, epoch: int, draw: float) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and target of one sample."""
        name, t, o = self.samples[row]
        inputs, target = self._read(self.pairs.origins[o], name), self._read(self.pairs.targets[t], name)
        if self.augment:
            rng = np.random.default_rng([self.seed, 2, epoch, row])
            inputs = augmentation.augment(inputs[..., 0], rng, self.pairs.representation)[..., np.newaxis]
        if self.style:
            style = self._read(self.pairs.targets[t], self.draw_style(row, draw))
            inputs = np.concatenate([inputs, style], axis=-1)
        return to_network(inputs), to_network(target)

    def _read(self, folder: str, name: int) -> np.ndarray:
        path, r = self.pairs.folder / folder / str(self.pairs.names[name]), self.pairs.representation
        return read_level(path, (r.n_bins, r.n_frames, 1))


def iterate_batches(batches: ByStep, start: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of steps `start` to `stop`, read by two threads ahead of time; errors as of `ByStep.load`."""
    return jobs.map_ahead(batches.load, range(start, stop), N_AHEAD, n_threads=2)
