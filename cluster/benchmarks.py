"""Speed of the parts and of the complete job: decoding, the teacher, labelling.

A part is measured in this process without Ray, on the same frames that the complete job then labels. The repetitions
take turns, so that a slow minute of the machine slows all alike. Compare ratios of medians, not speeds. Not here:
printing (``jobs.bench``).
"""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cluster import decoder_speeds, session, teacher_speed
from cluster.labelling import checkpoint_facts, clip_pixels, quality_files, teacher
from cluster.labelling import run as labelling
from cluster.labelling.decoding import Failure, GuardedDecoder
from cluster.labelling.job import LabellingJob
from cluster.labelling.units import Video
from cluster.memory import PeakMemory
from cluster.sources import FetchLimits, fetched
from cluster.store import open_store
from hojoint.config import Config, changed
from hojoint.labelling.video import Decoded, VideoError, decode
from hojoint.model import checkpoint
from hojoint.model.network import HOJoint

WARM_UP = 2  # videos before the clock runs
MATRIX_SPEED = "at matrix speed"  # the part that is an estimate, not a measurement of ours


@dataclass(frozen=True)
class Speeds:
    """Frames (or samples) per second of each part, repetition by repetition, and other facts."""

    unit: str
    per_second: Mapping[str, list[float]]
    facts: Mapping[str, Any]

    def median(self, part: str) -> float:
        """Of the repetitions."""
        return statistics.median(self.per_second[part])


@dataclass(frozen=True)
class Measured:
    """A table for a person, the same as facts, and what must not be, in a sentence; '' where all is well."""

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    facts: Mapping[str, Any]
    fault: str = ""


def random_teacher(config: Config, folder: Path) -> str:
    """Write a checkpoint of random weights, which is as slow as a trained one; its path."""
    torch.manual_seed(config.seed)
    path = folder / "teacher.pt"
    model = config.model.model_copy(update={"pretrained": None})
    config = config.model_copy(update={"model": model})
    path.write_bytes(checkpoint.save(HOJoint(model), config, progress={}, parents={}))
    return str(path)


def labelling_speeds(config: Config) -> Speeds:
    """Decoding, the teacher and what it stands beside, and the complete job, in annotated frames per second.

    The complete job has one Teacher too, so that the ratio shows the cost of everything around the Teacher.
    """
    config = changed(config, cluster={"teachers": (1, 1)})
    with tempfile.TemporaryDirectory(prefix="bench") as folder, session.start(config.cluster):
        torch.set_num_threads(config.cluster.threads or max(1, int(config.cluster.teacher_cpus)))
        listed = _videos(config, folder)
        alone = _Alone(config, folder, listed)
        references = alone.references(config.bench.plain_frames)
        parts = {
            "decode alone": alone.decode,
            "teacher alone": alone.teach,
            teacher_speed.NETWORK_ALONE: references.network_alone,
            teacher_speed.PLAIN_WAY: references.plain_way,
            MATRIX_SPEED: references.at_matrix_speed,
            "complete job": lambda: _complete_job(config, folder),
        }
        memory = PeakMemory()
        with memory:
            speeds = take_turns(parts, config.bench.repeats)
        idle = teacher_speed.idle_share(alone.teach, alone.device)
        alone.close()
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    facts = {
        "videos": len(listed),
        "frames": alone.frames,
        "views": config.tta.views,
        "views_asked_per_frame": round(references.views_per_frame, 2),
        "ratio": round(medians["complete job"] / min(medians["decode alone"], medians["teacher alone"]), 3),
        **_teacher_facts(medians, references.operations_per_view, idle),
        "precision": config.labelling.precision,
        "compiled": config.labelling.compile,
        "peak_mb": {name: round(size) for name, size in sorted(memory.peaks_mb.items())},
        "peak_total_mb": round(memory.total_mb),
    }
    return Speeds("frames/s", speeds, facts)


def _teacher_facts(medians: Mapping[str, float], operations: float, idle: float | None) -> dict[str, Any]:
    """How near the teacher comes to its network and to the device, and how far it leaves the plain way behind."""
    teacher_alone = medians["teacher alone"]
    return {
        "teacher_to_network": round(teacher_alone / medians[teacher_speed.NETWORK_ALONE], 3),
        "teacher_to_plain_way": round(teacher_alone / medians[teacher_speed.PLAIN_WAY], 2),
        "matrix_utilisation": round(teacher_alone / medians[MATRIX_SPEED], 3),
        "gflop_per_view": round(operations / 1e9, 3),
        "gpu_idle": None if idle is None else round(idle, 3),
    }


