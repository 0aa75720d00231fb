"""What the commits of a run add up to: its report, its counts, the time in which it worked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cluster.labelling import commits as outputs
from cluster.labelling.commits import Commit
from cluster.labelling.counts import Counts
from cluster.store import Store
from hojoint.errors import InputError


def report_of(commits: Sequence[Commit], rules: Sequence[str]) -> dict[str, Any]:
    """The contract's ``report.json``, from commits alone: a resumed run's report covers all of it."""
    total = total_of(commits)
    seconds = busy_seconds(commits)
    return {
        "videos": {name: getattr(total, name) for name in ("listed", "labelled", "empty", "quarantined")},
        "frames": {
            "decoded": total.decoded,
            "predicted": total.predicted,
            "kept": total.kept,
            "rejected": {rule: total.rejected[rule] for rule in rules},
            "filled": total.filled,
            "absent": total.absent,
            "without_image": total.without_image,
        },
        "clips": total.clips,
        "short_clips": total.short_clips,
        "quarantine": {kind: count for kind, count in sorted(total.quarantine.items()) if count},
        "videos_without_pictures": dict(sorted(total.pictures.items())),
        "units": len(commits),
        "seconds": round(seconds, 3),
        "frames_per_second": round(total.predicted / seconds, 3) if seconds else 0.0,
    }


def check_videos(store: Store, units: int, total: Counts) -> None:
    """Raise InputError where the ``units`` of a complete run do not hold as many videos as the run has."""
    run = outputs.read_run(store)
    # Another driver may have let the run grow meanwhile: then its new units are not all done.
    if units == run.get("units") and total.listed != run.get("videos", total.listed):
        raise InputError(
            f"the units of {store.root} hold {total.listed} videos, and its run has {run['videos']}: an earlier "
            "release has cut the units of a run that had grown anew, and some videos are not labelled or are labelled "
            "twice. Label into another output"
        )


def total_of(commits: Iterable[Commit]) -> Counts:
    """The counts of all commits together."""
    total = Counts()
    for commit in commits:
        total.add(commit.counts)
    return total


def outcomes_of(total: Counts) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Videos by outcome, frames by verdict, quarantined videos by class: what ``CommittedGauges`` shows."""
    return (*total.since(Counts()), dict(total.quarantine))


def busy_seconds(commits: Sequence[Commit]) -> float:
    """Time during which some unit was in progress: the breaks between a run and its resumption do not count."""
    total, until = 0.0, float("-inf")
    for commit in sorted(commits, key=lambda commit: commit.started):
        total += max(0.0, commit.finished - max(commit.started, until))
        until = max(until, commit.finished)
    return total
