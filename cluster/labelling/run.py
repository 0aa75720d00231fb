"""Stage 2: videos with boxes become two tables of labels, on as many Teachers as the cluster holds (Sec. 5.1, 6.2).

The route reads top to bottom in ``label``: open and prove the store, list the videos into units, open the run, leave
out what is committed, send the rest through Ray Data, report from the commits. The same command again resumes where it
stopped. Not here: which videos are listed (``listing``), what happens to a unit (``teacher``), what makes a commit safe
(``commits``).
"""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cluster import capacity, session
from cluster import progress as board
from cluster.capacity import Need
from cluster.labelling import (
    budget,
    checkpoint_facts,
    commits,
    costs,
    growth,
    manifest,
    pool,
    presence,
    quality_files,
    recall,
    sharing,
    stalls,
    totals,
    units,
)
from cluster.labelling.commits import Commit
from cluster.labelling.counts import Counts
from cluster.labelling.growth import Growth
from cluster.labelling.job import LabellingJob
from cluster.labelling.manifest import Manifest
from cluster.labelling.units import unit_id
from cluster.metrics import CommittedGauges
from cluster.store import Store, check_conditional, open_store
from hojoint.config import Config, ReportConfig, to_tree
from hojoint.labelling import reasons, sides
from hojoint.labelling.quality import views_of

TeacherOf = Callable[[LabellingJob, Any], pool.Worker]
"""Builds a worker inside Ray; the second argument is the board that it reports to."""


@dataclass(frozen=True, eq=False)
class Plan:
    """The work of a run: the manifest of all units, and the ids of those not committed yet."""

    manifest: Manifest
    pending: list[str]
    fingerprint: dict[str, Any]
    teacher_sha256: str
    notes: tuple[str, ...]
    aside: dict[str, int]  # counts of what is not listed; see ``listing.ASIDE``
    quality: bytes | None  # content of ``filters.quality_model``
    growth: Growth | None = None  # what the run in the output is about to grow by
    memo: recall.Memo | None = None  # of the listing, where its manifest is the run's

    @property
    def unit_ids(self) -> list[str]:
        return [unit_id(number) for number in range(len(self.manifest.unit_frames))]


def label(config: Config, make: TeacherOf | None = None) -> dict[str, Any]:
    """Label the videos of ``config.videos`` into ``config.output``; returns the report, which is also written there.

    ``make`` builds another worker than a Teacher, as a benchmark of all that is around one wants (``timed``).

    Raises:
        InputError: an input is wrong, the output holds other labels, the store is not safe, or the cluster is too
            small.
        BudgetExceeded: more videos are quarantined than the settings allow.
        Unavailable, MachineError: see ``pool.commit_all`` and ``capacity.feasibility``.
    """
    store = open_output(config)
    if config.labelling.require_conditional_writes:
        check_conditional(store)
    plan = make_plan(config, store)
    for note in plan.notes:
        print(f"note: {note}")
    counted, unit_s = _checked(config, store, plan)
    if plan.pending:  # before run.json is written: a run that cannot start leaves nothing
        _feasible(config, plan)
    while not begin(config, store, plan):  # another driver has let the run grow meanwhile
        plan = make_plan(config, store)
        counted, unit_s = _checked(config, store, plan)
    with presence.announced(store, "labels videos") as presented:
        if plan.pending:
            _run(config, store, plan, presented, make or reporting_teacher, counted, unit_s)
        else:
            print(f"all {len(plan.unit_ids)} units of {store.root} are committed already; nothing to do")
        report, total = finish(store, plan.unit_ids, plan.aside, config.report)
    budget.check(config, total.quarantined, total.listed, total.quarantine)
    return report