def decode_speeds(config: Config) -> Speeds:
    """Decoding in this process, in a guarded child, and with each decoder that is installed on generated films."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        alone = _Alone(config, folder, _videos(config, folder))
        jobs = {"in process": alone.decode, "guarded child": alone.decode_guarded}
        speeds = take_turns(jobs | decoder_speeds.parts(Path(folder), config.bench.frames), config.bench.repeats)
        alone.close()
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    facts = {"frames": alone.frames, "ratio": round(medians["guarded child"] / medians["in process"], 3)}
    return Speeds("frames/s", speeds, facts | {"to_random_access": decoder_speeds.ratios(medians)})


def durations(config: Config, folder: str) -> tuple[float, float]:
    """Seconds that decoding and predicting one video take: medians of ``bench.repeats``, without Ray."""
    torch.set_num_threads(config.cluster.threads or max(1, int(config.cluster.teacher_cpus)))
    alone = _Alone(config, folder, _videos(config, folder))
    speeds = take_turns({"decode": alone.decode, "predict": alone.teach}, config.bench.repeats)
    alone.close()
    decode, predict = (alone.frames / alone.videos / statistics.median(values) for values in speeds.values())
    return decode, predict


class _Alone:
    """The parts of labelling without Ray, on the frames of all videos."""

    def __init__(self, config: Config, folder: str, listed: list[Video]) -> None:
        facts = checkpoint_facts.read(config)
        quality = quality_files.read(config.filters, side_head=facts.config.model.side_head)
        sha256, driver = facts.weights_sha256, uuid.uuid4().hex
        self._teacher = teacher.Teacher(LabellingJob(config, f"{folder}/alone", sha256, driver, quality=quality))
        self._limits, self._name = FetchLimits.of(config.labelling), config.labelling.decoder
        self._decoder = GuardedDecoder.of(
            config.labelling,
            ahead=config.labelling.decode_children + 1,
            fetch=functools.partial(fetched, limits=self._limits),
        )
        self._pixels = []
        for video in listed:
            decoded = self._decoded(video) if video.clips else None
            if decoded is not None:
                self._pixels.append(clip_pixels.with_pixels(video, decoded, config))
        self._videos = [pixels.video for pixels in self._pixels]
        self.videos = len(self._videos)
        self.frames = sum(len(clip.frames) for pixels in self._pixels for clip in pixels.clips)
        self._teacher.labelled(self._pixels[:WARM_UP])

    @property
    def device(self) -> torch.device:
        return self._teacher.predictor.device

    def references(self, plain_frames: int) -> teacher_speed.References:
        """What the teacher's speed is compared with, for the views that one pass over all frames asks for."""
        before = self._teacher.predictor.views_asked
        self.teach()
        clips = [clip for pixels in self._pixels for clip in pixels.clips]
        frames = [part for pixels in self._pixels for part in pixels.frames]
        predictor = self._teacher.predictor
        return teacher_speed.References(predictor, clips, frames, predictor.views_asked - before, plain_frames)

    def decode(self) -> float:
        started = time.perf_counter()
        for video in self._videos:
            self._decoded(video)
        return self.frames / (time.perf_counter() - started)

    def decode_guarded(self) -> float:
        started = time.perf_counter()
        for _, answer in self._decoder.decode(clip_pixels.request_of(video) for video in self._videos):
            assert not isinstance(answer, Failure), answer
        return self.frames / (time.perf_counter() - started)

    def teach(self) -> float:
        groups = teacher.groups_of(self._pixels, self._teacher.group_size)
        started = time.perf_counter()
        for group in groups:
            self._teacher.labelled(group)
        return self.frames / (time.perf_counter() - started)

    def _decoded(self, video: Video) -> Decoded | None:
        """The video's frames, decoded in this process; None for one of the world's broken videos."""
        request = clip_pixels.request_of(video)
        asked = {"numbers": request.numbers, "times_s": request.times_s}
        try:
            with fetched(video.uri, self._limits) as path:
                return decode(path, annotated_frames=request.annotated_frames, decoder=self._name, **asked)  # type: ignore[arg-type]
        except VideoError:
            return None

    def close(self) -> None:
        self._decoder.close()
        self._teacher.close()


def _videos(config: Config, folder: str) -> list[Video]:
    plan = labelling.make_plan(config, open_store(str(Path(folder) / "plan")))
    return [video for unit in plan.manifest for video in unit.videos]


def _complete_job(config: Config, folder: str) -> float:
    """Frames per second from the first unit's start to the last commit, on a new output under the given one."""
    report = labelling.label(changed(config, output=f"{config.output or folder}/{uuid.uuid4().hex}"))
    return float(report["frames_per_second"])


def take_turns(parts: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """What each part's measure returns, repetition by repetition; one repetition measures all parts."""
    speeds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(repeats):
        for name, measure in parts.items():
            speeds[name].append(measure())
    return speeds
