"""The Finder: an actor that holds one detector and finds the hands in unit after unit of videos.

A unit goes in, its commit comes out, as in labelling. Pictures come in windows that fit into memory, so a long video
needs no more than a short one; tracks run on from window to window. A video that cannot be decoded, or on which the
detector fails, becomes a quarantine row. The class is plain Python: Ray Data makes it an actor, a test calls it
directly. Not here: what a track is (hojoint.detection.tracking), which units exist (``run``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from cluster.detection.findings import Findings
from cluster.labelling import commits, sharing
from cluster.labelling.attempts import Ledger
from cluster.labelling.commits import Commit
from cluster.labelling.decoding import PICTURES_SHARE, Failure, GuardedDecoder, Request
from cluster.sources import Entry, FetchLimits, fetched
from cluster.store import open_store
from hojoint.config import Config
from hojoint.detection.detector import Detector
from hojoint.detection.tracking import Tracker, TrackRules
from hojoint.errors import InputError
from hojoint.labelling.video import Decoded, VideoError

Make = Callable[[Config], Detector]
Progress = Callable[[dict[str, int], dict[str, int]], None]
"""Called after every video: videos by outcome, pictures by what was seen in them."""


@dataclass(frozen=True)
class DetectionJob:
    """What every Finder of a run receives."""

    config: Config
    root: str  # of the run, beside the output
    identity: dict[str, str]  # of the detector; one that changes during a run is refused
    driver: str  # names this driver in the attempt ledger


@dataclass(frozen=True)
class Unit:
    """What one attempt works on and one commit names."""

    unit_id: str
    videos: tuple[Entry, ...]


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
        self._listed: dict[str, Entry] = {}  # of the unit in progress, by URI
        self._limits = FetchLimits.of(labelling)
        self._decoder = GuardedDecoder.of(labelling, ahead=labelling.decode_children + 1, fetch=self._fetched)

    def work(self, unit: Unit) -> Commit | None:
        """Find the hands in one unit and commit it; None if another attempt has committed it."""
        if self._store.exists(commits.commit_key(unit.unit_id)):
            return None
        started = time.time()
        self._listed = {video.uri: video for video in unit.videos}
        ledger = Ledger(self._store, unit.unit_id, self._job.driver)
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

    def _fetched(self, uri: str) -> AbstractContextManager[str]:
        """A local path of a video of the unit in progress, for a decoding thread."""
        listed = self._listed.get(uri)
        if listed is None:  # a path that is fetched already
            return nullcontext(uri)
        return fetched(uri, self._limits, size=listed.size, etag=listed.etag)

    def _look(self, videos: Sequence[Entry], ledger: Ledger, findings: Findings) -> None:
        """Decode the first windows ahead, and note beforehand which videos are in progress."""
        in_progress: set[str] = set()

        def requests() -> Iterator[Request]:
            for video in videos:
                in_progress.add(video.video_id)
                ledger.note(in_progress)
                yield self._request(video)

        answers = self._decoder.decode(requests())
        for video in videos:
            began = time.perf_counter()
            _, answer = next(answers)
            findings.seconds["waiting_for_pictures"] += time.perf_counter() - began
            outcome, pictures = self._one(video, answer, findings)
            in_progress.discard(video.video_id)
            self._progress({outcome: 1}, pictures)

    def _one(self, video: Entry, answer: Decoded | Failure, findings: Findings) -> tuple[str, dict[str, int]]:
        """Look at one video; its outcome, and how many of its pictures were looked at."""
        tracker = Tracker(self._detector, self._rules)
        times: list[np.ndarray | None] = []
        try:
            for window in self._windows(video, answer, findings):
                times.append(window.times_s)
                self._track(video, window, tracker, findings)
        except _Failed as error:
            findings.fail(error.failure)
            return "quarantined", {"looked": tracker.pictures}
        tracks, known = tracker.tracks(), [part for part in times if part is not None]
        findings.take(
            video.video_id,
            tracks,
            times_s=np.concatenate(known) if len(known) == len(times) else None,
            pictures=tracker.pictures,
            short=tracker.dropped,
        )
        return "with_hands" if tracks else "without_hands", {"looked": tracker.pictures}

    def _windows(self, video: Entry, answer: Decoded | Failure, findings: Findings) -> Iterator[Decoded]:
        """All pictures of a video, the first answer's and the following ones; raises _Failed."""
        first = self._checked(video, answer)
        yield first
        done = len(first.numbers)
        if done < self._first or done == first.footage.pictures:
            return
        try:
            with self._fetched(video.uri) as path:  # once for all windows
                size = self._window(first)
                while True:
                    began = time.perf_counter()
                    request = Request(video.video_id, path, np.arange(done, done + size), annotated_frames=0)
                    [(_, answer)] = self._decoder.decode([request])
                    findings.seconds["waiting_for_pictures"] += time.perf_counter() - began
                    window = self._checked(video, answer)
                    yield window
                    done += len(window.numbers)
                    if len(window.numbers) < size or done == window.footage.pictures:
                        return
        except VideoError as error:
            raise _Failed(Failure(video.video_id, "decode", error.kind, str(error))) from None

    def _checked(self, video: Entry, answer: Decoded | Failure) -> Decoded:
        if isinstance(answer, Failure):
            sharing.check_video(video.uri, answer)
            raise _Failed(answer)
        return answer

    def _track(self, video: Entry, window: Decoded, tracker: Tracker, findings: Findings) -> None:
        """Add the pictures of a window; raises _Failed where the detector fails."""
        began = time.perf_counter()
        assert window.numbers.tolist() == list(range(tracker.pictures, tracker.pictures + len(window.numbers)))
        try:
            for picture in window.rgb:
                tracker.add(picture)
        except Exception as error:
            message = f"{error}".strip().splitlines() or ["no message"]
            raise _Failed(Failure(video.video_id, "detect", type(error).__name__, message[0][:300])) from None
        finally:
            findings.seconds["detect"] += time.perf_counter() - began

    def _window(self, decoded: Decoded) -> int:
        """Pictures of the next window: half of what a child may hold, for this process has a copy."""
        bytes_each = max(1, int(np.prod(decoded.rgb.shape[1:])))
        return max(self._first, min(self._job.config.labelling.max_frames, self._most_bytes // 2 // bytes_each))

    def _request(self, video: Entry) -> Request:
        return Request(video.video_id, video.uri, np.arange(self._first), annotated_frames=0)


class _Failed(Exception):
    """A video that goes to quarantine."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure
