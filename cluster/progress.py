"""Progress from actors to whoever watches: a board that Teachers write on and a driver reads (and Ray's metrics).

A unit may take minutes, so its commit alone would make a jumpy bar. What stands on the board is for the eye only:
nothing counts until it is committed. Not here: the counts of a report (cluster.labelling.commits).
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Any

import ray
from ray.util.metrics import Counter
from tqdm import tqdm

LINE_EVERY_S = 30.0  # where stderr is a file, a line now and then instead of a bar
POLL_S = 0.5


@ray.remote(num_cpus=0)
class Board:
    """Sums of what Teachers report."""

    def __init__(self) -> None:
        self._videos = self._frames = 0

    def add(self, videos: int, frames: int) -> None:
        self._videos += videos
        self._frames += frames

    def read(self) -> tuple[int, int]:
        return self._videos, self._frames


class Reporter:
    """A Teacher's hand: writes on the board and counts for Prometheus (``ray_hojoint_labelling_*``)."""

    def __init__(self, board: Any) -> None:
        self._board = board
        self._videos = Counter("hojoint_labelling_videos", "Videos a Teacher has finished", ("outcome",))
        self._frames = Counter("hojoint_labelling_frames", "Frames a Teacher has judged", ("verdict",))

    def __call__(self, videos: dict[str, int], frames: dict[str, int]) -> None:
        for counter, name, counts in ((self._videos, "outcome", videos), (self._frames, "verdict", frames)):
            for word, count in counts.items():
                if count:
                    counter.inc(count, {name: word})
        self._board.add.remote(sum(videos.values()), sum(frames.values()))


class Progress:
    """A bar over videos in the driver, moved by the board from a thread of its own."""

    def __init__(self, board: Any, *, total: int, done: int) -> None:
        self._board, self._done = board, done
        self._began = self._last_line = time.monotonic()
        self._bar = tqdm(
            total=total, initial=done, unit="video", desc="labelling", smoothing=0.05,
            disable=not sys.stderr.isatty(), dynamic_ncols=True,
        )  # fmt: skip
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if error is None:
            self._look()  # what came after the last time
            self._bar.n = self._bar.total
        self._bar.close()

    def _follow(self) -> None:
        while not self._stop.wait(POLL_S):
            self._look()

    def _look(self) -> None:
        try:
            videos, frames = ray.get(self._board.read.remote(), timeout=10)
        except ray.exceptions.RayError:
            return  # the board is for the eye only
        now = time.monotonic()
        if frames == 0:
            self._began = now  # actors that start are no part of a rate
        rate = f"{frames / max(now - self._began, POLL_S):.1f} frames/s"
        seen = min(self._done + videos, self._bar.total)  # a unit begun again reports its videos again
        if not self._bar.disable:
            self._bar.n = seen
            self._bar.set_postfix_str(rate)
        elif now - self._last_line > LINE_EVERY_S:
            self._last_line = now
            print(f"labelling: {seen} of {self._bar.total} videos, {rate}", file=sys.stderr, flush=True)
