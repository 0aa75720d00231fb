"""The two tables of labelling: ``predictions`` (every predicted frame) and ``pseudo_labels`` (the kept ones).

Columns of both, one row per frame of a clip:

* ``video_id``, ``clip_id``; ``frame`` 0-based number in the video; ``flipped``: a left hand, mirrored for the network;
* ``hand_box``, ``object_box`` xyxy px of the native frame, clipped to it; the object's is null where none is known;
* ``joints_px`` 21 times x, y in the true (never mirrored) frame;
* ``mano_pose``, ``mano_shape`` of the right-hand model, radians, root in the camera frame of the image the network saw;
* ``camera`` s, tx, ty with px = s * xy + t in the true frame, where xy are the model's wrist-centred joints in metres,
  with x negated when ``flipped``;
* ``score_<rule>`` for each rule of ``filters``, NaN where the rule cannot judge; ``verdict``; ``teacher`` checksum;
* ``joints_spread_px``, ``rotation_spread`` how far the test-time views disagree (px, rad);
* ``quality`` the chance that the label is correct, null where no model tells;
* ``time_s`` when the picture is shown, the video's first at 0; ``fps``, ``pictures`` (shown in the complete video),
  ``rotation_deg`` (clockwise turn that was applied) and ``codec`` of its file; null where they are not known, and in
  files of schema version 1, which had none of these five.

``pseudo_labels`` holds the labels to train on: the predictions of kept frames, refined where the settings ask for it.
It adds ``filled``, a rejected frame whose label is interpolated from its neighbours; ``image``, the JPEG of a region
around the hand at native resolution, and ``image_box``, where it was cut, so that training reads this table alone. Not
here: where files go and when they count (``cluster``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyarrow as pa

from hojoint.config import Config
from hojoint.errors import InputError
from hojoint.labelling import reasons
from hojoint.records import Footage, Frames, PseudoLabels, Refined

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA_VERSION = 3
SINCE_VERSION_2 = ("time_s", "fps", "pictures", "rotation_deg", "codec")
SINCE_VERSION_3 = ("score_view_spread", "score_side", "quality", "filled")
_SINCE = {"1": SINCE_VERSION_2 + SINCE_VERSION_3, "2": SINCE_VERSION_3}
_VERSION_KEY = b"hojoint.schema"


def _numbers(length: int) -> pa.DataType:
    return pa.list_(pa.float32(), length)


_FIELDS = [
    pa.field("video_id", pa.string(), nullable=False),
    pa.field("clip_id", pa.string(), nullable=False),
    pa.field("frame", pa.int32(), nullable=False),
    pa.field("flipped", pa.bool_(), nullable=False),
    pa.field("hand_box", _numbers(4)),
    pa.field("object_box", _numbers(4)),
    pa.field("joints_px", _numbers(42)),
    pa.field("mano_pose", _numbers(48)),
    pa.field("mano_shape", _numbers(10)),
    pa.field("camera", _numbers(3)),
    *(pa.field(f"score_{rule}", pa.float32()) for rule in reasons.RULES),
    pa.field("verdict", pa.string(), nullable=False),
    pa.field("teacher", pa.string(), nullable=False),
    pa.field("joints_spread_px", pa.float32()),
    pa.field("rotation_spread", pa.float32()),
    pa.field("quality", pa.float32()),
    pa.field("time_s", pa.float64()),
    pa.field("fps", pa.float32()),
    pa.field("pictures", pa.int32()),
    pa.field("rotation_deg", pa.int16()),
    pa.field("codec", pa.string()),
]
_TYPES = {field.name: field.type for field in _FIELDS}
_METADATA = {_VERSION_KEY: str(SCHEMA_VERSION).encode()}
PREDICTIONS_SCHEMA = pa.schema(_FIELDS, metadata=_METADATA)
LABELS_SCHEMA = pa.schema([*_FIELDS, pa.field("filled", pa.bool_())], metadata=_METADATA)
"""``pseudo_labels`` without its images."""
_IMAGE = [pa.field("image", pa.binary(), nullable=False), pa.field("image_box", _numbers(4))]
PSEUDO_LABELS_SCHEMA = pa.schema([*LABELS_SCHEMA, *_IMAGE], metadata=_METADATA)


def predictions_table(labels: Sequence[PseudoLabels]) -> pa.Table:
    """Every frame of every clip, in the order given, with the columns of ``PREDICTIONS_SCHEMA``."""
    return pa.concat_tables([PREDICTIONS_SCHEMA.empty_table(), *(_clip_table(label) for label in labels)])


def pseudo_labels_table(labels: Sequence[PseudoLabels], frames: Sequence[Frames], config: Config) -> pa.Table:
    """The labels to train on with their images, with the columns of ``PSEUDO_LABELS_SCHEMA``.

    ``frames`` holds the pixels of ``labels``, clip by clip.
    """
    tables = [PSEUDO_LABELS_SCHEMA.empty_table()]
    for label, pixels in zip(labels, frames, strict=True):
        assert label.clip.clip_id == pixels.clip_id, (label.clip.clip_id, pixels.clip_id)
        rows = _clip_table(label)
        if label.refined is None:
            kept = np.flatnonzero([verdict == reasons.KEPT for verdict in label.verdicts])
            tables.append(with_images(rows.take(kept), [pixels.rgb[t] for t in kept], config))
        else:
            made = with_refined(rows, label.refined)
            tables.append(with_images(made, [pixels.rgb[t] for t in label.refined.rows], config))
    return pa.concat_tables(tables)


def with_refined(rows: pa.Table, labels: Refined) -> pa.Table:
    """The refined labels of one clip, with the columns of ``PREDICTIONS_SCHEMA`` and ``filled``.

    Scores and verdict stay those of the prediction. The quality of a filled label is the lower one of the two kept
    labels that it lies between.

    Args:
        rows: all predictions of the clip, frames ascending.
        labels: their rows of the clip.
    """
    out = rows.take(pa.array(labels.rows))
    columns = {
        "joints_px": _lists(labels.joints_px, 42),
        "mano_pose": _lists(labels.pose, 48),
        "mano_shape": _lists(labels.betas, 10),
        "camera": _lists(labels.camera, 3),
        "quality": _quality_of(array_of(out, "quality"), labels.filled),
    }
    for name, column in columns.items():
        position = out.schema.get_field_index(name)
        out = out.set_column(position, out.schema.field(position), column)
    return out.append_column(PSEUDO_LABELS_SCHEMA.field("filled"), pa.array(labels.filled))


def _quality_of(quality: np.ndarray, filled: np.ndarray) -> pa.Array:
    """(L,) of labels whose ends are kept frames; NaN becomes null."""
    kept, rows = np.flatnonzero(~filled), np.arange(len(filled))
    if len(kept):
        before = kept[np.searchsorted(kept, rows, side="right") - 1]
        quality = np.minimum(quality[before], quality[kept[np.searchsorted(kept, rows)]])
    return pa.array(quality, pa.float32(), from_pandas=True)


def with_images(rows: pa.Table, frames: Sequence[np.ndarray], config: Config) -> pa.Table:
    """Rows of ``predictions`` as rows of ``pseudo_labels``.

    Args:
        rows: with the columns of ``PREDICTIONS_SCHEMA``, and maybe ``filled``.
        frames: the native frame (H, W, 3) uint8 RGB of each row; the image is cut from it here.
        config: what is cut and how it is compressed.
    """
    hands, objects = array_of(rows, "hand_box"), array_of(rows, "object_box")
    boxes = [
        _image_box(hand_box, object_box, frame.shape[:2], config)
        for hand_box, object_box, frame in zip(hands, objects, frames, strict=True)
    ]
    images = [_jpeg(frame, box, config) for frame, box in zip(frames, boxes, strict=True)]
    if "filled" not in rows.column_names:
        rows = rows.append_column(PSEUDO_LABELS_SCHEMA.field("filled"), pa.array([False] * len(rows), pa.bool_()))
    rows = rows.append_column(PSEUDO_LABELS_SCHEMA.field("image"), pa.array(images, pa.binary()))
    column = _lists(np.array(boxes, np.float32).reshape(-1, 4), 4)
    return rows.append_column(PSEUDO_LABELS_SCHEMA.field("image_box"), column).cast(PSEUDO_LABELS_SCHEMA)


def _image_box(hand_box: np.ndarray, object_box: np.ndarray, size: tuple[int, ...], config: Config) -> np.ndarray:
    """What is cut out for training, (4,) int xyxy px, inside a frame of ``size`` (height, width).

    A square ``labelling.image_context`` times the hand's box (or its union with the object's, where the crop settings
    take that), so that training's augmentation finds pixels beyond its crop.
    """
    height, width = size
    low, high = hand_box[:2], hand_box[2:]
    if config.crop.unlabelled_region == "union":
        low = np.fmin(low, object_box[:2])  # fmin: a NaN object box does not count
        high = np.fmax(high, object_box[2:])
    middle, half = (low + high) / 2, (high - low).max() / 2 * config.labelling.image_context
    limit = np.array([width, height])
    # At least one pixel, even of a box that lies beyond the border.
    first = np.clip(np.floor(middle - half), 0, limit - 1)
    last = np.clip(np.ceil(middle + half), first + 1, limit)
    return np.concatenate([first, last]).astype(np.int32)


def keys_of(table: pa.Table) -> list[tuple[str, int]]:
    """(clip, frame) of each row, which no other row of its label set has."""
    return list(zip(table["clip_id"].to_pylist(), table["frame"].to_pylist(), strict=True))


def checked(table: pa.Table, name: str, schema: pa.Schema = PREDICTIONS_SCHEMA) -> pa.Table:
    """The table with exactly the columns of ``schema``; InputError where its version is unknown or it lacks one.

    Versions 1 and 2 are read as well; what they do not hold is null.
    """
    version = (table.schema.metadata or {}).get(_VERSION_KEY, b"none").decode()
    if version in _SINCE:
        for column in (name for name in _SINCE[version] if name in schema.names and name not in table.column_names):
            table = table.append_column(schema.field(column), pa.nulls(len(table), schema.field(column).type))
    elif version != str(SCHEMA_VERSION):
        raise InputError(
            f"{name} has schema version {version}, expected {SCHEMA_VERSION}; label the videos again with this release"
        )
    missing = [column for column in schema.names if column not in table.column_names]
    if missing:
        raise InputError(f"{name} lacks the columns {', '.join(missing)}; is it a table of jobs.pseudo_label?")
    return table.select(schema.names).cast(schema)


def array_of(table: pa.Table, column: str) -> np.ndarray:
    """A number column as (N,) or (N, length); nulls become NaN."""
    values = table[column].combine_chunks()
    if not pa.types.is_fixed_size_list(values.type):
        return values.to_numpy(zero_copy_only=False)
    length = values.type.list_size
    rows = np.full((len(values), length), np.nan, np.float32)
    rows[values.is_valid().to_numpy(zero_copy_only=False)] = values.flatten().to_numpy().reshape(-1, length)
    return rows


def clips_of(table: pa.Table) -> list[np.ndarray]:
    """Row numbers of each clip, frames ascending; clips in the order of their ids."""
    ids = np.asarray(table["clip_id"].to_pylist(), dtype=object)
    order = np.lexsort((array_of(table, "frame"), ids.astype(str)))
    return np.split(order, np.flatnonzero(ids[order][1:] != ids[order][:-1]) + 1) if len(ids) else []


def _clip_table(label: PseudoLabels) -> pa.Table:
    clip, prediction = label.clip, label.prediction
    count = len(clip.frames)
    columns: dict[str, Any] = {
        "video_id": pa.array([clip.video_id] * count),
        "clip_id": pa.array([clip.clip_id] * count),
        "frame": pa.array(clip.frames, pa.int32()),
        "flipped": pa.array([prediction.flipped] * count),
        "hand_box": _lists(clip.hand_boxes, 4),
        "object_box": _lists(clip.object_boxes, 4, null_if_nan=True),
        "joints_px": _lists(prediction.joints_px, 42),
        "mano_pose": _lists(prediction.pose, 48),
        "mano_shape": _lists(prediction.betas, 10),
        "camera": _lists(label.camera, 3),
        **{f"score_{rule}": floats(label.scores[rule]) for rule in reasons.RULES},
        "verdict": pa.array(label.verdicts),
        "teacher": pa.array([label.teacher] * count),
        "joints_spread_px": floats(prediction.joints_spread_px),
        "rotation_spread": floats(prediction.rotation_spread),
        "quality": pa.nulls(count, pa.float32()) if label.quality is None else floats(label.quality),
        "time_s": pa.nulls(count, pa.float64()) if label.times_s is None else pa.array(label.times_s, pa.float64()),
    }
    footage = label.footage or Footage(None, None, None, None)
    columns |= {name: pa.array([value] * count, _TYPES[name]) for name, value in asdict(footage).items()}
    return pa.table(columns, schema=PREDICTIONS_SCHEMA)


def floats(values: Tensor) -> pa.Array:
    """A column of numbers from a tensor (N,)."""
    return pa.array(values.detach().float().cpu().numpy())


def _lists(values: Tensor | np.ndarray, length: int, *, null_if_nan: bool = False) -> pa.Array:
    array = values if isinstance(values, np.ndarray) else values.detach().cpu().numpy()
    rows = np.ascontiguousarray(array, dtype=np.float32).reshape(-1, length)
    mask = pa.array(np.isnan(rows).any(axis=1)) if null_if_nan else None
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), length, mask=mask)


def _jpeg(image: np.ndarray, box: np.ndarray, config: Config) -> bytes:
    x0, y0, x1, y1 = box.tolist()
    done, data = cv2.imencode(
        ".jpg",
        cv2.cvtColor(np.ascontiguousarray(image[y0:y1, x0:x1]), cv2.COLOR_RGB2BGR),
        [cv2.IMWRITE_JPEG_QUALITY, config.labelling.jpeg_quality],
    )
    assert done, "OpenCV refused to encode a JPEG"
    return bytes(data)
