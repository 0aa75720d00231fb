"""What an output holds and how it grows: ``run.json``, one commit per unit, and the files that commits name.

An attempt writes its files under unique names and then puts ``commits/<unit>.json`` unless it exists: the first
wins, a loser is garbage. Readers see only what a commit names. That alone makes retries, zombie drivers and two
drivers at once harmless. Not here: what the tables hold (hojoint.labelling.tables), who attempts (``teacher``).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from cluster.labelling import chain
from cluster.labelling.attempts import ATTEMPTS
from cluster.labelling.counts import Counts
from cluster.labelling.decoding import Failure
from cluster.labelling.units import differences, makers
from cluster.store import Store
from hojoint.config import digest, renamed
from hojoint.errors import InputError

RUN, REPORT, COMMITS = "run.json", "report.json", "commits"
MANIFEST = "manifest"  # in run.json: the key of the manifest; runs of earlier versions have none
COMMIT_KEY = re.compile(rf"{COMMITS}/(u\d+)\.json")  # editors, file systems and people add other names
# A file of an attempt, or its notes, exactly as attempts name them: a copy that a person made is no garbage.
OF_UNIT = re.compile(rf"[a-z_]+/(u\d+)-[0-9a-f]{{12}}\.parquet|{ATTEMPTS}/(u\d+)/[0-9a-f]{{12}}\.json")
TABLES = ("predictions", "pseudo_labels", "quarantine")
QUARANTINE_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("stage", pa.string()),
        ("class", pa.string()),
        ("message", pa.string()),
        ("attempts", pa.int32()),
    ]
)
READERS = 16  # threads that fetch commits
OTHER_JOBS = {"samples_version": "jobs.ingest", "boxes_version": "jobs.detect"}  # in the fingerprint -> who made it


@dataclass(frozen=True)
class Commit:
    """One unit's result, as ``commits/<unit>.json`` holds it."""

    unit: str
    attempt: str
    files: dict[str, str]  # table -> key
    sha256: dict[str, str]  # table -> checksum of its file
    counts: Any  # ``Counts``, or those of another job that commits units
    started: float  # seconds since the epoch
    finished: float
    seconds: dict[str, float]  # where the time went
    held: dict[str, float] = field(default_factory=dict)  # resource -> seconds that its worker held it for this unit
    taken_over: dict[str, str] = field(default_factory=dict)  # video id -> its class in the quarantine of before

    @property
    def failed(self) -> Counter[str]:
        """Class -> videos in this unit's own ``quarantine`` table; ``counts`` holds what the unit adds to the run."""
        out: Counter[str] = self.counts.quarantine + Counter(self.taken_over.values())
        return out

    def to_bytes(self) -> bytes:
        return json.dumps(vars(self) | {"counts": vars(self.counts)}, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes, counts_of: Callable[[dict[str, Any]], Any] = Counts.of) -> Commit:
        tree = json.loads(data)
        return cls(counts=counts_of(tree.pop("counts")), **tree)


def open_run(store: Store, fingerprint: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Begin an output, or resume one that was made with the same fingerprint.

    Raises:
        InputError: the output was made with another fingerprint; the message names what differs.
    """
    run = {"fingerprint": dict(fingerprint), "begun": time.time(), **facts}
    if not store.put_new(RUN, json.dumps(run, indent=1).encode()):
        check_fingerprint(store, fingerprint)


def check_fingerprint(store: Store, fingerprint: Mapping[str, Any], but: Sequence[str] = ()) -> None:
    """Raise InputError if ``store`` holds a run with another fingerprint; the message names what differs.

    Args:
        but: names that may differ.
    """
    if not store.exists(RUN):
        return
    before, now = (
        {n: v for n, v in side.items() if n not in but} for side in (read_run(store)["fingerprint"], fingerprint)
    )
    different = differences(before, now)
    if different:
        listed = "\n  ".join(different)
        raise InputError(
            f"{store.root} holds results of different settings or inputs, and one output cannot mix "
            f"them. What differs:\n  {listed}\nSet another output, or the settings of that one"
        )


def read_run(store: Store) -> dict[str, Any]:
    """What the run of an output is: ``run.json``, or how it has grown since (``chain``).

    Raises:
        InputError: it does not exist or cannot be read.
    """
    try:
        content = store.get(RUN)
    except KeyError:
        raise InputError(
            f"no labels at {store.root}: it has no {RUN}. Expected the output of jobs.pseudo_label"
        ) from None
    try:
        run = json.loads(content)
    except ValueError:
        run = None
    if not isinstance(run, dict) or not isinstance(run.get("fingerprint"), dict):
        raise InputError(f"{store.uri(RUN)} is not the {RUN} of a labelling run")
    run = chain.with_last(store, run)
    run["fingerprint_digest"] = digest(run["fingerprint"])  # as it is stored: what names the labels must not change
    run["fingerprint"] = renamed(run["fingerprint"])
    return run


def read_label_run(store: Store) -> dict[str, Any]:
    """``read_run`` of labels; other jobs commit units in the same way.

    Raises:
        InputError: as ``read_run``, or another job made this output.
    """
    run = read_run(store)
    for name, job in OTHER_JOBS.items():
        if name in run["fingerprint"]:
            raise InputError(
                f"{store.root} is the output of {job} and holds no labels; give the output of jobs.pseudo_label or "
                "jobs.refilter"
            )
    return run


def read_complete(store: Store) -> tuple[dict[str, Any], list[Commit]]:
    """``run.json`` and all commits of a complete labelling run.

    Raises:
        InputError: as ``read_label_run``, or units are missing: the first units are no fair sample of the labels.
    """
    run, commits = read_label_run(store), read_commits(store)
    if len(commits) != run["units"]:
        raise InputError(
            f"{store.root} is not complete: {len(commits)} of {run['units']} units are committed. Repeat the "
            f"command that made it ({makers(run)})"
        )
    return run, commits


def commit_key(unit_id: str) -> str:
    """Key of a unit's commit."""
    return f"{COMMITS}/{unit_id}.json"


def committed_units(store: Store) -> set[str]:
    """Ids of the committed units, from one listing."""
    return {match[1] for key in store.list(COMMITS) if (match := COMMIT_KEY.fullmatch(key))}


def read_commits(
    store: Store, units: Iterable[str] | None = None, counts_of: Callable[[dict[str, Any]], Any] = Counts.of
) -> list[Commit]:
    """All commits, or those of ``units``, in the order of their ids; InputError for a damaged one."""
    ids = sorted(committed_units(store) if units is None else units)
    with ThreadPoolExecutor(READERS) as pool:
        contents = list(pool.map(lambda unit: store.get(commit_key(unit)), ids))
    commits = []
    for unit, content in zip(ids, contents, strict=True):
        try:
            commits.append(Commit.from_bytes(content, counts_of))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"{store.uri(commit_key(unit))} is damaged: expected the JSON of a commit. Remove it and run the same "
                "job again; it does that unit anew"
            ) from None
    return commits


