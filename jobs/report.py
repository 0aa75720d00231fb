"""python -m jobs.report output=DIR_OR_S3_URI [--config FILE] [key=value ...] [--dry-run]

Writes report.html and report.json of a pipeline's output, or of a labelling job's alone: what was done, before and
after, kept and rejected per rule, what the labels are worth where true poses are known, pictures of labelled frames and
of test images, training curves, and where it all comes from. One self-contained page; nothing is fetched.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster.labelling import commits
from cluster.store import Store, open_store
from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError
from hojoint.evaluation import scores as evaluation
from hojoint.hand.factory import hand_model
from hojoint.labelling import filters
from hojoint.report import draw, figures
from hojoint.report import page as report
from hojoint.report.album import error_picture, example_picture
from hojoint.report.page import Facts, Gallery, Picture
from hojoint.report.tables import DOMAINS, NETWORKS
from jobs import command, labelled_frames, results, retyped
from jobs.inputs import world_of

BEST_FIRST = ("student", "control", "teacher")
PIPELINE = "python -m jobs.pipeline"
STAGES = ("synthesize", "train", "pseudo_label", "retrain", "control", "evaluate")


@dataclass(frozen=True)
class Found:
    """What lies under an output."""

    store: Store
    labels: Store | None  # where the labelling job wrote
    markers: Mapping[str, Mapping[str, Any]]  # stage -> what the pipeline noted
    training: Mapping[str, Mapping[str, Any]]  # network -> steps, samples, history
    evaluation: Mapping[str, Mapping[str, Any]]  # network -> its evaluation file


def job(config: Config, dry_run: bool) -> None:
    """Gather, draw, write."""
    found = gather(open_store(command.output_of(config, "runs/tiny")))
    config = with_inputs(config, found)
    if dry_run:
        print(f"would report on {found.store.root}: {', '.join(_parts(found)) or 'nothing'}")
        return
    if not _parts(found):
        raise InputError(f"nothing to report under {found.store.root}: wanted the output of jobs.pipeline or a job")
    frames = labelled_frames.read(config, found.labels, _truth_path(config)) if found.labels is not None else None
    made_with = {} if found.labels is None else commits.read_run(found.labels)["fingerprint"]
    facts = Facts(
        title="Hand and object poses, taught by unlabelled video",
        stages=[
            {"name": name, "what": done["what"], "seconds": done["seconds"]} for name, done in found.markers.items()
        ],
        provenance=provenance(config, found),
        labelling=None if found.labels is None else results.read_json(found.labels, commits.REPORT),
        quality=None if frames is None else frames.quality,
        evaluation={name: facts["domains"] for name, facts in found.evaluation.items()},
        training=found.training,
        rules=made_with.get("filters.enabled", filters.RULES),
        views=made_with.get("tta.views", config.tta.views),
    )
    galleries = [*([] if frames is None else frames.galleries), *example_galleries(config, found)]
    page = report.render(facts, galleries=galleries, pck=pck_pictures(found), curves=curve_pictures(found))
    found.store.put("report.json", json.dumps(asdict(facts), indent=1).encode())
    found.store.put("report.html", page.encode())
    print(f"report: {found.store.uri('report.html')}")


def gather(store: Store) -> Found:
    """Read what the jobs left."""
    labels = results.labelling_run(store)
    if labels is not None and not labels.exists(commits.REPORT):
        labels = None  # not at its end
    markers = {name: done for name in STAGES if (done := results.marker(name, store)) is not None}
    training = {name: facts for name in NETWORKS if (facts := results.training(name, store)) is not None}
    return Found(store, labels, markers, training, results.evaluations(store))


def with_inputs(config: Config, found: Found) -> Config:
    """The settings with the videos, and the world, that were labelled, where none are given."""
    run = {} if found.labels is None else commits.read_run(found.labels)
    if config.videos.root is not None or "config" not in run:
        return config
    labelled = settings.from_stored(run["config"])
    world = config.world or labelled.world
    return config.model_copy(update={"videos": labelled.videos, "world": world})


def _parts(found: Found) -> list[str]:
    labels = ["labels"] if found.labels is not None else []
    return [*found.markers, *labels, *(f"evaluation of {name}" for name in found.evaluation)]


def provenance(config: Config, found: Found) -> dict[str, str]:
    """What made this, settings and checksums; of labels without a pipeline, those of their own run."""
    run = None if found.labels is None else commits.read_run(found.labels)
    made, out = results.pipeline_settings(found.store) or config, {}
    if found.markers:
        noted = made is not config  # older runs did not note what they were called with
        out["command"] = retyped.command_line("pipeline", made) if noted else f"{PIPELINE} output={config.output}"
    elif found.labels is not None and run is not None:
        made = _settings_of(run, config)
        out["command"] = _labelling_command(run, made, found.labels.root)
    # else: jobs called one by one, and no command says it all
    out |= {"settings": settings.digest(made), "seed": str(made.seed)}
    for name, facts in found.training.items():
        out[f"weights of the {name}"] = facts["sha256"]
    for name, facts in found.evaluation.items():
        judged = facts["sha256"]
        if judged != found.training.get(name, facts).get("sha256", judged):
            out[f"evaluated as {name}"] = judged
    if run is not None:
        out["labels"] = settings.digest(run["fingerprint"])
    return out


def _settings_of(run: Mapping[str, Any], config: Config) -> Config:
    """The settings of a labelling run, with the filters that judged it last; ``config`` where it noted none."""
    if "config" not in run:
        return config
    rules = {
        name.removeprefix("filters."): value
        for name, value in run["fingerprint"].items()
        if name.startswith("filters.")
    }
    return settings.changed(settings.from_stored(run["config"]), filters=rules)


def _labelling_command(run: Mapping[str, Any], made: Config, output: str) -> str:
    if "refiltered" not in run:
        return retyped.command_line("pseudo_label", made.model_copy(update={"output": output}))
    places = {"output": output, "data": {"pseudo": {"labels": run["refiltered"]}}}
    default = settings.load(command.DEFAULT_CONFIG)  # of the settings only the filters count
    return retyped.command_line("refilter", settings.changed(default, filters=dict(made.filters), **places))


def pck_pictures(found: Found) -> list[Picture]:
    """Fig. 8: one frame per data set, a curve per network."""
    out = []
    for domain, title in DOMAINS.items():
        curves = {
            name: (facts["domains"][domain]["pck"]["thresholds_mm"], facts["domains"][domain]["pck"]["share"])
            for name, facts in found.evaluation.items()
            if domain in facts["domains"]
        }
        if curves:
            out.append(Picture(figures.pck(curves, title.partition(" (")[0]), f"PCK curves: {title}"))
    return out


def curve_pictures(found: Found) -> list[Picture]:
    """Training curves: the total loss, and the hand's 3D joints."""
    out = []
    for term, title in (("total", "total loss"), ("joints_3d", "loss of the 3D joints"), ("joints_2d", "2D joints")):
        series = {
            name: ([row["steps"] for row in facts["history"]], [row[term] for row in facts["history"]])
            for name, facts in found.training.items()
            if facts["history"] and term in facts["history"][0]
        }
        if series:
            svg = figures.lines(series, title=title, across="step", up="loss", log=True)
            out.append(Picture(svg, f"training curve: {title}"))
    return out


