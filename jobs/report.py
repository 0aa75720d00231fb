"""python -m jobs.report output=DIR_OR_S3_URI [--config FILE] [key=value ...] [--dry-run]

Writes report.html and report.json for the output of a pipeline, or of a labelling job alone (there page.json, beside
that job's own report.json): the stages, the scores before and after, frames kept and rejected per rule, the worth of
the labels where true poses are known, pictures of labelled frames and of test images, training curves, and the command,
settings and checksums behind them. The page is self-contained; a browser fetches nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster.labelling import commits, costs
from cluster.sources import mirror
from cluster.store import Store, open_store
from hojoint import config as settings
from hojoint.config import PAPER_RULES, Config
from hojoint.errors import InputError
from hojoint.evaluation.examples import unpack_examples
from hojoint.hand.chosen import hand_model
from hojoint.labelling import reasons
from hojoint.report import draw, figures
from hojoint.report import page as report
from hojoint.report.album import error_picture, example_picture
from hojoint.report.page import Facts, Gallery, Picture
from hojoint.report.tables import DOMAINS
from hojoint.synthetic import write
from jobs import command, label_measures, labelled_frames, measured_as, origin, results, retyped
from jobs.inputs import world_of

BEST_FIRST = ("student", "control", "teacher")
PAGE = "page.json"  # the page's facts beside a labelling run
HELD_OUT_CURVES = (
    ("mpjpe_mm", "3D joints, wrists at one point", "MPJPE (mm)"),
    ("control_points", "the object's control points", "error (sides of the object's box)"),
)


@dataclass(frozen=True)
class Outputs:
    """What the jobs left under an output."""

    store: Store
    labels: Store | None  # where the labelling job wrote
    markers: Mapping[str, Mapping[str, Any]]  # stage -> what the pipeline noted
    training: Mapping[str, Mapping[str, Any]]  # network -> steps, samples, history
    evaluation: Mapping[str, Mapping[str, Any]]  # network -> its evaluation file
    unfinished: str | None = None  # a sentence on labels that are not complete; None where there are none


def job(config: Config, dry_run: bool) -> None:
    """Gather, draw, write."""
    outputs = gather(open_store(command.output_of(config, "runs/tiny")))
    config, notes = as_made(with_inputs(config, outputs), outputs)
    if outputs.unfinished is not None and _parts(outputs):
        notes.append(f"reported without labels: {outputs.unfinished}")
    for note in notes:
        print(f"note: {note}")
    if dry_run:
        print(f"would report on {outputs.store.root}: {', '.join(_parts(outputs)) or 'nothing'}")
        return
    if not _parts(outputs):
        raise _nothing(outputs)
    labelling = None if outputs.labels is None else labelling_facts(outputs.labels, config.report)
    if labelling is not None and (uncounted := costs.uncounted(labelling, config.report)) is not None:
        notes.append(uncounted)
        print(f"note: {uncounted}")
    frames = labelled_frames.read(config, outputs.labels, _truth_path(config)) if outputs.labels is not None else None
    made_with = {} if outputs.labels is None else commits.read_label_run(outputs.labels)["fingerprint"]
    facts = Facts(
        title="Hand and object poses, taught by unlabelled video",
        stages=[
            {"name": name, "what": marker["what"], "seconds": marker["seconds"]}
            for name, marker in outputs.markers.items()
        ],
        provenance=provenance(config, outputs),
        labelling=labelling,
        quality=None if frames is None else frames.quality,
        evaluation={name: facts["domains"] for name, facts in outputs.evaluation.items()},
        training=outputs.training,
        rules=_reasons(made_with),
        views=made_with.get("tta.views", config.tta.views),
        by_round=_by_round(config, outputs),
        notes=notes,
    )
    galleries = [*([] if frames is None else frames.galleries), *example_galleries(config, outputs)]
    page = report.render(facts, galleries=galleries, pck=pck_pictures(outputs), curves=curve_pictures(outputs))
    outputs.store.delete("stages/report.json")  # a pipeline that made one of other settings makes its own again
    # That of a labelling run alone is its own report, which others read.
    name = PAGE if outputs.store.exists(commits.RUN) else commits.REPORT
    outputs.store.put(name, json.dumps(asdict(facts), indent=1).encode())
    outputs.store.put("report.html", page.encode())
    print(f"report: {outputs.store.uri('report.html')}")


def labelling_facts(labels: Store, prices: settings.ReportConfig) -> dict[str, Any]:
    """The report of the labelling job; where prices are given, with what the run costs at those."""
    facts = results.labels_report(labels)
    if "costs" in facts and prices != settings.ReportConfig():
        listed = facts["videos"]["listed"]
        facts["costs"] = costs.costs_of(commits.read_commits(labels), prices, listed)
    return facts


def _reasons(made_with: Mapping[str, Any]) -> tuple[str, ...]:
    """What could reject a frame, by the fingerprint of a labelling run."""
    enabled = tuple(made_with.get("filters.enabled", reasons.RULES))
    if made_with.get("filters.mode") != "quality":
        return enabled
    return (*(rule for rule in enabled if rule not in PAPER_RULES), reasons.QUALITY)


def gather(store: Store) -> Outputs:
    """Read what the jobs left. Raises InputError for labels that have a report of before and grow now."""
    labels = results.labelling_run(store)
    unfinished = None if labels is None else results.unfinished(labels)
    if labels is not None and unfinished is not None:
        if labels.exists(commits.REPORT):
            raise InputError(unfinished)
        labels = None
    markers = results.markers(store)
    markers.pop("report", None)  # this one
    names = results.networks("{}/training.json", store)
    training = {name: facts for name in names if (facts := results.training(name, store)) is not None}
    return Outputs(store, labels, markers, training, results.evaluations(store), unfinished)


def _by_round(config: Config, outputs: Outputs) -> list[dict[str, Any]]:
    """Labels and promises of a pipeline's rounds; what decided about the labels is in its settings."""
    made = results.pipeline_settings(outputs.store)
    if made is None:
        return []
    judged = settings.changed(config, filters={"mode": made.filters.mode})
    return label_measures.by_round(judged, outputs.store, _truth_path(config))


