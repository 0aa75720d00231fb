"""Right or left hand: what a network's side head says about a clip, and how far it is believed. Ours (reading A20).

The head sees a frame as it is and mirrored. Half the difference of its two logits is the evidence for a right hand:
what the head says of every picture alike, whatever its hand, cancels out. Half, because both pictures show the same.
One side holds for the complete clip, so the evidence of its frames is averaged.
Not here: the views (``tta``), the vote of a network without a side head (``labels``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from hojoint.config import FilterConfig, ModelConfig
from hojoint.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

SURE = 1.0
"""Belief in a side that the annotation or ``labelling.side`` gives."""
UNKNOWN = math.nan
"""Belief in a side that a network without a side head chose by what fits better."""


class Decision(NamedTuple):
    """The side of a clip."""

    left: bool
    confidence: float  # in [0.5, 1], or UNKNOWN


def decided(plain: Tensor, mirrored: Tensor) -> Decision:
    """The side of a clip by the head's logits of some of its frames as they are (T,) and mirrored (T,).

    Frames whose logits are not finite say nothing; where all say nothing, the confidence is one half.
    """
    evidence_T = (plain - mirrored).double() / 2
    evidence_T = evidence_T[evidence_T.isfinite()]
    evidence = float(evidence_T.mean()) if len(evidence_T) else 0.0
    return Decision(evidence < 0, 1 / (1 + math.exp(-min(abs(evidence), 700.0))))


def refuse_unknown(model: ModelConfig, config: FilterConfig) -> None:
    """Raise InputError where the rule ``side`` is enabled and the teacher cannot say how sure a side is.

    Args:
        model: of the teacher.
        config: which rules are enabled.
    """
    if "side" in config.enabled and not model.side_head:
        raise InputError(
            "filters.enabled names the rule 'side', but the teacher has no side head that could say how sure the side "
            "of a hand is; train a teacher with model.side_head=true, give the sides with the boxes or as "
            "labelling.side, or leave the rule out"
        )
