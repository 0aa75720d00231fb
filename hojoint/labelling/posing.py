"""The 3D hands of a table of labels: the tables hold pose, betas and camera, from which joints and vertices follow.

Not here: which files make a table (cluster.labels).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch

from hojoint.errors import InputError
from hojoint.hand.layer import HandLayer, ManoOutput
from hojoint.hand.model import mirror_points
from hojoint.labelling import tables

COLUMNS = ("mano_pose", "mano_shape", "flipped")
ROWS = 1024  # posed at once

# Suffixes of locals: N rows.


@torch.no_grad()
def posed(rows: pa.Table, layer: HandLayer) -> ManoOutput:
    """Joints (N, 21, 3) and vertices (N, 778, 3) of the rows' hands, in m, the wrist at the origin.

    They stand as in the true image (x right, y down, z forward): a left hand is a left hand again. ``camera`` of the
    same row carries them to px: s * xy + (tx, ty).

    Args:
        rows: with ``COLUMNS``, in any number.
        layer: the hand that the poses speak of, on the CPU; it adds no mean pose.

    Raises:
        InputError: a column holds something else than the tables do. Lists of any kind, as pandas makes them, are cast.
    """
    rows = _as_stored(rows)
    pose_N48, betas_N10 = (torch.from_numpy(tables.array_of(rows, name)) for name in ("mano_pose", "mano_shape"))
    left_N = torch.from_numpy(np.asarray(rows["flipped"].to_pylist(), dtype=bool))[:, None, None]
    starts = range(0, max(len(pose_N48), 1), ROWS)  # no rows are one part without rows
    parts = [layer(pose_N48[first : first + ROWS], betas_N10[first : first + ROWS]) for first in starts]
    joints = torch.cat([hand.joints - hand.joints[:, :1] for hand in parts])
    vertices = torch.cat([hand.vertices - hand.joints[:, :1] for hand in parts])
    return ManoOutput(
        vertices=torch.where(left_N, mirror_points(vertices), vertices),
        joints=torch.where(left_N, mirror_points(joints), joints),
    )


def _as_stored(rows: pa.Table) -> pa.Table:
    """``COLUMNS`` of the rows, with the types that the tables have."""
    wanted = pa.schema([tables.PREDICTIONS_SCHEMA.field(name) for name in COLUMNS])
    try:
        return rows.select(COLUMNS).cast(wanted)
    except (pa.ArrowException, ValueError) as error:
        expected = ", ".join(f"{field.name} {field.type}" for field in wanted)
        found = ", ".join(f"{name} {rows.schema.field(name).type}" for name in COLUMNS)
        raise InputError(
            f"expected rows as a label set has them ({expected}), found {found}: {str(error).splitlines()[0]}. Give "
            "rows of LabelSet.parts or LabelSet.table"
        ) from None
