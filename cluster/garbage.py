"""What an output holds that nothing will ever read: files of lost attempts, notes of dead ones, unfinished uploads.

Never garbage: what a commit names, ``run.json``, the records of growth, every manifest that one of them names, the
report, and whatever this project did not name so. Files of attempts at a unit without a commit are garbage only while
nobody works on the output and when they are old, because such an attempt may still commit. Not here: removing at the
end of a run (cluster.labelling.commits).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cluster.detection import findings
from cluster.labelling import attempts, chain, commits, presence
from cluster.store import PROBE, Store
from cluster.store.base import OF_UPLOAD
from cluster.training.shard_counts import SAMPLES
from hojoint.errors import InputError

FOLDERS = tuple(dict.fromkeys((*commits.TABLES, *findings.TABLES, SAMPLES)))
MANIFESTS = re.compile(r"manifest-[0-9a-f]{16}\.parquet")
PROBES = re.compile(re.escape(PROBE) + "[0-9a-f]{32}(-sequential|-raced|-[0-9]+)?")
BOXES = re.compile(r"boxes-[0-9a-f]{12}\.partial")  # what jobs.detect writes before it moves it


@dataclass(frozen=True)
class Leftover:
    """One object, or one unfinished one."""

    kind: str
    name: str
    size: int  # bytes; 0 where the store does not tell
    unfinished: bool = False


def find(store: Store, min_age_s: float) -> list[Leftover]:
    """Everything that ``remove`` would remove.

    Args:
        min_age_s: younger files of units without a commit, and younger unfinished ones, are left, s.

    Raises:
        InputError: no run is there, or somebody works on it.
    """
    commits.read_run(store)
    living = presence.living(store)
    if living:
        listed = "\n  ".join(living[:5])
        raise InputError(
            f"{store.root} is worked on, so what is garbage there is not known:\n  {listed}\nWait for the end of "
            f"the run, or end it. A note from another machine counts for {attempts.STALE_S / 3600:g} h after its "
            "process died"
        )
    return [*_attempts(store, min_age_s), *_beside(store, min_age_s), *_unfinished(store, min_age_s)]


def remove(store: Store, leftovers: Sequence[Leftover]) -> None:
    """Remove what ``find`` has found."""
    with ThreadPoolExecutor(commits.READERS) as pool:
        list(pool.map(lambda one: store.discard(one.name) if one.unfinished else store.delete(one.name), leftovers))


def _attempts(store: Store, min_age_s: float) -> Iterator[Leftover]:
    done = commits.read_commits(store, counts_of=dict)
    named = {key for commit in done for key in commit.files.values()}
    committed = {commit.unit for commit in done}
    for folder in FOLDERS:
        for entry in store.entries(f"{folder}/"):
            unit = commits.unit_of(entry.key)
            if unit is None or entry.key in named:
                continue
            if unit in committed:
                yield Leftover("files of attempts that lost", entry.key, entry.size)
            elif entry.age_s >= min_age_s:
                yield Leftover("files of attempts that ended", entry.key, entry.size)
    for entry in store.entries(f"{attempts.ATTEMPTS}/"):
        note = attempts.read(store, entry.key) if entry.key.endswith(".json") else None
        if note is not None and attempts.is_gone(note) and commits.unit_of(entry.key) in {*committed, None}:
            yield Leftover("notes of dead processes", entry.key, entry.size)


def _beside(store: Store, min_age_s: float) -> Iterator[Leftover]:
    """Manifests that no record names, and what a proof of conditional writes or a killed jobs.detect left."""
    run = commits.read_run(store)
    named = {run.get(commits.MANIFEST), *(entry[chain.BEFORE] for entry in run.get(chain.HISTORY, ()))}
    kinds = (
        ("manifests that nothing names", "manifest-", MANIFESTS),
        ("tables of boxes that were not moved", "boxes-", BOXES),
        ("probes", PROBE, PROBES),
    )
    for kind, beginning, ours in kinds:
        for entry in store.entries(beginning):
            if ours.fullmatch(entry.key) and entry.key not in named and entry.age_s >= min_age_s:
                yield Leftover(kind, entry.key, entry.size)


def _unfinished(store: Store, min_age_s: float) -> Iterator[Leftover]:
    """Of files that this project writes in parts: others may upload into the same prefix."""
    for entry in store.unfinished():
        key, upload, _ = entry.key.rpartition(OF_UPLOAD)  # no upload: a local file, under a name of the store's own
        ours = any(names.fullmatch(key) for names in (MANIFESTS, BOXES)) or commits.unit_of(key) is not None
        if (ours or not upload) and entry.age_s >= min_age_s:
            yield Leftover("unfinished writes and uploads", entry.key, entry.size, unfinished=True)
