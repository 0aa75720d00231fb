"""The words that labelling says of a frame, in the order of their verdicts, and where each has its limit and column.

Loads no torch: a driver counts verdicts, and only workers compute them (``filters``).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import get_args

from hojoint.config import PAPER_RULES, THRESHOLDS, FilterConfig, Rule
from hojoint.errors import InputError

RULES: tuple[Rule, ...] = get_args(Rule)  # in the order of the verdicts
SPATIAL_RULES = RULES[:4]
KEPT = "kept"
QUALITY = "quality"
REASONS: tuple[str, ...] = (*RULES, QUALITY)
"""All verdicts but ``KEPT``, in the order of reports."""
SETTINGS: dict[str, str] = {**THRESHOLDS, QUALITY: "min_quality"}
"""Each of ``REASONS`` to the setting that decides."""
COLUMNS: dict[str, str] = {**{rule: f"score_{rule}" for rule in RULES}, QUALITY: "quality"}
"""Each of ``REASONS`` to its column in the tables."""


def judging(config: FilterConfig) -> tuple[Rule, ...]:
    """The rules whose thresholds can reject a frame, in the order of ``RULES``."""
    ours_only = config.mode == "quality"
    return tuple(rule for rule in RULES if rule in config.enabled and not (ours_only and rule in PAPER_RULES))


def refuse_one_view(rules: Collection[str] | None, views: int, name: str = "filters.enabled") -> None:
    """Raise InputError where ``rules``, the value of the setting ``name``, judge the spread of one view."""
    if views == 1 and "view_spread" in (rules or ()):
        raise InputError(
            f"{name} names the rule 'view_spread', and with tta.views=1 there is no spread, so no frame could pass; "
            "set tta.views to 2 or more, or leave the rule out"
        )
