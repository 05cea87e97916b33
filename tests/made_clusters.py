"""A Dask cluster on this machine, one of whose workers dies in the middle of the work."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

from common import jobs


@contextlib.contextmanager
def cluster_of_two() -> Iterator:
    """A cluster of two worker processes of one thread each, without a dashboard."""
    import distributed

    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        yield cluster


def kill_one_after_the_first_job(monkeypatch, address: str, label: str) -> list[int]:
    """Make `jobs.run` kill a worker when the first job called `label` is done; the list gets its process id."""
    import distributed

    run, killed = jobs.run, []

    def run_and_kill(work, todo, n_processes, dask, name):
        for index, *rest in run(work, todo, n_processes, dask, name):
            if name == label and not killed:
                with distributed.Client(address, set_as_default=False) as client:
                    killed.append(min(client.run(os.getpid).values()))
                os.kill(killed[0], signal.SIGKILL)
            yield index, *rest

    monkeypatch.setattr("common.jobs.run", run_and_kill)
    return killed
