"""Turn recordings into the slices that the networks train on.

Reads <audios_path>/<instrument>/<piece>.<wav, flac, mp3, m4a ...> as predict.py does and writes
<features_path>/<instrument>/<piece>_<slice:03d>.npy: log level in [0, 1], float16 (256, 256, 1), 2.97 s each.
"""

from __future__ import annotations

import common.environment

import argparse
import contextlib
import itertools
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

import data
from common import cli, jobs
from common.errors import InputError
from common.files import piece_names, read_json, remove_files, write_array, write_json
from data import PUBLISHED, Representation
from sound.files import find_audio, read_blocks
from training.dataset import FEATURES_FILE

BLOCK_SLICES = 4  # transformed at a time: few enough for the arrays to fit into the processor's cache


def feature_slices(path: str, representation: Representation = PUBLISHED) -> Iterator[np.ndarray]:
    """The slices of a recording one by one, float16 ``(n_bins, n_frames, 1)``, in bounded memory.

    They equal ``data.compute_features(read_audio(path))``.

    Raises:
        InputError: as `sound.files.read_blocks`.
    """
    n_fft, hop = representation.n_fft, representation.hop_length
    n_block = BLOCK_SLICES * representation.n_frames * hop  # samples from the first frame of a block to the next block
    rest = np.zeros(n_fft // 2, np.float32)  # frames are centred, so the recording is padded with zeros at both ends
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

    The first slice is written last, so that its presence means that the piece is complete.

    Raises:
        InputError: the recording cannot be read. Its slices are removed.
    """
    slices = feature_slices(path)
    first = next(slices)  # fails before anything is written if the file is not audio
    slice_path(folder, piece, 0).unlink(missing_ok=True)
    n_slices = 1
    try:
        for content in slices:
            write_array(slice_path(folder, piece, n_slices), content)
            n_slices += 1
    except (InputError, OSError):
        _remove_from(folder, piece, 1)
        raise
    _remove_from(folder, piece, n_slices)  # left over from a longer recording of this name
    write_array(slice_path(folder, piece, 0), first)
    return n_slices


def slice_path(folder: str, piece: str, index: int) -> pathlib.Path:
    """The file of slice `index` of a piece."""
    return pathlib.Path(folder, f"{piece}_{index:03d}.npy")


def _remove_from(folder: str, piece: str, index: int) -> None:
    """Remove the slices of a piece from `index` on, the last one first, so that an interruption leaves no gap."""
    end = index
    while slice_path(folder, piece, end).exists():
        end += 1
    for i in reversed(range(index, end)):
        slice_path(folder, piece, i).unlink()


def find_recordings(audios: pathlib.Path) -> tuple[list[tuple[str, str, pathlib.Path]], list[tuple[str, str]]]:
    """The recordings of all instruments as (instrument, piece, file), and (file, reason) of those that are left out.

    Raises:
        InputError: the folder is missing, or has no subfolder with recordings.
    """
    by_instrument: dict[str, list[pathlib.Path]] = {}
    recordings, left_out = [], []
    for path in find_audio(audios, "--audios_path"):
        if path.parent == audios:
            left_out.append(
                (str(path), "expected recordings in a folder for each instrument, found one outside of them")
            )
        else:
            by_instrument.setdefault(path.relative_to(audios).parts[0], []).append(path)
    if not by_instrument:
        raise InputError(f"--audios_path: expected a folder for each instrument, found only recordings in {audios}")
    _check_depth(audios, by_instrument)
    for instrument, paths in by_instrument.items():
        pieces, twice = piece_names(paths, audios / instrument)
        recordings += [(instrument, piece, path) for piece, path in pieces.items()]
        left_out += twice
    return recordings, left_out


def _check_depth(audios: pathlib.Path, by_instrument: dict[str, list[pathlib.Path]]) -> None:
    """Refuse the folder above the one that has a folder for each instrument.

    In it, a folder's own folders have recordings of the same names, while the folders themselves have none in common.
    """
    names = {
        folder: {path.relative_to(audios / folder).with_suffix("") for path in paths}
        for folder, paths in by_instrument.items()
    }
    if any(one & other for one, other in itertools.combinations(names.values(), 2)):
        return
    for folder, paths in names.items():
        pieces: dict[str, set[pathlib.Path]] = {}
        for path in paths:
            pieces.setdefault(path.parts[0], set()).add(path.relative_to(path.parts[0]))
        has_folders_only = all(len(path.parts) > 1 for path in paths)
        if has_folders_only and len(pieces) > 1 and set.intersection(*pieces.values()):
            raise InputError(
                f"--audios_path: expected a folder for each instrument, found {folder} with folders for "
                f"{' and '.join(sorted(pieces)[:2])} in it: one folder too high? Try --audios_path {audios / folder}"
            )


def compute_folder(arguments: argparse.Namespace) -> int:
    """Compute the features of all recordings; returns the exit status."""
    audios = pathlib.Path(arguments.audios_path).resolve()
    features = pathlib.Path(arguments.features_path).resolve()
    recordings, left_out = find_recordings(audios)
    if features == audios:
        raise InputError(f"--features_path: expected another folder than that of --audios_path, found {features}")
    _keep_settings(features, arguments.overwrite)

    work = []
    for instrument, piece, path in recordings:
        folder = str(features / instrument)
        if arguments.overwrite:  # remove now, so that an interrupted run leaves only complete pieces of its own
            with contextlib.suppress(OSError):  # writing it will fail as well, and tell why
                slice_path(folder, piece, 0).unlink(missing_ok=True)
        if not jobs.up_to_date(slice_path(folder, piece, 0), path):
            work.append((str(path), folder, piece))
    n_there = len(recordings) - len(work)
    n_pieces = n_slices = 0
    for index, count, reason in jobs.run(write_features, work, arguments.jobs, "recordings"):
        if reason:
            left_out.append((work[index][0], reason))
        else:
            n_pieces, n_slices = n_pieces + 1, n_slices + count
    if not n_pieces and not n_there:
        with contextlib.suppress(OSError):  # leave nothing behind if no recording could be read
            (features / FEATURES_FILE).unlink()
            features.rmdir()
    written = f"{cli.count(n_slices, 'slice')} written of {cli.count(n_pieces, 'recording')}"
    print(f"{features}: {written}, {cli.count(n_there, 'recording')} already there")
    return cli.report_left_out(sorted(left_out))


def _keep_settings(features: pathlib.Path, overwrite: bool) -> None:
    """Write features.json. With `overwrite`, slices that were computed with other settings are removed.

    Raises:
        InputError: the folder holds features of other settings, and `overwrite` is off.
    """
    path = features / FEATURES_FILE
    settings = PUBLISHED.to_dict()
    kept = read_json(path) if path.exists() else settings
    if kept != settings:
        if not overwrite:
            raise InputError(
                f"--features_path: expected {settings} in {path}, found {kept}; take another folder or --overwrite"
            )
        remove_files(features, "*.npy")
    if kept != settings or not path.exists():
        write_json(path, settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = cli.Parser(__doc__)
    parser.add_argument("--audios_path", required=True, help="folder with a folder of recordings for each instrument")
    parser.add_argument("--features_path", required=True, help="folder to write the slices to")
    parser.add_argument(
        "--overwrite", action="store_true", help="compute every slice again, and remove slices of other settings"
    )
    jobs.add_arguments(parser)
    return cli.run(parser, compute_folder, argv)


if __name__ == "__main__":
    raise SystemExit(main())
