"""cluster.ending: SIGTERM and SIGINT end a run, whatever its main thread waits for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cluster import ending

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import os, signal, sys, time
from cluster import ending
def deaf():  # as inside a library: it waits for a lock that nobody frees, and no handler of Python runs
    import ctypes
    library, lock = ctypes.CDLL(None), ctypes.create_string_buffer(256)
    print("ready", flush=True)
    while True:
        library.pthread_mutex_lock(lock)
def plain():
    print("ready", flush=True)
    time.sleep(60)
try:
    with ending.guarded(grace_s=float(sys.argv[2])):
        {"deaf": deaf, "plain": plain}[sys.argv[1]]()
except ending.Ended as ended:
    print(ended)
    sys.exit(75)
except KeyboardInterrupt:
    print("interrupted")
    sys.exit(1)
"""


def ended(kind: str, grace_s: float, *signals: int) -> tuple[int, str, float]:
    """Exit code, output and seconds of a program that gets these signals."""
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, kind, str(grace_s)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    time.sleep(0.5)
    began = time.monotonic()
    for number in signals:
        program.send_signal(number)
        time.sleep(0.2)
    printed, _ = program.communicate(timeout=50)
    return program.returncode, printed, time.monotonic() - began


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGTERM, 75, "ended by SIGTERM"), (signal.SIGINT, 1, "interrupted")]
)
def test_a_signal_becomes_an_exception(number, code, said):
    found, printed, _ = ended("plain", 60.0, number)
    assert (found, printed.strip()) == (code, said)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 1)])
def test_a_run_that_hangs_in_a_library_is_ended(number, code):
    found, printed, _ = ended("deaf", 0.5, number)
    assert found == code
    assert "did not end within 0.5 s of the signal" in printed


def test_a_second_signal_ends_a_run_at_once():
    found, printed, seconds = ended("deaf", 50.0, signal.SIGINT, signal.SIGINT)
    assert found == 1
    assert "ended at once by a second signal" in printed
    assert seconds < 40


def test_handlers_are_put_back_and_guards_nest():
    before = [signal.getsignal(number) for number in ending.SIGNALS]
    with ending.guarded(), ending.guarded():
        signal.signal(signal.SIGTERM, lambda *_: None)  # as Ray does when it connects
        ending.renew()
        with pytest.raises(ending.Ended, match="ended by SIGTERM"):
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is ending._handle
    assert [signal.getsignal(number) for number in ending.SIGNALS] == before
    assert not ending.begun()


def test_another_thread_may_end_a_run_with_its_reason():
    later = threading.Timer(0.2, ending.end, ["cluster unreachable for 40 s"])
    with ending.guarded(), pytest.raises(ending.Ended, match="cluster unreachable for 40 s"):
        later.start() or ending.interruptibly(lambda: time.sleep(20))


def test_a_call_in_another_thread_answers_or_raises():
    assert ending.interruptibly(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        ending.interruptibly(lambda: 1 / 0)

    def look():
        raise TimeoutError

    with pytest.raises(TimeoutError):  # what ``look`` raises ends the wait
        ending.interruptibly(lambda: time.sleep(5), look)
