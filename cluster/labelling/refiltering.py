"""Other thresholds over existing predictions: a new label set without the network (Sec. 5.1.1, 5.1.2).

``predictions/`` holds every frame with every score, so only verdicts change, and with them the labels of kept frames
where ``refine`` is active; that needs the hand model. The pictures of frames that were kept before are copied. Those of
frames that are kept only now are decoded again from where the run's manifest or ``videos.root`` has the video, else
counted as ``without_image``; a video that fails has a row of ``quarantine/`` with the stage 'picture'. The new output
has the layout of a labelling run and is committed and resumed in the same way, unit by unit. Not here: what is done
with one unit (``refilter_actor``).
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster import capacity, session
from cluster import progress as board
from cluster.capacity import Need
from cluster.labelling import commits, files, listing, manifest, pool, presence, quality_files, stalls, totals, units
from cluster.labelling import run as labelling
from cluster.labelling.commits import Commit
from cluster.labelling.job import RefilterJob
from cluster.metrics import CommittedGauges
from cluster.store import Store, check_conditional, open_store
from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError
from hojoint.labelling import quality, reasons


@dataclass(frozen=True)
class Source:
    """The labelling run whose predictions are judged again."""

    store: Store
    run: Mapping[str, Any]
    commits: Sequence[Commit]
    quality: bytes | None  # content of ``filters.quality_model``, by which it is judged now

    @property
    def digest(self) -> str:
        """SHA-256 of what its units committed."""
        of_units = json.dumps([commit.sha256 for commit in self.commits], sort_keys=True)
        return hashlib.sha256(of_units.encode()).hexdigest()

    @property
    def config(self) -> Config:
        """Settings of the labelling run, with the crop of its checkpoint."""
        tree = dict(self.run["config"])
        names = [name for name in self.run["fingerprint"] if name.startswith("crop.")]
        tree["crop"] = {name.removeprefix("crop."): self.run["fingerprint"][name] for name in names}
        return settings.from_stored(tree)


def refilter(config: Config) -> dict[str, Any]:
    """Judge the predictions of ``data.pseudo.labels`` by ``config.filters`` into ``config.output``.

    Returns the report, which is also written there.

    Raises:
        InputError: the source is not complete, a setting asks for scores that it does not hold, the output holds other
            labels, the store is not safe, or the cluster is too small.
    """
    source, store = open_source(config), labelling.open_output(config)
    commits.check_fingerprint(store, fingerprint_of(source, config))
    pending = _pending(source, store)
    listed = None
    if pending:  # before run.json is written: a run that cannot start leaves nothing
        capacity.feasibility(config.cluster, _needs(config), begun=len(pending) < len(source.commits))
        listed = None if config.videos.root is None else files.listed(config.videos.root)
    if config.labelling.require_conditional_writes:
        check_conditional(store)
    aside = {name: source.run[name] for name in listing.ASIDE if name in source.run}
    facts = {"units": len(source.commits), "videos": source.run["videos"], **aside}
    facts |= {"config": source.run["config"], "refiltered": source.store.root}
    if commits.MANIFEST in source.run:  # the new labels do not need the source
        facts[commits.MANIFEST] = manifest.copy(source.store, source.run[commits.MANIFEST], store)
    commits.open_run(store, fingerprint_of(source, config), facts)
    quality_files.keep(store, source.quality)
    if pending:
        keys = (source.run.get(commits.MANIFEST), None if listed is None else listed.put(store))
        asked = _with_hand_of(source, config) if config.refine.active else config
        _run(
            config,
            store,
            RefilterJob(asked, source.store.root, store.root, source.config, *keys, source.quality),
            pending,
            source.run["videos"],
        )
    else:
        print(f"all {len(source.commits)} units of {store.root} are committed already; nothing to do")
    report, _ = labelling.finish(store, [commit.unit for commit in source.commits], aside)
    return report


def dry_run(config: Config) -> None:
    """Print what ``refilter`` would do; writes nothing. Raises what ``refilter`` would raise before the work."""
    source, store = open_source(config), labelling.open_output(config)
    commits.check_fingerprint(store, fingerprint_of(source, config))
    if config.videos.root is not None:
        files.listed(config.videos.root)
    print(describe(config, source, len(_pending(source, store))))


def open_source(config: Config) -> Source:
    """The run at ``data.pseudo.labels``.

    Raises:
        InputError: it is not complete, is the output itself, or lacks the scores that the settings need.
    """
    assert config.data.pseudo.labels is not None
    store = open_store(config.data.pseudo.labels)
    if config.output is not None and store.root == open_store(config.output).root:
        raise InputError(f"output and data.pseudo.labels are both {store.root}; set another output for the new labels")
    run, done = commits.read_complete(store)
    views = {name: run["fingerprint"][name] for name in quality.OF_VIEWS if name in run["fingerprint"]}
    reasons.refuse_one_view(config.filters.enabled, views.get("tta.views", 0))
    source = Source(store, run, done, quality_files.read(config.filters, side_head=True, views=views))
    if source.commits:
        quality_files.refuse_unknown(store, source.commits[0], config.filters, source.quality)
    units.check_readings(source.run, config, store.root)
    if config.refine.active:
        units.check_hand(source.run, config, store.root)
    if config.videos.root is not None and source.run["fingerprint"].get("schema_version") == 1:
        raise InputError(
            f"the labels at {store.root} are of an earlier release, which counted the frames of some videos in another "
            "way: their pictures cannot be decoded again. Label the videos again, or leave videos.root out; then "
            "frames that were not kept before have no picture"
        )
    return source


def fingerprint_of(source: Source, config: Config) -> dict[str, Any]:
    """The source's fingerprint with the new rules, and what else the new labels depend on."""
    tree = settings.to_tree(config.filters)
    rules = {f"filters.{name}": value for name, value in tree.items() if name not in units.BY_CONTENT}
    has_files = config.videos.root is not None or commits.MANIFEST in source.run
    before = {name: value for name, value in source.run["fingerprint"].items() if not name.startswith("refine.")}
    return {
        **before,
        **rules,
        units.QUALITY_MODEL: units.quality_digest(source.quality),
        **units.refinement(config),
        "refiltered": source.digest,
        "pictures of frames not kept before": "decoded again" if has_files else "none",
    }


