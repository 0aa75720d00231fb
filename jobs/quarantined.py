"""The first message of each class of quarantine, for the summary of a run: a remedy alone may not say what to do.

At most one quarantine file per class is read, however many units a run has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from cluster.labelling import commits
from cluster.labelling.commits import Commit
from cluster.store import Store, arrow
from hojoint.labelling.faults import CLASSES


def firsts(store: Store, done: Sequence[Commit]) -> dict[str, tuple[str, str]]:
    """Class -> id and message of its first video.

    Args:
        store: the run's output.
        done: its commits, whose counts have ``quarantine``.
    """
    out: dict[str, tuple[str, str]] = {}
    last = commits.superseded(done)
    for commit in done:
        if all(kind in out for kind in commit.failed):
            continue
        table = arrow.read_table(store, commit.files["quarantine"], ["video_id", "class", "message"])
        for row in table.to_pylist():
            if last.get(row["video_id"], commit.unit) == commit.unit:  # not tried again since
                out.setdefault(row["class"], (row["video_id"], row["message"]))
    return out


def lines(
    quarantine: Mapping[str, int],
    first: Mapping[str, tuple[str, str]],
    remedies: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """What a summary prints per class: its first video with the message, and the remedy.

    ``remedies`` are a job's own, where labelling's do not work for it.
    """
    out = []
    for kind, count in quarantine.items():
        if kind in first:
            video, message = first[kind]
            out.append(f"  {kind}: {'first ' * (count > 1)}{video}: {message.rstrip('.')}.")
        if kind in CLASSES:
            out.append(
                f"  {' ' * len(kind) if kind in first else kind + ':'} {remedies.get(kind, CLASSES[kind].remedy)}"
            )
    return out
