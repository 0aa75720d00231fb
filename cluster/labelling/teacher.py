"""The Teacher: an actor that holds one network on one device and labels unit after unit (Sec. 5.1).

A unit goes in, its commit comes out; nothing large crosses the network. Children decode the next videos while the
network works on these. A video that cannot be decoded or predicted becomes a quarantine row and costs no other video.
The class is plain Python: Ray Data makes it an actor, a test or a benchmark calls it directly. Not here: what a label
is (hojoint.labelling.labels), which units exist (``units``), which picture a box lies on (``clip_pixels``).
"""

from __future__ import annotations

import contextlib
import copy
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch

from cluster.labelling import commits, manifest, quality_files, sharing, units
from cluster.labelling.attempts import Ledger
from cluster.labelling.clip_pixels import fits, request_of, with_pixels
from cluster.labelling.commits import Commit
from cluster.labelling.counts import Counts
from cluster.labelling.decoding import Failure, GuardedDecoder, Request
from cluster.labelling.job import LabellingJob, NullProgress, Progress
from cluster.labelling.results import Pixels, UnitResult
from cluster.labelling.units import Unit, Video
from cluster.sources import FetchLimits, fetched, mirror
from cluster.store import open_store, read_uri
from hojoint.errors import InputError
from hojoint.hand.factory import hand_layer
from hojoint.labelling import labels, tta
from hojoint.labelling.video import Decoded
from hojoint.model import opening
from hojoint.records import Clip, Frames, PseudoLabels

FRAMES_PER_VIDEO = 40  # about, in Something-Something; only sizes groups
MAX_GROUP = 16  # videos decoded and held at once, about 14 MB each
BROKEN_DEVICE = ("CUDA error", "device-side assert")

T = TypeVar("T")