def committed_files(store: Store, table: str) -> list[str]:
    """Keys of the parquet files of ``table`` that commits name; readers read nothing else under the output."""
    return [commit.files[table] for commit in read_commits(store, counts_of=dict)]


def commit(
    store: Store,
    unit_id: str,
    attempt: str,
    tables: Mapping[str, pa.Table],
    *,
    counts: Any,
    started: float,
    seconds: Mapping[str, float],
    held: Callable[[], Mapping[str, float]] = dict,
    taken_over: Mapping[str, str] | None = None,
) -> Commit | None:
    """Write the tables and commit them. None if another attempt at the unit was first; the files are then removed.

    ``held`` is asked when the tables are written; their time is the phase 'commit' of ``seconds``.
    """
    began = time.perf_counter()
    files = {table: f"{table}/{unit_id}-{attempt}.parquet" for table in tables}
    contents = {table: _parquet(tables[table]) for table in tables}
    for table in tables:
        store.put(files[table], contents[table])
    spent = {**seconds, "commit": time.perf_counter() - began}
    result = Commit(
        unit=unit_id,
        attempt=attempt,
        files=files,
        sha256={table: hashlib.sha256(contents[table]).hexdigest() for table in tables},
        counts=counts,
        started=started,
        finished=time.time(),
        seconds={name: round(value, 3) for name, value in spent.items()},
        held={name: round(value, 3) for name, value in held().items()},
        taken_over=dict(taken_over or {}),
    )
    if store.put_new(commit_key(unit_id), result.to_bytes()):
        return result
    for key in files.values():
        store.delete(key)
    return None


def superseded(done: Iterable[Commit]) -> dict[str, str]:
    """Video id -> the last unit that took it over from quarantine; its rows in earlier ``quarantine`` tables are past.

    Args:
        done: commits in the order of their units.
    """
    return {video_id: commit.unit for commit in done for video_id in commit.taken_over}


def unit_of(key: str) -> str | None:
    """The unit that a file of an attempt, or its notes, belongs to."""
    match = OF_UNIT.fullmatch(key)
    return None if match is None else match[1] or match[2]


def lost(store: Store, done: Iterable[Commit], folders: Sequence[str]) -> list[str]:
    """Keys of attempts at committed units that no commit names.

    An attempt that still runs at one of these units can only lose, so its files are garbage at any time. Units without
    a commit are left alone: another driver may have begun them since, where the run has grown.
    """
    done = list(done)
    named, committed = {key for commit in done for key in commit.files.values()}, {commit.unit for commit in done}
    return [key for name in folders for key in store.list(name) if key not in named and unit_of(key) in committed]


def sweep(store: Store, tables: Sequence[str] = TABLES, done: Iterable[Commit] | None = None) -> int:
    """Remove what killed attempts at the committed units left behind; returns how many objects.

    ``done`` are the commits, where they have been read already.
    """
    garbage = lost(store, read_commits(store, counts_of=dict) if done is None else done, (*tables, ATTEMPTS))
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(store.delete, garbage))
    return len(garbage) + store.tidy()


def quarantine_table(failures: Sequence[Failure]) -> pa.Table:
    """One row per video without labels, and the reason."""
    rows = [
        {
            "video_id": failure.video_id,
            "stage": failure.stage,
            "class": failure.kind,
            "message": failure.message,
            "attempts": failure.attempts,
        }
        for failure in failures
    ]
    return pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA)


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue()
