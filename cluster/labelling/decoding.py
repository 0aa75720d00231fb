"""Guarded decoding: videos are decoded ahead of inference in child processes that may hang or die.

``GuardedDecoder.decode`` takes requests and returns answers in the same order, a few ahead of the consumer. A video
that lies elsewhere is fetched first, by a hook. A child that misses its deadline is killed and replaced; one that
crashes is replaced. Either costs one video, which is tried once more and then becomes a ``Failure``. Frames come
through a pipe and never leave the machine. Not here: what a child checks (hojoint.labelling.video), how videos are
fetched, who records a failure.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hojoint.config import LabellingConfig
from hojoint.labelling import readers, video
from hojoint.labelling.video import Decoded, Limits

ROOT = Path(__file__).resolve().parents[2]  # holds the package that a child imports
ATTEMPTS = 2
RETRIED = ("crashed", "timeout", "unreachable")  # may be the machine's fault (its memory, its load, its disks)
STARTS = 2  # of a child: one that is killed while it starts, as where memory is short, costs no unit
START_S = 60.0  # for a child to import its libraries on a busy machine; never a video's fault
PICTURES_SHARE = 0.75  # of a child's memory; the rest is the decoder's own
PIPE_BYTES = 2**20  # Linux's limit for a user; the default pipe costs a switch of process per 64 KB


Fetch = Callable[[str], AbstractContextManager[str]]
"""From a video's path or address to a local path, which exists as long as the context is open; raises VideoError."""


@dataclass(frozen=True, eq=False)
class Request:
    """One video and the frames to decode: by number, by time, or all where neither is given."""

    video_id: str
    path: str  # or another name, such as an address, that the decoder's ``fetch`` understands
    numbers: np.ndarray | None  # (T,) frame numbers
    annotated_frames: int
    times_s: np.ndarray | None = None  # (K,) s


@dataclass(frozen=True)
class Failure:
    """Why a video has no labels; becomes a row of ``quarantine/``."""

    video_id: str
    stage: str  # 'decode', 'predict', 'detect' or 'process'
    kind: str  # class of the fault: one of hojoint.labelling.faults.CLASSES, or the name of an exception
    message: str
    attempts: int = 1


class GuardedDecoder:
    """Children that decode, one per slot, and the threads that wait for them."""

    def __init__(
        self,
        *,
        children: int = 1,
        ahead: int = 2,
        deadline_s: float = 20.0,
        memory_mb: int = 2048,
        limits: Limits | None = None,
        decoder: str = readers.DEFAULT,
        fetch: Fetch = nullcontext,
    ) -> None:
        """``fetch`` takes a request's path and holds a local one open; it runs beside the decoding, in a thread.

        Raises:
            InputError: the decoder's library does not load.
        """
        readers.load(decoder)
        self._fetch = fetch
        self._decoder = decoder
        self._ahead = max(ahead, children)
        self._deadline_s = deadline_s
        self._memory_mb = memory_mb
        self._limits = limits or Limits()
        self.children = children
        self._seconds: dict[str, float] = defaultdict(float)  # of all threads together, since they were last taken
        self._seconds_lock = threading.Lock()
        self._free: queue.SimpleQueue[_Child] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(self._ahead, thread_name_prefix="decode")
        self._children = [_Child(memory_mb, decoder) for _ in range(children)]
        for child in self._children:
            self._free.put(child)

    @classmethod
    def of(cls, config: LabellingConfig, *, ahead: int, fetch: Fetch = nullcontext) -> GuardedDecoder:
        """With the settings of labelling."""
        pictures = int(config.decode_memory_mb * 2**20 * PICTURES_SHARE)
        limits = Limits(config.max_frame_px, config.max_frames, pictures)
        return cls(
            children=config.decode_children,
            ahead=ahead,
            deadline_s=config.decode_deadline_s,
            memory_mb=config.decode_memory_mb,
            limits=limits,
            decoder=config.decoder,
            fetch=fetch,
        )

    def decode(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Decoded | Failure]]:
        """Answers in the order of the requests; at most ``ahead`` videos are decoded but not yet consumed."""
        waiting: deque[tuple[Request, Future[Decoded | Failure]]] = deque()
        try:
            for request in requests:
                waiting.append((request, self._threads.submit(self._one, request)))
                if len(waiting) >= self._ahead:
                    yield _next(waiting)
            while waiting:
                yield _next(waiting)
        finally:  # a consumer that stops early leaves nothing behind
            for _, future in waiting:
                future.cancel()

    def take_seconds(self) -> dict[str, float]:
        """Seconds of fetching and of decoding since the last call; several videos at once count several times."""
        with self._seconds_lock:
            seconds, self._seconds = self._seconds, defaultdict(float)
        return dict(seconds)

    @contextlib.contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            with self._seconds_lock:
                self._seconds[phase] += time.perf_counter() - began

    def close(self) -> None:
        """End the children. They also end with their stdin, so a process that dies without this leaves none."""
        for child in self._children:
            child.kill(for_good=True)
        self._threads.shutdown(cancel_futures=True)

    def _one(self, request: Request) -> Decoded | Failure:
        try:
            with contextlib.ExitStack() as stack:
                with self._timed("fetch"):
                    path = stack.enter_context(self._fetch(request.path))
                return self._decoded(request, path)
        except video.VideoError as error:
            return Failure(request.video_id, "decode", error.kind, str(error))

    def _decoded(self, request: Request, path: str) -> Decoded | Failure:
        child = self._free.get()
        message = video.request_of(
            path,
            None if request.numbers is None else request.numbers.tolist(),
            times_s=None if request.times_s is None else request.times_s.tolist(),
            decoder=self._decoder,
            limits=self._limits,
            annotated_frames=request.annotated_frames,
            deadline_s=self._deadline_s,
        )
        try:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    with self._timed("decode"):
                        return child.ask(message, self._deadline_s)
                except video.VideoError as error:
                    if error.kind not in RETRIED or attempt == ATTEMPTS:
                        return Failure(request.video_id, "decode", error.kind, str(error), attempt)
        finally:
            self._free.put(child)
        raise AssertionError("the last attempt returns")


