"""Predictions judged again: other thresholds, rules or quality models on scores that are written down.

No network, no hand model and no pixels take part. Not here: which files are read and written (``cluster.labelling``).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch

from hojoint import geometry
from hojoint.config import FilterConfig
from hojoint.labelling import filters, reasons, tables
from hojoint.labelling.quality import QualityModel

_COLUMNS = (
    "joints_px", "mano_pose", "mano_shape", "camera", "hand_box", "frame", "joints_spread_px", "score_side",
    "rotation_spread",
)  # fmt: skip


def rescored(table: pa.Table, config: FilterConfig, model: QualityModel | None = None) -> pa.Table:
    """The predictions judged by other thresholds, rules, temporal readings or another quality model: no network, no
    hand model, no pixels.

    The temporal scores are computed again from the columns; the spatial ones are copied, so the readings that need the
    3D hand (``reprojection_norm``, ``bone_reference``, ``joint_angle``) stay those of the labelling run.
    """
    table = table.combine_chunks()  # or every take below would search all chunks
    clips = (_clip(table.take(rows), config, model) for rows in tables.clips_of(table))
    return pa.concat_tables([tables.PREDICTIONS_SCHEMA.empty_table(), *clips])


def with_scores(table: pa.Table, config: FilterConfig) -> pa.Table:
    """The predictions, row by row, with the scores that ``config`` reads; qualities and verdicts stay the run's own."""
    order = np.concatenate([np.zeros(0, int), *tables.clips_of(table)])
    rules = config.model_copy(update={"mode": "thresholds"})  # scores do not depend on it
    again = rescored(table, rules).take(np.argsort(order))
    for name in (column for column in table.column_names if column.startswith("score_")):
        position = table.schema.get_field_index(name)
        table = table.set_column(position, table.schema.field(position), again[name])
    return table


def _clip(clip: pa.Table, config: FilterConfig, model: QualityModel | None) -> pa.Table:
    tensors = {name: torch.from_numpy(tables.array_of(clip, name).copy()) for name in _COLUMNS}
    scores = filters.with_temporal(
        {rule: torch.from_numpy(tables.array_of(clip, f"score_{rule}").copy()) for rule in reasons.SPATIAL_RULES},
        joints_px=tensors["joints_px"].reshape(-1, 21, 2),
        rotations=geometry.axis_angle_to_matrix(tensors["mano_pose"].reshape(-1, 16, 3)),
        pose=tensors["mano_pose"],
        betas=tensors["mano_shape"],
        boxes=tensors["hand_box"],
        frames=tensors["frame"],
        config=config,
        joints_spread_px=tensors["joints_spread_px"],
        side=tensors["score_side"],
    )
    columns = {f"score_{rule}": tables.floats(score) for rule, score in scores.items()}
    sound = filters.sound(
        tensors["joints_px"], tensors["mano_pose"], tensors["mano_shape"], tensors["camera"], config
    )  # fmt: skip
    quality = None if model is None else filters.quality_of(scores, tensors["rotation_spread"], sound, model)
    columns["quality"] = pa.nulls(len(clip), pa.float32()) if quality is None else tables.floats(quality)
    columns["verdict"] = pa.array(filters.verdicts(scores, config, sound, quality))
    for name, column in columns.items():
        position = clip.schema.get_field_index(name)
        clip = clip.set_column(position, clip.schema.field(position), column)
    return clip
