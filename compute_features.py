"""Turn recordings into the slices that the networks train on.

Reads <audios_path>/<instrument>/<piece>.<wav, flac, mp3, m4a ...> as predict.py does and writes
<features_path>/<instrument>/<piece>_<slice:03d>.npy: log level in [0, 1], float16 (256, 256, 1), 2.97 s each.
"""

from __future__ import annotations

import common.environment

import argparse
import itertools
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

import data
from common import InputError, cli, files, jobs
from data import PUBLISHED
from sound.files import find_audio, read_blocks
from training.dataset import FEATURES_FILE

BLOCK_SLICES = 4  # transformed at a time: few enough for the arrays to fit into the processor's cache
MIN_BYTES = 2 * PUBLISHED.n_bins * PUBLISHED.n_frames  # of a slice's file


def feature_slices(path: str) -> Iterator[np.ndarray]:
    """The slices of a recording one by one, float16 ``(n_bins, n_frames, 1)``, in bounded memory.

    They equal ``data.compute_features(read_audio(path))``.

    Raises:
        InputError: as `sound.files.read_blocks`.
    """
    n_fft, hop = PUBLISHED.n_fft, PUBLISHED.hop_length
    n_block = BLOCK_SLICES * PUBLISHED.n_frames * hop  # samples from the first frame of a block to the next block
    padding = np.zeros(n_fft // 2, np.float32)  # at both ends, because frames are centred
    rest = padding
    for audio in itertools.chain(read_blocks(path), [padding]):
        rest = np.concatenate([rest, audio])
        while len(rest) >= n_block + n_fft - hop:
            yield from data.compute_features(rest[: n_block + n_fft - hop], center=False)
            rest = rest[n_block:]
    if len(rest) >= n_fft:
        yield from data.compute_features(rest, center=False)


def write_features(path: str, folder: str, piece: str) -> int:
    """Write a recording's slices as ``folder/<piece>_<slice:03d>.npy``; returns how many.

    The first slice is written last, so that its presence means that the piece is complete. The last slice gets the
    time of the recording, for `is_complete`.

    Raises:
        InputError: the recording cannot be read. Its slices are removed.
    """
    recorded = os.stat(path)
    slices = feature_slices(path)
    slice_path(folder, piece, 0).unlink(missing_ok=True)
    n_slices = 1
    try:
        first = next(slices)
        for content in slices:
            files.write_array(slice_path(folder, piece, n_slices), content)
            n_slices += 1
    except (InputError, OSError):
        _remove_from(folder, piece, 1)
        raise
    _remove_from(folder, piece, n_slices)  # left over from a longer recording of this name
    files.write_array(slice_path(folder, piece, 0), first)
    os.utime(slice_path(folder, piece, n_slices - 1), ns=(recorded.st_atime_ns, recorded.st_mtime_ns))
    return n_slices


def is_complete(folder: str, piece: str, path: pathlib.Path) -> bool:
    """Whether all slices of the recording at `path`, as it is now, are there: none empty, the last of its time."""
    found = [os.stat(existing) for existing in existing_slices(folder, piece)]
    if not found or min(each.st_size for each in found) <= MIN_BYTES:
        return False
    return found[-1].st_mtime_ns // 1000 == os.stat(path).st_mtime_ns // 1000


def existing_slices(folder: str, piece: str, index: int = 0) -> list[pathlib.Path]:
    """The slices of a piece from `index` to the first gap."""
    return list(itertools.takewhile(os.path.exists, (slice_path(folder, piece, i) for i in itertools.count(index))))


def slice_path(folder: str, piece: str, index: int) -> pathlib.Path:
    return pathlib.Path(folder, f"{piece}_{index:03d}.npy")


def _remove_from(folder: str, piece: str, index: int) -> None:
    """Remove the slices of a piece from `index` on, the last one first, so that an interruption leaves no gap."""
    for path in reversed(existing_slices(folder, piece, index)):
        path.unlink()


def find_recordings(audios: pathlib.Path) -> tuple[list[tuple[str, str, pathlib.Path]], list[tuple[str, str]]]:
    """The recordings of all instruments as (instrument, piece, file), and (file, reason) of those that are left out.

    Raises:
        InputError: the folder is missing, or has no subfolder with recordings.
    """
    paths = find_audio(audios, "--audios_path")
    left_out = [(str(path), "not in the folder of an instrument") for path in paths if path.parent == audios]
    recordings: list[tuple[str, str, pathlib.Path]] = []
    inside = [path for path in paths if path.parent != audios]
    for instrument, found in itertools.groupby(inside, lambda path: path.relative_to(audios).parts[0]):
        pieces, twice = files.piece_names(files.without_converted(found), audios / instrument)
        recordings += [(instrument, piece, path) for piece, path in pieces.items()]
        left_out += twice
    if not recordings:
        raise InputError(f"--audios_path: {audios} has no folder of recordings for each instrument")
    return recordings, left_out


def compute_folder(arguments: argparse.Namespace) -> int:
    """Compute the features of all recordings; returns the exit status."""
    recordings, left_out = find_recordings(pathlib.Path(arguments.audios_path).resolve())
    features = pathlib.Path(arguments.features_path).resolve()
    settings, path = PUBLISHED.to_dict(), features / FEATURES_FILE
    if path.exists() and files.read_json(path) != settings:
        if not arguments.overwrite:
            raise InputError(f"--features_path: {path} tells of other settings; take another folder or --overwrite")
        files.remove_files(features, "*.npy")
        path.unlink()

    work = []
    for instrument, piece, recording in recordings:
        folder = str(features / instrument)
        if arguments.overwrite or not is_complete(folder, piece, recording):
            work.append((str(recording), folder, piece))
    for folder in {folder for _, folder, _ in work}:
        files.remove_leftovers(folder)
    written = []
    for index, n_slices, reason in jobs.run(write_features, work, arguments.jobs, "recordings"):
        if reason:
            left_out.append((work[index][0], reason))
            continue
        written.append(n_slices)
        if not path.exists():
            files.write_json(path, settings)
    counted = f"{cli.count(sum(written), 'slice')} written of {cli.count(len(written), 'recording')}"
    print(f"{features}: {counted}, {cli.count(len(recordings) - len(work), 'recording')} already there")
    return cli.report_left_out(sorted(left_out))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--audios_path", "--audios", required=True, help="folder with a folder of recordings for each instrument")
    add("--features_path", "--features", required=True, help="folder to write the slices to")
    add("--overwrite", action="store_true", help="compute every slice again, and remove slices of other settings")
    jobs.add_arguments(parser)
    return cli.run(parser, compute_folder, argv)


if __name__ == "__main__":
    raise SystemExit(main())