def begin(config: Config, store: Store, plan: Plan) -> bool:
    """Write the manifest and ``run.json``, unless they are there, or the record of how the run grows.

    False where another driver has let it grow first: then plan again.
    """
    facts: dict[str, Any] = {"units": len(plan.unit_ids), "videos": plan.manifest.videos, **plan.aside}
    facts |= {commits.MANIFEST: plan.manifest.put(store), "config": to_tree(config)}
    if plan.growth is not None and not growth.record(store, plan.growth, plan.fingerprint, facts):
        return False
    commits.open_run(store, plan.fingerprint, facts)
    quality_files.keep(store, plan.quality)
    if plan.memo is not None:
        plan.memo.put(store)
    return True


def check_same(store: Store, plan: Plan) -> None:
    """Raise InputError where ``store`` holds a run of other settings, videos or boxes."""
    commits.check_fingerprint(store, plan.fingerprint, but=() if plan.growth is None else units.OF_VIDEOS)
    manifest.check_etags(store, plan.manifest)


def open_output(config: Config) -> Store:
    """The store at ``config.output``."""
    assert config.output is not None
    return open_store(config.output, conditional=config.labelling.require_conditional_writes)


def make_plan(config: Config, store: Store) -> Plan:
    """List videos, cut units, and see what is committed; writes temporary files only."""
    assert config.teacher.checkpoint is not None
    teacher = checkpoint_facts.facts_of(config)
    model = teacher.config.model
    listed, memo = recall.listed(config, store)
    if listed.sideless:
        sides.refuse_unknown(model, config.filters)
    side_head = model.side_head or not listed.sideless
    reasons.refuse_one_view(config.filters.enabled, config.tta.views)
    quality = quality_files.read(config.filters, side_head=side_head, views=views_of(config.tta))
    fingerprint = functools.partial(
        units.fingerprint, teacher.config, teacher.weights_sha256, teacher.hand_sha256, quality=quality
    )
    arranged = growth.arrange(store, listed.manifest, config, fingerprint(listed.manifest.digests))
    done = commits.committed_units(store)
    plan = Plan(
        manifest=arranged.manifest,
        pending=[],
        fingerprint=fingerprint(arranged.manifest.digests),
        teacher_sha256=teacher.weights_sha256,
        notes=(*listed.notes, *arranged.notes, *teacher.notes),
        aside=listed.aside,
        quality=quality,
        growth=arranged.growth,
        memo=memo if arranged.manifest is listed.manifest else None,
    )
    plan.pending.extend(name for name in plan.unit_ids if name not in done)
    return plan


def describe(config: Config, plan: Plan) -> str:
    """What ``--dry-run`` prints: the work, what is done of it, and whether the cluster can hold it."""
    made = plan.manifest
    passes = sum(made.unit_frames[units.unit_number(name)] for name in plan.pending) * config.tta.views
    return "\n".join(
        [
            *(f"note       {note}" for note in plan.notes),
            f"videos     {made.videos}, {made.clips} clips of a hand, {sum(made.unit_frames)} frames with one",
            f"units      {len(plan.unit_ids)} of up to {config.labelling.unit_videos} videos; "
            f"{len(plan.unit_ids) - len(plan.pending)} committed, {len(plan.pending)} to do",
            *([] if plan.growth is None else [f"growth     {plan.growth}"]),
            f"work       about {passes} views through the network",
            f"teacher    {config.teacher.checkpoint} (weights {plan.teacher_sha256[:12]})",
            f"output     {config.output}",
            f"resources  {_feasible(config, plan)}",
        ]
    )


def dry_run(config: Config) -> None:
    """Print what ``label`` would do; writes nothing. Raises what ``label`` would raise before the work."""
    store = open_output(config)
    plan = make_plan(config, store)
    check_same(store, plan)
    print(describe(config, plan))


