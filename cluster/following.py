"""Follow a submitted job to its end: hand on its output as it comes, and survive connections that drop.

The output comes over one connection that stays open (Ray's ``tail_job_logs``), so that its bytes are sent once. Ray
sends a log over such a connection from its beginning only. After a drop, and for a job that was sent before, the last
lines of the log are asked for at intervals instead, and the part that was handed on is found in them (``tails``). The
status is asked for at growing intervals. Not here: sending (``submission``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster import tails

POLL_S = (1.0, 30.0)  # from the first interval between two questions for the status to the longest
GROWTH = 1.5  # of the interval
ANSWER_S = 30.0  # for one answer; Ray's client itself would wait without end
LOG_S = 300.0  # for a complete log
PATIENCE_S = 600.0  # of failed questions in a row: a laptop that changes networks, a tunnel that is opened again
END_S = 15.0  # for the rest of the output after a job has ended
POLLED_S = 10.0  # the longest interval between two looks at the end of the log, without an open connection
SHOWN_LINES = 100  # of a job that was sent before: its last ones
FAULTS = (OSError, RuntimeError, ValueError, RayError)  # of requests, of Ray's client, of a proxy that answers for it
logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)  # a line per closed connection

T = TypeVar("T")


class FollowingStopped(Exception):
    """The job cannot be followed any more; the message says why and what to do."""


class Silent(FollowingStopped):
    """The cluster has not answered for too long."""


class Ended(NamedTuple):
    """How a job ended."""

    good: bool
    message: str
    exit_code: int | None  # of its command; None where that is not known


def follow(
    client: JobSubmissionClient,
    submission_id: str,
    say: Callable[[str], None],
    *,
    only_new: bool = False,
    poll_s: tuple[float, float] = POLL_S,
    patience_s: float = PATIENCE_S,
) -> Ended:
    """Hand on the job's output as it comes, until it ends; how it ended.

    ``only_new`` begins with the last SHOWN_LINES lines of what it has printed.

    Raises:
        Silent: the cluster has not answered for ``patience_s``.
        FollowingStopped: it refuses the token or does not know the job.
    """
    output = _Output(client, submission_id, say, only_new=only_new)
    wait, failing_since = poll_s[0], None
    try:
        while True:
            try:
                info = _answer(lambda: client.get_job_info(submission_id), ANSWER_S)
            except FAULTS as error:
                if failing_since is None:
                    wait, failing_since = poll_s[0], time.monotonic()
                _raise_unless_retryable(client, submission_id, error, time.monotonic() - failing_since, patience_s)
                output.disconnect()  # this connection may be dead too, and nothing would say so
                time.sleep(wait)
            else:
                failing_since = None
                if info.status.is_terminal():
                    good = info.status is JobStatus.SUCCEEDED
                    output.finish(info, good=good)
                    return Ended(good, info.message or "", info.driver_exit_code)
                output.pump(info, wait)
            wait = min(GROWTH * wait, poll_s[1])
    finally:
        output.disconnect()


def _raise_unless_retryable(
    client: Any, submission_id: str, error: Exception, failing_s: float, patience_s: float
) -> None:
    """Raise FollowingStopped unless another try may succeed."""
    address, reason = client.get_address(), f"{type(error).__name__}: {error}".strip().splitlines()[0]
    again = f"give the same command again, or run: ray job logs {submission_id} --follow --address={address}"
    if isinstance(error, AuthenticationError):
        raise FollowingStopped(
            f"the cluster at {address} refuses the token ({reason}). {submission_id} continues on the cluster; set "
            f"RAY_AUTH_TOKEN_PATH to the file of the cluster's token and {again}"
        ) from error
    if isinstance(error, RuntimeError) and "does not exist" in str(error):  # a proxy's own 404 says something else
        raise FollowingStopped(
            f"the cluster at {address} does not know {submission_id} any more: it was restarted, or the job was "
            "deleted. Give the same command again to send it again"
        ) from error
    if failing_s > patience_s:
        raise Silent(
            f"the cluster at {address} has not answered for {failing_s:.0f} s ({reason}). {submission_id} continues on "
            f"the cluster; to follow it again, {again}"
        ) from error


class _Output:
    """What a job prints, handed on once and in order: over one open connection, and after it from the log's end."""

    def __init__(
        self, client: JobSubmissionClient, submission_id: str, say: Callable[[str], None], *, only_new: bool
    ) -> None:
        self._client, self._submission_id, self._say = client, submission_id, say
        self._reader = tails.Reader(say, shown_lines=SHOWN_LINES if only_new else None)
        self._tail: _Tail | None = None
        self._polling = only_new  # the log's end is asked for: a connection would send the log from its beginning
        self._complete = False  # the connection was closed by the server at the end of the output

    def pump(self, info: Any, seconds: float) -> None:
        """Hand on what comes within this time; returns at once where the server says that the output has ended."""
        end = time.monotonic() + seconds
        if not self._polling:
            self._tail = self._tail or _Tail(self._client, self._submission_id)
            if self._drain(self._tail, end) and self._complete:
                return
        elif info.driver_node_id is not None:  # it has begun
            with contextlib.suppress(*FAULTS):  # the questions for the status count failures
                self._read(info)
            end = min(end, time.monotonic() + POLLED_S)
        time.sleep(max(0.0, end - time.monotonic()))

    def finish(self, info: Any, *, good: bool) -> None:
        """Hand on the rest, after the job has ended.

        Where it failed, the log's end is read even after a connection that was closed well: a head that loses the
        job's node closes it in the same way.
        """
        if self._tail is not None:
            self._drain(self._tail, time.monotonic() + END_S)
        if self._complete and good:
            return
        try:
            self._read(info)
        except FAULTS as error:
            self._say(f"\n(the end of the output is missing: {error}; see: ray job logs {self._submission_id})\n")

    def disconnect(self) -> None:
        """Close the connection; from now on the log's end is asked for."""
        if self._tail is not None:
            self._tail.close()
            self._tail, self._polling = None, True

    def _drain(self, tail: _Tail, end: float) -> bool:
        """Hand on what the connection brings; whether it has ended."""
        while (left := end - time.monotonic()) > 0:
            try:
                text = tail.chunks.get(timeout=left)
            except queue.Empty:
                return False
            if text is None:
                self._complete, self._tail, self._polling = tail.closed_well, None, True
                return True
            self._reader.take(text)
        return False

    def _read(self, info: Any) -> None:
        """Hand on the new part of the log; of a complete log where its end alone cannot be had."""
        try:
            if info.driver_node_id is None:
                raise RuntimeError("the job has no node")
            tail = tails.tail_of(self._client, self._submission_id, info)
            self._reader.read(lambda lines: _answer(lambda: tail(lines), LOG_S))
        except (RuntimeError, ValueError):  # not OSError: without a connection there is no complete log either
            self._reader.take_whole(_answer(lambda: self._client.get_job_logs(self._submission_id), LOG_S))


