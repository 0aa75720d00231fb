"""python -m jobs.evaluate evaluate.checkpoint=FILE [data.ho3d.root=DIR] [data.freihand.root=DIR] [output=DIR_OR_S3_URI]
python -m jobs.evaluate score.predictions=pred.json score.truth=DIR score.layout=ho3d|freihand [output=DIR_OR_S3_URI]

The first form measures a network on the evaluation split of HO-3D (hand, object) and of FreiHAND (hand), on as many
actors as evaluate.actors says. Under the output: <name>.json, the examples of the report, the submission files
<name>_<data set>_pred.json and, after the paper's figures, <name>_<data set>_{pck.png (8), 3d_<k>.png (6),
attention_<k>.jpg (7)}. Files of an earlier network of that name are removed.
The second form scores a submission file as the official script does: it prints one 'key: value' per line and, with an
output, writes scores.txt and scores.json. A file in millimetres, in the other camera frame or joint order is converted,
one of joints alone gets the scores of joints, and a note says so (also in notes.txt).
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster import capacity, scoring
from cluster.sources import mirror
from cluster.store import Store, open_store
from hojoint.config import Config
from hojoint.datasets import fingertips, freihand
from hojoint.datasets.ho3d import HO3D
from hojoint.errors import InputError
from hojoint.evaluation import scores as evaluation
from hojoint.evaluation import submission_files
from hojoint.evaluation.examples import pack_examples
from hojoint.hand.chosen import hand_model
from hojoint.model import opening
from hojoint.report import album, draw
from hojoint.report import tables as report_tables
from hojoint.report.tables import DOMAINS
from jobs import command, printing, sets
from jobs.results import HAND_PATH, refuse_run

SPACE = 4  # examples drawn in 3D
FILES = re.compile(r"examples\.npz|pck\.png|pred\.json|3d_\d+\.png|attention_\d+\.jpg")
"""Endings of the names of a network's files on one data set."""


def job(config: Config, dry_run: bool) -> None:
    """Score a file or measure a network."""
    if config.output is not None:
        refuse_run(command.output_of(config, "DIR"))
    if config.score.predictions is not None or config.score.truth is not None:
        _refuse_both_forms(config)
        _score_file(config, dry_run)
        return
    _refuse_teacher(config)
    path = command.need(config.evaluate.checkpoint, "evaluate.checkpoint", "runs/tiny/student/checkpoint.pt")
    near = mirror.localised(config, "data")
    if (note := freihand.advice(near.data.freihand)) is not None:
        print(f"note: {note}")
    _, merged, sha256 = scoring.open_measured(config)
    domains = evaluation.domains_of(near)
    if not domains:
        raise InputError(
            "nothing to measure on: give data.ho3d.root=DIR or data.freihand.root=DIR, as in "
            "data.ho3d.root=runs/tiny/world/ho3d (or score.predictions=)"
        )
    if (note := opening.overridden(config, merged)) is not None:
        print(f"note: {note}")
    if dry_run:
        print(f"{'network':<10} {path}, weights {sha256[:12]}")
        _describe(domains, merged)
        return
    for domain in domains:
        sets.check(scoring.open_domain(domain, merged), merged)
    for table in report_tables.comparison(measure([config])):
        rows = [(row["label"], row["cells"][0]["text"]) for row in table["rows"]]
        print(f"{table['title']}, {table['note']}\n{printing.table(('', config.name), rows)}")
    if config.output is not None:
        print(f"written  {config.name}.json and its pictures in {config.output}")


def _refuse_both_forms(config: Config) -> None:
    if config.evaluate.checkpoint is not None:
        given = [f"score.{name}" for name in ("predictions", "truth") if getattr(config.score, name) is not None]
        raise InputError(
            "jobs.evaluate measures a network or scores a file, found "
            f"evaluate.checkpoint={config.evaluate.checkpoint} and {' and '.join(given)}; leave one of the two out"
        )


def _refuse_teacher(config: Config) -> None:
    if config.teacher.checkpoint is not None and config.evaluate.checkpoint is None:
        raise InputError(
            f"jobs.evaluate measures evaluate.checkpoint, found teacher.checkpoint={config.teacher.checkpoint}; give "
            f"evaluate.checkpoint={config.teacher.checkpoint}"
        )


def _describe(domains: Sequence[evaluation.Domain], config: Config) -> None:
    """Print the data sets and what the actors take of the cluster; ``config`` holds the checkpoint's own settings."""
    mano, checks = mirror.localised(config, "mano").mano, config.data.ho3d.checks
    for domain in domains:
        dataset = scoring.open_domain(domain, config)
        sets.check(dataset, config, complete=True)
        print(f"{domain:<10} {len(dataset)} images")
        if isinstance(dataset, HO3D) and (note := fingertips.advice(dataset, mano, checks)) is not None:
            print(f"note: {note}")
    print(capacity.feasibility(config.cluster, scoring.needs(config)))