def describe(config: Config, source: Source, pending: int) -> str:
    """What ``--dry-run`` prints: the work, what changes, and whether the cluster can hold it."""
    pictures = fingerprint_of(source, config)["pictures of frames not kept before"]
    frames = sum(commit.counts.predicted for commit in source.commits)
    return "\n".join(
        [
            f"source     {source.store.root}: {len(source.commits)} units, {frames} predicted frames",
            f"units      {len(source.commits) - pending} committed, {pending} to do",
            f"output     {config.output}",
            f"pictures   of frames not kept before: {pictures}",
            changes(source, config),
            f"resources  {capacity.feasibility(config.cluster, _needs(config), begun=pending < len(source.commits))}",
        ]
    )


def changes(source: Source, config: Config) -> str:
    """How the settings that decide differ from those of the labels: all of them are this command's."""
    deciding = ("filters.", "refine.", units.QUALITY_MODEL)
    old, new = (
        {name: value for name, value in of.items() if name.startswith(deciding)}
        for of in (source.run["fingerprint"], fingerprint_of(source, config))
    )
    lines = [
        f"  {name}: {old.get(name)} -> {new.get(name)}" for name in {**old, **new} if old.get(name) != new.get(name)
    ]
    return "\n".join([f"settings   {len(lines) or 'none'} changed (filters, refine)", *lines])


def _pending(source: Source, store: Store) -> list[str]:
    """Ids of the source's units that are not committed in ``store``."""
    done = commits.committed_units(store)
    return [commit.unit for commit in source.commits if commit.unit not in done]


def _run(config: Config, store: Store, job: RefilterJob, pending: Sequence[str], videos: int) -> None:
    """Send the pending units through Ray Data; ``videos`` are those of the complete run."""
    done = commits.read_commits(store)
    total, unit_s = totals.total_of(done), stalls.longest_unit_s(done)
    wanted = pool.size(config.refilter.actors, len(pending))[1]
    with presence.announced(store, "filters labels"), session.start(config.cluster):
        watched = board.new_board("refiltering", wanted, store.root)
        gauges = CommittedGauges("refiltering", store.root, videos=videos, done=total.listed)
        gauges.show(*totals.outcomes_of(total), committed=False)
        results = pool.commit_all(
            functools.partial(_refilter, job, watched),
            [{"unit": unit} for unit in pending],
            store=store,
            actors=config.refilter.actors,
            cpus=config.cluster.teacher_cpus,
            watch=stalls.Watch(board.signs_of(watched), unit_s, resumes=stalls.SAME_COMMAND, often=False),
            tell=board.told_of(watched),
        )
        with gauges, board.Bar("refiltering", "unit", total=len(pending)) as bar:
            for number, commit in enumerate(results, start=1):
                bar.move(number)
                if commit is not None:
                    total.add(commit.counts)
                    gauges.show(*totals.outcomes_of(total), committed=True)


def _refilter(job: RefilterJob, watched: Any) -> pool.Worker:
    from cluster.labelling.refilter_actor import Refilter  # in the actor: it loads torch

    return Refilter(job, board.Reporter(watched, "refiltering", job.output))


def _needs(config: Config) -> list[Need]:
    return [Need("refilter actors", config.refilter.actors[0], config.cluster.teacher_cpus)]


def _with_hand_of(source: Source, config: Config) -> Config:
    """The settings with the hand's of the labelling run; its file is named by ``config``, as it may have moved."""
    names = ("layer", "flat_hand_mean", "fingertips")
    stored = {name: source.run["fingerprint"].get(f"mano.{name}", getattr(config.mano, name)) for name in names}
    return settings.changed(config, mano=stored)
