"""The error budget: a run that quarantines too much ends loudly, because something other than its videos must be wrong.

Not here: why a video is quarantined (``decoding``), the counts (``commits``).
"""

from __future__ import annotations

from collections import Counter

from hojoint.config import Config


class BudgetExceeded(Exception):
    """More videos went to quarantine than the settings allow."""


def exceeded(config: Config, quarantined: int, listed: int) -> bool:
    """Both limits must be exceeded: a few bad files in a small set, or a share of a large one, are expected."""
    labelling = config.labelling
    return quarantined > max(labelling.error_budget_count, labelling.error_budget_share * listed)


def check(config: Config, quarantined: int, listed: int, classes: Counter[str]) -> None:
    """Raise BudgetExceeded beyond the budget; ``classes`` counts the quarantined videos by class."""
    if exceeded(config, quarantined, listed):
        named = ", ".join(f"{count} {kind}" for kind, count in classes.most_common() if count > 0)
        raise BudgetExceeded(
            f"{quarantined} of {listed} videos so far are quarantined ({named}), more than "
            f"labelling.error_budget_count={config.labelling.error_budget_count} and "
            f"labelling.error_budget_share={config.labelling.error_budget_share} allow. See quarantine/ in "
            f"{config.output} for the reasons; with larger budgets the same command resumes"
        )
