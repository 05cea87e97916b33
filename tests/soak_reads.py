"""Read feature slices in many threads at once, as tf.data does, and count what fails.

In Python 3.11, NumPy's own reader failed after some 100 000 reads (``ast.literal_eval`` is not safe in threads there).

    python tests/soak_reads.py
"""

from __future__ import annotations

import concurrent.futures
import pathlib
import sys
import tempfile

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from training.dataset import read_level

SHAPE = (256, 256, 1)
READS, THREADS = 2_000_000, 8


def main() -> int:
    levels = np.random.default_rng(0).random((16, *SHAPE)).astype(np.float16)
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder, f"x_{number:03d}.npy") for number in range(len(levels))]
        for path, level in zip(paths, levels, strict=True):
            np.save(path, level)

        def read(thread: int) -> int:
            """Read the files in turn; how many reads gave another value."""
            chosen = [(number + thread) % len(paths) for number in range(READS // THREADS)]
            return sum(read_level(paths[i], SHAPE)[0, 0, 0] != levels[i, 0, 0, 0] for i in chosen)

        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            n_failed = sum(pool.map(read, range(THREADS)))
    print(f"{READS} reads in {THREADS} threads, {n_failed} failed")
    return int(n_failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