def with_inputs(config: Config, outputs: Outputs) -> Config:
    """The settings; where no videos are given, with the videos and the world that were labelled."""
    run = {} if outputs.labels is None else commits.read_label_run(outputs.labels)
    if config.videos.root is not None or "config" not in run:
        return config
    labelled = settings.from_stored(run["config"])
    world = config.world or labelled.world
    return config.model_copy(update={"videos": labelled.videos, "world": world})


def as_made(config: Config, outputs: Outputs) -> tuple[Config, list[str]]:
    """The settings with what the run calls a correct label, unless the user gives it; where that differs, sentences."""
    made, owner = results.pipeline_settings(outputs.store), results.PIPELINE
    if made is None and outputs.labels is not None:
        made, owner = measured_as.of_run(commits.read_label_run(outputs.labels)), commits.RUN
    return measured_as.as_made(config, made, owner)


def _parts(outputs: Outputs) -> list[str]:
    labels = ["labels"] if outputs.labels is not None else []
    return [*outputs.markers, *labels, *(f"evaluation of {name}" for name in outputs.evaluation)]


def _nothing(outputs: Outputs) -> InputError:
    """What is raised where there is nothing to report."""
    if outputs.unfinished is not None:
        return InputError(f"nothing to report yet: {outputs.unfinished}")
    return InputError(
        f"nothing to report under {outputs.store.root}: expected the output of jobs.pipeline, jobs.pseudo_label or "
        "jobs.refilter; give output=DIR_OR_S3_URI"
    )


def provenance(config: Config, outputs: Outputs) -> dict[str, str]:
    """The command, settings and checksums behind the outputs; for labels without a pipeline, those of their run."""
    run = None if outputs.labels is None else commits.read_label_run(outputs.labels)
    made, out = results.pipeline_settings(outputs.store) or config, {}
    if outputs.markers:
        noted = made is not config  # older runs did not note their settings
        out["command"] = retyped.command_line("pipeline", made) if noted else origin.old_pipeline(str(config.output))
    elif outputs.labels is not None and run is not None:
        made = origin.settings_of(run, config, outputs.labels)
        out["command"] = origin.labelling_command(run, made, outputs.labels.root)
    # else the jobs were called one by one, and no single command made this
    out |= {"settings": settings.digest(made), "seed": str(made.seed)}
    for name, facts in outputs.training.items():
        out[f"weights of the {name}"] = facts["sha256"]
    for name, facts in outputs.evaluation.items():
        measured = facts["sha256"]
        if measured != outputs.training.get(name, facts).get("sha256", measured):
            out[f"evaluated as {name}"] = measured
    if run is not None:
        out["labels"] = run["fingerprint_digest"]
    return out


