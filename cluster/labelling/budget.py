"""The error budget: a run that quarantines too much ends loudly, because something other than its videos must be wrong.

Not here: why a video is quarantined (``decoding``), the counts (``commits``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from cluster.labelling.commits import Commit
from cluster.labelling.counts import Counts
from cluster.labelling.units import Retries
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


class Watched:
    """The budget of a run while its units come; videos that a pending unit tries again wait for its judgement."""

    def __init__(self, config: Config, total: Counts, retries: Retries, pending: Collection[str]) -> None:
        """``total`` of the commits so far is counted on here."""
        self.total, self._config = total, config
        self._classes: dict[str, list[str]] = {}
        for unit, kind in (attempt for attempts in retries.values() for attempt in attempts):
            if unit in pending:
                self._classes.setdefault(unit, []).append(kind)

    def add(self, commit: Commit) -> None:
        """Count a unit that has come."""
        self.total.add(commit.counts)
        self._classes.pop(commit.unit, None)

    def check(self) -> None:
        """Raise BudgetExceeded beyond the budget."""
        judged = Counts()
        judged.add(self.total)
        for classes in self._classes.values():
            judged.take_over(classes)
        check(self._config, judged.quarantined, judged.listed, judged.quarantine)
