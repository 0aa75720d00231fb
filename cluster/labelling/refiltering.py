"""Other thresholds over existing predictions: a new label set without the network (Sec. 5.1.1, 5.1.2).

``predictions/`` holds every frame with every score, so only verdicts change, and with them the labels of kept frames
where ``refine`` is active; that needs the hand model. The pictures of frames that were kept before are copied. Those of
frames that are kept only now are decoded again from where the run's manifest or ``videos.root`` has the video, else
counted as ``without_image``; a video that fails has a row of ``quarantine/`` with the stage 'picture'. The new output
has the layout of a labelling run and is committed and resumed in the same way, unit by unit. Not here: the scores
(hojoint.labelling.tables.rescored).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from tqdm import tqdm

from cluster import session
from cluster.labelling import commits, files, listing, manifest, pool, presence, quality_files, sharing, units
from cluster.labelling import run as labelling
from cluster.labelling.commits import Commit
from cluster.labelling.decoding import Failure, GuardedDecoder, Request
from cluster.labelling.files import VideoFiles
from cluster.session import Need
from cluster.sources import Entry, FetchLimits, fetched, mirror
from cluster.store import Store, check_conditional, open_store
from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError
from hojoint.hand.factory import hand_layer
from hojoint.labelling import filters, refined_tables, tables

PICTURE = "picture"  # stage of a video that was labelled and brings no pictures for newly kept frames


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


@dataclass(frozen=True)
class RefilterJob:
    """What every Refilter of a run receives."""

    config: Config
    source: str
    output: str
    images: Config  # how the source cut its pictures
    manifest: str | None  # its key in the source; None in runs of earlier versions
    listing: str | None  # key in the output: the videos of ``videos.root``; None where that is not given
    quality: bytes | None  # content of ``filters.quality_model``


def refilter(config: Config) -> dict[str, Any]:
    """Judge the predictions of ``data.pseudo.labels`` by ``config.filters`` into ``config.output``.

    Returns the report, which is also written there.

    Raises:
        InputError: the source is not complete, a setting asks for scores that it does not hold, the output holds other
            labels, the store is not safe, or the cluster is too small.
    """
    source, store = open_source(config), labelling.open_output(config)
    pending = _pending(source, store)
    listed = None
    if pending:  # before run.json is written: a run that cannot start leaves nothing
        session.feasibility(config.cluster, _needs(config))
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
    source = Source(store, *commits.read_complete(store), quality_files.read(config.filters, side_head=True))
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


class Refilter:
    """Callable on rows ``{"unit": id}``, plain Python like the Teacher; commits the unit under the new output."""

    def __init__(self, job: RefilterJob) -> None:
        self._job = job
        self._source = open_store(job.source)
        self._model = quality_files.model_of(job.quality)
        self._store = open_store(job.output, conditional=job.config.labelling.require_conditional_writes)
        listing = None if job.listing is None else manifest.Reader(self._store, job.listing).entries
        self._files = VideoFiles(self._source, job.manifest, listing)
        self._layer = hand_layer(mirror.localised(job.config, "mano").mano) if job.config.refine.active else None
        self._found: dict[str, Entry] = {}  # of the unit in progress, by URI
        labelling = job.config.labelling
        self._limits = FetchLimits.of(labelling)
        self._decoder = GuardedDecoder.of(labelling, ahead=labelling.decode_children + 1, fetch=self._fetched)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        commit = self.work(row["unit"])
        return {"commit": b"" if commit is None else commit.to_bytes()}

    def work(self, unit_id: str) -> Commit | None:
        """Judge one unit again and commit it; None if another attempt was first."""
        started = time.time()
        sharing.check_source(self._source, commits.commit_key(unit_id))
        [before] = commits.read_commits(self._source, [unit_id])
        old = {table: self._read(before, table) for table in commits.TABLES}
        predictions = tables.rescored(old["predictions"], self._job.config.filters, self._model)
        verdicts = Counter(predictions["verdict"].to_pylist())
        verdicts.pop(filters.KEPT, None)
        labels = refined_tables.labels_of(predictions, self._job.config.refine, self._layer)
        failures: list[Failure] = []
        pseudo_labels = self._with_images(unit_id, labels, old["pseudo_labels"], failures)
        kept = len(labels) - _filled(labels)
        filled = _filled(pseudo_labels)
        quarantined = old["quarantine"].filter(pyarrow.compute.not_equal(old["quarantine"]["stage"], PICTURE))
        quarantine = pa.concat_tables([quarantined, commits.quarantine_table(failures)])
        new = {"predictions": predictions, "pseudo_labels": pseudo_labels, "quarantine": quarantine}
        labelled = len(set(labels["video_id"].to_pylist()))
        counts = replace(
            before.counts,
            labelled=labelled,
            empty=before.counts.listed - before.counts.quarantined - labelled,
            kept=kept,
            filled=filled,
            rejected=verdicts,
            without_image=kept - (len(pseudo_labels) - filled),
            pictures=Counter(failure.kind for failure in failures),
        )
        attempt = uuid.uuid4().hex[:12]
        return commits.commit(
            self._store, unit_id, attempt, new, counts=counts, started=started, seconds={}, taken_over=before.taken_over
        )

    def close(self) -> None:
        """End the decoding children."""
        self._decoder.close()

    def _read(self, commit: Commit, table: str) -> pa.Table:
        filesystem, root = self._source.filesystem()
        path = f"{root}/{commit.files[table]}"
        if table == "quarantine":
            return pa.parquet.read_table(path, filesystem=filesystem)
        schema = tables.PREDICTIONS_SCHEMA if table == "predictions" else tables.PSEUDO_LABELS_SCHEMA
        return tables.read([path], filesystem, schema=schema)

    def _fetched(self, uri: str) -> contextlib.AbstractContextManager[str]:
        """A local path of a video of the unit in progress, for a decoding thread."""
        return fetched(uri, self._limits, size=self._found[uri].size, etag=self._found[uri].etag)

    def _with_images(self, unit_id: str, labels: pa.Table, before: pa.Table, failures: list[Failure]) -> pa.Table:
        """The labels with pictures: copied from ``before`` or decoded again; rows without one are left out."""
        row_of = {key: row for row, key in enumerate(tables.keys_of(before))}
        rows = np.array([row_of.get(key, -1) for key in tables.keys_of(labels)], int)  # in ``before``
        known = np.flatnonzero(rows >= 0)
        pictures = before.take(rows[known])
        old = labels.take(known)
        for name in ("image", "image_box"):
            old = old.append_column(tables.PSEUDO_LABELS_SCHEMA.field(name), pictures[name])
        new = self._decoded(unit_id, labels.take(np.flatnonzero(rows < 0)), failures)
        return pa.concat_tables([old.cast(tables.PSEUDO_LABELS_SCHEMA), *new])

    def _decoded(self, unit_id: str, rows: pa.Table, failures: list[Failure]) -> list[pa.Table]:
        """The rows of the videos that can be decoded, with their pictures; ``failures`` takes the other videos."""
        ids = np.array(rows["video_id"].to_pylist(), dtype=object)
        found = self._files.of([unit_id], set(ids))
        self._found = {entry.uri: entry for entry in found.values()}
        if self._job.listing is not None:
            absent = sorted(set(ids) - found.keys())
            failures += [Failure(name, PICTURE, "missing", "not under videos.root", attempts=0) for name in absent]
        rows_of = {video_id: rows.take(np.flatnonzero(ids == video_id)) for video_id in sorted(found)}
        requests = (
            Request(video_id, found[video_id].uri, np.unique(tables.array_of(video_rows, "frame")), 0)
            for video_id, video_rows in rows_of.items()
        )
        parts = []
        for request, answer in self._decoder.decode(requests):
            if isinstance(answer, Failure):
                if self._job.config.videos.missing != "leave_out":
                    sharing.check_picture(request.path, answer)
                failures.append(replace(answer, stage=PICTURE))
            else:
                video_rows = rows_of[request.video_id]
                index_of = {int(number): index for index, number in enumerate(answer.numbers)}
                indices = [index_of.get(int(number), -1) for number in tables.array_of(video_rows, "frame")]
                present = np.flatnonzero(np.array(indices) >= 0)
                pixels = [answer.rgb[indices[row]] for row in present]
                parts.append(tables.with_images(video_rows.take(present), pixels, self._job.images))
        return parts


def describe(config: Config, source: Source, pending: int) -> str:
    """What ``--dry-run`` prints: the work, what changes, and whether the cluster can hold it."""
    new = fingerprint_of(source, config)
    changed = [name for name in new if name.startswith("filters.") or name == units.QUALITY_MODEL]
    lines = [f"  {name}: {source.run['fingerprint'].get(name)} -> {new[name]}" for name in changed]
    different = [
        line for name, line in zip(changed, lines, strict=True) if source.run["fingerprint"].get(name) != new[name]
    ]
    frames = sum(commit.counts.predicted for commit in source.commits)
    return "\n".join(
        [
            f"source     {source.store.root}: {len(source.commits)} units, {frames} predicted frames",
            f"units      {len(source.commits) - pending} committed, {pending} to do",
            f"output     {config.output}",
            f"pictures   of frames not kept before: {new['pictures of frames not kept before']}",
            "\n".join([f"rules      {len(different) or 'none'} changed", *different]),
            f"resources  {session.feasibility(config.cluster, _needs(config))}",
        ]
    )


def _pending(source: Source, store: Store) -> list[str]:
    """Ids of the source's units that are not committed in ``store``."""
    done = commits.committed_units(store)
    return [commit.unit for commit in source.commits if commit.unit not in done]


def _run(config: Config, store: Store, job: RefilterJob, pending: Sequence[str]) -> None:
    with presence.announced(store, "filters labels"), session.start(config.cluster):
        results = pool.commit_all(
            functools.partial(Refilter, job),
            [{"unit": unit} for unit in pending],
            store=store,
            actors=config.refilter.actors,
            cpus=config.cluster.teacher_cpus,
        )
        for _ in tqdm(results, total=len(pending), unit="unit", desc="refiltering", dynamic_ncols=True):
            pass


def _needs(config: Config) -> list[Need]:
    return [Need("refilter actors", config.refilter.actors[0], config.cluster.teacher_cpus)]


def _with_hand_of(source: Source, config: Config) -> Config:
    """The settings with the hand's of the labelling run; its file is named by ``config``, as it may have moved."""
    names = ("layer", "flat_hand_mean", "fingertips")
    stored = {name: source.run["fingerprint"].get(f"mano.{name}", getattr(config.mano, name)) for name in names}
    return settings.changed(config, mano=stored)


def _filled(labels: pa.Table) -> int:
    return pyarrow.compute.sum(labels["filled"]).as_py() or 0
