"""python -m jobs.status output=DIR_OR_S3_URI

Prints the progress of a labelling run, also that of a pipeline, and of jobs.detect and jobs.ingest, from their commits
and from the note that a driver leaves beside them; of jobs.train, whether it is complete. It asks nothing of the
cluster, so it works during the run, after it, and from another machine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.detection import findings
from cluster.labelling import commits, costs, presence, stalls, totals
from cluster.labelling.commits import Commit
from cluster.labelling.counts import Counts
from cluster.store import Store
from cluster.training import shard_counts
from hojoint.config import Config
from hojoint.labelling import reasons
from jobs import command, detect, pseudo_label, quarantined, remote, results

KINDS = {"labels": Counts.of, "boxes": findings.Counts.of, "shards": shard_counts.Counts.of}
"""What a run makes -> how its counts are read."""
FACTS, RUNS = "training.json", "runs"  # of cluster.training, which loads torch


def job(config: Config, dry_run: bool) -> None:
    """Read the commits and print; a dry run does the same, because nothing is written."""
    given = results.store_of(command.need(config.output, "output", "DIR_OR_S3_URI"))
    runs = results.labelling_runs(given)
    if not runs and (text := results.before_labels(given)) is not None:
        print(f"output   {given.root}, a pipeline without labels yet\n{text}")
        return
    if not runs and (text := _training(given)) is not None:
        print(f"output   {given.root}, a training\n{text}")
        return
    store = runs[-1] if runs else given  # the last round's: it begins when those before are complete
    run = commits.read_run(store)
    kind = _kind_of(run["fingerprint"])
    committed = commits.read_commits(store, counts_of=KINDS[kind])
    print(f"output   {store.root}, begun {remote.age(time.time() - run['begun'])} ago")
    print(f"units    {len(committed)} of {run['units']} committed{_part(run, kind, committed)}")
    drivers = presence.drivers(store) if len(committed) < run["units"] else []
    if len(committed) < run["units"]:
        print(f"driver   {_driver(drivers)}")
    if committed:
        last = time.time() - max(commit.finished for commit in committed)
        print(f"last     commit {remote.age(last)} ago")
        print(_summary(kind, store, committed, config))
    print(_state(run, committed, [note for note in drivers if not presence.is_silent(note)]), end="")


def _training(store: Store) -> str | None:
    """How far a training is; None for any other output."""
    if store.exists(FACTS):
        facts = results.read_json(store, FACTS, *results.TRAINED)
        return f"state    complete, {facts['steps']} steps on {facts['samples']} samples"
    if next(iter(store.list(RUNS)), None) is None:
        return None
    return (
        "state    not complete. Its steps are in the log of the job and in the metric ray_hojoint_training_steps; the "
        "command that began it resumes it"
    )


def _kind_of(fingerprint: Mapping[str, Any]) -> str:
    if "boxes_version" in fingerprint:
        return "boxes"
    return "shards" if "samples_version" in fingerprint else "labels"


def _part(run: Mapping[str, Any], kind: str, committed: Sequence[Commit]) -> str:
    """How much of all videos or images is done; nothing where ``run.json`` does not tell how many there are."""
    if kind == "shards":
        name, done, total = "images", sum(commit.counts.samples for commit in committed), run.get("images")
    else:
        name, done, total = "videos", sum(commit.counts.listed for commit in committed), run["videos"]
    return "" if total is None else f", {done} of {total} {name} ({done / max(total, 1):.0%})"


def _summary(kind: str, store: Store, committed: Sequence[Commit], config: Config) -> str:
    """What is there so far, as the job itself would print it at its end."""
    if kind == "shards":
        samples, held_out, size = (
            sum(getattr(commit.counts, name) for commit in committed) for name in ("samples", "held_out", "image_bytes")
        )
        return f"images   {samples} ({held_out} held out, {size / 1e6:.0f} MB)"
    first = quarantined.firsts(store, committed)
    if kind == "boxes":
        return detect.summary(findings.report_of(committed), first, detect.remedies(store, committed))
    report = totals.report_of(committed, reasons.REASONS)
    report["costs"] = costs.costs_of(committed, config.report, report["videos"]["listed"])
    return pseudo_label.summary(report, first)


def _state(run: Mapping[str, Any], committed: Sequence[Commit], living: Sequence[Mapping[str, Any]]) -> str:
    """Complete, stalled, or the time that is left; nothing is known before the first commit.

    ``living``: notes of drivers at work. One hears of every video and ends a run that has stalled, so that run is only
    slow. Silence counts from the start of the first of them, if that is later than the last commit.
    """
    done, units = len(committed), run["units"]
    if done == units:
        return "state    complete\n"
    last = max((commit.finished for commit in committed), default=run["begun"])
    silent = time.time() - max(last, min((note.get("began", 0.0) for note in living), default=0.0))
    limit = stalls.limit_s(stalls.longest_unit_s(committed))
    if silent > limit:
        usual = f"no commit for {remote.age(silent)}, long for these units (more than {remote.age(limit)})"
        if living:
            return f"state    slow: {usual}; the driver hears its actors, and ends the run if they fall silent\n"
        return f"state    stalled or stopped: {usual}\n"
    if not done:
        return ""
    return f"left     about {remote.age(totals.busy_seconds(committed) * (units - done) / done)} at the rate so far\n"


def _driver(notes: Sequence[dict[str, Any]]) -> str:
    """Who is at work, and with how many Teachers."""
    alive = [note for note in notes if not presence.is_silent(note)]
    for note in alive:
        size = f", Teachers {note['teachers']} of {note['wanted']}" if "wanted" in note else ""
        heard = remote.age(max(time.time() - note["at"], 0.0))
        others = f"; {len(alive) - 1} others too" if len(alive) > 1 else ""
        return f"{presence.name_of(note)} {note['doing']}{size}, heard of {heard} ago{others}"
    if notes:
        silent = remote.age(time.time() - notes[0]["at"])
        return (
            f"{presence.name_of(notes[0])} is silent for {silent}: it was killed, its machine is gone, or it cannot "
            "write to the output. Give the command of the run again to continue"
        )
    return "none at work; give the command of the run again to continue"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
