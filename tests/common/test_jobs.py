"""Jobs in processes: who hears Ctrl-C."""

import signal
import sys

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
