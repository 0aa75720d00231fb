"""Stage 2: videos with boxes become two tables of labels, on as many Teachers as the cluster holds (Sec. 5.1, 6.2).

The route reads top to bottom in ``label``: open and prove the store, list the videos, cut units, open the run, leave
out what is committed, send the rest through Ray Data, report from the commits. The same command again resumes where it
stopped. Not here: what happens to a unit (``teacher``), what makes a commit safe (``commits``).
"""

from __future__ import annotations

import functools
import hashlib
import json
import pickle
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from cluster import progress as board
from cluster import session
from cluster.labelling import budget, commits, pool, sharing, units
from cluster.labelling.commits import Commit, Counts
from cluster.labelling.teacher import LabellingJob, Teacher
from cluster.labelling.units import Unit, Video
from cluster.session import Need
from cluster.store import Store, check_conditional, open_store, read_uri
from hojoint.config import Config, to_tree
from hojoint.datasets import something
from hojoint.datasets.boxes import VideoBoxes
from hojoint.errors import InputError
from hojoint.labelling import filters
from hojoint.model import checkpoint

ASIDE = ("left_out", "videos_without_boxes", "short_tracks", "short_boxes")  # in run.json and report.json


@dataclass(frozen=True, eq=False)
class Plan:
    """The work of a run: all units, and those not committed yet."""

    units: list[Unit]
    pending: list[Unit]
    fingerprint: dict[str, Any]
    teacher_sha256: str
    warnings: tuple[str, ...]
    aside: dict[str, int]  # counts of what is not listed; see ``list_videos``

    @property
    def videos(self) -> int:
        return sum(len(unit.videos) for unit in self.units)


def label(config: Config) -> dict[str, Any]:
    """Label the videos of ``config.videos`` into ``config.output``; returns the report, which is also written there.

    Raises:
        InputError: an input is wrong, the output holds other labels, the store is not safe, or the cluster is too
            small.
        BudgetExceeded: more videos are quarantined than the settings allow.
    """
    store = open_output(config)
    if config.labelling.require_conditional_writes:
        check_conditional(store)
    plan = make_plan(config, store)
    for warning in plan.warnings:
        print(f"note: {warning}")
    if plan.pending:  # before run.json is written: a run that cannot start leaves nothing
        session.feasibility(config.cluster, _needs(config))
    facts = {"units": len(plan.units), "videos": plan.videos, **plan.aside, "config": to_tree(config)}
    commits.open_run(store, plan.fingerprint, facts)
    if plan.pending:
        _run(config, store, plan)
    else:
        print(f"all {len(plan.units)} units of {store.root} are committed already; nothing to do")
    report, total = finish(store, [unit.unit_id for unit in plan.units], plan.aside)
    _watch_budget(config, total)
    return report


def open_output(config: Config) -> Store:
    """The store at ``config.output``."""
    assert config.output is not None
    return open_store(config.output, conditional=config.labelling.require_conditional_writes)


def make_plan(config: Config, store: Store) -> Plan:
    """List videos, cut units, and see what is committed. Reads only."""
    assert config.teacher.checkpoint is not None
    data = read_uri(config.teacher.checkpoint)
    _, teacher_config, sha256 = checkpoint.open_teacher(data, config)
    pinned = config.teacher.sha256
    if pinned is not None and pinned not in (sha256, hashlib.sha256(data).hexdigest()):
        raise InputError(
            f"teacher.sha256={pinned[:12]}... is neither the checksum of {config.teacher.checkpoint} "
            f"({hashlib.sha256(data).hexdigest()[:12]}...) nor that of its weights ({sha256[:12]}...); set the one of "
            "the teacher you mean, or leave teacher.sha256 out"
        )
    videos, warnings, aside = list_videos(config)
    all_units = units.make_units(videos, config.labelling.unit_videos)
    done = commits.committed_units(store)
    return Plan(
        units=all_units,
        pending=[unit for unit in all_units if unit.unit_id not in done],
        fingerprint=units.fingerprint(teacher_config, sha256, units.hand_digest(teacher_config), videos),
        teacher_sha256=sha256,
        warnings=(*warnings, *filter(None, [checkpoint.overridden(config, teacher_config)])),
        aside=aside,
    )


