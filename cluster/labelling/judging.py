"""The quality model of a labelling run: read once by the driver, sent with the work, kept beside the labels.

A worker needs no file of its own, and whoever finds the labels finds the model that judged them. Not here: what a model
is (hojoint.labelling.quality), who fits one (jobs.calibrate).
"""

from __future__ import annotations

from cluster.store import Store, read_uri
from hojoint.config import FilterConfig
from hojoint.labelling import quality
from hojoint.labelling.quality import QualityModel

FILE = "quality.json"  # in a labelling output


def read(config: FilterConfig, *, side_head: bool) -> bytes | None:
    """Content of ``filters.quality_model``; None where it is not set.

    Args:
        config: the rules.
        side_head: whether the teacher tells the sides, or all are given.

    Raises:
        InputError: it is missing, damaged, fitted for other scores than these, or needed and not set.
    """
    if config.quality_model is None:
        if config.mode == "quality":
            raise quality.without_model()
        return None
    data = read_uri(config.quality_model)
    quality.read(data, config.quality_model).check(config, side_head=side_head)
    return data


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
