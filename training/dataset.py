"""Feature files to batches: pairing by name, split by piece, order by seed, the style channel.

A data set is a folder with one folder an instrument, as compute_features.py (or the original program) writes it:
``<dataset>/<instrument>/<piece>_<slice:03d>.npy``, each (256, 256, 1) in [0, 1]. Only names are kept in memory.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import tokenize
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from data import PUBLISHED, InputError, Representation, existing_folder, read_json, to_network

SLICE_NAME = re.compile(r"(.+)_(\d{3,})\.npy$")
FEATURES_FILE = "features.json"


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Slices of an origin that have a counterpart in at least one target.

    Attributes:
        folder: the data set.
        origin, targets: instruments, each a folder of `folder`.
        names: (n_names,) sorted file names.
        pieces: (n_names,) the piece of each name as an index into `piece_names`.
        piece_names: sorted.
        samples: int (n_samples, 2): every pair as (name, target), both indices; ordered.
        unpaired: for each instrument, how many of its slices have no counterpart, and the first of them.
        unfinished: the same for slices of pieces that compute_features.py was stopped at.
    """

    folder: pathlib.Path
    origin: str
    targets: tuple[str, ...]
    names: np.ndarray
    pieces: np.ndarray
    piece_names: tuple[str, ...]
    samples: np.ndarray
    unpaired: dict[str, tuple[int, str]]
    unfinished: dict[str, tuple[int, str]] = dataclasses.field(default_factory=dict)
    representation: Representation = PUBLISHED

    def path(self, instrument: str, name: int) -> pathlib.Path:
        """The file of slice `name` of `instrument`."""
        return self.folder / instrument / str(self.names[name])


def find_pairs(dataset_path: str | os.PathLike, origin: str, targets: Sequence[str]) -> Pairs:
    """List the pairs of a data set.

    Raises:
        InputError: no such folder, an instrument that is not there, or nothing to pair.
    """
    folder = existing_folder(dataset_path, "--dataset_path")
    present = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    for flag, instrument in [("--origin", origin), *(("--target", target) for target in targets)]:
        if instrument not in present:
            listed = ", ".join(present) or "no folders at all"
            raise InputError(f"{flag}: expected an instrument of {folder} ({listed}), found {instrument!r}")
    # The original program and its users also make sets of any slices; ours writes a piece's slice 0 last.
    is_ours = (folder / FEATURES_FILE).exists()
    names_of, unfinished = {}, {}
    for instrument in {origin, *targets}:
        found = _slice_names(folder / instrument)
        names_of[instrument] = _of_finished_pieces(found) if is_ours else found
        rest = found - names_of[instrument]
        if rest:
            unfinished[instrument] = (len(rest), min(rest))
        if not names_of[instrument]:
            only = "those of unfinished pieces alone: run compute_features.py again" if rest else "none"
            raise InputError(f"{folder / instrument}: expected features named <piece>_<slice>.npy, found {only}")
    common = [names_of[origin] & names_of[target] for target in targets]
    names = sorted(set().union(*common), key=_natural)
    if not names:
        raise InputError(f"{folder}: expected slices of {origin} and {', '.join(targets)} of the same name, found none")
    samples = [(index, t) for t, paired in enumerate(common) for index, name in enumerate(names) if name in paired]
    piece_of = [SLICE_NAME.match(name)[1] for name in names]
    piece_names, pieces = np.unique(piece_of, return_inverse=True)
    unpaired = {}
    for instrument, found in names_of.items():
        missing = found - set(names) if instrument == origin else found - names_of[origin]
        if missing:
            unpaired[instrument] = (len(missing), min(missing))
    return Pairs(
        folder, origin, tuple(targets), np.array(names), pieces, tuple(piece_names.tolist()),
        np.array(samples), unpaired, unfinished, _representation(folder),
    )  # fmt: skip


def _natural(name: str) -> tuple[str, int, str]:
    """Sort key: by piece, then by the number of the slice."""
    piece, number = SLICE_NAME.match(name).groups()
    return piece, int(number), name


def _slice_names(folder: pathlib.Path) -> set[str]:
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if SLICE_NAME.match(entry.name) and not entry.name.startswith(".")}


def _of_finished_pieces(names: set[str]) -> set[str]:
    """Those of the names whose piece has a slice 0."""
    finished = {name.removesuffix("_000.npy") for name in names if name.endswith("_000.npy")}
    return {name for name in names if name.rpartition("_")[0] in finished}


def _representation(folder: pathlib.Path) -> Representation:
    """What the features are made with; a folder of the original program has no description: the published settings."""
    path = folder / FEATURES_FILE
    if not path.exists():
        return PUBLISHED
    return Representation.from_dict(read_json(path), str(path))


