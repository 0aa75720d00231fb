"""What one attempt at a unit has so far: counts, failures, and the two tables; their pixels are dropped early.

Not here: who predicts (``teacher``), how the tables are committed (``commits``).
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from cluster.labelling import commits
from cluster.labelling.counts import Counts
from cluster.labelling.decoding import Failure
from cluster.labelling.units import Unit, Video
from hojoint.config import Config
from hojoint.labelling import reasons, tables
from hojoint.records import Clip, Frames, PseudoLabels


@dataclass(frozen=True, eq=False)
class Pixels:
    """A decoded video: its clips, cut to the frames it holds, and their pixels."""

    video: Video
    clips: list[Clip]
    frames: list[Frames]
    absent: int  # annotated frames beyond the end of the video, on a picture that has a box, or in too short clips
    short: int  # clips that became too short


class UnitResult:
    """What an attempt at a unit has so far. Pixels are dropped as soon as the kept ones are in a table."""

    def __init__(self, config: Config, started: float) -> None:
        self.config = config
        self.started = started
        self.counts = Counts()
        self.seconds: dict[str, float] = defaultdict(float)
        self._failures: list[Failure] = []
        self._tables: dict[str, list[pa.Table]] = {"predictions": [], "pseudo_labels": []}

    def fail(self, failure: Failure) -> None:
        self._failures.append(failure)
        self.counts.listed += 1
        self.counts.quarantined += 1
        self.counts.quarantine[failure.kind] += 1

    def nothing_to_label(self, video: Video) -> None:
        assert not video.clips
        self.counts.listed += 1
        self.counts.empty += 1

    def take(self, videos: Sequence[Pixels], clip_labels: Sequence[PseudoLabels]) -> None:
        frames = [pixels for video in videos for pixels in video.frames]
        began = time.perf_counter()
        predictions = tables.predictions_table(clip_labels)
        pseudo_labels = tables.pseudo_labels_table(clip_labels, frames, self.config)
        self.seconds["tables"] += time.perf_counter() - began
        self._tables["predictions"].append(predictions)
        self._tables["pseudo_labels"].append(pseudo_labels)
        verdicts = Counter(verdict for label in clip_labels for verdict in label.verdicts)
        kept = verdicts.pop(reasons.KEPT, 0)
        labelled = {label.clip.video_id for label in clip_labels if reasons.KEPT in label.verdicts}
        counts = self.counts
        counts.listed += len(videos)
        counts.labelled += len(labelled)
        counts.empty += len(videos) - len(labelled)
        counts.clips += len(clip_labels)
        counts.absent += sum(video.absent for video in videos)
        counts.short_clips += sum(video.short for video in videos)
        counts.kept += kept
        counts.filled += pc.sum(pseudo_labels["filled"]).as_py() or 0
        counts.predicted += kept + verdicts.total()
        counts.rejected += verdicts

    def tables(self) -> dict[str, pa.Table]:
        schemas = {"predictions": tables.PREDICTIONS_SCHEMA, "pseudo_labels": tables.PSEUDO_LABELS_SCHEMA}
        joined = {name: pa.concat_tables([schemas[name].empty_table(), *parts]) for name, parts in self._tables.items()}
        return joined | {"quarantine": commits.quarantine_table(self._failures)}

    def check(self, unit: Unit) -> None:
        """Assert that every video and every frame is counted."""
        counts = self.counts
        assert counts.listed == len(unit.videos) == counts.labelled + counts.empty + counts.quarantined, counts
        assert counts.predicted == counts.kept + counts.rejected.total(), counts