class Teacher:
    """Callable on rows ``{"unit": id}``; returns ``{"commit": JSON bytes}``, empty if another was first."""

    def __init__(self, job: LabellingJob, progress: Progress | None = None) -> None:
        self._job = job
        self._held_since = self._asked_at = time.monotonic()
        self._store = open_store(job.output, conditional=job.config.labelling.require_conditional_writes)
        self._progress = progress or NullProgress()
        cluster = job.config.cluster
        # Never more threads than this Teacher's CPUs: two Teachers on two cores, each with two threads, are slower.
        cpus = max(1, math.ceil(cluster.teacher_cpus))
        torch.set_num_threads(min(cluster.threads or cpus, cpus))
        data = read_uri(str(job.config.teacher.checkpoint))
        network, merged, sha256 = opening.open_teacher(
            data, job.config, near=mirror.with_hand, check_hand=not job.hand_sha256
        )
        self.config = mirror.localised(merged, "mano")
        if sha256 != job.teacher_sha256:
            raise InputError(
                f"teacher.checkpoint changed during the run: expected {job.teacher_sha256[:12]}, found {sha256[:12]}. "
                "Restore it, or label into another output"
            )
        sharing.check_hand(merged, job.hand_sha256)
        labelling = job.config.labelling
        self.predictor = tta.HandPredictor(
            network.to(memory_format=torch.channels_last),  # a quarter less time on a CPU
            hand_layer(self.config.mano),
            self.config.crop,
            self.config.tta,
            "cuda" if cluster.teacher_gpus > 0 else "cpu",
            labelling.batch_views,
            precision=labelling.precision,
            compiled=labelling.compile,
        )
        if labelling.compile or cluster.teacher_gpus > 0:
            self.predictor.warm_up()
        group = -(-2 * labelling.batch_views // (job.config.tta.views * FRAMES_PER_VIDEO))
        self.group_size = min(max(group, 1), MAX_GROUP)
        self._listed: dict[str, Video] = {}  # of the unit in progress, by URI
        self._limits = FetchLimits.of(labelling)
        self._decoder = GuardedDecoder.of(
            labelling, ahead=self.group_size + labelling.decode_children, fetch=self._fetched
        )
        self._quality = quality_files.model_of(job.quality)
        self._manifest = manifest.Reader(self._store, job.manifest) if job.manifest else None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        assert self._manifest is not None
        commit = self.work(self._manifest.unit(row["unit"]))
        return {"commit": b"" if commit is None else commit.to_bytes()}

    def work(self, unit: Unit) -> Commit | None:
        """Label one unit and commit it; None if another attempt has committed it."""
        if self._store.exists(commits.commit_key(unit.unit_id)):
            return None
        self._listed = {video.uri: video for video in unit.videos}
        ledger = Ledger(self._store, unit.unit_id, self._job.driver)
        with ledger.closed_on_error():
            return self._attempt(unit, ledger)

    def _attempt(self, unit: Unit, ledger: Ledger) -> Commit | None:
        suspicion = ledger.suspicion(self._job.config.labelling.attempts)
        result = UnitResult(self.config, started=time.time())
        left_out = self._tried_later(unit)
        for failure in left_out.values():
            result.fail(failure)
        for video_id, deaths in sorted(suspicion.guilty.items()):
            if video_id in left_out:
                continue
            message = f"the process that worked on it died, {deaths} times"
            result.fail(Failure(video_id, "process", "killed_worker", message, deaths))
        waiting = [
            video for video in unit.videos if video.video_id not in suspicion.guilty and video.video_id not in left_out
        ]
        trusted = [video for video in waiting if video.video_id not in suspicion.suspects]
        for video in waiting:
            if not video.uri:
                result.fail(Failure(video.video_id, "decode", "missing", "boxes without a video", attempts=0))
            elif not video.clips:
                result.nothing_to_label(video)
        self._progress(*result.counts.since(Counts()))
        self._label(groups_of(trusted, self.group_size), ledger, result)
        for video in waiting:
            if video.video_id in suspicion.suspects:
                self._label([[video]], ledger, result)  # alone: if it kills again, it is found
        ledger.note(())  # no video is to blame for a death from here on
        result.check(unit)
        taken_over = {video.video_id: video.retry_of for video in unit.videos if video.retry_of}
        result.counts.take_over(taken_over.values())
        commit = commits.commit(
            self._store,
            unit.unit_id,
            ledger.attempt,
            result.tables(),
            counts=result.counts,
            started=result.started,
            seconds=result.seconds | self._decoder.take_seconds(),
            held=self._held,
            taken_over=taken_over,
        )
        ledger.close()
        if commit is not None:
            self._held_since = self._asked_at
            self._progress.spent(commit.seconds)
        return commit

    def _tried_later(self, unit: Unit) -> dict[str, Failure]:
        """Videos that a later unit tries again, as the quarantine of before has them: here too, they had labels twice.

        So it is where a commit was removed and is made again, or a file was replaced before its retry was done.
        """
        out = {}
        for video in unit.videos:
            again = units.next_attempt(self._job.retries, video.video_id, unit.unit_id)
            if again is not None:
                message = f"unit {again[0]} tries it again"
                out[video.video_id] = Failure(video.video_id, "retry", again[1], message, attempts=0)
        return out

    def _held(self) -> dict[str, float]:
        """Resource -> seconds since the last commit or, before the first, since this Teacher began.

        So the start, waits between units and attempts that lost are paid for by the next commit.
        """
        self._asked_at = time.monotonic()
        seconds = self._asked_at - self._held_since
        cluster = self._job.config.cluster
        resources = {"gpu": cluster.teacher_gpus, "cpu": cluster.teacher_cpus, "decoder": self._decoder.children}
        return {"teacher": seconds} | {name: amount * seconds for name, amount in resources.items()}

    def close(self) -> None:
        self._decoder.close()

    def _fetched(self, uri: str) -> contextlib.AbstractContextManager[str]:
        """A local path of a video of the unit in progress, for a decoding thread."""
        listed = self._listed[uri]
        return fetched(uri, self._limits, size=listed.size, etag=listed.etag)

    def _label(self, groups: Iterable[Sequence[Video]], ledger: Ledger, result: UnitResult) -> None:
        """Decode ahead, predict group by group, and note beforehand which videos are in progress."""
        todo = [with_clips for group in groups if (with_clips := [video for video in group if video.clips])]
        in_progress: set[str] = set()

        def requests() -> Iterator[Request]:
            for group in todo:
                in_progress.update(video.video_id for video in group)
                ledger.note(in_progress)
                yield from (request_of(video) for video in group)

        answers = self._decoder.decode(requests())
        for group in todo:
            began, before = time.perf_counter(), copy.deepcopy(result.counts)
            decoded: list[tuple[Video, Decoded]] = []
            for video in group:
                request, answer = next(answers)
                assert request.video_id == video.video_id, (request.video_id, video.video_id)
                if isinstance(answer, Failure):
                    sharing.check_video(video.uri, answer)
                    result.fail(answer)
                else:
                    result.counts.decoded += len(answer.numbers)
                    decoded.append((video, answer))
            result.seconds["wait"] += time.perf_counter() - began
            self._predict([with_pixels(*pair, self._job.config) for pair in decoded if fits(*pair, result)], result)
            in_progress.difference_update(video.video_id for video in group)
            self._progress(*result.counts.since(before))

    def _predict(self, videos: Sequence[Pixels], result: UnitResult) -> None:
        """Label the videos together; if that fails one by one, so that a fault costs one video."""
        if not videos:
            return
        began, tables = time.perf_counter(), result.seconds["tables"]
        failure = None
        try:
            result.take(videos, self.labelled(videos))
        except Exception as error:
            if any(sign in str(error) for sign in BROKEN_DEVICE):
                os._exit(1)  # no later call on this device can succeed; the ledger names the videos
            message = f"{error}".strip().splitlines() or ["no message"]
            failure = Failure(videos[0].video.video_id, "predict", type(error).__name__, message[0][:300])
        finally:
            result.seconds["predict"] += time.perf_counter() - began - (result.seconds["tables"] - tables)
        # Here the exception is gone, and with it the tensors of the failed try that its traceback held.
        if failure is not None and len(videos) > 1:
            for video in videos:
                self._predict([video], result)
        elif failure is not None:
            result.fail(failure)

    def labelled(self, videos: Sequence[Pixels]) -> list[PseudoLabels]:
        """Labels of the clips of all videos, in order; with half the batch, now and later, where memory runs out."""
        clips = [clip for video in videos for clip in video.clips]
        frames = [pixels for video in videos for pixels in video.frames]
        if not clips:
            return []
        with contextlib.suppress(torch.cuda.OutOfMemoryError):
            return self._call(clips, frames)
        # Not in an except block: there the exception's traceback holds the tensors of the failed try.
        torch.cuda.empty_cache()
        # For good: the next group would run out of memory as well.
        self.predictor.batch_views = max(1, self.predictor.batch_views // 2)
        return self._call(clips, frames)

    def _call(self, clips: Sequence[Clip], frames: Sequence[Frames]) -> list[PseudoLabels]:
        clip_labels = labels.label_clips(
            self.predictor,
            clips,
            frames,
            filter_config=self.config.filters,
            labelling=self.config.labelling,
            teacher=self._job.teacher_sha256,
            quality=self._quality,
            refine_config=self.config.refine,
        )
        assert [label.clip.clip_id for label in clip_labels] == [clip.clip_id for clip in clips]
        return clip_labels


def groups_of(videos: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Groups that grow to ``size``: the first is small, so that the network starts after one decoded video."""
    at, length = 0, 1
    while at < len(videos):
        yield videos[at : at + length]
        at, length = at + length, min(2 * length, size)