def split_by_piece(pairs: Pairs, validation_split: float, seed: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Rows of ``pairs.samples`` for training and for validation, and one line that says how they were split.

    Whole pieces are held out, drawn with `seed` from the sorted names, as near to the share `validation_split` of all
    slices as pieces allow. Of a single piece the last slices are held out.
    """
    held_out, said = hold_out(pairs.pieces, validation_split, seed)
    of_sample = held_out[pairs.samples[:, 0]]
    return pairs.samples[~of_sample], pairs.samples[of_sample], said


def hold_out(pieces: np.ndarray, validation_split: float, seed: int) -> tuple[np.ndarray, str]:
    """Which slices are held out, bool ``(n_slices,)``, where ``pieces[i]``, from 0 on, is the piece of slice i.

    The second value is the line that `split_by_piece` gives.
    """
    n_names, sizes = len(pieces), np.bincount(pieces)
    wanted = validation_split * n_names
    held_out = np.zeros(n_names, bool)
    if not wanted or n_names == 1:
        said = "nothing is held out for validation" + (" (a single slice)" if wanted else "")
    elif len(sizes) == 1:
        held_out[-min(max(1, round(wanted)), n_names - 1) :] = True
        said = f"a single piece: its last {held_out.sum()} of {n_names} slices are held out for validation"
    else:
        order = np.random.default_rng([seed, 0]).permutation(len(sizes))
        chosen: list[int] = []
        for piece in order:  # each that brings the held-out share nearer to the one that is asked for
            if abs(sizes[[*chosen, piece]].sum() - wanted) < abs(sizes[chosen].sum() - wanted):
                chosen.append(piece)
        chosen = chosen[: len(sizes) - 1] or [min(order, key=lambda piece: sizes[piece])]
        held_out = np.isin(pieces, chosen)
        said = (
            f"{len(chosen)} of {len(sizes)} pieces are held out for validation ({held_out.sum()} of {n_names} slices)"
        )
    return held_out, said


def read_slice(path: pathlib.Path, shape: tuple[int, int, int]) -> np.ndarray:
    """One feature file, in the network's range: float32 `shape`, [-1, 1].

    Raises:
        InputError: not a NumPy file, or not of that shape and range.
    """
    try:
        with path.open("rb") as file:
            level = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, SyntaxError, tokenize.TokenError) as error:  # the header is Python's text
        raise InputError(f"{path}: expected a feature slice (.npy): {error}") from None
    if level.shape != shape or level.dtype.kind not in "fiu":
        raise InputError(f"{path}: expected a feature slice of shape {shape}, found {level.shape} of {level.dtype}")
    with np.errstate(invalid="ignore"):
        level = to_network(level)
    if not np.abs(level).max() <= 1.01:  # also where it is NaN
        raise InputError(f"{path}: expected levels in [0, 1], found values outside or NaN")
    return level


class ByStep:
    """What batches by step have in common: which of an epoch's items each step takes.

    Attributes:
        batch_size: items of a step; an epoch's last one has the rest, or is left out with `drop_remainder`.
        steps_per_epoch: steps that visit every item once.
        error: what went wrong while `stream` was loading, for `iterate`.
    """

    def __init__(self, n_items: int, batch_size: int, drop_remainder: bool) -> None:
        self._n_items, self.batch_size = n_items, batch_size
        self.steps_per_epoch = n_items // batch_size if drop_remainder else -(-n_items // batch_size)
        self.error: InputError | None = None

    def size(self, step: int) -> int:
        """How many items the batch of step `step` has."""
        return min(self.batch_size, self._n_items - step % self.steps_per_epoch * self.batch_size)

    def place(self, step: int, replica: int = 0, n_replicas: int = 1) -> tuple[int, slice]:
        """The epoch of a step, and where in its order the batch lies, or the equal share of it for one replica."""
        epoch, position = divmod(int(step), self.steps_per_epoch)
        share = self.size(step) // n_replicas
        first = position * self.batch_size + replica * share
        return epoch, slice(first, first + share)


class Batches(ByStep):
    """Batches of pairs as a function of the step, so that a run can be taken up anywhere.

    A batch is ``(inputs, target)``, float32 in [-1, 1]: inputs (batch, 256, 256, 1), or with 2 channels, origin and
    style, where `style`; target (batch, 256, 256, 1). Every epoch visits each sample once, in an order drawn from
    `seed` and the epoch; the last batch of an epoch may be smaller.

    Args:
        pairs: the data set.
        samples: rows of ``pairs.samples``.
        batch_size: pairs in a batch.
        seed: of order and styles.
        style: add another slice of the same target as second channel, never the answer itself: drawn from `samples`,
            or from all pairs where `samples` has only one of that target (and is the answer where there is no other).
        shuffle: otherwise samples come as they stand, with the same styles in every epoch.
        drop_remainder: leave an epoch's last batch out where it is smaller.

    Raises:
        InputError: fewer samples than one batch.
    """

    def __init__(
        self,
        pairs: Pairs,
        samples: np.ndarray,
        batch_size: int,
        seed: int,
        style: bool = False,
        shuffle: bool = True,
        drop_remainder: bool = False,
    ) -> None:
        if shuffle and batch_size > len(samples):
            raise InputError(
                f"--batch_size: expected at most the {len(samples)} slices to train on, found {batch_size}"
            )
        super().__init__(len(samples), batch_size, drop_remainder)
        self.pairs, self.samples, self.seed = pairs, samples, seed
        self.style, self.shuffle = style, shuffle
        self.shape = (pairs.representation.n_bins, pairs.representation.n_frames, 1)
        self._styles = [self._style_names(t) for t in range(len(pairs.targets))]
        self._epoch = (-1, None, None)

    def _style_names(self, target: int) -> np.ndarray:
        """The slices that may show what target `target` sounds like: their names as indices, ascending."""
        mine = self.samples[self.samples[:, 1] == target, 0]
        return np.sort(mine) if len(mine) > 1 else self.pairs.samples[self.pairs.samples[:, 1] == target, 0]

    @property
    def in_channels(self) -> int:
        """Channels of the network's input."""
        return 2 if self.style else 1

    def order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """An epoch's samples, as rows of ``samples``, and each one's style, a name: two int arrays (n_samples,)."""
        known, samples, styles = self._epoch  # read once: other threads may replace it
        if known != epoch:
            n = len(self.samples)
            rng = np.random.default_rng([self.seed, 1, epoch if self.shuffle else 0])
            samples = rng.permutation(n) if self.shuffle else np.arange(n)
            styles = np.zeros(n, np.int64)
            draw = rng.random(n)
            for i, sample in enumerate(samples if self.style else ()):
                name, target = self.samples[sample]
                names = self._styles[target]
                j = int(draw[i] * max(1, len(names) - 1))
                styles[i] = names[(j + (names[j] >= name)) % len(names)]  # the answer's own place is stepped over
            self._epoch = (epoch, samples, styles)
        return samples, styles

    def load(self, step: int, replica: int = 0, n_replicas: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The batch of step `step`, counted from the start of the run, or the equal share of it for one replica."""
        epoch, chosen = self.place(step, replica, n_replicas)
        samples, styles = self.order(epoch)
        inputs = np.empty((len(samples[chosen]), *self.shape[:2], self.in_channels), np.float32)
        target = np.empty((len(inputs), *self.shape), np.float32)
        for i, (sample, style) in enumerate(zip(samples[chosen], styles[chosen], strict=True)):
            name, t = self.samples[sample]
            instrument = self.pairs.targets[t]
            inputs[i, ..., :1] = read_slice(self.pairs.path(self.pairs.origin, name), self.shape)
            target[i] = read_slice(self.pairs.path(instrument, name), self.shape)
            if self.style:
                inputs[i, ..., 1:] = read_slice(self.pairs.path(instrument, style), self.shape)
        return inputs, target


def stream(batches, start: int, stop: int, replicas: Sequence[int] = (0,), n_replicas: int = 1, n_parallel: int = 2):
    """A tf.data.Dataset of the batches of steps `start` to `stop`, read in parallel and prefetched.

    `batches` has ``load(step, replica, n_replicas)``, ``shape``, ``in_channels`` and ``error``. Of each step come the
    shares of `replicas`, one after the other.
    """
    import tensorflow as tf

    def load(index: np.ndarray):
        step, local = divmod(int(index), len(replicas))
        try:
            return batches.load(start + step, replicas[local], n_replicas)
        except InputError as error:
            batches.error = error  # TensorFlow passes on only the text of what is raised here
            raise

    def batch(index):
        inputs, target = tf.numpy_function(load, [index], (tf.float32, tf.float32), stateful=False)
        inputs.set_shape((None, *batches.shape[:2], batches.in_channels))
        target.set_shape((None, *batches.shape))
        return inputs, target

    indices = tf.data.Dataset.range((stop - start) * len(replicas))
    return indices.map(batch, num_parallel_calls=n_parallel, deterministic=True).prefetch(2)


def iterate(dataset: Iterable, batches) -> Iterator:
    """Go through `dataset`, made by `stream` of `batches`; a feature file's own InputError comes out as such."""
    import tensorflow as tf

    try:
        yield from dataset
    except tf.errors.OpError:
        if batches.error is None:
            raise
        raise batches.error from None
