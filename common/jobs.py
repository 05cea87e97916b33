"""Run many independent jobs, in this process or in several."""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from common import InputError, cli
from common.files import concerning_one_file

TRIAL_SECONDS = 0.5  # of work in this process before more processes are thought of
START_SECONDS = 3  # that the start of the processes costs, together

Result = tuple[int, Any, str | None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The ``--jobs`` argument."""
    text = "number of processes; 0: one for each processor core, if the work is long enough to pay for them"
    parser.add_argument("--jobs", type=cli.number(int, minimum=0), default=0, help=text)


def run(work: Callable[..., Any], jobs: Sequence[tuple], n_processes: int = 1, label: str = "") -> Iterator[Result]:
    """Call ``work(*job)`` for every job, with a progress bar if stderr is a terminal.

    Args:
        work: a function of a module, not a lambda; raises InputError for a job that cannot be done, or a system error
            that concerns one file.
        jobs: the arguments of each call.
        n_processes: 1: work in this process; 0: one for each processor core, once it is known that they pay.
        label: shown before the progress bar.

    Yields:
        index of the job, result (None if it failed), reason (None if it succeeded), in the order in which jobs end.

    Raises:
        InputError: a process was killed.
    """
    from tqdm import tqdm

    results = _run(work, list(enumerate(jobs)), n_processes)
    with tqdm(results, total=len(jobs), desc=label, disable=None, leave=False) as bar:
        yield from bar


def count_cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(work: Callable[..., Any], calls: list[tuple[int, tuple]], n_processes: int) -> Iterator[Result]:
    n_workers, begin, n_done = n_processes or count_cores(), time.monotonic(), 0
    while calls and (n_workers == 1 or len(calls) == 1 or not n_processes):
        seconds = time.monotonic() - begin
        rest = seconds / max(1, n_done) * len(calls)  # seconds that the others would take here
        if seconds > TRIAL_SECONDS and rest > rest / n_workers + START_SECONDS:
            break
        yield _attempt(work, *calls.pop(0))
        n_done += 1
    if calls:
        yield from _run_in_processes(work, calls, min(n_workers, len(calls)))


def _run_in_processes(work: Callable[..., Any], calls: Sequence[tuple[int, tuple]], n_workers: int) -> Iterator[Result]:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(n_workers, context, _end_with_parent) as pool:
        # Each process has one core, and Ctrl-C is for this one alone. Both are inherited at the start.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            futures = [pool.submit(_attempt, work, *call) for call in calls]
        finally:
            signal.signal(signal.SIGINT, handler)
        try:
            for future in concurrent.futures.as_completed(futures):
                yield future.result()
        except concurrent.futures.process.BrokenProcessPool:
            reason = "a process was killed, probably because memory ran out; run again with fewer (finished files stay)"
            raise InputError(f"--jobs: {reason}") from None
        except BaseException:  # Ctrl-C: do not wait for the jobs
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _end_with_parent() -> None:
    """Let this process end when the one that started it has gone, even by SIGKILL."""

    def wait() -> None:
        multiprocessing.parent_process().join()  # type: ignore[union-attr]
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _attempt(work: Callable[..., Any], index: int, job: tuple) -> Result:
    try:
        with concerning_one_file(str(job[0]) if job else ""):
            return index, work(*job), None
    except InputError as error:
        return index, None, str(error)


def map_ahead(function: Callable[[Any], Any], items: Iterable[Any], n_ahead: int, n_threads: int = 1) -> Iterator[Any]:
    """`function` of each item, in order, computed by `n_threads` other threads up to `n_ahead` items in advance.

    It runs at the same time as the code that makes the items and the code that uses the results. This saves time where
    they spend it outside of Python's interpreter, as in NumPy and ONNX Runtime.
    """
    pool = concurrent.futures.ThreadPoolExecutor(n_threads)
    try:
        waiting: collections.deque = collections.deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > n_ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
