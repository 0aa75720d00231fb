"""The Finder: an actor that holds one detector and finds the hands in unit after unit of videos.

A unit goes in, its commit comes out, as in labelling. Pictures come in windows that fit into memory, so a long video
needs no more than a short one; tracks run on from window to window. A video that cannot be decoded, or on which the
detector fails, becomes a quarantine row. The class is plain Python: Ray Data makes it an actor, a test calls it
directly. Not here: what a track is (hojoint.detection.tracking), which units exist (``run``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass

import numpy as np

from cluster.detection.findings import Findings
from cluster.labelling import commits, sharing
from cluster.labelling.attempts import Ledger
from cluster.labelling.commits import Commit
from cluster.labelling.decoding import PICTURES_SHARE, Failure, GuardedDecoder, Request
from cluster.labelling.units import Unit, Video
from cluster.sources import FetchLimits, fetched
from cluster.store import open_store
from hojoint.config import Config
from hojoint.detection.detector import Detector
from hojoint.detection.tracking import Tracker, TrackRules
from hojoint.errors import InputError
from hojoint.labelling.video import Decoded

Make = Callable[[Config], Detector]
Answers = Iterator[tuple[Request, Decoded | Failure]]
Progress = Callable[[dict[str, int], dict[str, int]], None]
"""Called after every window, with its pictures, and after every video, with its outcome: videos, pictures."""


@dataclass(frozen=True)
class DetectionJob:
    """What every Finder of a run receives."""

    config: Config
    root: str  # of the run, beside the output
    identity: dict[str, str]  # of the detector; one that changes during a run is refused
    driver: str  # names this driver in the attempt ledger
    manifest: str = ""  # key of the run's manifest; '' where units are given directly


@dataclass(frozen=True)
class Window:
    """What is remembered of a window of pictures once it was looked at."""

    pictures: int
    picture_bytes: int
    times_s: np.ndarray | None  # (pictures,) s
    video_pictures: int | None  # of the complete video, where its file tells


class Copies:
    """Local paths of videos, each fetched once for all its windows."""

    def __init__(self, limits: FetchLimits) -> None:
        self._limits = limits
        self._listed: dict[str, Video] = {}
        self._paths: dict[str, str] = {}
        self._open: dict[str, ExitStack] = {}

    def begin(self, videos: Sequence[Video]) -> None:
        """Lend these videos, and no earlier one any more."""
        for uri in list(self._open):
            self.done(uri)
        self._listed = {video.uri: video for video in videos}

    def lend(self, uri: str) -> AbstractContextManager[str]:
        """For a decoding thread; the copy stays until ``done``."""
        if uri not in self._paths:
            listed, stack = self._listed[uri], ExitStack()
            path = stack.enter_context(fetched(uri, self._limits, size=listed.size, etag=listed.etag))
            self._open[uri], self._paths[uri] = stack, path
        return nullcontext(self._paths[uri])

    def done(self, uri: str) -> None:
        """Remove the copy, if there is one."""
        self._paths.pop(uri, None)
        if (stack := self._open.pop(uri, None)) is not None:
            stack.close()


class Finder:
    """Finds hands; ``work`` returns the commit of a unit."""

    def __init__(self, job: DetectionJob, make: Make, progress: Progress | None = None) -> None:
        config = job.config
        self._job, self._progress = job, progress or (lambda videos, pictures: None)
        self._store = open_store(job.root, conditional=config.labelling.require_conditional_writes)
        self._detector = make(config)
        if self._detector.identity != job.identity:
            raise InputError(
                "detect.models is not the same on every node, or changed during the run. Restore it, or write to "
                "another output"
            )
        labelling, detect = config.labelling, config.detect
        self._rules = TrackRules(detect.hands, detect.longest_gap, detect.min_track, detect.look_back)
        # The first window fits into a child whatever the size of the pictures turns out to be.
        self._most_bytes = int(labelling.decode_memory_mb * 2**20 * PICTURES_SHARE)
        self._first = max(1, min(labelling.max_frames, self._most_bytes // (3 * labelling.max_frame_px)))
        self._copies = Copies(FetchLimits.of(labelling))
        self._decoder = GuardedDecoder.of(labelling, ahead=labelling.decode_children + 1, fetch=self._copies.lend)

    def work(self, unit: Unit) -> Commit | None:
        """Find the hands in one unit and commit it; None if another attempt has committed it."""
        if self._store.exists(commits.commit_key(unit.unit_id)):
            return None
        self._copies.begin(unit.videos)
        ledger = Ledger(self._store, unit.unit_id, self._job.driver)
        with ledger.closed_on_error():
            return self._attempt(unit, ledger)

    def _attempt(self, unit: Unit, ledger: Ledger) -> Commit | None:
        started = time.time()
        suspicion = ledger.suspicion(self._job.config.labelling.attempts)
        findings = Findings()
        for video_id, deaths in sorted(suspicion.guilty.items()):
            message = f"the process that worked on it died, {deaths} times"
            findings.fail(Failure(video_id, "process", "killed_worker", message, deaths))
            self._progress({"quarantined": 1}, {})
        waiting = [video for video in unit.videos if video.video_id not in suspicion.guilty]
        self._look([video for video in waiting if video.video_id not in suspicion.suspects], ledger, findings)
        for video in waiting:
            if video.video_id in suspicion.suspects:
                self._look([video], ledger, findings)  # alone: if it kills again, it is found
        ledger.note(())  # no video is to blame for a death from here on
        findings.check(len(unit.videos))
        commit = commits.commit(
            self._store,
            unit.unit_id,
            ledger.attempt,
            findings.tables(),
            counts=findings.counts,
            started=started,
            seconds=findings.seconds,
        )
        ledger.close()
        return commit

    def close(self) -> None:
        self._decoder.close()
        self._copies.begin(())

    def _look(self, videos: Sequence[Video], ledger: Ledger, findings: Findings) -> None:
        """Decode the first windows ahead, and note beforehand which videos are in progress."""
        in_progress: set[str] = set()

        def requests() -> Iterator[Request]:
            for video in videos:
                in_progress.add(video.video_id)
                ledger.note(in_progress)
                yield self._request(video, 0, self._first)

        answers = self._decoder.decode(requests())
        for video in videos:
            outcome = self._one(video, answers, findings)
            self._copies.done(video.uri)
            in_progress.discard(video.video_id)
            self._progress({outcome: 1}, {})

    def _one(self, video: Video, answers: Answers, findings: Findings) -> str:
        """Look at one video; its outcome."""
        tracker = Tracker(self._detector, self._rules)
        try:
            windows = self._windows(video, answers, tracker, findings)
        except _Failed as error:
            findings.fail(error.failure)
            return "quarantined"
        tracks, known = tracker.tracks(), [window.times_s for window in windows if window.times_s is not None]
        findings.take(
            video.video_id,
            tracks,
            times_s=np.concatenate(known) if len(known) == len(windows) else None,
            pictures=tracker.pictures,
            short=tracker.dropped,
        )
        return "with_hands" if tracks else "without_hands"

    def _windows(self, video: Video, answers: Answers, tracker: Tracker, findings: Findings) -> list[Window]:
        """Look at all pictures of a video, the first answer's and the following ones; raises _Failed."""
        windows = [self._window(video, answers, tracker, findings)]
        asked, most = self._first, self._job.config.labelling.max_frames
        # Half of what a child may hold, for this process has a copy.
        size = max(self._first, min(most, self._most_bytes // 2 // max(1, windows[0].picture_bytes)))
        while windows[-1].pictures == asked and tracker.pictures != windows[-1].video_pictures:
            asked = size
            answers = self._decoder.decode([self._request(video, tracker.pictures, size)])
            windows.append(self._window(video, answers, tracker, findings))
        return windows

    def _window(self, video: Video, answers: Answers, tracker: Tracker, findings: Findings) -> Window:
        """Look at the next answer. Its pictures live no longer than this call, so no two windows are held at once."""
        began = time.perf_counter()
        _, answer = next(answers)
        findings.seconds["waiting_for_pictures"] += time.perf_counter() - began
        if isinstance(answer, Failure):
            sharing.check_video(video.uri, answer)
            raise _Failed(answer)
        self._track(video, answer, tracker, findings)
        self._progress({}, {"looked": len(answer.numbers)})  # one long video is no silence
        picture_bytes = int(np.prod(answer.rgb.shape[1:]))
        return Window(len(answer.numbers), picture_bytes, answer.times_s, answer.footage.pictures)

    def _track(self, video: Video, window: Decoded, tracker: Tracker, findings: Findings) -> None:
        """Add the pictures of a window; raises _Failed where the detector fails."""
        began = time.perf_counter()
        assert window.numbers.tolist() == list(range(tracker.pictures, tracker.pictures + len(window.numbers)))
        try:
            for picture in window.rgb:
                tracker.add(picture.copy())  # the tracker keeps some: a view would keep the complete window
        except Exception as error:
            message = f"{error}".strip().splitlines() or ["no message"]
            raise _Failed(Failure(video.video_id, "detect", type(error).__name__, message[0][:300])) from None
        finally:
            findings.seconds["detect"] += time.perf_counter() - began

    def _request(self, video: Video, start: int, pictures: int) -> Request:
        return Request(video.video_id, video.uri, np.arange(start, start + pictures), annotated_frames=0)


class _Failed(Exception):
    """A video that goes to quarantine."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure
