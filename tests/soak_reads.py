"""Read feature slices in many threads at once, as tf.data does, and count what fails.

In Python 3.11, NumPy's own reader failed after some 100 000 reads (``ast.literal_eval`` is not safe in threads there).

    python tests/soak_reads.py --reads 2000000 --threads 8
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
import threading
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from training.dataset import read_level

SHAPE = (256, 256, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reads", type=int, default=2_000_000)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=60, help="stop after this time at the latest")
    arguments = parser.parse_args()

    levels = np.random.default_rng(0).random((16, *SHAPE)).astype(np.float16)
    failures: list[str] = []
    counts = [0] * arguments.threads
    end = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder, f"x_{number:03d}.npy") for number in range(len(levels))]
        for path, level in zip(paths, levels, strict=True):
            np.save(path, level)

        def read(thread: int) -> None:
            while counts[thread] < arguments.reads // arguments.threads and time.monotonic() < end:
                number = (counts[thread] + thread) % len(paths)
                try:
                    if read_level(paths[number], SHAPE)[0, 0, 0] != levels[number, 0, 0, 0]:
                        failures.append(f"{paths[number]}: another value")
                except BaseException as error:
                    failures.append(repr(error))
                counts[thread] += 1

        threads = [threading.Thread(target=read, args=(thread,)) for thread in range(arguments.threads)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    seconds = time.monotonic() - started
    print(f"{sum(counts)} reads in {arguments.threads} threads, {sum(counts) / seconds:.0f} a second: ", end="")
    print(f"{len(failures)} failed {failures[:3]}")
    return int(bool(failures))


if __name__ == "__main__":
    raise SystemExit(main())