def example_galleries(config: Config, found: Found) -> list[Gallery]:
    """Fig. 6: test images with what the best network there says of them."""
    name = next((name for name in BEST_FIRST if name in found.evaluation), None)
    if name is None:
        return []
    faces = hand_model(config.mano).faces
    out = []
    for domain, title in DOMAINS.items():
        key = f"evaluation/{name}_{domain}_examples.npz"
        if not found.store.exists(key):
            continue
        shown = evaluation.unpack_examples(found.store.get(key))
        pictures = [example_picture(example, faces) for example in shown]
        pictures += [error_picture(example, faces) for example in shown[:4]]
        text = (
            f"What the {name} says of test images, evenly spaced over the set and not chosen: the estimated mesh, and "
            "where an object is labelled its box (orange) and axes (x red, y green, z blue). The last ones show the "
            "mesh coloured by its error."
        )
        out.append(Gallery(title, text, pictures))
    looked = [key for key in found.store.list("evaluation") if key.startswith(f"evaluation/{name}_ho3d_attention_")]
    pictures = [Picture(found.store.get(key), "three cells of the object's box") for key in sorted(looked)]
    text = (
        "Contextual reasoning: three cells of the object's box (white dots) ask where hand and object meet, and the "
        "red is what they attend to there."
    )
    keys = [
        {"colour": _hex(colour), "text": box}
        for box, colour in (("hand", draw.HAND), ("object", draw.OBJECT), ("their intersection", draw.SHARED))
    ]
    return [*out, Gallery("Where the object looks", text, pictures, keys, wide=True)]


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _truth_path(config: Config) -> Path | None:
    world = world_of(config).absolute()
    if config.videos.root is not None and not Path(config.videos.root).absolute().is_relative_to(world):
        return None  # the world's truth says nothing of other videos
    path = world / "something_truth.parquet"
    return path if path.is_file() else None


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