def list_videos(config: Config) -> tuple[list[Video], tuple[str, ...], dict[str, int]]:
    """Every video with boxes, up to ``labelling.limit``; notes for the user; counts of what is not listed.

    The counts, named as in ``ASIDE``: videos left out by ``videos.missing``, videos in the folder without boxes, and
    hands seen in too few frames to make a clip, with their boxes.
    """
    assert config.videos.root is not None
    assert config.videos.boxes is not None
    boxes = _read_boxes(config.videos.boxes)
    paths = something.find_videos(config.videos.root)
    annotated = len(boxes)
    if config.videos.missing == "leave_out":
        boxes = {video_id: boxes[video_id] for video_id in boxes.keys() & paths.keys()} or boxes
    labelling = config.labelling
    clips, selection = something.clips(
        config.videos.root, boxes, limit=labelling.limit, min_frames=labelling.min_clip_frames
    )
    left_out = annotated - len(boxes)
    unlisted = (left_out, selection.videos_without_boxes, selection.short_tracks, selection.short_frames)
    boxes = {video_id: boxes[video_id] for video_id in sorted(boxes)[: labelling.limit]}
    missing = sorted(boxes.keys() - paths.keys())
    if budget.exceeded(config, len(missing), len(boxes)):
        raise InputError(
            f"{len(missing)} of {len(boxes)} annotated videos are not in {config.videos.root} (the first: "
            f"{missing[0]}.webm), more than labelling.error_budget_count and error_budget_share allow. Set "
            "videos.missing=leave_out to label the existing ones"
        )
    return units.videos_of(boxes, clips, paths), selection.warnings, dict(zip(ASIDE, unlisted, strict=True))


def _read_boxes(path: str) -> dict[str, VideoBoxes]:
    """The annotation, with a bar if it takes longer than a moment: the real one has gigabytes."""
    with tqdm(desc="reading boxes", unit="B", unit_scale=True, delay=2, leave=False, dynamic_ncols=True) as bar:

        def moved(read: int, total: int) -> None:
            bar.total = total
            bar.update(read - bar.n)

        return something.read_boxes(path, moved)


def describe(config: Config, plan: Plan) -> str:
    """What ``--dry-run`` prints: the work, what is done of it, and whether the cluster can hold it."""
    clips, frames = (sum(getattr(unit, name) for unit in plan.units) for name in ("clips", "frames"))
    passes = sum(unit.frames for unit in plan.pending) * config.tta.views
    return "\n".join(
        [
            *(f"note       {warning}" for warning in plan.warnings),
            f"videos     {plan.videos}, {clips} clips of a hand, {frames} frames with one",
            f"units      {len(plan.units)} of up to {config.labelling.unit_videos} videos; "
            f"{len(plan.units) - len(plan.pending)} committed, {len(plan.pending)} to do",
            f"work       about {passes} views through the network",
            f"teacher    {config.teacher.checkpoint} (weights {plan.teacher_sha256[:12]})",
            f"output     {config.output}",
            f"resources  {session.feasibility(config.cluster, _needs(config))}",
        ]
    )


def dry_run(config: Config) -> None:
    """Print what ``label`` would do; writes nothing. Raises what ``label`` would raise before the work."""
    store = open_output(config)
    plan = make_plan(config, store)
    commits.check_fingerprint(store, plan.fingerprint)
    print(describe(config, plan))


def finish(store: Store, unit_ids: Sequence[str], aside: dict[str, Any]) -> tuple[dict[str, Any], Counts]:
    """Write the report of a run whose units are all committed, and remove what killed attempts left.

    Raises:
        InputError: a unit is not committed in ``store`` as the driver sees it.
    """
    done = commits.read_commits(store)
    committed = {commit.unit for commit in done}
    sharing.check_commits(store, [unit for unit in unit_ids if unit not in committed])
    report = commits.report_of(done, filters.RULES) | aside
    store.put(commits.REPORT, json.dumps(report, indent=2).encode())
    commits.sweep(store)
    return report, commits.total_of(done)


def _run(config: Config, store: Store, plan: Plan) -> None:
    """Send the pending units through Ray Data and watch the error budget."""
    total = commits.total_of(commits.read_commits(store))
    _watch_budget(config, total)
    with session.start(config.cluster):
        watched = board.Board.remote()  # type: ignore[attr-defined]
        job = LabellingJob(config, store.root, plan.teacher_sha256, driver=uuid.uuid4().hex)
        results = _route(config, store, plan.pending, job, watched)
        rate = board.FrameRate()
        with board.Progress(watched, "labelling", "video", total=plan.videos, done=total.listed, text=rate):
            for commit in results:
                if commit is not None:
                    total.add(commit.counts)
                    _watch_budget(config, total)


def _route(
    config: Config, store: Store, pending: Sequence[Unit], job: LabellingJob, watched: Any
) -> Iterator[Commit | None]:
    """The commits of the pending units, from a pool of Teachers."""
    return pool.commit_all(
        functools.partial(reporting_teacher, job, watched),
        [{"unit": pickle.dumps(unit)} for unit in pending],
        store=store,
        actors=config.cluster.teachers,
        cpus=config.cluster.teacher_cpus,
        gpus=config.cluster.teacher_gpus,
    )


def reporting_teacher(job: LabellingJob, watched: Any) -> Teacher:
    """A Teacher inside Ray, which reports to a board."""
    return Teacher(job, board.Reporter(watched))


def _watch_budget(config: Config, total: Counts) -> None:
    budget.check(config, total.quarantined, total.listed, total.quarantine)


def _needs(config: Config) -> list[Need]:
    cluster = config.cluster
    return [Need("Teacher actors", cluster.teachers[0], cluster.teacher_cpus, cluster.teacher_gpus)]
