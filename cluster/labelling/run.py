"""Stage 2: videos with boxes become two tables of labels, on as many Teachers as there are (Sec. 5.1, 6.2).

The route reads top to bottom in ``label``: open and prove the store, list the videos, cut units, open the run, leave
out what is committed, send the rest through Ray Data, report from the commits. Running it again goes on where it
stopped. Not here: what happens to a unit (``teacher``), what makes a commit safe (``commits``).
"""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.data import ActorPoolStrategy
from tqdm import tqdm

from cluster import progress as board
from cluster import session
from cluster.labelling import commits, sharing, units
from cluster.labelling.commits import Counts
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

STALL_S = 6 * 3600  # a Teacher that finishes no unit for so long hangs; Ray Data's own half an hour is short for a CPU

ASIDE = ("left_out", "videos_without_boxes", "short_tracks", "short_boxes")  # in run.json and report.json


class BudgetExceeded(Exception):
    """So many videos went to quarantine that something other than the videos must be wrong."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What there is to do: all units, and those not committed yet."""

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
    """Label the videos of ``config.videos`` into ``config.output``; gives the report, which is also written there.

    Raises:
        InputError: something given is wrong, or the output holds other labels, or the store is not safe, or the
            cluster is too small.
        BudgetExceeded: more quarantined videos than the settings allow.
    """
    store = _store(config)
    if config.labelling.require_conditional_writes:
        check_conditional(store)
    plan = make_plan(config, store)
    for warning in plan.warnings:
        print(f"note: {warning}")
    if plan.pending:  # before the output is begun: a run that cannot be is to leave nothing
        session.feasibility(config.cluster, _needs(config))
    facts = {"units": len(plan.units), "videos": plan.videos, **plan.aside, "config": to_tree(config)}
    commits.open_run(store, plan.fingerprint, facts)
    if plan.pending:
        _run(config, store, plan)
    else:
        print(f"all {len(plan.units)} units of {store.root} are committed already; nothing to do")
    return _finish(config, store, plan)


