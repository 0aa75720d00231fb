"""Why a labelling run keeps nothing: the rule that took most frames, and how far its scores are from its limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cluster.labelling import commits, label_tables
from cluster.store import Store
from hojoint.config import Config
from hojoint.labelling import reasons, tables

MOST_UNITS = 4  # read for the median


def note(report: Mapping[str, Any], store: Store, config: Config) -> str | None:
    """A sentence for the user where a run keeps no frame; None where it keeps some.

    Args:
        report: of the run.
        store: its output.
        config: its settings.
    """
    videos, frames = report["videos"], report["frames"]
    if frames["kept"]:
        return None
    if not frames["predicted"]:
        if videos["quarantined"]:
            return (
                f"no frame was predicted: {videos['quarantined']} of {videos['listed']} videos are quarantined; "
                f"quarantine/ in {store.root} has the reasons"
            )
        return (
            f"no frame was predicted: no hand of videos.boxes is seen in labelling.min_clip_frames="
            f"{config.labelling.min_clip_frames} frames of a video"
        )
    rule, count = max(frames["rejected"].items(), key=lambda item: item[1])
    median = _median_score(store, rule)
    taken = f"none of {frames['predicted']} predicted frames is kept. {rule} rejects most, {count}"
    if median is not None and np.isnan(median):
        return (
            f"{taken}: they have no score, so no limit keeps them. joint_step and pose_step need the hand in a "
            "neighbouring frame, every rule a finite prediction. Look at the frames with jobs.report"
        )
    limit = f"filters.{reasons.SETTINGS[rule]}={getattr(config.filters, reasons.SETTINGS[rule]):g}"
    cause = "; likely causes: boxes of other pictures, or a network that is not trained enough" * (rule == "box_iou")
    score = f"its median score is {median:.3g}, " if median is not None else ""
    return (
        f"{taken}: {score}the limit is {limit}{cause}. Look at the frames with jobs.report, or judge them again under "
        "others with jobs.refilter"
    )


def _median_score(store: Store, rule: str) -> float | None:
    """Of the frames that the rule rejects in the first units; NaN where it can judge none, None where it has none."""
    units = sorted(commits.committed_units(store))[:MOST_UNITS]
    table = label_tables.read(store, [done.files["predictions"] for done in commits.read_commits(store, units)])
    rejected = np.array(table["verdict"].to_pylist(), dtype=str) == rule
    scores = tables.array_of(table, reasons.COLUMNS[rule])[rejected]
    known = scores[~np.isnan(scores)]
    return float(np.median(known)) if len(known) else float("nan") if len(scores) else None
