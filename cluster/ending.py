"""How a run ends from outside: SIGINT and SIGTERM become exceptions, and a run that does not end on them is ended.

Python calls a signal's handler between two of its own instructions, so a main thread that waits inside a library may
never call it. Therefore a thread is told of each signal too, and exits the process when ``GRACE_S`` pass, or at the
second signal. Ray's client replaces the handlers when it connects; ``renew`` puts them back. Not here: exit codes of
errors (jobs.command).
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar

from hojoint.errors import Unavailable

GRACE_S = 20.0  # Kubernetes kills 30 s after its SIGTERM
FAULT, WRONG_INPUT, TRY_AGAIN = 1, 2, 75  # exit codes; 75 is EX_TEMPFAIL of sysexits.h
SIGNALS = {signal.SIGINT: FAULT, signal.SIGTERM: TRY_AGAIN}
"""Signal -> exit code of a process that it ends: a person who interrupts means it, a scheduler starts the run again."""
LOOK_S = 0.2  # between two looks of a main thread that waits for another

T = TypeVar("T")


class Ended(BaseException):
    """The run was ended from outside; no ``except Exception`` on the way may stop it. The exit code is 75."""


class _State:
    """Of this process: one guard at a time."""

    def __init__(self) -> None:
        self.begun = threading.Event()  # a signal has come
        self.guarded = False
        self.reason: str | None = None  # of ``end``


_state = _State()


@contextlib.contextmanager
def guarded(grace_s: float = GRACE_S) -> Iterator[None]:
    """Turn SIGINT into KeyboardInterrupt and SIGTERM into ``Ended`` for the time of the block, and see to their end.

    Inside another guard, and outside the main thread, it does nothing.
    """
    if _state.guarded or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    told = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    over = threading.Event()
    threading.Thread(target=_watch, args=(reader, over, grace_s), daemon=True).start()
    _state.guarded, _state.reason = True, None
    _state.begun.clear()
    renew()
    try:
        yield
    finally:
        over.set()
        _state.guarded = False
        signal.set_wakeup_fd(told)
        os.close(writer)  # the watching thread reads the end, and closes its side
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        _state.begun.clear()


def renew() -> None:
    """Put the handlers of the guard back, if there is one, after a library has set its own."""
    if _state.guarded and threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, _handle)


def end(reason: str) -> None:
    """End a guarded run from any thread: ``Ended`` with this reason is raised in the main thread."""
    _state.reason = reason
    _thread.interrupt_main(signal.SIGTERM)


def begun() -> bool:
    """Whether the run is being ended."""
    return _state.begun.is_set()


def sleep(seconds: float) -> None:
    """Wait, in any thread; Unavailable as soon as the run is being ended, so that no thread holds it up."""
    if _state.begun.wait(seconds):
        raise Unavailable("the run is being ended")


def interruptibly(call: Callable[[], T], look: Callable[[], None] = lambda: None) -> T:
    """The result of ``call``, made in another thread, while this one can be interrupted.

    Args:
        call: may wait inside a library, or set handlers of signals where it runs in the main thread.
        look: called from time to time; what it raises ends the wait.
    """
    answer: list[T] = []
    fault: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        try:
            answer.append(call())
        except BaseException as error:
            fault.append(error)
        finally:
            done.set()

    threading.Thread(target=work, daemon=True).start()
    while not done.wait(LOOK_S):
        look()
    if fault:
        raise fault[0]
    return answer[0]


def _handle(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Ended(_state.reason or "ended by SIGTERM")


def _watch(reader: int, over: threading.Event, grace_s: float) -> None:
    """Wait for signals; after the first, the process has ``grace_s``, and the second ends it at once."""
    code = None
    try:
        while content := os.read(reader, 16):
            for number in content:
                if number not in SIGNALS or over.is_set():
                    continue
                if code is not None:
                    _exit(code, "ended at once by a second signal")
                code = SIGNALS[signal.Signals(number)]
                _state.begun.set()
                threading.Thread(target=_after, args=(over, grace_s, code), daemon=True).start()
    finally:
        os.close(reader)


def _after(over: threading.Event, grace_s: float, code: int) -> None:
    if not over.wait(grace_s):
        _exit(code, f"did not end within {grace_s:g} s of the signal, so it was ended")


def _exit(code: int, what: str) -> None:
    """Ray's own processes end with this one."""
    with contextlib.suppress(OSError, ValueError):
        print(f"{what}; run the same command again to continue", file=sys.stderr, flush=True)
    os._exit(code)
