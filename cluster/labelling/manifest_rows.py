"""The rows of a manifest: videos with their clips as plain columns of Parquet, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.labelling.units import Unit, Video
from hojoint.records import Clip

RETRY_OF = "retry_of"
CLIP = pa.struct(
    [
        ("clip_id", pa.string()),
        ("annotated_frames", pa.int32()),
        ("every_frame_listed", pa.bool_()),
        ("side", pa.string()),
        ("frames", pa.list_(pa.int32())),
        ("times_s", pa.list_(pa.float64())),
        ("hand_boxes", pa.list_(pa.float32())),  # four numbers per frame, as are object_boxes
        ("object_boxes", pa.list_(pa.float32())),
    ]
)
SCHEMA = pa.schema(
    [
        ("unit", pa.string()),
        ("video_id", pa.string()),
        ("uri", pa.string()),  # null for boxes without a file
        ("size", pa.int64()),  # bytes; null where it is not known
        ("etag", pa.string()),
        ("frames", pa.int32()),  # boxes of hands in all clips
        ("clips", pa.list_(CLIP)),
        (RETRY_OF, pa.string()),  # null but for another attempt at a quarantined video; absent in earlier versions
    ]
)


def table_of(unit: Unit) -> pa.Table:
    """The row group of a unit, with the columns of ``SCHEMA``."""
    videos = unit.videos
    clips = [clip for video in videos for clip in video.clips]
    columns = [
        pa.array([unit.unit_id] * len(videos)),
        pa.array([video.video_id for video in videos], pa.string()),
        pa.array([video.uri or None for video in videos], pa.string()),
        pa.array([video.size for video in videos], pa.int64()),
        pa.array([video.etag for video in videos], pa.string()),
        pa.array([sum(len(clip.frames) for clip in video.clips) for video in videos], pa.int32()),
        pa.ListArray.from_arrays(_offsets([len(video.clips) for video in videos]), _clips_array(clips)),
        pa.array([video.retry_of or None for video in videos], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _clips_array(clips: Sequence[Clip]) -> pa.StructArray:
    columns = [
        pa.array([clip.clip_id for clip in clips], pa.string()),
        pa.array([clip.annotated_frames for clip in clips], pa.int32()),
        pa.array([clip.every_frame_listed for clip in clips], pa.bool_()),
        pa.array([clip.side for clip in clips], pa.string()),
        _lists([clip.frames for clip in clips], pa.int32()),
        _lists([clip.times_s for clip in clips], pa.float64()),
        _lists([clip.hand_boxes for clip in clips], pa.float32()),
        _lists([clip.object_boxes for clip in clips], pa.float32()),
    ]
    return pa.StructArray.from_arrays(columns, fields=list(CLIP))


def _lists(arrays: Sequence[np.ndarray | None], kind: pa.DataType) -> pa.ListArray:
    """One list per array, of its numbers in a row; null for None."""
    dtype = kind.to_pandas_dtype()
    flat = [np.zeros(0, dtype) if array is None else np.ravel(array).astype(dtype, copy=False) for array in arrays]
    numbers = np.concatenate([np.zeros(0, dtype), *flat])
    absent = pa.array([array is None for array in arrays], pa.bool_())
    return pa.ListArray.from_arrays(_offsets([len(part) for part in flat]), pa.array(numbers, kind), mask=absent)


def _offsets(lengths: Sequence[int]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())


def video_of(row: dict[str, Any]) -> Video:
    """A video from its row, as ``Table.to_pylist`` has it."""
    uri = row["uri"] or ""
    clips = tuple(_clip(clip, row["video_id"], uri) for clip in row["clips"])
    return Video(row["video_id"], uri, clips, row["size"], row["etag"], row[RETRY_OF] or "")


def _clip(row: dict[str, Any], video_id: str, uri: str) -> Clip:
    return Clip(
        clip_id=row["clip_id"],
        video_id=video_id,
        path=uri,
        frames=np.array(row["frames"], np.int32),
        hand_boxes=np.array(row["hand_boxes"], np.float32).reshape(-1, 4),
        object_boxes=np.array(row["object_boxes"], np.float32).reshape(-1, 4),
        annotated_frames=row["annotated_frames"],
        times_s=None if row["times_s"] is None else np.array(row["times_s"], np.float64),
        side=row["side"],
        every_frame_listed=row["every_frame_listed"],
    )
