"""Which rows of many are taken where not all are needed."""

from __future__ import annotations

import numpy as np


def evenly(length: int, most: int) -> np.ndarray:
    """Up to ``most`` rows of ``length``, evenly spaced and ascending, both ends among them."""
    return np.unique(np.linspace(0, length - 1, min(most, length)).round().astype(int))
