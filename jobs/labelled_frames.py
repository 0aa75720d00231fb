"""The labelled frames that a report shows and measures: rows of the tables, their pixels, their true poses if known.

Of a large output only some units are read, evenly spaced, and the report notes it. Used by ``jobs.report``. Drawing is
in ``hojoint.report.album``, measuring in ``hojoint.evaluation.label_quality``.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from cluster.labelling import commits
from cluster.labelling.units import check_hand
from cluster.store import Store
from hojoint.config import Config
from hojoint.datasets import something
from hojoint.evaluation import label_quality
from hojoint.hand.factory import hand_layer
from hojoint.hand.layer import HandLayer
from hojoint.labelling import filters, tables, video
from hojoint.report import album
from hojoint.report.album import KEPT
from hojoint.report.page import Gallery, Picture

MOST_UNITS = 24  # some 60,000 frames
KEPT_SHOWN, REJECTED_SHOWN = 12, 3  # the latter per rule
KEYS = ({"colour": "#2e86de", "text": "the given hand box"}, {"colour": "#96c4f0", "text": "the labelled hand"})


@dataclass(frozen=True)
class LabelledFrames:
    """What a report shows of a labelling run."""

    quality: dict[str, Any] | None  # label_quality.summary, where true poses are known
    galleries: list[Gallery]


def read(config: Config, labels: Store, truth: Path | None) -> LabelledFrames:
    """Read, measure and draw; ``truth`` is a parquet file of true poses, if they are known."""
    check_hand(commits.read_run(labels), config, labels.root)
    units = sorted(commits.committed_units(labels))
    rows = np.unique(np.linspace(0, len(units) - 1, min(MOST_UNITS, len(units))).astype(int))
    some = [units[row] for row in rows]
    filesystem, root = labels.filesystem()
    paths = [f"{root}/{commit.files['predictions']}" for commit in commits.read_commits(labels, some)]
    predictions = tables.read(paths, filesystem)
    layer = hand_layer(config.mano)
    errors = None
    if truth is not None and len(predictions):
        errors = label_quality.errors_of_tables(
            predictions, pyarrow.parquet.read_table(truth), functools.partial(label_quality.hand_joints, layer)
        )
    bounds = config.calibrate
    when = label_quality.RightWhen(max_aligned_mm=bounds.max_aligned_mm, max_joints_2d=bounds.max_joints_2d)
    verdicts = predictions["verdict"].to_pylist()
    quality = None if errors is None else label_quality.summary(errors, verdicts, filters.RULES, when)
    rows = album.chosen_rows(predictions, filters.RULES, KEPT_SHOWN, REJECTED_SHOWN)
    pictures = _pictures(config, predictions, rows, layer, None if errors is None else errors.aligned_mm)
    kept = [picture for picture in pictures if picture.tag == KEPT]
    rejected = [picture for picture in pictures if picture.tag != KEPT]
    note = "" if len(some) == len(units) else f" From {len(some)} of {len(units)} units."
    return LabelledFrames(quality, _galleries(kept, rejected, note))


def _galleries(kept: Sequence[Picture], rejected: Sequence[Picture], note: str) -> list[Gallery]:
    about = "Frames of the unlabelled videos with the mesh that the teacher predicted, projected by the fitted camera."
    return [
        Gallery(
            "Pseudo-labelled frames", f"{about} One frame from the middle of each of some videos.{note}", kept, KEYS
        ),
        Gallery(
            "Rejected frames", f"The same, with the rule that each frame broke and its score.{note}", rejected, KEYS
        ),
    ]


def _pictures(
    config: Config, predictions: pa.Table, rows: np.ndarray, layer: HandLayer, errors_mm: np.ndarray | None
) -> list[Picture]:
    """Drawn rows; frames whose video cannot be read any more are left out."""
    out = []
    files = something.find_videos(config.videos.root) if config.videos.root is not None else {}
    for number, row in zip(rows.tolist(), predictions.take(pa.array(rows)).to_pylist(), strict=True):
        if row["video_id"] not in files:
            continue
        try:
            decoded = video.decode(str(files[row["video_id"]]), [row["frame"]], decoder=config.labelling.decoder)
        except video.VideoError:
            continue
        if len(decoded.rgb):
            error = None if errors_mm is None else float(errors_mm[number])
            out.append(album.label_picture(row, decoded.rgb[0], np.zeros(2), layer, layer.faces, error))
    return out