def measure(configs: Sequence[Config]) -> dict[str, dict[Any, Any]]:
    """Measure several networks with the same actors and write each one's files; name -> data set -> scores."""
    out: dict[str, dict[Any, Any]] = {}
    started = time.perf_counter()
    for judged in scoring.evaluate(configs):
        config = judged.config
        out[config.name] = {domain: result.scores for domain, result in judged.results.items()}
        now = time.perf_counter()
        facts = {
            "name": config.name,
            "checkpoint": config.evaluate.checkpoint,
            "sha256": judged.sha256,
            HAND_PATH: config.mano.path,
            "seconds": round(now - started, 2),
            "domains": out[config.name],
        }
        started = now
        if config.output is not None:
            _write(open_store(config.output), config, facts, judged.results)
    return out


def _write(
    store: Store, config: Config, facts: Mapping[str, Any], results: Mapping[evaluation.Domain, scoring.Result]
) -> None:
    """All files of a network; ``config`` names the hand that it predicts (``scoring.Judged``)."""
    remove_files(store, config.name, list(results) if _is_noted(store, config.name, facts["sha256"]) else DOMAINS)
    faces = hand_model(mirror.localised(config, "mano").mano).faces
    for domain, result in results.items():
        store.put(f"{config.name}_{domain}_examples.npz", pack_examples(result.examples))
        for number, tile in enumerate(result.attention):
            store.put(f"{config.name}_{domain}_attention_{number}.jpg", draw.jpeg(tile))
        store.put(f"{config.name}_{domain}_pck.png", album.pck_picture(result.scores["pck"]).data)
        for number, example in enumerate(result.examples[:SPACE]):
            store.put(f"{config.name}_{domain}_3d_{number}.png", album.space_picture(example, faces).data)
        if config.evaluate.write_predictions and len(result.predictions.names) < result.listed:
            print(
                f"note: no {config.name}_{domain}_pred.json is written: it needs an entry for each of {result.listed} "
                f"listed images, and {result.listed - len(result.predictions.names)} are left out"
            )
        elif config.evaluate.write_predictions:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "pred.json"
                submission_files.write_submission(path, result.predictions.joints, result.predictions.vertices, domain)
                store.put(f"{config.name}_{domain}_pred.json", path.read_bytes())
    store.put(
        f"{config.name}.json", json.dumps(facts, indent=1).encode()
    )  # last: its presence says that the rest is complete


def _is_noted(store: Store, name: str, sha256: str) -> bool:
    """Whether the files of that name are of the same weights, so that those on other data sets stay true."""
    try:
        noted = json.loads(store.get(f"{name}.json"))
    except (KeyError, ValueError):
        return False
    return isinstance(noted, dict) and noted.get("sha256") == sha256


def remove_files(store: Store, name: str, domains: Iterable[str] = DOMAINS, home: str = "") -> None:
    """Remove what ``measure`` has written of a network in the folder ``home``: files of another one would stay."""
    begins = f"{home}/{name}" if home else name
    store.delete(f"{begins}.json")  # first: its presence says that the rest is complete
    for domain in domains:
        for entry in list(store.entries(f"{begins}_{domain}_")):
            if FILES.fullmatch(entry.key.removeprefix(f"{begins}_{domain}_")):
                store.delete(entry.key)


def _score_file(config: Config, dry_run: bool) -> None:
    command.need(config.score.predictions, "score.predictions", "pred.json")
    command.need(config.score.truth, "score.truth", "DIR")
    near = mirror.localised(config, "score").score
    predictions, truth = str(near.predictions), str(near.truth)
    if dry_run:
        hands = len(submission_files.load_pair(predictions, truth)[0].joints)
        if (note := submission_files.layout_note(hands, config.score.layout)) is not None:
            print(f"note: {note}")
        print(
            f"would score {hands} hands of {predictions} against {hands} images under {truth} as {config.score.layout}"
        )
        return
    scored = submission_files.score_submission(predictions, truth, config.score.layout)
    lines = "".join(f"{key}: {value:f}\n" for key, value in scored.scores.items())
    for note in scored.notes:
        print(f"note: {note}")
    print(lines, end="")
    if config.output is not None:
        store = open_store(config.output)
        store.put("scores.txt", lines.encode())
        store.put("scores.json", json.dumps(scored.scores, indent=1).encode())
        if scored.notes or store.exists("notes.txt"):  # of an earlier file
            store.put("notes.txt", "".join(f"{note}\n" for note in scored.notes).encode())


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
