"""Jobs in this process and in others: what pays, who hears Ctrl-C, who ends with whom."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from common import jobs

PARENT = """
import os, sys, time
sys.path.insert(0, {root!r})
from common import jobs

def work(number):
    print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    list(jobs.run(work, [(1,), (2,)], 2))
"""


class HandlerWhereItArrives:
    """Becomes the handler of Ctrl-C of the process that unpickles it."""

    def __reduce__(self):
        return signal.getsignal, (signal.SIGINT,)


@pytest.mark.skipif(sys.platform == "win32", reason="processes inherit no handler there")
def test_ctrl_c_reaches_a_process_only_while_it_does_a_job():
    before = signal.getsignal(signal.SIGINT)
    arriving = [result for _, result, _ in jobs.run(str, [(HandlerWhereItArrives(),)] * 4, 2)]
    working = [result for _, result, _ in jobs.run(signal.getsignal, [(signal.SIGINT,)] * 4, 2)]
    assert arriving == [str(signal.SIG_IGN)] * 4
    assert working == [signal.default_int_handler] * 4
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_processes_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(root=os.path.dirname(os.path.dirname(jobs.__file__))))
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert {int(parent.stdout.readline()) for _ in range(2)} != {parent.pid}
        parent.kill()
        parent.stdout.read()  # returns when the last process that holds stdout has ended


def test_short_work_stays_in_this_process_and_long_work_does_not():
    here = {result for _, result, _ in jobs.run(os.getpid, [()] * 5, 0)}
    assert here == {os.getpid()}
    assert os.getpid() not in {result for _, result, _ in jobs.run(os.getpid, [()] * 2, 2)}
    assert not jobs.pays(1000, 1)
    assert not jobs.pays(1.9 * jobs.START_SECONDS, 2)
    assert jobs.pays(2.1 * jobs.START_SECONDS, 2)


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
    left = jobs.map_ahead(str, range(5), 1)
    next(left)
    left.close()
    assert threading.active_count() == n_threads
