"""Jobs in processes: who hears Ctrl-C."""

import signal
import sys
import threading

import pytest

from common import jobs


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


def test_map_ahead_gives_results_in_order_and_works_ahead_of_them():
    done, asked = [], []

    def square(number):
        done.append(number)
        return number**2

    def numbers():
        for number in range(6):
            asked.append(number)
            yield number

    results = jobs.map_ahead(square, numbers(), 2)
    assert next(results) == 0
    assert asked == [0, 1, 2]
    assert [0, *results] == [number**2 for number in range(6)]
    assert done == list(range(6))
    assert list(jobs.map_ahead(square, [], 2)) == []


def test_map_ahead_with_several_threads_keeps_the_order():
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
