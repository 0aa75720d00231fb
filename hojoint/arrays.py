"""Numbers as callers hold them: arrays, lists, and tensors on any device, with or without gradients, also inside lists.

Loads no torch. Not here: which shape and kind an argument must have.
"""

from __future__ import annotations

from typing import Any


def without_tensors(values: Any) -> Any:
    """``values`` as numpy takes them: each tensor, also in lists and tuples, is a float64 array; the rest stays."""
    if isinstance(values, list | tuple):
        return [without_tensors(value) for value in values]
    if hasattr(values, "detach"):
        return values.detach().cpu().double().numpy()
    return values
