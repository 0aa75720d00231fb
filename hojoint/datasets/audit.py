"""A labelled set checked against itself: every listed file, and what its labels say about each other.

``audit`` looks at everything and takes minutes on a real set; with ``frames`` it reads so many evenly spaced
annotations and takes seconds, which is what jobs do before they start. Dry runs and ``jobs.doctor`` look at everything.
"""

from __future__ import annotations

from pathlib import Path

from hojoint.config import ManoConfig
from hojoint.datasets import freihand_checks, ho3d_checks, object_checks
from hojoint.datasets.findings import Audit
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.datasets.listing import Progress

QUICK = 64
"""Frames whose labels are compared before a job starts."""
CONTRADICTIONS = (
    *(
        "hand_differs",
        "hand_mirrored",
        "hand_mean",
        "hand_flipped",
        "hand_other",
        "hand_object_apart",
        "hand_behind",
        "hand_outside",
        "hand_box",
    ),
    *("model_differs", "pose_differs", "object_outside", "truth_differs", "labels_differ", "camera_size"),
)
"""Kinds that ``data.*.checks=note`` lets pass: every file can be read, and the labels look wrong."""
ALL_THE_SAME = "If the labels are right all the same, set"
"""Followed by that setting."""


def audit(
    dataset: HO3D | FreiHAND,
    mano: ManoConfig | None = None,
    *,
    frames: int | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Check a split of a set: its files, its annotations, and what can be compared in them.

    Args:
        dataset: the split, opened as a job opens it; object models are checked with HO-3D.
        mano: the hand model that labels must fit; None leaves that comparison out.
        frames: this many evenly spaced frames are compared; None means all.
        progress: called with the number of frames read and of all.

    Raises:
        InputError: object models cannot be read at all.
    """
    if isinstance(dataset, HO3D):
        return ho3d_checks.audit(dataset, mano, frames, progress)
    return freihand_checks.audit(dataset, mano, frames, progress)


def audit_models(folder: str | Path) -> Audit:
    """Check a folder of object models alone: which ones can be read, and what they measure.

    Raises:
        InputError: the folder has no model.
    """
    return object_checks.audit_models(Path(folder))