def _next(waiting: deque[tuple[Request, Future[Decoded | Failure]]]) -> tuple[Request, Decoded | Failure]:
    """The oldest answer; nothing else keeps its pictures."""
    request, future = waiting.popleft()
    return request, future.result()


class _Child:
    """A decoding process, started when it is first asked and again after each death."""

    def __init__(self, memory_mb: int, decoder: str) -> None:
        self._memory_mb = memory_mb
        self._decoder = decoder
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def ask(self, request: bytes, deadline_s: float) -> Decoded:
        process = self._started()
        assert process.stdin is not None
        until = time.monotonic() + deadline_s
        try:
            process.stdin.write(request)
            process.stdin.flush()
            prefix = self._read(process, video.HEADER.size, until)
            header = json.loads(bytes(self._read(process, video.HEADER.unpack(prefix)[0], until)))
            if "kind" in header:
                raise video.VideoError(header["kind"], header["message"])
            pixels = self._read(process, int(np.prod(header["shape"])), until)
        except TimeoutError:
            self.kill()
            raise video.VideoError("timeout", f"no answer within {deadline_s:g} s") from None
        except (EOFError, BrokenPipeError):
            raise video.VideoError("crashed", self._cause_of_death(process)) from None
        return video.answer_of(header, pixels)

    def kill(self, *, for_good: bool = False) -> None:
        with self._lock:
            process, self._process = self._process, None
            self._closed = self._closed or for_good
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with contextlib.suppress(BrokenPipeError):  # bytes that the child did not read
                    pipe.close()

    def _started(self) -> subprocess.Popen[bytes]:
        for _ in range(STARTS):
            try:
                return self._running()
            except (EOFError, TimeoutError):
                self.kill()
        command = f"{sys.executable} -m hojoint.labelling.video"
        raise RuntimeError(f"the decoder process does not start: {command}")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self.kill()  # it died between two videos, so neither caused it
        with self._lock:
            if self._closed:
                raise video.VideoError("crashed", "the decoder was closed")
            if self._process is None:
                self._process = _spawn(self._memory_mb, self._decoder)
                self._read(self._process, len(video.READY), time.monotonic() + START_S)
            return self._process

    def _cause_of_death(self, process: subprocess.Popen[bytes]) -> str:
        code = process.wait()
        self.kill()
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the decoder process died with {name}"

    @staticmethod
    def _read(process: subprocess.Popen[bytes], size: int, until: float) -> bytearray:
        """Exactly ``size`` bytes of the child's answer, by ``until``."""
        assert process.stdout is not None
        content = bytearray(size)
        view, at = memoryview(content), 0
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        while at < size:
            left = until - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise TimeoutError
            count = os.readv(process.stdout.fileno(), [view[at:]])
            if count == 0:
                raise EOFError
            at += count
        return content


def _spawn(memory_mb: int, decoder: str) -> subprocess.Popen[bytes]:
    """Start a child. It gets no credentials: a video file is untrusted input."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH", "LANG") if name in os.environ}
    path = os.pathsep.join([str(ROOT), *(entry for entry in sys.path if entry)])
    process = subprocess.Popen(
        [sys.executable, "-m", "hojoint.labelling.video", "--memory-mb", str(memory_mb), "--decoder", decoder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=2**16,
        env=kept | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        start_new_session=True,  # Ctrl-C is for the driver
    )
    assert process.stdout is not None
    with contextlib.suppress(OSError):  # a host with a smaller limit: slower, the same bytes
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return process