def make_plan(config: Config, store: Store) -> Plan:
    """List videos, cut units, and see what is committed. Reads only."""
    assert config.teacher.checkpoint is not None
    data = read_uri(config.teacher.checkpoint)
    _, own, sha256 = checkpoint.open_teacher(data, config)
    wanted = config.teacher.sha256
    if wanted is not None and wanted not in (sha256, hashlib.sha256(data).hexdigest()):
        raise InputError(
            f"teacher.sha256={wanted[:12]}... is neither the checksum of {config.teacher.checkpoint} "
            f"({hashlib.sha256(data).hexdigest()[:12]}...) nor that of its weights ({sha256[:12]}...)"
        )
    videos, warnings, aside = list_videos(config)
    all_units = units.make_units(videos, config.labelling.unit_videos)
    done = commits.committed_units(store)
    return Plan(
        units=all_units,
        pending=[unit for unit in all_units if unit.unit_id not in done],
        fingerprint=units.fingerprint(own, sha256, units.hand_digest(own), videos),
        teacher_sha256=sha256,
        warnings=(*warnings, *filter(None, [checkpoint.overridden(config, own)])),
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
    found = len(boxes)
    if config.videos.missing == "leave_out":
        boxes = {video_id: boxes[video_id] for video_id in boxes.keys() & paths.keys()} or boxes
    labelling = config.labelling
    clips, selection = something.clips(
        config.videos.root, boxes, limit=labelling.limit, min_frames=labelling.min_clip_frames
    )
    unlisted = (found - len(boxes), selection.videos_without_boxes, selection.short_tracks, selection.short_frames)
    boxes = {video_id: boxes[video_id] for video_id in sorted(boxes)[: labelling.limit]}
    missing = sorted(boxes.keys() - paths.keys())
    if _beyond_budget(config, len(missing), len(boxes)):
        raise InputError(
            f"{len(missing)} of {len(boxes)} annotated videos are not in {config.videos.root} (as {missing[0]}.webm), "
            "more than labelling.error_budget_count and error_budget_share allow. Set videos.missing=leave_out to "
            "label those that are there"
        )
    return units.videos_of(boxes, clips, paths), selection.warnings, dict(zip(ASIDE, unlisted, strict=True))


def _read_boxes(path: str) -> dict[str, VideoBoxes]:
    """The annotation, with a bar where it takes longer than a moment: the real one has gigabytes."""
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
    """Say what ``label`` would do; writes nothing."""
    store = _store(config)
    plan = make_plan(config, store)
    if store.exists(commits.RUN):
        different = units.differences(commits.read_run(store)["fingerprint"], plan.fingerprint)
        if different:
            raise InputError(f"{store.root} holds labels that were made otherwise: {'; '.join(different)}")
    print(describe(config, plan))


def quiet_ray_data() -> None:
    """No progress lines of its own; its faults come as exceptions, so its words on them would be said twice."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def _run(config: Config, store: Store, plan: Plan) -> None:
    """Send the pending units through Ray Data and watch the error budget."""
    done = commits.read_commits(store)
    total = Counts()
    for each in done:
        total.add(each.counts)
    _watch_budget(config, total)
    quiet_ray_data()
    with session.start(config.cluster):
        watched = board.Board.remote()  # type: ignore[attr-defined]
        job = LabellingJob(config, store.root, plan.teacher_sha256, driver=uuid.uuid4().hex)
        results = _route(config, plan.pending, job, watched)
        with board.Progress(watched, total=plan.videos, done=total.listed):
            for row in results.iter_rows():
                if row.get("refused"):
                    raise InputError(row["refused"])
                if row["commit"]:
                    commit = commits.Commit.from_bytes(row["commit"])
                    sharing.check_commits(store, [] if store.exists(commits.commit_key(commit.unit)) else [commit.unit])
                    total.add(commit.counts)
                    _watch_budget(config, total)


def _route(config: Config, pending: Sequence[Unit], job: LabellingJob, watched: Any) -> ray.data.Dataset:
    """The Ray Data plan: one row per unit, through a pool of Teachers."""
    rows = [{"unit": pickle.dumps(unit)} for unit in pending]
    smallest, largest = config.cluster.teachers
    smallest, largest = min(smallest, len(rows)), min(largest, len(rows))
    # One row per block, so that a finished unit is seen at once; from_items has no read tasks that could wait for the
    # CPUs that the actors hold.
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        TeacherActor,  # type: ignore[arg-type]  # Ray's hints know functions only
        fn_constructor_kwargs={"job": job, "watched": watched},
        # One unit at a time for each: a second one in its queue would wait there while another Teacher is idle.
        compute=ActorPoolStrategy(min_size=smallest, max_size=largest, max_tasks_in_flight_per_actor=1),
        num_cpus=config.cluster.teacher_cpus,
        num_gpus=config.cluster.teacher_gpus,
    )
    dataset.context.execution_no_progress_timeout_s = STALL_S
    dataset.context.enable_progress_bars = False  # the board's bar speaks of videos
    return dataset


class TeacherActor(Teacher):
    """A Teacher inside Ray, with a board to report to.

    What the user must mend comes back as a row ``{"refused": message}``: Ray would make a traceback of it.
    """

    def __init__(self, job: LabellingJob, watched: Any) -> None:
        self._refused = ""
        try:
            super().__init__(job, board.Reporter(watched))
        except InputError as error:
            self._refused = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            done = {"commit": b""} if self._refused else super().__call__(row)
        except InputError as error:
            done, self._refused = {"commit": b""}, str(error)
        return done | {"refused": self._refused}


def _finish(config: Config, store: Store, plan: Plan) -> dict[str, Any]:
    """Report what the commits say, remove what killed attempts left, and hold the budget once more."""
    found = commits.read_commits(store)
    there = {each.unit for each in found}
    sharing.check_commits(store, [unit.unit_id for unit in plan.units if unit.unit_id not in there])
    report = commits.report_of(found, filters.RULES) | plan.aside
    store.put(commits.REPORT, json.dumps(report, indent=2).encode())
    commits.sweep(store)
    total = Counts()
    for each in found:
        total.add(each.counts)
    _watch_budget(config, total)
    return report


def _watch_budget(config: Config, total: Counts) -> None:
    if _beyond_budget(config, total.quarantined, total.listed):
        classes = ", ".join(f"{count} {kind}" for kind, count in total.quarantine.most_common())
        raise BudgetExceeded(
            f"{total.quarantined} of {total.listed} videos so far are quarantined ({classes}), more than "
            f"labelling.error_budget_count={config.labelling.error_budget_count} and "
            f"labelling.error_budget_share={config.labelling.error_budget_share} allow. See quarantine/ in "
            f"{config.output} for the reasons; with larger budgets the same command goes on from here"
        )


def _beyond_budget(config: Config, quarantined: int, listed: int) -> bool:
    """Both must be exceeded: a few bad files in a small set, or a share of a large one, are to be expected."""
    labelling = config.labelling
    return quarantined > max(labelling.error_budget_count, labelling.error_budget_share * listed)


def _needs(config: Config) -> list[Need]:
    cluster = config.cluster
    return [Need("Teacher actors", cluster.teachers[0], cluster.teacher_cpus, cluster.teacher_gpus)]


def _store(config: Config) -> Store:
    assert config.output is not None
    return open_store(config.output, conditional=config.labelling.require_conditional_writes)
