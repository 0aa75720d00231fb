"""Settings under former names: a user gets a message with the new name, stored settings are read under it.

Stored settings are those inside checkpoints, ``run.json`` and the notes of a pipeline. A stored key that no table here
knows is refused like a user's: it may change results. Not here: which settings exist (``config``).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from hojoint.settings_method import FILE_NAME

RENAMED = {
    "model.slope": "model.leaky_relu_slope",
    "model.object_slope": "model.object_leaky_relu_slope",
    "crop.hand_roi": "crop.hand_roi_scale",
    "crop.object_roi": "crop.object_roi_scale",
    "loss.shape": "loss.betas",
    "train.decay": "train.lr_decay",
    "train.decay_every_epochs": "train.lr_decay_every_epochs",
    "train.initial": "train.init_checkpoint",
    "data.ho3d.version": "synthetic.ho3d_version",
    "evaluation": "evaluate",
    "calibration": "calibrate",
    "job": "submit.job",
    "predictions": "score.predictions",
    "truth": "score.truth",
    "layout": "score.layout",
}
"""Former name -> name, of a setting or of a group."""
SHARED = {
    "predictions": "'score.predictions' for jobs.evaluate, 'calibrate.predictions' for jobs.calibrate",
    "truth": "'score.truth' for jobs.evaluate, 'calibrate.truth' for jobs.calibrate",
}
"""Former names that became two settings, and what to say of them. Stored ones are those of jobs.evaluate."""


def new_name(key: str) -> str:
    """Current name of a dotted key; the key itself where the name has not changed."""
    group, _, rest = key.partition(".")
    if key not in RENAMED and rest and group in RENAMED:
        return f"{RENAMED[group]}.{rest}"
    return RENAMED.get(key, key)


def advice(key: str) -> str | None:
    """The new name or names of a former dotted key, quoted for a message; None where it is no former name."""
    name = new_name(key)
    return SHARED.get(key) or (None if name == key else f"'{name}'")


def current(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Stored settings with dotted keys, under their current names."""
    return {new_name(key): value for key, value in flat.items()}


def current_tree(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A stored tree of settings under their current names; a value under the current name takes precedence."""
    out: dict[str, Any] = copy.deepcopy(dict(tree))
    for former, name in RENAMED.items():
        *groups, last = former.split(".")
        holder: Any = out
        for group in groups:
            holder = holder.get(group) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and last in holder:
            value = holder.pop(last)
            *groups, last = name.split(".")
            holder = out
            for group in groups:
                holder = holder.setdefault(group, {})
            holder.setdefault(last, value)
    if isinstance(label := out.get("name"), str) and not FILE_NAME.fullmatch(label):
        # Earlier versions took any name; of a stored one nothing but words on a screen depends.
        out["name"] = re.sub(r"[^A-Za-z0-9_-]", "-", label)[:100] or "run"
    return out
