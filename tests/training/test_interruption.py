"""SIGTERM and Ctrl-C: noted in the context, as before outside of it."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from srn_tf.training.interruption import Interruption, Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Arrived(Exception):
    """Raised by the handler that these tests set around the context."""


@pytest.fixture(autouse=True)
def handlers():
    """Handlers of SIGTERM and SIGINT that raise `Arrived`; those of pytest come back after the test."""

    def arrive(number, frame):
        raise Arrived(number)

    before = {number: signal.signal(number, arrive) for number in SIGNALS}
    yield {number: arrive for number in SIGNALS}
    for number, handler in before.items():
        signal.signal(number, handler)


def current():
    return {number: signal.getsignal(number) for number in SIGNALS}


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_notes_itself_and_acts_on_exit(number, handlers):
    with pytest.raises(Arrived):
        with Interruption() as interruption:
            assert interruption.signal is None
            os.kill(os.getpid(), number)
            assert interruption.signal is number  # the program is still here
    assert current() == handlers


def test_without_a_signal_nothing_happens(handlers):
    with Interruption() as interruption:
        assert current() != handlers
    assert interruption.signal is None
    assert current() == handlers


def test_an_exception_stands_for_the_signal(handlers):
    """That of the trainer, which has saved, is what ends the program."""
    with pytest.raises(Stopped, match="all is saved") as raised:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGTERM)
            raise Stopped(interruption.signal, "all is saved")
    assert raised.value.signal is signal.SIGTERM
    assert current() == handlers


def test_a_second_ctrl_c_acts_at_once(handlers):
    with pytest.raises(KeyboardInterrupt):
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGINT)
            assert interruption.signal is signal.SIGINT
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("still here")
    assert current() == handlers


def test_sigterm_may_come_often_and_the_first_is_kept():
    with pytest.raises(Arrived):
        with Interruption() as interruption:
            for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
                os.kill(os.getpid(), number)
                assert interruption.signal is signal.SIGTERM


def test_it_can_be_entered_again(handlers):
    interruption = Interruption()
    with contextlib.suppress(Arrived), interruption:
        os.kill(os.getpid(), signal.SIGTERM)
    with interruption:
        assert interruption.signal is None
    assert current() == handlers


def test_a_signal_that_is_ignored_stays_ignored():
    """As SIGINT is in a program that a script started in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.signal is None
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_in_another_thread_it_does_nothing(handlers):
    seen = []

    def work():
        with Interruption() as interruption:
            seen.extend((interruption.signal, current()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None, handlers]


def test_it_needs_no_tensorflow():
    """The command lines import it before they know whether their flags are good."""
    code = "import sys, srn_tf.training.interruption; sys.exit('tensorflow' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
