"""Run many independent jobs in processes of this machine (joblib) or on a Dask cluster."""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import functools
import itertools
import os
import pathlib
import re
import signal
import site
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from common import cli
from common.errors import InputError
from common.files import concerning_one_file

CONNECT_SECONDS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The ``--jobs`` and ``--dask`` arguments."""
    parser.add_argument(
        "--jobs",
        type=cli.number(int, minimum=0),
        default=0,
        help="number of processes; 0: one for each processor core",
    )
    parser.add_argument(
        "--dask",
        type=_address,
        metavar="tcp://HOST:PORT",
        help="work on the Dask cluster of this scheduler instead; its workers need the same Python packages and must "
        "see the folders of this program and of the data under the same paths (pip install distributed)",
    )


def _address(text: str) -> str:
    """An argparse type: the address of a Dask scheduler. Dask would retry any other text until its time is up."""
    if not re.fullmatch(r"\w+://\[?[\w.:-]+\]?:\d+", text):
        raise argparse.ArgumentTypeError(f"expected an address such as tcp://host:8786, found {text!r}")
    return text


def up_to_date(result: str | os.PathLike, source: str | os.PathLike) -> bool:
    """Whether `result` exists and is not older than `source`, by the modification times.

    Also false where that cannot be found out: writing the result then tells why.
    """
    try:
        return os.stat(result).st_mtime_ns >= os.stat(source).st_mtime_ns
    except OSError:
        return False


def run(
    work: Callable[..., Any],
    jobs: Sequence[tuple],
    n_processes: int = 1,
    dask: str | None = None,
    label: str = "",
) -> Iterator[tuple[int, Any, str | None]]:
    """Call ``work(*job)`` for every job, with a progress bar if stderr is a terminal.

    Args:
        work: a function of a module, not a lambda; raises InputError for a job that cannot be done, or a system error
            that concerns one file.
        jobs: the arguments of each call.
        n_processes: 0: one for each processor core; 1: work in this process.
        dask: address of a Dask scheduler to use instead. If a worker dies, another one repeats its jobs.
        label: shown before the progress bar.

    Yields:
        index of the job, result (None if it failed), reason (None if it succeeded), in the order in which jobs end.

    Raises:
        InputError: Dask is not installed, no scheduler or worker answers, or a process of this machine was killed.
    """
    if not jobs:
        return
    from tqdm import tqdm

    results = _run_dask(work, jobs, dask) if dask else _run_joblib(work, jobs, n_processes)
    with tqdm(results, total=len(jobs), desc=label, disable=None, leave=False) as bar:
        yield from bar


def _run_joblib(work: Callable[..., Any], jobs: Sequence[tuple], n_processes: int) -> Iterator:
    calls = ((work, index, job) for index, job in enumerate(jobs))
    if n_processes == 1 or len(jobs) == 1:
        yield from itertools.starmap(_attempt, calls)
        return
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    parallel = joblib.Parallel(min(n_processes or joblib.cpu_count(), len(jobs)), return_as="generator_unordered")
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited by the processes that joblib starts
    try:
        results = parallel(joblib.delayed(_attempt_in_process)(*call) for call in calls)
    finally:
        signal.signal(signal.SIGINT, handler)
    try:
        yield from results
    except TerminatedWorkerError:
        raise InputError(
            "--jobs: a process was killed, probably because memory ran out; run again with fewer --jobs (finished "
            "files are kept)"
        ) from None


def _attempt(work: Callable[..., Any], index: int, job: tuple) -> tuple[int, Any, str | None]:
    try:
        with concerning_one_file(str(job[0]) if job else ""):
            return index, work(*job), None
    except InputError as error:
        return index, None, str(error)


def _attempt_in_process(work: Callable[..., Any], index: int, job: tuple) -> tuple[int, Any, str | None]:
    """`_attempt`, during which Ctrl-C ends the job cleanly; between jobs, this process ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _attempt(work, index, job)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_dask(work: Callable[..., Any], jobs: Sequence[tuple], address: str) -> Iterator:
    try:
        import distributed
    except ImportError:
        raise InputError("--dask: expected the package distributed (pip install distributed), found none") from None
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError):
        raise InputError(
            f"--dask: expected a Dask scheduler such as tcp://host:8786, found none at {address}"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except (TimeoutError, ValueError):
            raise InputError(f"--dask: expected a worker in the cluster at {address}, found none") from None
        # Also set the path on workers that join later: replacements start without it.
        client.register_worker_callbacks(functools.partial(site.addsitedir, str(pathlib.Path(__file__).parents[1])))
        futures = {client.submit(_attempt, work, i, job, pure=False): i for i, job in enumerate(jobs)}
        for future in distributed.as_completed(futures, loop=client.loop):
            try:
                yield future.result()
            except distributed.KilledWorker as error:
                yield futures[future], None, f"the Dask workers that tried it died ({error})"


def map_ahead(function: Callable[[Any], Any], items: Iterable[Any], n_ahead: int, n_threads: int = 1) -> Iterator[Any]:
    """`function` of each item, in order, computed by `n_threads` other threads up to `n_ahead` items in advance.

    So it runs at the same time as the code that makes the items and the code that uses the results. This saves time
    where they spend it outside of Python's interpreter, as in NumPy and ONNX Runtime.
    """
    pool = concurrent.futures.ThreadPoolExecutor(n_threads)
    try:
        waiting = collections.deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > n_ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
