"""Videos without boxes become one table of boxes, on as many Finders as the settings allow.

The route reads top to bottom in ``detect``: list the videos, cut units, open the run beside the output, leave out what
is committed, send the rest through Ray Data, then put the table together from the commits. The same command again
resumes where it stopped. Not here: what happens to a unit (``finder``), how the table is written (``boxes_file``).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import math
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cluster import capacity, session
from cluster import progress as board
from cluster.capacity import Need
from cluster.detection import boxes_file, findings
from cluster.detection.finder import DetectionJob, Finder, Make
from cluster.detection.findings import Counts
from cluster.labelling import budget, commits, manifest, pool, presence, sharing, stalls
from cluster.labelling.commits import Commit
from cluster.labelling.manifest import Manifest, Reader
from cluster.labelling.units import Video, unit_id
from cluster.metrics import CommittedGauges
from cluster.sources import list_videos
from cluster.store import Store, check_conditional, open_store, read_uri
from hojoint import config as settings
from hojoint.config import Config
from hojoint.datasets import box_tables
from hojoint.detection import models
from hojoint.detection.detector import Detector
from hojoint.detection.mediapipe import MediaPipeDetector
from hojoint.errors import InputError

NOT_RESULT = {"models", "actors"}
"""Settings of ``detect`` that do not change what is found; the networks count by their content."""
LABELLING = ("unit_videos", "decoder", "max_frame_px", "max_file_mb", "decode_memory_mb")
"""Settings of ``labelling`` that decide which videos are looked at; ``max_frames`` only bounds a window."""


@dataclass(frozen=True, eq=False)
class Plan:
    """The work of a run."""

    manifest: Manifest
    pending: list[str]  # ids of the units that are not committed
    identity: dict[str, str]  # of the detector
    fingerprint: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def unit_ids(self) -> list[str]:
        return [unit_id(number) for number in range(len(self.manifest.unit_frames))]


def mediapipe_detector(config: Config) -> Detector:
    """The detector that the settings name; InputError where its library or its files are missing."""
    place, variant, detect = config.detect.models, config.detect.variant, config.detect
    if place is not None and "://" in place:
        files = models.in_wheel(read_uri(place), place, variant)
    else:
        files = models.find(place, variant)
    return MediaPipeDetector(
        files,
        min_palm_score=detect.min_palm_score,
        min_hand_score=detect.min_hand_score,
        threads=max(1, math.ceil(config.cluster.teacher_cpus)),
    )


def detect(config: Config, make: Make = mediapipe_detector) -> dict[str, Any]:
    """Find the hands in the videos of ``config.videos.root`` and write ``config.output``; returns the report.

    Args:
        config: settings.
        make: makes the detector, in this process and in every actor.

    Raises:
        InputError: an input is wrong, the output holds something else, the store is not safe, or the cluster is too
            small.
        BudgetExceeded: more videos are quarantined than the settings allow.
    """
    store = open_run(config)
    plan = make_plan(config, store, make)
    if config.labelling.require_conditional_writes:
        check_conditional(store)
    for note in plan.notes:
        print(f"note: {note}")
    _check_same(store, plan)
    if plan.pending:  # before run.json is written: a run that cannot start leaves nothing
        _feasible(config, plan)
    facts: dict[str, Any] = {"units": len(plan.unit_ids), "videos": plan.manifest.videos}
    facts |= {commits.MANIFEST: plan.manifest.put(store), "config": settings.to_tree(config)}
    commits.open_run(store, plan.fingerprint, facts)
    if plan.pending:
        _run(config, store, plan, make)
    return _finish(config, store, plan)


def dry_run(config: Config, make: Make = mediapipe_detector) -> None:
    """Print what ``detect`` would do; writes nothing. Raises what ``detect`` would raise before the work."""
    store = open_run(config)
    plan = make_plan(config, store, make)
    _check_same(store, plan)
    networks = ", ".join(f"{name} {digest[:12]}" for name, digest in plan.identity.items())
    lines = [
        *(f"note       {note}" for note in plan.notes),
        f"videos     {plan.manifest.videos}",
        f"units      {len(plan.unit_ids)} of up to {config.labelling.unit_videos} videos; "
        f"{len(plan.unit_ids) - len(plan.pending)} committed, {len(plan.pending)} to do",
        f"networks   {networks}",
        f"output     {config.output}, its run in {store.root}",
        f"resources  {_feasible(config, plan)}",
    ]
    print("\n".join(lines))


def open_run(config: Config) -> Store:
    """The store of the run beside ``config.output``; InputError where that names no Parquet file."""
    assert config.output is not None
    root = boxes_file.run_of(config.output)
    return open_store(root, conditional=config.labelling.require_conditional_writes)


def make_plan(config: Config, store: Store, make: Make) -> Plan:
    """List videos, cut units, and see what is committed. Reads only."""
    assert config.videos.root is not None
    identity = make(config).identity
    notes: list[str] = []
    entries = list_videos(config.videos.root, notes=notes)
    labelling = config.labelling
    made = manifest.write(map(Video.of, itertools.islice(entries, labelling.limit)), labelling.unit_videos)
    done = commits.committed_units(store)
    fingerprint = fingerprint_of(config, identity, made)
    digest = boxes_file.written_by(store)
    if digest is not None and digest != settings.digest(fingerprint) and not store.exists(commits.RUN):
        raise InputError(
            f"{config.output} exists and its run, {store.root}, is gone or moved; set another output, or bring it back"
        )
    plan = Plan(made, [], identity, fingerprint, tuple(notes))
    plan.pending.extend(name for name in plan.unit_ids if name not in done)
    return plan


def fingerprint_of(config: Config, identity: dict[str, str], made: Manifest) -> dict[str, Any]:
    """Everything that changes a result, as flat names and plain values."""
    detect, labelling = settings.to_tree(config.detect), settings.to_tree(config.labelling)
    return {
        "boxes_version": box_tables.VERSION,
        "videos": made.digests.files,
        **{f"network.{name}": digest for name, digest in identity.items()},
        **{f"detect.{name}": value for name, value in detect.items() if name not in NOT_RESULT},
        **{f"labelling.{name}": labelling[name] for name in LABELLING},
    }


class UnitFinder:
    """A Finder inside Ray: callable on rows ``{"unit": id}``; it reads the unit's videos from the manifest."""

    def __init__(self, job: DetectionJob, make: Make, watched: Any) -> None:
        self._manifest = Reader(open_store(job.root), job.manifest)
        self._finder = Finder(job, make, board.Reporter(watched, "detection", job.root))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        commit = self._finder.work(self._manifest.unit(row["unit"]))
        return {"commit": b"" if commit is None else commit.to_bytes()}

    def close(self) -> None:
        self._finder.close()


