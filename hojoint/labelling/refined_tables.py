"""Labels made again from a table of predictions: no network, no pixels.

What labelling makes of a clip (``refine``) depends only on columns of ``tables.PREDICTIONS_SCHEMA``, so other verdicts
or other settings of refinement need no more than those and the hand model. Not here: the columns (``tables``).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute
import torch

from hojoint.config import RefineConfig
from hojoint.hand.layer import HandLayer
from hojoint.labelling import refine, tables
from hojoint.labelling.reasons import KEPT

_REFINED_FROM = ("joints_px", "mano_pose", "mano_shape", "hand_box", "frame", "quality")


def labels_of(predictions: pa.Table, config: RefineConfig, layer: HandLayer | None) -> pa.Table:
    """The labels of a table of predictions, in the order of clips and frames, with ``filled`` and without images.

    Args:
        predictions: complete clips, judged.
        config: how labels are refined; where it is not active they are the kept predictions, in the given order.
        layer: the hand of the predictions, on the CPU; None where refinement is not active, which needs none.
    """
    if not config.active:
        kept = predictions.filter(pyarrow.compute.equal(predictions["verdict"], KEPT))
        field = tables.PSEUDO_LABELS_SCHEMA.field("filled")
        return kept.append_column(field, pa.array([False] * len(kept)))
    assert layer is not None, "refinement poses the hand"
    predictions = predictions.combine_chunks()  # or every take below would search all chunks
    made = [_labels_of_clip(predictions.take(rows), config, layer) for rows in tables.clips_of(predictions)]
    return pa.concat_tables(made) if made else labels_of(predictions, RefineConfig(), None)


def _labels_of_clip(clip: pa.Table, config: RefineConfig, layer: HandLayer) -> pa.Table:
    columns = {name: torch.from_numpy(tables.array_of(clip, name).copy()) for name in _REFINED_FROM}
    labels = refine.refined(
        joints_px=columns["joints_px"].reshape(-1, 21, 2),
        pose=columns["mano_pose"],
        betas=columns["mano_shape"],
        boxes=columns["hand_box"],
        frames=columns["frame"].long(),
        flipped=clip["flipped"][0].as_py(),
        kept=torch.from_numpy(np.array(clip["verdict"].to_pylist(), dtype=object) == KEPT),
        quality=None if clip["quality"].null_count == len(clip) else columns["quality"],
        layer=layer,
        device="cpu",
        config=config,
    )
    return tables.with_refined(clip, labels)
