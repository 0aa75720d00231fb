"""The Finder: an actor that holds one detector and finds the hands in unit after unit of videos.

A unit goes in, its commit comes out, as in labelling. Pictures come in windows that fit into memory, so a long video
needs no more than a short one; tracks run on from window to window. A video that cannot be decoded, or on which the
detector fails, becomes a quarantine row. The class is plain Python: Ray Data makes it an actor, a test calls it
directly. Not here: what a track is (hojoint.detection.tracking), which units exist (``run``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.detection.findings import Findings
from cluster.labelling import commits, sharing
from cluster.labelling.attempts import Ledger
from cluster.labelling.commits import Commit
from cluster.labelling.decoding import Failure, GuardedDecoder, Request
from cluster.sources import Entry
from cluster.store import open_store
from hojoint.config import Config
from hojoint.detection.detector import Detector
from hojoint.detection.tracking import Tracker, TrackRules
from hojoint.errors import InputError
from hojoint.labelling.video import Decoded

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
        # A child holds its pictures twice. The first window fits whatever the size of the pictures turns out to be.
        self._most_bytes = labelling.decode_memory_mb * 2**20 // 2
        self._first = max(1, min(labelling.max_frames, self._most_bytes // (3 * labelling.max_frame_px)))
        self._decoder = GuardedDecoder.of(labelling, ahead=labelling.decode_children + 1)

    def work(self, unit: Unit) -> Commit | None:
        """Find the hands in one unit and commit it; None if another attempt has committed it."""
        if self._store.exists(commits.commit_key(unit.unit_id)):
            return None
        started = time.time()
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

    def _look(self, videos: Sequence[Entry], ledger: Ledger, findings: Findings) -> None:
        """Decode the first windows ahead, and note beforehand which videos are in progress."""
        in_progress: set[str] = set()

        def requests() -> Iterator[Request]:
            for video in videos:
                in_progress.add(video.video_id)
                ledger.note(in_progress)
                yield self._request(video, 0, self._first)

        answers = self._decoder.decode(requests())
        for video in videos:
            began = time.perf_counter()
            _, answer = next(answers)
            findings.seconds["waiting_for_pictures"] += time.perf_counter() - began
            outcome, pictures = self._one(video, answer, findings)
            in_progress.discard(video.video_id)
            self._progress({outcome: 1}, pictures)

    def _one(self, video: Entry, answer: Decoded | Failure, findings: Findings) -> tuple[str, dict[str, int]]:
        """Look at one video, window by window; its outcome, and how many of its pictures were looked at."""
        tracker, times = Tracker(self._detector, self._rules), []
        failure: Failure | None = None
        asked = self._first
        while failure is None:
            if isinstance(answer, Failure):
                sharing.check_video(video.uri, answer)
                failure = answer
                break
            times.append(answer.times_s)
            failure = self._track(video, answer, tracker, findings)
            if len(answer.numbers) < asked:
                break  # the end of the video
            asked = self._window(answer)
            answer = self._next(video, tracker.pictures, asked, findings)
        if failure is not None:
            findings.fail(failure)
            return "quarantined", {"looked": tracker.pictures}
        tracks = tracker.tracks()
        known = [part for part in times if part is not None]
        findings.take(
            video.video_id,
            tracks,
            times_s=np.concatenate(known) if known else None,
            pictures=tracker.pictures,
            short=tracker.dropped,
        )
        return "with_hands" if tracks else "without_hands", {"looked": tracker.pictures}

    def _track(self, video: Entry, decoded: Decoded, tracker: Tracker, findings: Findings) -> Failure | None:
        """Add the pictures of a window; a Failure where the detector fails."""
        began = time.perf_counter()
        assert decoded.numbers.tolist() == list(range(tracker.pictures, tracker.pictures + len(decoded.numbers)))
        try:
            for picture in decoded.rgb:
                tracker.add(picture)
        except Exception as error:
            message = f"{error}".strip().splitlines() or ["no message"]
            return Failure(video.video_id, "detect", type(error).__name__, message[0][:300])
        finally:
            findings.seconds["detect"] += time.perf_counter() - began
        return None

    def _window(self, decoded: Decoded) -> int:
        """Pictures of the next window: a quarter of what a child may decode, for this process holds them too."""
        bytes_each = max(1, int(np.prod(decoded.rgb.shape[1:])))
        fitting = min(self._job.config.labelling.max_frames, self._most_bytes // 4 // bytes_each)
        return max(self._first, fitting)

    def _next(self, video: Entry, start: int, count: int, findings: Findings) -> Decoded | Failure:
        began = time.perf_counter()
        [(_, answer)] = self._decoder.decode([self._request(video, start, count)])
        findings.seconds["waiting_for_pictures"] += time.perf_counter() - began
        return answer

    def _request(self, video: Entry, start: int, count: int) -> Request:
        return Request(video.video_id, video.uri, np.arange(start, start + count), annotated_frames=0)
