"""Other thresholds over predictions that exist: a new label set without the network (Sec. 5.1.1, 5.1.2).

``predictions/`` keeps every frame with every score, so only verdicts change. The pictures of frames that were kept
before are taken over; those of frames that are kept now and were not before are decoded again where the videos are at
hand, and counted as ``without_image`` where not. The new output has the layout of a labelling run, unit by unit, and is
committed and resumed in the same way. Not here: the scores (hojoint.labelling.tables.rescored).
"""

from __future__ import annotations

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
import pyarrow.parquet
import ray
from ray.data import ActorPoolStrategy
from tqdm import tqdm

from cluster import session
from cluster.labelling import commits, units
from cluster.labelling import run as labelling
from cluster.labelling.commits import Commit
from cluster.labelling.decoding import GuardedDecoder, Request
from cluster.session import Need
from cluster.store import Store, check_conditional, open_store
from hojoint import config as settings
from hojoint.config import Config
from hojoint.datasets import something
from hojoint.errors import InputError
from hojoint.labelling import filters, tables
from hojoint.labelling.video import Decoded


@dataclass(frozen=True)
class Source:
    """The labelling run whose predictions are judged again."""

    store: Store
    run: Mapping[str, Any]
    commits: Sequence[Commit]

    @property
    def config(self) -> Config:
        """As the labelling run had it, with the crop that its checkpoint brought."""
        tree = dict(self.run["config"])
        names = [name for name in self.run["fingerprint"] if name.startswith("crop.")]
        tree["crop"] = {name.removeprefix("crop."): self.run["fingerprint"][name] for name in names}
        return settings.from_stored(tree)


@dataclass(frozen=True)
class RefilterJob:
    """What every Refilter of a run is told."""

    config: Config
    source: str
    output: str
    images: Config  # how the source cut its pictures


def refilter(config: Config) -> dict[str, Any]:
    """Judge the predictions of ``data.pseudo.labels`` by ``config.filters`` into ``config.output``; gives the report.

    Raises:
        InputError: the source is not whole, or a setting asks for scores that it does not hold.
    """
    assert config.output is not None
    conditional = config.labelling.require_conditional_writes
    source, store = open_source(config), open_store(config.output, conditional=conditional)
    if conditional:
        check_conditional(store)
    facts = {"units": len(source.commits), "videos": source.run["videos"]}
    facts |= {name: source.run[name] for name in labelling.ASIDE if name in source.run}
    fingerprint = fingerprint_of(source, config)
    commits.open_run(store, fingerprint, facts | {"config": source.run["config"], "refiltered": source.store.root})
    done = commits.committed_units(store)
    pending = [each.unit for each in source.commits if each.unit not in done]
    if pending:
        _run(config, RefilterJob(config, source.store.root, store.root, source.config), pending)
    else:
        print(f"all {len(source.commits)} units of {store.root} are committed already; nothing to do")
    report = commits.report_of(commits.read_commits(store), filters.RULES)
    report |= {name: facts[name] for name in labelling.ASIDE if name in facts}
    store.put(commits.REPORT, json.dumps(report, indent=2).encode())
    commits.sweep(store)
    return report


def open_source(config: Config) -> Source:
    """The run at ``data.pseudo.labels``, checked: whole, another place than the output, and with the scores wanted."""
    assert config.data.pseudo.labels is not None
    store = open_store(config.data.pseudo.labels)
    if config.output is not None and store.root == open_store(config.output).root:
        raise InputError(
            f"output and data.pseudo.labels are both {store.root}; give the new labels a place of their own"
        )
    source = Source(store, *commits.read_whole(store))
    units.check_readings(source.run, config, store.root)
    return source


def fingerprint_of(source: Source, config: Config) -> dict[str, Any]:
    """The source's own, with the new rules, and what else the new labels depend on."""
    rules = {f"filters.{name}": value for name, value in settings.to_tree(config.filters).items()}
    files = json.dumps([each.sha256 for each in source.commits], sort_keys=True)
    return {
        **source.run["fingerprint"],
        **rules,
        "refiltered": hashlib.sha256(files.encode()).hexdigest(),
        "pictures of frames not kept before": "decoded again" if config.videos.root else "none",
    }


