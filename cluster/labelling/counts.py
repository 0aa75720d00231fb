"""What a unit counts, as its commit holds it: numbers that add up to those of a run. Who adds them up: ``commits``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self


class Tally:
    """What counts of every job share: numbers, and Counters of numbers, that add up."""

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Self:
        """As a commit's JSON holds them."""
        return cls(**{name: Counter(value) if isinstance(value, dict) else value for name, value in tree.items()})

    def add(self, other: Self) -> None:
        for name, value in vars(other).items():
            if isinstance(value, Counter):
                getattr(self, name).update(value)  # keeps numbers below zero, which + would drop
            else:
                setattr(self, name, getattr(self, name) + value)


@dataclass
class Counts(Tally):
    """Videos and frames by outcome: listed = labelled + empty + quarantined; predicted = kept + rejected.

    A commit holds what its unit adds to the run. One that takes over quarantined videos adds none to ``listed``, and
    numbers below zero to ``quarantined`` and ``quarantine`` (``take_over``).
    """

    listed: int = 0
    labelled: int = 0
    empty: int = 0
    quarantined: int = 0
    clips: int = 0
    short_clips: int = 0  # the video holds too few of their frames; these count as absent
    decoded: int = 0
    absent: int = 0  # annotated frames that the video does not hold
    predicted: int = 0
    kept: int = 0
    filled: int = 0  # rejected frames with an interpolated label in ``pseudo_labels``; not among ``kept``
    without_image: int = 0  # kept, but without pixels for ``pseudo_labels`` (jobs.refilter)
    rejected: Counter[str] = field(default_factory=Counter)
    quarantine: Counter[str] = field(default_factory=Counter)  # class -> videos
    pictures: Counter[str] = field(default_factory=Counter)  # class -> labelled videos without pictures (jobs.refilter)

    def take_over(self, classes: Iterable[str]) -> None:
        """Count videos of this unit no longer where they were quarantined before, by these classes."""
        for kind in classes:
            self.listed -= 1
            self.quarantined -= 1
            self.quarantine[kind] -= 1

    def since(self, before: Counts) -> tuple[dict[str, int], dict[str, int]]:
        """Videos by outcome and frames by verdict that were added since ``before``."""
        videos = {name: getattr(self, name) - getattr(before, name) for name in ("labelled", "empty", "quarantined")}
        return videos, {"kept": self.kept - before.kept, **(self.rejected - before.rejected)}
