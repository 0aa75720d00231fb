"""The quality model of a labelling run: read once by the driver, sent with the work, kept beside the labels.

A worker needs no file of its own, and whoever finds the labels finds the model that judged them. Not here: what a model
is (hojoint.labelling.quality), who fits one (jobs.calibrate).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cluster.labelling import label_tables
from cluster.labelling.commits import Commit
from cluster.store import Store, read_uri
from hojoint.config import FilterConfig
from hojoint.errors import InputError
from hojoint.labelling import quality, reasons, tables
from hojoint.labelling.quality import QualityModel

FILE = "quality.json"  # in a labelling output
SOURCES = {"view_spread": "joints_spread_px", "rotation_spread": "rotation_spread", "side": "score_side"}
"""What only a network and its views tell, and the columns that hold it."""


def read(config: FilterConfig, *, side_head: bool, views: Mapping[str, Any] | None = None) -> bytes | None:
    """Content of ``filters.quality_model``; None where it is not set.

    Args:
        config: the rules.
        side_head: whether the teacher tells the sides, or all are given.
        views: by which the frames are predicted (``quality.views_of``), compared where the model looks at their spread.

    Raises:
        InputError: it is missing, damaged, fitted for other scores than these, or needed and not set.
    """
    if config.quality_model is None:
        if config.mode == "quality":
            raise quality.without_model()
        return None
    data = read_uri(config.quality_model)
    quality.read(data, config.quality_model).check(config, side_head=side_head, views=views)
    return data


def refuse_unknown(store: Store, commit: Commit, config: FilterConfig, data: bytes | None) -> None:
    """Raise InputError where frames are to be judged by what a run's predictions, here of one unit, do not hold.

    Args:
        store: of the labelling run.
        commit: one of its units.
        config: the rules by which its frames are judged again.
        data: content of the quality model, None without one.
    """
    model = model_of(data)
    asked: set[str] = {*reasons.judging(config), *(model.parts if model is not None else ())}
    table = label_tables.read(store, [commit.files["predictions"]])
    for name in sorted(asked & SOURCES.keys()):
        if len(table) and np.isnan(tables.array_of(table, SOURCES[name])).all():
            raise InputError(
                f"the settings judge frames by {name}, which the labels at {store.root} do not have: their teacher did "
                "not give it. Leave the rule out, or use a quality model without it"
            )


def model_of(data: bytes | None) -> QualityModel | None:
    """The model of its content."""
    return None if data is None else quality.read(data, FILE)


def keep(store: Store, data: bytes | None) -> None:
    """Put the model beside the labels that it judges."""
    if data is not None and not store.exists(FILE):
        store.put(FILE, data)


def kept(store: Store) -> QualityModel | None:
    """The model that judged the labels in ``store``; None where none did."""
    return quality.read(store.get(FILE), store.uri(FILE)) if store.exists(FILE) else None
