"""Turn recordings into the slices that the networks train on.

Reads <audios_path>/<instrument>/<piece>.<wav, flac, mp3, m4a ...> as predict.py does and writes
<features_path>/<instrument>/<piece>_<slice:03d>.npy: log level in [0, 1], float16 (256, 256, 1), 2.97 s each.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

import data
from common import cli, jobs
from common.audio import find_audio, read_blocks
from common.errors import InputError
from common.files import piece_names, read_json, write_array, write_json
from data import PUBLISHED, Representation

SETTINGS_NAME = "features.json"
BLOCK_SLICES = 4  # transformed at a time, so that the arrays stay small enough for the processor's cache


def feature_slices(path: str, representation: Representation = PUBLISHED) -> Iterator[np.ndarray]:
    """The slices of a recording one by one, float16 ``(n_bins, n_frames, 1)``, in memory that does not grow with it.

    The same as ``data.compute_features(data.read_audio(path))``. Raises InputError as `data.read_blocks` does.
    """
    n_fft, hop = representation.n_fft, representation.hop_length
    n_block = BLOCK_SLICES * representation.n_frames * hop  # from the first frame of a block to that of the next
    rest = np.zeros(n_fft // 2, np.float32)  # frames are centred: zeros stand before the start and after the end
    for audio in read_blocks(path, representation.sample_rate):
        rest = np.concatenate([rest, audio])
        while len(rest) >= n_block + n_fft - hop:
            yield from data.compute_features(rest[: n_block + n_fft - hop], representation, center=False)
            rest = rest[n_block:]
    rest = np.concatenate([rest, np.zeros(n_fft // 2, np.float32)])
    while len(rest) >= n_fft:
        yield from data.compute_features(rest[: n_block + n_fft - hop], representation, center=False)
        rest = rest[n_block:]


def write_features(path: str, folder: str, piece: str) -> int:
    """Write a recording's slices as ``folder/<piece>_<slice:03d>.npy``; returns how many.

    The first slice is written last: where it lies, the piece is complete.

    Raises:
        InputError: the recording cannot be read; its slices are removed then.
    """
    slices = feature_slices(path)
    first = next(slices)  # what is no audio fails here, before anything is written
    slice_path(folder, piece, 0).unlink(missing_ok=True)
    n_slices = 1
    try:
        for content in slices:
            write_array(slice_path(folder, piece, n_slices), content)
            n_slices += 1
    except InputError:
        _remove_from(folder, piece, 1)
        raise
    _remove_from(folder, piece, n_slices)  # of a longer recording that had this name
    write_array(slice_path(folder, piece, 0), first)
    return n_slices


def slice_path(folder: str, piece: str, index: int) -> pathlib.Path:
    """Where slice `index` of a piece lies."""
    return pathlib.Path(folder, f"{piece}_{index:03d}.npy")


def _remove_from(folder: str, piece: str, index: int) -> None:
    """Remove the slices of a piece from `index` on, the last one first so that none is left behind a gap."""
    end = index
    while slice_path(folder, piece, end).exists():
        end += 1
    for i in reversed(range(index, end)):
        slice_path(folder, piece, i).unlink()


def find_recordings(audios: pathlib.Path) -> tuple[list[tuple[str, str, pathlib.Path]], list[tuple[str, str]]]:
    """The recordings in a folder of instruments as (instrument, piece, file), and (file, reason) of what is no such.

    Raises:
        InputError: there is no folder, or no instrument's folder with recordings in it.
    """
    by_instrument: dict[str, list[pathlib.Path]] = {}
    found, left_out = [], []
    for path in find_audio(audios, "--audios_path"):
        if path.parent == audios:
            left_out.append((str(path), "expected recordings in a folder for each instrument, found one beside them"))
        else:
            by_instrument.setdefault(path.relative_to(audios).parts[0], []).append(path)
    if not by_instrument:
        raise InputError(f"--audios_path: expected a folder for each instrument, found only recordings in {audios}")
    for instrument, paths in by_instrument.items():
        pieces, twice = piece_names(paths, audios / instrument)
        found += [(instrument, piece, path) for piece, path in pieces.items()]
        left_out += twice
    return found, left_out


def compute_folder(arguments: argparse.Namespace) -> int:
    """Do what the arguments ask for; the exit status."""
    audios = pathlib.Path(arguments.audios_path).resolve()
    features = pathlib.Path(arguments.features_path).resolve()
    recordings, left_out = find_recordings(audios)
    if features == audios:
        raise InputError(f"--features_path: expected another folder than that of --audios_path, found {features}")
    _keep_settings(features, arguments.overwrite)

    work = []
    for instrument, piece, path in recordings:
        folder = str(features / instrument)
        if arguments.overwrite:  # first of all, so that what an interrupted run leaves is of this run
            slice_path(folder, piece, 0).unlink(missing_ok=True)
        if not jobs.up_to_date(slice_path(folder, piece, 0), path):
            work.append((str(path), folder, piece))
    n_there = len(recordings) - len(work)
    n_pieces = n_slices = 0
    for index, count, reason in jobs.run(write_features, work, arguments.jobs, arguments.dask, "recordings"):
        if reason:
            left_out.append((work[index][0], reason))
        else:
            n_pieces, n_slices = n_pieces + 1, n_slices + count
    if not n_pieces and not n_there:
        with contextlib.suppress(OSError):  # bad input leaves nothing behind
            (features / SETTINGS_NAME).unlink()
            features.rmdir()
    print(f"{features}: {n_slices} slices written of {n_pieces} recordings, {n_there} recordings already there")
    return cli.report_left_out(sorted(left_out))


def _keep_settings(features: pathlib.Path, overwrite: bool) -> None:
    """Write features.json; what other settings made is removed with `overwrite` and refused without.

    Raises:
        InputError: the folder holds another kind of features.
    """
    path = features / SETTINGS_NAME
    settings = PUBLISHED.to_dict()
    kept = read_json(path) if path.exists() else settings
    if kept != settings:
        if not overwrite:
            raise InputError(
                f"--features_path: expected {settings} in {path}, found {kept}; take another folder or --overwrite"
            )
        for old in features.glob("*/*.npy"):
            old.unlink()
    if kept != settings or not path.exists():
        write_json(path, settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    parser = cli.Parser(__doc__)
    parser.add_argument("--audios_path", required=True, help="folder with a folder of recordings for each instrument")
    parser.add_argument("--features_path", required=True, help="folder to write the slices to")
    parser.add_argument(
        "--overwrite", action="store_true", help="make every slice anew, and remove other settings' ones"
    )
    jobs.add_arguments(parser)
    return cli.run(parser, compute_folder, argv)


if __name__ == "__main__":
    raise SystemExit(main())