def pck_pictures(outputs: Outputs) -> list[Picture]:
    """Fig. 8: one frame per data set, a curve per network."""
    out = []
    for domain, title in DOMAINS.items():
        curves = {
            name: (facts["domains"][domain]["pck"]["thresholds_mm"], facts["domains"][domain]["pck"]["share"])
            for name, facts in outputs.evaluation.items()
            if domain in facts["domains"]
        }
        if curves:
            out.append(Picture(figures.pck(curves, title.partition(" (")[0]), f"PCK curves: {title}"))
    return out


def curve_pictures(outputs: Outputs) -> list[Picture]:
    """Training curves: the total loss, and the hand's 3D joints."""
    out = []
    for term, title in (("total", "total loss"), ("joints_3d", "loss of the 3D joints"), ("joints_2d", "2D joints")):
        series = {
            name: ([row["steps"] for row in facts["history"]], [row[term] for row in facts["history"]])
            for name, facts in outputs.training.items()
            if facts["history"] and term in facts["history"][0]
        }
        if series:
            svg = figures.lines(series, title=title, across="step", up="loss", log=True)
            out.append(Picture(svg, f"training curve: {title}"))
    measured = {name: facts["validation"] for name, facts in outputs.training.items() if facts.get("validation")}
    for part, title, unit in HELD_OUT_CURVES:
        series = {
            name: ([row["steps"] for row in rows], [row[part] for row in rows]) for name, rows in measured.items()
        }
        if series:
            svg = figures.lines(series, title=f"held-out recordings: {title}", across="step", up=unit, log=True)
            out.append(Picture(svg, f"held-out recordings: {title}"))
    return out


def example_galleries(config: Config, outputs: Outputs) -> list[Gallery]:
    """Fig. 6: test images with the predictions of the best network that was measured."""
    name = next((name for name in BEST_FIRST if name in outputs.evaluation), None)
    if name is None:
        return []
    faces = hand_model(mirror.localised(_predicted_hand(config, outputs, name), "mano").mano).faces
    out = []
    for domain, title in DOMAINS.items():
        key = f"evaluation/{name}_{domain}_examples.npz"
        if not outputs.store.exists(key):
            continue
        examples = unpack_examples(outputs.store.get(key))
        pictures = [example_picture(example, faces) for example in examples]
        pictures += [error_picture(example, faces) for example in examples[:4]]
        text = (
            f"Predictions of the {name} on test images, evenly spaced over the set and not chosen: the estimated mesh "
            "and, where an object is labelled, its box (orange) and axes (x red, y green, z blue). The last pictures "
            "show the mesh coloured by its error."
        )
        out.append(Gallery(title, text, pictures))
    prefix = f"evaluation/{name}_ho3d_attention_"
    keys = sorted(key for key in outputs.store.list("evaluation") if key.startswith(prefix))
    pictures = [Picture(outputs.store.get(key), "three cells of the object's box") for key in keys]
    text = (
        "Contextual reasoning: three cells of the object's box (white dots) attend to the region where hand and object "
        "meet. Red shows where."
    )
    legend = [
        {"colour": _hex(colour), "text": box}
        for box, colour in (("hand", draw.HAND), ("object", draw.OBJECT), ("their intersection", draw.SHARED))
    ]
    return [*out, Gallery("Attention of the object's cells", text, pictures, legend, wide=True)]


def _predicted_hand(config: Config, outputs: Outputs, name: str) -> Config:
    """The settings with the hand model whose mesh a network predicts; a file may lie elsewhere on this machine."""
    noted = outputs.evaluation[name]
    if results.HAND_PATH in noted:
        trained = noted[results.HAND_PATH]
    else:  # earlier versions noted nothing
        made = results.pipeline_settings(outputs.store)
        trained = config.mano.path if made is None else made.mano.path
    path = None if trained is None else config.mano.path or trained
    return config.model_copy(update={"mano": config.mano.model_copy(update={"path": path})})


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _truth_path(config: Config) -> Path | None:
    world = world_of(config).absolute()
    if config.videos.root is not None and not Path(config.videos.root).absolute().is_relative_to(world):
        return None  # the world's truth is not that of other videos
    path = write.truth_path(world)
    return path if path.is_file() else None


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return command.run(job, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
