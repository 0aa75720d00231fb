"""What drivers send to their actors, and what these tell while they work. Loads no torch, as nothing of a driver does.

Not here: the work (``teacher``, ``refilter_actor``), the runs (``run``, ``refiltering``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cluster.labelling.units import Retries
from hojoint.config import Config


@dataclass(frozen=True)
class LabellingJob:
    """What every Teacher of a run receives."""

    config: Config  # as the user set it; the checkpoint's settings replace model, mano and crop
    output: str
    teacher_sha256: str  # of the weights; a file that changes during a run is refused
    driver: str  # names this driver in the attempt ledger
    manifest: str = ""  # key of the run's manifest; '' where units are given directly
    quality: bytes | None = None  # content of ``filters.quality_model``
    hand_sha256: str = ""  # of the hand model, which a node may find changed; '' is not compared
    retries: Retries = field(default_factory=dict)  # of the manifest


@dataclass(frozen=True)
class RefilterJob:
    """What every Refilter of a run receives."""

    config: Config
    source: str
    output: str
    images: Config  # how the source cut its pictures
    manifest: str | None  # its key in the source; None in runs of earlier versions
    listing: str | None  # key in the output: the videos of ``videos.root``; None where that is not given
    quality: bytes | None  # content of ``filters.quality_model``


class Progress(Protocol):
    """Who is told how far a Teacher is."""

    def __call__(self, videos: dict[str, int], frames: dict[str, int]) -> None:
        """With every finished group: videos by outcome, frames by verdict."""

    def spent(self, seconds: Mapping[str, float]) -> None:
        """With every finished unit: seconds by phase."""


class NullProgress:
    """Tells nobody."""

    def __call__(self, videos: dict[str, int], frames: dict[str, int]) -> None: ...

    def spent(self, seconds: Mapping[str, float]) -> None: ...
