"""HO-3D's sequences as if they were unlabelled videos, with their truth beside them (readings A11-A19).

The rules of labelling can only be measured where the hand is known. Each sequence is thinned to about the rate of
Something-Something and cut into clips; a clip's frames are numbered one after the other, for they are neighbours in
time. The output is what labelling takes, and a table of truth in the columns of ``label_quality``. Hand boxes are
the annotated ones in the evaluation split and those of the projected joints in the training split, as in ``ho3d``. All
hands of HO-3D are right ones; mirrored, a clip shows a left one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from hojoint.config import CalibrateConfig, Config
from hojoint.datasets import recordings, regions
from hojoint.datasets.ho3d import HO3D
from hojoint.datasets.ho3d_meta import joints_cv
from hojoint.errors import InputError
from hojoint.records import Clip, Frames
from hojoint.rows import evenly

MIRRORED = "-left"
"""Ends the id of a clip that is mirrored into one of a left hand."""


@dataclass(frozen=True, eq=False)
class SequenceClip:
    """A clip before its images are read."""

    clip_id: str
    indices: tuple[int, ...]  # into the data set
    mirrored: bool = False  # left to right, so that the hand is a left one


def copies_of(config: Config) -> tuple[bool, ...]:
    """How each clip is labelled, as it is (False) and mirrored (True): a side that is given is not asked for."""
    if config.labelling.side != "both":
        return (config.labelling.side == "left",)
    return (False, True) if config.calibrate.mirrored else (False,)


def sequence_clips(
    dataset: HO3D, config: CalibrateConfig, copies: tuple[bool, ...] = (False,), least: int = 1
) -> list[SequenceClip]:
    """Cut the data set's list into clips; a frame that the list leaves out ends a clip.

    Args:
        dataset: the split.
        config: which frames, and how they are cut.
        copies: of each clip, from ``copies_of``; ``calibrate.limit`` counts the frames of all.
        least: frames of a clip, ``labelling.min_clip_frames``; shorter ones are left out as labelling does
            (``too_short``).

    Raises:
        InputError: ``calibrate.sequences`` names a sequence that the list lacks, a frame has no number, or all clips
            are too short.
    """
    names = [name.split("/") for name in dataset.names]
    parts = _parts(names, config)
    clips = [SequenceClip("-".join(names[part[0]]), part) for part in parts if len(part) >= least]
    if parts and not clips:
        raise InputError(
            f"labelling.min_clip_frames={least} leaves no clip to calibrate on: the longest of HO-3D's {config.split} "
            f"split, cut by calibrate.stride={config.stride} and calibrate.clip_frames={config.clip_frames}, has "
            f"{max(map(len, parts))} frames; lower it, or cut longer clips"
        )
    if config.limit is not None:
        longest = min(config.clip_frames, max(1, config.limit // len(copies)))
        keep = evenly(len(clips), max(1, config.limit // (longest * len(copies))))
        clips = [replace(clips[index], indices=clips[index].indices[:longest]) for index in keep]
    return [_copy(clip, mirrored) for clip in clips for mirrored in copies]


def too_short(dataset: HO3D, config: CalibrateConfig, least: int) -> int:
    """Number of frames in the clips that ``sequence_clips`` leaves out."""
    parts = _parts([name.split("/") for name in dataset.names], config)
    return sum(len(part) for part in parts if len(part) < least)


def _parts(names: list[list[str]], config: CalibrateConfig) -> list[tuple[int, ...]]:
    """Indices of the frames of each clip; ``names`` are sequence and number of each frame."""
    parts = []
    for _, members in groupby(_chosen(names, config), key=lambda index: names[index][0]):
        thinned = list(members)[:: config.stride]
        numbers = np.array([int(names[index][1]) for index in thinned])
        for run in np.split(np.array(thinned), np.flatnonzero(np.diff(numbers) != config.stride) + 1):
            starts = range(0, len(run), config.clip_frames)
            parts += [tuple(int(index) for index in run[start : start + config.clip_frames]) for start in starts]
    return parts


def _copy(clip: SequenceClip, mirrored: bool) -> SequenceClip:
    return SequenceClip(f"{clip.clip_id}{MIRRORED}", clip.indices, True) if mirrored else clip


def recording_of(clip_id: str) -> str:
    """The recording that a clip is cut from; a mirrored clip is cut from the same."""
    return recordings.recording_of(clip_id.removesuffix(MIRRORED).rpartition("-")[0])


def load(dataset: HO3D, clips: list[SequenceClip]) -> Iterator[tuple[Clip, Frames, pa.Table]]:
    """Clip by clip: what labelling takes, and a table with the truth of its frames.

    The table holds ``joints_px`` (42,) px and ``joints`` (63,) m, CV frame, our joint order, per frame.

    Raises:
        InputError: an image, an annotation or the truth of the evaluation set is missing or damaged.
    """
    truth_file = dataset.truth()[0] if dataset.split == "evaluation" else None  # training metas hold all joints
    for clip in clips:
        metas = [dataset.meta(index) for index in clip.indices]
        cameras = [np.asarray(meta["camMat"], np.float64).reshape(3, 3) for meta in metas]
        if truth_file is not None:
            known = [truth_file[index].astype(np.float64) for index in clip.indices]
        else:
            known = [joints_cv(meta, dataset.names[index]) for meta, index in zip(metas, clip.indices, strict=True)]
        px = np.stack([regions.project(points, camera) for points, camera in zip(known, cameras, strict=True)])
        around = [regions.box_of(points) for points in px] if truth_file is None else _annotated_boxes(clip, metas)
        numbers = np.arange(len(metas), dtype=np.int32)
        boxes = np.stack(around).astype(np.float32)
        no_objects = np.full_like(boxes, np.nan)
        rgb = np.stack([regions.read_image(dataset.image_path(dataset.names[index])) for index in clip.indices])
        if clip.mirrored:
            rgb, boxes, px = _mirrored(rgb, boxes, px)
        record = Clip(clip.clip_id, clip.clip_id, str(dataset.root), numbers, boxes, no_objects, len(numbers))
        truth = pa.table(
            {
                "video_id": [clip.clip_id] * len(numbers),
                "frame": numbers,
                "side": ["left" if clip.mirrored else "right"] * len(numbers),
                "joints_px": list(px.reshape(len(px), 42)),
                "joints": list(np.stack(known).reshape(len(px), 63)),  # of the right-hand model, also where mirrored
            }
        )
        yield record, Frames(clip.clip_id, rgb, boxes, no_objects), truth


def _mirrored(rgb: np.ndarray, boxes: np.ndarray, px: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures (T, H, W, 3), boxes (T, 4) and points (T, 21, 2) of the same frames seen in a mirror."""
    right = rgb.shape[2] - 1  # pixel centres are whole numbers
    turned = boxes.copy()
    turned[:, [0, 2]] = right - boxes[:, [2, 0]]
    return np.ascontiguousarray(rgb[:, :, ::-1]), turned, np.stack([right - px[..., 0], px[..., 1]], axis=-1)


