"""What perfect labels would be worth: a label set rewritten from the truth, in steps (the headroom of Sec. 5.1).

No method: it reads the truth that is kept aside. A study trains on such sets to tell where pseudo-labels lose. Not
here: where label sets lie (``cluster.labelling.oracles``) and how many are correct (``label_quality``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import torch

from hojoint import geometry
from hojoint.evaluation import label_quality, true_poses
from hojoint.evaluation.label_quality import CorrectWhen, Joints
from hojoint.evaluation.true_poses import stacked
from hojoint.hand.model import mirror_points
from hojoint.labelling import reasons, tables

Oracle = Literal["right", "side", "truth"]
"""'right': the correct labels alone. 'side': a label of the wrong side gets the true one, the others stay as they are.
'truth': every label is the true one, and frames without a true hand go."""


@dataclass(frozen=True, eq=False)
class Rewritten:
    """One set of labels as an oracle rewrote it."""

    predictions: pa.Table  # without the kept frames that lost their label
    pseudo_labels: pa.Table


def rewrite(
    predictions: pa.Table,
    pseudo_labels: pa.Table,
    truth: pa.Table,
    *,
    oracle: Oracle,
    when: CorrectWhen,
    joints_of: Joints,
) -> Rewritten:
    """Rewrite the two tables of labelling from the table of true poses.

    Args:
        truth: columns of ``label_quality.errors_of_tables``, and ``pose`` [48] rad, ``shape`` [10] of the right-hand
            model.
        when: what a correct label is.

    Raises:
        InputError: as ``true_poses.checked``.
    """
    if not len(pseudo_labels):
        return Rewritten(_predictions_matching(predictions, pseudo_labels), pseudo_labels)
    truth = true_poses.checked(truth)
    errors = label_quality.errors_of_tables(pseudo_labels, truth, joints_of)
    rows = label_quality.matching_rows(pseudo_labels, truth)
    if oracle == "right":
        stays, replaced = errors.correct(when), np.zeros(len(rows), bool)
    elif oracle == "side":
        stays, replaced = np.ones(len(rows), bool), errors.truth & ~errors.side_correct
    else:
        stays, replaced = errors.truth, errors.truth
    true = _true_columns(truth.take(np.where(replaced, rows, 0)[stays]), joints_of) if replaced.any() else {}
    labels = _with(pseudo_labels.filter(pa.array(stays)), true, replaced[stays])
    return Rewritten(_predictions_matching(predictions, labels), labels)


def _true_columns(truth: pa.Table, joints_of: Joints) -> dict[str, np.ndarray]:
    """Columns of a label table from rows of the truth; the camera is fitted as labelling fits it (Eq. 7).

    Not ``filled``: a true label of a frame that the rules rejected stays one of those.
    """
    pose, shape = stacked(truth, "pose"), stacked(truth, "shape")
    joints_px = stacked(truth, "joints_px").reshape(-1, 21, 2)
    flipped = np.array(truth["side"].to_pylist(), dtype=object) == "left"
    joints = torch.from_numpy(joints_of(pose, shape))
    joints[torch.from_numpy(flipped)] = mirror_points(joints[torch.from_numpy(flipped)])
    camera = geometry.weak_perspective(joints, torch.from_numpy(joints_px)).numpy()
    return {
        "flipped": flipped,
        "joints_px": joints_px.reshape(-1, 42),
        "mano_pose": pose,
        "mano_shape": shape,
        "camera": camera,
        "quality": np.ones(len(truth)),
    }


def _with(table: pa.Table, columns: dict[str, np.ndarray], replaced: np.ndarray) -> pa.Table:
    """The table with the given values in the ``replaced`` (N,) bool rows."""
    for name, new in columns.items():
        position, field = table.schema.get_field_index(name), table.schema.field(name)
        if pa.types.is_fixed_size_list(field.type):
            values = np.where(replaced[:, None], new, tables.array_of(table, name)).astype(np.float32)
            column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
        else:
            old = table[name].to_pylist()
            mixed = [value if one else before for one, value, before in zip(replaced, new.tolist(), old, strict=True)]
            column = pa.array(mixed, field.type)
        table = table.set_column(position, field, column.cast(field.type))
    return table


def _predictions_matching(predictions: pa.Table, labels: pa.Table) -> pa.Table:
    """The predictions whose kept frames are those of ``labels`` that no rule rejected, with the labels' numbers."""
    row_of = {key: row for row, key in enumerate(tables.keys_of(labels))}
    kept = np.array(predictions["verdict"].to_pylist(), dtype=object) == reasons.KEPT
    rows = np.array([row_of.get(key, -1) for key in tables.keys_of(predictions)], int).reshape(-1)
    stays = ~kept | (rows >= 0)
    predictions, kept, rows = predictions.filter(pa.array(stays)), kept[stays], rows[stays]
    matching = labels.take(pa.array(np.where(kept, rows, 0))) if len(labels) else labels
    if not len(labels):
        return predictions
    new = {name: _plain(matching, name) for name in ("flipped", "joints_px", "mano_pose", "mano_shape", "camera")}
    return _with(predictions, new, kept)


def _plain(table: pa.Table, name: str) -> np.ndarray:
    return np.array(table[name].to_pylist(), dtype=bool) if name == "flipped" else tables.array_of(table, name)
