"""Feature files to batches: pairing by name, split by piece, order by seed, the style channel.

A data set is a folder with one folder an instrument, as compute_features.py (or the original program) writes it:
``<dataset>/<instrument>/<piece>_<slice:03d>.npy``, each (256, 256, 1) in [0, 1]. Only names are kept in memory.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from common.errors import InputError
from common.files import existing_folder, read_json
from data import PUBLISHED, Representation

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