class _Tail:
    """One connection over which a log comes from its beginning, read by a thread; ``chunks`` ends with None."""

    def __init__(self, client: JobSubmissionClient, submission_id: str) -> None:
        self.chunks: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.closed_well = False  # by the server, which closes at the end of the output
        self._closing = threading.Event()
        self._task: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        threading.Thread(target=lambda: asyncio.run(self._read(client, submission_id)), daemon=True).start()

    def close(self) -> None:
        """Stop reading; the thread ends by itself."""
        self._closing.set()
        if self._task is not None:
            loop, task = self._task
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(task.cancel)

    async def _read(self, client: JobSubmissionClient, submission_id: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = (asyncio.get_running_loop(), task)
        try:
            async with contextlib.aclosing(client.tail_job_logs(submission_id)) as chunks:  # type: ignore[type-var]
                async for text in chunks:
                    if self._closing.is_set():
                        return
                    self.chunks.put(text)
            self.closed_well = True
        except (Exception, asyncio.CancelledError):
            pass  # the reader asks for the log's end instead; whether the cluster answers, the status shows
        finally:
            self.chunks.put(None)


def _answer(call: Callable[[], T], limit_s: float) -> T:
    """The result of a call that has no time limit itself; TimeoutError after ``limit_s``."""
    answers: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put((call(), None))
        except Exception as error:
            answers.put((None, error))

    threading.Thread(target=work, daemon=True).start()  # daemon: an answer that never comes must not hold the exit
    try:
        value, error = answers.get(timeout=limit_s)
    except queue.Empty:
        raise TimeoutError(f"no answer within {limit_s:g} s") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]
