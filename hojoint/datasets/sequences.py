"""HO-3D's evaluation sequences as if they were unlabelled videos, with their truth beside them (readings A11-A19).

The rules of labelling can only be measured where the hand is known. Each sequence is thinned to about the rate of
Something-Something and cut into clips; a clip's frames are numbered one after the other, for they are neighbours in
time. What comes out is what labelling takes, and a table of truth in the columns of ``label_quality``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa

from hojoint.config import CalibrationConfig
from hojoint.datasets import regions
from hojoint.datasets.ho3d import HO3D
from hojoint.errors import InputError
from hojoint.records import Clip, Frames


@dataclass(frozen=True, eq=False)
class SequenceClip:
    """A clip before its images are read."""

    clip_id: str
    indices: tuple[int, ...]  # into the data set


def sequence_clips(dataset: HO3D, config: CalibrationConfig) -> list[SequenceClip]:
    """Cut the data set's list into clips; a frame that the list leaves out ends a clip, the next begins another."""
    found = []
    names = [name.split("/") for name in dataset.names]
    for sequence, members in groupby(range(len(names)), key=lambda index: names[index][0]):
        thinned = list(members)[:: config.stride]
        numbers = np.array([int(names[index][1]) for index in thinned])
        for run in np.split(np.array(thinned), np.flatnonzero(np.diff(numbers) != config.stride) + 1):
            for start in range(0, len(run), config.clip_frames):
                part = tuple(int(index) for index in run[start : start + config.clip_frames])
                found.append(SequenceClip(f"{sequence}-{names[part[0]][1]}", part))
    if config.limit is not None:
        most = max(1, config.limit // config.clip_frames)
        keep = np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int))
        found = [found[place] for place in keep]
    return found


def load(dataset: HO3D, clips: list[SequenceClip]) -> Iterator[tuple[Clip, Frames, pa.Table]]:
    """Clip by clip: what labelling takes, and the truth of its frames."""
    joints = dataset.truth()[0]
    for clip in clips:
        metas = [dataset.meta(index) for index in clip.indices]
        cameras = [np.asarray(meta["camMat"], np.float64).reshape(3, 3) for meta in metas]
        known = [joints[index].astype(np.float64) for index in clip.indices]
        px = np.stack([regions.project(points, camera) for points, camera in zip(known, cameras, strict=True)])
        samples = [np.asarray(meta.get("handBoundingBox", ()), np.float32).reshape(-1) for meta in metas]
        if any(box.size != 4 for box in samples):
            raise InputError(f"{clip.clip_id}: a frame has no handBoundingBox; calibration needs the evaluation split")
        numbers = np.arange(len(metas), dtype=np.int32)
        boxes = np.stack(samples)
        nothing = np.full_like(boxes, np.nan)
        rgb = np.stack([regions.read_image(dataset.image_path(dataset.names[index])) for index in clip.indices])
        record = Clip(clip.clip_id, clip.clip_id, str(dataset.root), numbers, boxes, nothing, len(numbers))
        truth = pa.table(
            {
                "video_id": [clip.clip_id] * len(numbers),
                "frame": numbers,
                "side": ["right"] * len(numbers),
                "joints_px": list(px.reshape(len(px), 42)),
                "joints": list(np.stack(known).reshape(len(px), 63)),
            }
        )
        yield record, Frames(clip.clip_id, rgb, boxes, nothing), truth
