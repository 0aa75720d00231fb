"""Videos to units by a fixed rule, and the fingerprint that ties an output to what made it.

A unit is what is scheduled, retried, committed and resumed. The rule is: videos sorted by id, cut into runs of
``labelling.unit_videos``; so the same input always gives the same units, on any cluster. The fingerprint names
everything that changes a result; an output with another fingerprint is refused, and the message names what differs. Not
here: who works on a unit.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hojoint.config import Config, to_tree
from hojoint.datasets.boxes import VideoBoxes
from hojoint.errors import InputError
from hojoint.hand.factory import hand_model
from hojoint.labelling.tables import SCHEMA_VERSION
from hojoint.records import Clip

GROUPS = ("mano", "crop", "tta", "filters")
"""Groups of settings in which everything changes results (``mano`` and ``crop`` come from the checkpoint)."""
LABELLING = (
    *("unit_videos", "min_clip_frames", "side", "side_probe_frames", "decoder"),
    *("max_frame_px", "max_frames", "jpeg_quality", "image_context"),
)

BAKED_IN = ("reprojection_norm", "bone_reference", "joint_angle", "min_angle_deg", "max_angle_deg")
"""Settings that a run's spatial scores were computed with; another value needs the 3D hand, which is not stored."""


@dataclass(frozen=True, eq=False)
class Video:
    """A listed video with the clips of its boxes, maybe none."""

    video_id: str
    path: str  # '' for boxes without a file
    clips: tuple[Clip, ...]


@dataclass(frozen=True, eq=False)
class Unit:
    """What one attempt works on and one commit names."""

    unit_id: str
    videos: tuple[Video, ...]

    @property
    def clips(self) -> int:
        return sum(len(video.clips) for video in self.videos)

    @property
    def frames(self) -> int:
        return sum(len(clip.frames) for video in self.videos for clip in video.clips)


def videos_of(boxes: Mapping[str, VideoBoxes], clips: Iterable[Clip], paths: Mapping[str, str]) -> list[Video]:
    """Every video that has boxes, with its file, if it has one, and its clips."""
    by_video: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        by_video[clip.video_id].append(clip)
    return [Video(video_id, paths.get(video_id, ""), tuple(by_video[video_id])) for video_id in sorted(boxes)]


def make_units(videos: Sequence[Video], unit_videos: int) -> list[Unit]:
    """Cut the videos, sorted by id, into units of ``unit_videos``."""
    ordered = sorted(videos, key=lambda video: video.video_id)
    starts = range(0, len(ordered), unit_videos)
    return [Unit(f"u{n:06d}", tuple(ordered[start : start + unit_videos])) for n, start in enumerate(starts)]


def videos_digest(videos: Iterable[Video]) -> str:
    """Names the list of clips: ids, frames and boxes. Paths are left out, so that a mount may move."""
    state = hashlib.sha256()
    for video in sorted(videos, key=lambda video: video.video_id):
        state.update(f"video {video.video_id} {len(video.clips)}\n".encode())
        for clip in video.clips:
            state.update(f"clip {clip.clip_id} {clip.annotated_frames}\n".encode())
            for array, kind in ((clip.frames, "<i4"), (clip.hand_boxes, "<f4"), (clip.object_boxes, "<f4")):
                state.update(array.astype(kind).tobytes())
    return state.hexdigest()


def fingerprint(config: Config, teacher_sha256: str, hand_sha256: str, videos: Iterable[Video]) -> dict[str, Any]:
    """Everything that changes a result, as flat names and plain values; ``config`` as ``open_teacher`` returns it."""
    settings: dict[str, Any] = {}
    for group in GROUPS:
        tree = to_tree(getattr(config, group))
        tree.pop("path", None)  # the hand model counts by its contents
        settings |= {f"{group}.{name}": value for name, value in tree.items()}
    labelling = to_tree(config.labelling)
    settings |= {f"labelling.{name}": labelling[name] for name in LABELLING}
    return {
        "schema_version": SCHEMA_VERSION,
        "teacher": teacher_sha256,
        "hand_model": hand_sha256,
        "clips": videos_digest(videos),
        **settings,
    }


def hand_digest(config: Config) -> str:
    """Names the hand model by its contents: its file may move."""
    model = hand_model(config.mano)
    state = hashlib.sha256()
    for array in (model.v_template, model.shapedirs, model.posedirs, model.J_regressor, model.weights):
        state.update(np.ascontiguousarray(array, dtype=np.float32).tobytes())
    return state.hexdigest()


def check_hand(run: Mapping[str, Any], config: Config, root: str) -> None:
    """Raise InputError if ``config`` names another hand model than the labelling run at ``root`` used."""
    used = run["fingerprint"].get("hand_model")
    if used is not None and used != hand_digest(config):
        given = config.mano.path or "the stand-in hand"
        raise InputError(
            f"the labels at {root} are poses of another hand model than {given}; set mano.path to the one of their run"
        )


def check_readings(run: Mapping[str, Any], config: Config, root: str) -> None:
    """Raise InputError if ``config`` reads a rule differently from the scores of the labelling run at ``root``."""
    for name in BAKED_IN:
        asked = getattr(config.filters, name)
        used = run["fingerprint"].get(f"filters.{name}", asked)
        if used != asked:
            raise InputError(
                f"filters.{name}={asked}: the scores in {root} were computed with {used}, and computing them again "
                f"needs the 3D hand; set filters.{name}={used}, or run jobs.pseudo_label with filters.{name}={asked} "
                "on another output"
            )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line per name whose value is not the same."""
    names = [*before, *(name for name in now if name not in before)]
    return [
        f"{name}: {_short(before.get(name))} before, {_short(now.get(name))} now"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:12] + "..."