class Refilter:
    """Callable on rows ``{"unit": id}``, plain Python like the Teacher; commits the unit under the new output."""

    def __init__(self, job: RefilterJob) -> None:
        self._job = job
        self._source = open_store(job.source)
        self._store = open_store(job.output, conditional=job.config.labelling.require_conditional_writes)
        root = job.config.videos.root
        self._paths = {} if root is None else something.find_videos(root)
        self._decoder = GuardedDecoder.of(job.config.labelling, ahead=job.config.labelling.decode_children + 1)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"videos": self.work(row["unit"])}

    def work(self, unit_id: str) -> int:
        """Judge one unit again; how many videos it has."""
        started = time.time()
        [before] = commits.read_commits(self._source, [unit_id])
        old = {table: self._read(before, table) for table in commits.TABLES}
        predictions = tables.rescored(old["predictions"], self._job.config.filters)
        kept = predictions.filter(pa.array([word == filters.KEPT for word in predictions["verdict"].to_pylist()]))
        pseudo_labels = self._with_images(kept, old["pseudo_labels"])
        new = {"predictions": predictions, "pseudo_labels": pseudo_labels, "quarantine": old["quarantine"]}
        words = Counter(predictions["verdict"].to_pylist())
        words.pop(filters.KEPT, None)
        labelled = len(set(kept["video_id"].to_pylist()))
        counts = replace(
            before.counts,
            labelled=labelled,
            empty=before.counts.listed - before.counts.quarantined - labelled,
            kept=len(kept),
            rejected=words,
            without_image=len(kept) - len(pseudo_labels),
        )
        commits.commit(
            self._store, unit_id, uuid.uuid4().hex[:12], new, counts=counts, started=started, seconds={}
        )  # fmt: skip
        return counts.listed

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

    def _with_images(self, kept: pa.Table, before: pa.Table) -> pa.Table:
        """The kept rows with pictures, the old ones taken over; rows that get none are left out."""
        place = {key: row for row, key in enumerate(_keys(before))}
        where = np.array([place.get(key, -1) for key in _keys(kept)], int)  # in ``before``
        known = np.flatnonzero(where >= 0)
        pictures = before.take(where[known])
        parts = [tables.PSEUDO_LABELS_SCHEMA.empty_table()]
        old = kept.take(known)
        for name in ("image", "image_box"):
            old = old.append_column(tables.PSEUDO_LABELS_SCHEMA.field(name), pictures[name])
        parts.append(old.cast(tables.PSEUDO_LABELS_SCHEMA))
        parts.extend(self._decoded(kept.take(np.flatnonzero(where < 0))))
        return pa.concat_tables(parts)

    def _decoded(self, rows: pa.Table) -> list[pa.Table]:
        """The rows of the videos that can be decoded, with their pictures."""
        ids = np.array(rows["video_id"].to_pylist(), dtype=object)
        wanted = {
            video_id: rows.take(np.flatnonzero(ids == video_id)) for video_id in sorted(set(ids) & set(self._paths))
        }
        requests = (
            Request(video_id, self._paths[video_id], np.unique(tables.array_of(own, "frame")), 0)
            for video_id, own in wanted.items()
        )
        parts = []
        for request, answer in self._decoder.decode(requests):
            if isinstance(answer, Decoded):
                own = wanted[request.video_id]
                place = {int(number): index for index, number in enumerate(answer.numbers)}
                frames = [place.get(int(number), -1) for number in tables.array_of(own, "frame")]
                there = np.flatnonzero(np.array(frames) >= 0)
                pixels = [answer.rgb[frames[row]] for row in there]
                parts.append(tables.with_images(own.take(there), pixels, self._job.images))
        return parts


def describe(config: Config) -> str:
    """What ``--dry-run`` prints."""
    source = open_source(config)
    changed = [name for name in source.run["fingerprint"] if name.startswith("filters.")]
    new = fingerprint_of(source, config)
    lines = [f"  {name}: {source.run['fingerprint'][name]} -> {new[name]}" for name in changed]
    different = [
        line for name, line in zip(changed, lines, strict=True) if source.run["fingerprint"][name] != new[name]
    ]
    frames = sum(each.counts.predicted for each in source.commits)
    return "\n".join(
        [
            f"source     {source.store.root}: {len(source.commits)} units, {frames} predicted frames",
            f"output     {config.output}",
            f"pictures   of frames not kept before: {new['pictures of frames not kept before']}",
            "rules      " + ("\n" + "\n".join(different) if different else "as they were"),
        ]
    )


def _run(config: Config, job: RefilterJob, pending: Sequence[str]) -> None:
    rows = [{"unit": unit} for unit in pending]
    labelling.quiet_ray_data()
    with session.start(config.cluster):
        session.feasibility(config.cluster, [Need("processes", config.refilter.actors[0], config.cluster.teacher_cpus)])
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            Refilter,  # type: ignore[arg-type]  # Ray's hints know functions only
            fn_constructor_kwargs={"job": job},
            compute=ActorPoolStrategy(min_size=1, max_size=min(config.refilter.actors[1], len(rows))),
            num_cpus=config.cluster.teacher_cpus,
        )
        dataset.context.enable_progress_bars = False
        for _ in tqdm(dataset.iter_rows(), total=len(rows), unit="unit", desc="refiltering", dynamic_ncols=True):
            pass


def _keys(table: pa.Table) -> list[tuple[str, int]]:
    return list(zip(table["clip_id"].to_pylist(), table["frame"].to_pylist(), strict=True))
