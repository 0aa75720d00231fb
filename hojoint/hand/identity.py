"""Which hand a hand model is, by its content: what labels, shards, checkpoints and nodes are compared by.

Loads no torch. Not here: where the digests are noted (``cluster.labelling.units``, ``cluster.training.data``).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable

import numpy as np

from hojoint.hand.model import HandModel

HAND = "hand model"
"""Name of the digest among those of a training run's data, which are ``data`` in the parents of its checkpoints."""


def digests(model: HandModel) -> tuple[str, str]:
    """The digest of all arrays, and that of earlier versions, by which what they stored is still known."""
    every = [getattr(model, item.name) for item in dataclasses.fields(model)]
    five = [model.v_template, model.shapedirs, model.posedirs, model.J_regressor, model.weights]
    return digest_of(every), digest_of(five)


def digest_of(arrays: Iterable[np.ndarray]) -> str:
    """SHA-256 of arrays as float32, in order."""
    state = hashlib.sha256()
    for array in arrays:
        state.update(np.ascontiguousarray(array, dtype=np.float32).tobytes())
    return state.hexdigest()