def _run(config: Config, store: Store, plan: Plan, make: Make) -> None:
    """Send the pending units through Ray Data and watch the error budget."""
    done = commits.read_commits(store, counts_of=Counts.of)
    total, unit_s = findings.total_of(done), stalls.longest_unit_s(done)
    del done  # of a large run they would lie in memory until its end
    _check_budget(config, total)
    wanted = pool.size(config.detect.actors, len(plan.pending))[1]
    with presence.announced(store, "finds hands"), session.start(config.cluster):
        watched = board.new_board("detection", wanted, store.root)
        gauges = CommittedGauges("detection", store.root, videos=plan.manifest.videos, done=total.listed)
        gauges.show(*findings.outcomes_of(total), committed=False)
        job = DetectionJob(config, store.root, plan.identity, uuid.uuid4().hex, plan.manifest.key)
        results = _route(
            config, store, plan.pending, functools.partial(UnitFinder, job, make, watched), watched, unit_s=unit_s
        )
        rate = board.FrameRate("detectors", wanted)
        with (
            gauges,
            board.Progress(watched, "detecting", "video", total=plan.manifest.videos, done=total.listed, text=rate),
        ):
            for commit in results:
                if commit is not None:
                    total.add(commit.counts)
                    gauges.show(*findings.outcomes_of(total), committed=True)
                    _check_budget(config, total)


def _route(
    config: Config, store: Store, pending: Sequence[str], make: Any, watched: Any, *, unit_s: float
) -> Iterator[Commit | None]:
    """The commits of the pending units, from a pool of Finders."""
    return pool.commit_all(
        make,
        [{"unit": name} for name in pending],
        store=store,
        actors=config.detect.actors,
        cpus=config.cluster.teacher_cpus,
        counts_of=Counts.of,
        watch=stalls.Watch(board.signs_of(watched), unit_s),  # a unit of long videos takes hours
        tell=board.told_of(watched),
    )


def _finish(config: Config, store: Store, plan: Plan) -> dict[str, Any]:
    """Write the table and the report, unless those there fit the commits, and remove what killed attempts left."""
    done = commits.read_commits(store, sharing.committed(store, plan.unit_ids), counts_of=Counts.of)
    digest = settings.digest(plan.fingerprint)
    rows = boxes_file.rows_of(store, done, digest)
    report = findings.report_of(done) | {"rows": boxes_file.write(store, done, digest) if rows is None else rows}
    content = json.dumps(report, indent=2).encode()
    if not plan.pending and rows is not None and _read(store, commits.REPORT) == content:
        print(f"{config.output} is complete already; nothing to do")
    else:
        store.put(commits.REPORT, content)
        commits.sweep(store, findings.TABLES)
    _check_budget(config, findings.total_of(done))
    return report


def _read(store: Store, key: str) -> bytes | None:
    with contextlib.suppress(KeyError):
        return store.get(key)
    return None


def _check_same(store: Store, plan: Plan) -> None:
    """Raise InputError where ``store`` holds a run of other settings, networks or videos."""
    commits.check_fingerprint(store, plan.fingerprint)
    manifest.check_etags(store, plan.manifest)


def _check_budget(config: Config, total: Counts) -> None:
    budget.check(config, total.quarantined, total.listed, total.quarantine)


def _feasible(config: Config, plan: Plan) -> str:
    need = Need("detectors", config.detect.actors[0], config.cluster.teacher_cpus)
    return capacity.feasibility(config.cluster, [need], begun=len(plan.pending) < len(plan.unit_ids))