def _chosen(names: list[list[str]], config: CalibrateConfig) -> list[int]:
    """Indices of the frames of the chosen sequences, in order of time whatever the order of the list."""
    listed = {sequence for sequence, _ in names}
    chosen = listed if config.sequences is None else set(config.sequences)
    if unknown := chosen - listed:
        raise InputError(
            f"calibrate.sequences names {', '.join(sorted(unknown))}, which HO-3D's {config.split} split does not "
            f"list; choose among {', '.join(sorted(listed))}"
        )
    for sequence, frame in names:
        if sequence in chosen and not (frame.isascii() and frame.isdigit()):
            raise InputError(
                "calibration takes HO-3D's sequences as videos, so frames must be named by their numbers in time, as "
                f"in MC1/0000; found {sequence}/{frame} in the {config.split} split. Rename files and lines of the "
                "list, or name other sequences (calibrate.sequences)"
            )
    return sorted(
        (index for index, (sequence, _) in enumerate(names) if sequence in chosen),
        key=lambda index: (names[index][0], int(names[index][1])),
    )


def _annotated_boxes(clip: SequenceClip, metas: list[dict[str, Any]]) -> list[np.ndarray]:
    boxes = [np.asarray(meta.get("handBoundingBox", ()), np.float32).reshape(-1) for meta in metas]
    if any(box.size != 4 for box in boxes):
        raise InputError(
            f"{clip.clip_id}: a frame of the evaluation split has no handBoundingBox of four numbers; fetch HO-3D again"
        )
    return boxes