def finish(
    store: Store, unit_ids: Sequence[str], aside: dict[str, Any], prices: ReportConfig | None = None
) -> tuple[dict[str, Any], Counts]:
    """Write the report of a run whose units are all committed, and remove what killed attempts left.

    With ``prices`` the report has ``costs``; a job that does not measure what its actors hold has none.

    Raises:
        InputError: a unit is not committed in ``store`` as the driver sees it, or the units do not hold the videos of
            the run.
    """
    done = commits.read_commits(store, sharing.committed(store, unit_ids))
    total = totals.total_of(done)
    totals.check_videos(store, len(done), total)
    report = totals.report_of(done, reasons.REASONS) | aside
    if prices is not None:
        report["costs"] = costs.costs_of(done, prices, report["videos"]["listed"])
    store.put(commits.REPORT, json.dumps(report, indent=2).encode())
    commits.sweep(store, done=done)
    return report, total


def _checked(config: Config, store: Store, plan: Plan) -> tuple[budget.Watched, float]:
    """The budget so far, and the longest time of a unit, s; raises what ``check_same`` and the budget raise.

    Before the run is begun or grows: what is refused leaves nothing.
    """
    check_same(store, plan)
    done = commits.read_commits(store) if plan.pending else []
    watched = budget.Watched(config, totals.total_of(done), plan.manifest.retries, set(plan.pending))
    watched.check()
    return watched, stalls.longest_unit_s(done)


def _run(
    config: Config,
    store: Store,
    plan: Plan,
    note: presence.Note,
    make: TeacherOf,
    counted: budget.Watched,
    unit_s: float,
) -> None:
    """Send the pending units through Ray Data and watch the error budget; ``unit_s`` as ``_route`` takes it."""
    total = counted.total
    wanted = pool.size(config.cluster.teachers, len(plan.pending))[1]
    with session.start(config.cluster):
        watched = board.new_board("labelling", wanted, store.root)
        gauges = CommittedGauges("labelling", store.root, videos=plan.manifest.videos, done=total.listed)
        gauges.show(*totals.outcomes_of(total), committed=False)
        hand, driver, retries = plan.fingerprint["hand_model"], uuid.uuid4().hex, plan.manifest.retries
        job = LabellingJob(
            config, store.root, plan.teacher_sha256, driver, plan.manifest.key, plan.quality, hand, retries
        )
        results = _route(config, store, plan.pending, job, watched, make=make, unit_s=unit_s)
        with gauges, _progress(watched, note, plan, total.listed, wanted):
            for commit in results:
                if commit is not None:
                    counted.add(commit)
                    gauges.show(*totals.outcomes_of(total), committed=True)
                    counted.check()


def _progress(watched: Any, note: presence.Note, plan: Plan, done: int, wanted: int) -> board.Progress:
    """The bar; the driver's note tells how many Teachers live."""
    return board.Progress(
        watched,
        "labelling",
        "video",
        total=plan.manifest.videos,
        done=done,
        text=board.FrameRate("Teachers", wanted),
        note=lambda state: note.tell(teachers=state.get("alive", 0), wanted=wanted),
    )


def _route(
    config: Config,
    store: Store,
    pending: Sequence[str],
    job: LabellingJob,
    watched: Any,
    *,
    make: TeacherOf,
    unit_s: float,
) -> Iterator[Commit | None]:
    """The commits of the pending units, from a pool of Teachers; ``unit_s`` is the longest time of a unit so far."""
    return pool.commit_all(
        functools.partial(make, job, watched),
        [{"unit": name} for name in pending],
        store=store,
        actors=config.cluster.teachers,
        cpus=config.cluster.teacher_cpus,
        gpus=config.cluster.teacher_gpus,
        watch=stalls.Watch(board.signs_of(watched), unit_s),
        tell=board.told_of(watched),
    )


def reporting_teacher(job: LabellingJob, watched: Any) -> pool.Worker:
    """A Teacher inside Ray, which reports to a board."""
    from cluster.labelling.teacher import Teacher  # in the actor: it loads torch, which would weigh on the driver

    return Teacher(job, board.Reporter(watched, "labelling", job.output))


def _feasible(config: Config, plan: Plan) -> str:
    size = config.cluster
    need = Need("Teacher actors", size.teachers[0], size.teacher_cpus, size.teacher_gpus)
    return capacity.feasibility(size, [need], begun=len(plan.pending) < len(plan.unit_ids))
