"""Jobs in this process and in others: what pays, and who ends with whom."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from conftest import ROOT

from common import jobs

PARENT = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from common import cli, jobs

def work(number):
    print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    sys.exit(cli.run(cli.Parser("Work."), lambda _: len(list(jobs.run(work, [(1,), (2,)], 2))), []))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL, no groups of processes")
@pytest.mark.parametrize(("end", "number", "lines"), [(os.killpg, signal.SIGINT, 1), (os.kill, signal.SIGKILL, 0)])
def test_processes_end_with_their_parent_and_say_nothing(tmp_path, end, number, lines):
    """Ctrl-C reaches all of them at once; SIGKILL only the parent."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen([sys.executable, script, ROOT], **pipes) as parent:
        try:
            assert {int(parent.stdout.readline()) for _ in range(2)} != {parent.pid}
            end(parent.pid, number)
            errors = parent.communicate(timeout=60)[1]  # returns when the last process that holds stdout has ended
        finally:
            parent.kill()
        assert errors.count("\n") == lines


def test_short_work_stays_in_this_process_and_long_work_does_not(monkeypatch):
    monkeypatch.setattr(jobs, "count_cores", lambda: 2)
    assert {result for _, result, _ in jobs.run(os.getpid, [()] * 5, 0)} == {os.getpid()}
    for name in ("TRIAL_SECONDS", "START_SECONDS"):
        monkeypatch.setattr(jobs, name, -1)  # any work is long
    assert os.getpid() not in {result for _, result, _ in jobs.run(os.getpid, [()] * 2, 0)}


def test_map_ahead_gives_results_in_order_and_works_ahead_of_them():
    asked = []

    def numbers():
        for number in range(6):
            asked.append(number)
            yield number

    results = jobs.map_ahead(lambda number: number**2, numbers(), 2)
    assert next(results) == 0
    assert asked == [0, 1, 2]
    assert [0, *results] == [number**2 for number in range(6)]
    barrier = threading.Barrier(2, timeout=20)

    def wait_for_the_other(number):
        barrier.wait()  # passes only while two calls run at the same time
        return number

    assert list(jobs.map_ahead(wait_for_the_other, range(6), 3, n_threads=2)) == list(range(6))


def test_map_ahead_passes_on_errors_and_ends_its_thread():
    n_threads = threading.active_count()
    results = jobs.map_ahead(lambda number: 1 // number, [1, 0, 1], 1)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        list(results)
    assert threading.active_count() == n_threads
