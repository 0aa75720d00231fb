"""Stand-ins for the jobs that a pipeline calls: they note the calls and leave what the jobs would leave."""

from __future__ import annotations

import contextlib
import json

from cluster.store import open_store
from hojoint.config import FilterConfig
from hojoint.labelling.quality import Curve, QualityModel, readings_of
from jobs import pipeline, point_stages, stages, study

REJECTED = {"box_iou": 3, "reprojection": 1}


def hand(joints_mm):
    errors = dict.fromkeys(("joints_mm", "joints_wrist_mm", "mesh_mm"), joints_mm)
    return {**errors, "joints_auc": 0.7, "mesh_auc": 0.7, "f5": 0.5, "f15": 0.9}


class Jobs:
    """Stands for the jobs: notes every call and leaves what a job would leave."""

    def __init__(self):
        self.calls = []
        self.fails_at = None
        self.kept = {}  # point -> frames kept, where it is not the usual number
        self.promised = 0.92  # precision, by the calibration
        self.error_mm = {"teacher": 20.0, "control": 19.0, "student": 15.0}

    def job(self, name):
        def job(config, dry_run):
            assert not dry_run
            if self.fails_at == name:
                raise RuntimeError(f"{name} died")
            self.calls.append((name, config))
            self.leave(name, config)

        return job

    def measure(self, configs):
        for config in configs:
            self.job("evaluate")(config, False)

    def leave(self, name, config):
        store = open_store(config.output)
        if name == "train":
            steps = config.train.steps or 7
            steps = 2 * steps if config.name == "student" else steps
            store.put(
                "training.json",
                json.dumps(
                    {"steps": steps, "samples": 10, "sha256": "of " + store.root, "history": [{"total": 1.0}]}
                ).encode(),
            )
            store.put("checkpoint.pt", b"weights")
        elif name == "synthesize":
            store.put("world.json", b'{"labelled_frames": 1, "videos": 1, "test_images": 1}')
        elif name in ("pseudo_label", "refilter", "oracle"):
            videos = {"listed": 4, "labelled": 3, "empty": 1, "quarantined": 0}
            kept = self.kept.get(store.root.rpartition("points/")[2].partition("/")[0], 6)
            frames = {"decoded": 10, "predicted": 10, "kept": kept, "rejected": REJECTED}
            store.put("report.json", json.dumps({"videos": videos, "frames": frames}).encode())
            store.put("run.json", b"{}")
        elif name == "evaluate":
            error = self.error_mm[config.name.partition("-")[0]] + config.seed
            domains = {"freihand": {"images": 5, "hand": hand(error), "object": None}}
            store.put(f"{config.name}.json", json.dumps({"domains": domains, "sha256": "0"}).encode())
        elif name == "report":
            group = {"frames": 6, "precision": 0.5, "aligned_mm_median": 9.0, "joints_2d_median": 0.1}
            store.put("report.json", json.dumps({"quality": {"kept": group, "rejected": group}}).encode())
            store.put("report.html", b"<html></html>")
        elif name == "calibrate":
            found = {"proposed": {"max_reprojection": 0.25}, "wanted_precision": 0.9, "frames": 9}
            found["quality"] = {"min_quality": 0.7, "promised": {"precision": self.promised, "yield": 0.4}}
            found["together"] = {"held_out": {"precision": 0.91, "yield": 0.3}, "proposed": None}
            store.put("calibration.json", json.dumps(found).encode())
            store.put("quality.json", b"a model")

    @property
    def names(self):
        return [f"{name}:{config.name}" if name in ("train", "evaluate") else name for name, config in self.calls]

    def under(self, point):
        """Names of the jobs whose output lies in the folder of a study's point."""
        inside = [name for name, config in self.calls if f"/points/{point}/" in str(config.output)]
        return inside


def measured(labels, truth, config):
    frames = json.loads(labels.get("report.json"))["frames"]
    return {"frames": frames, "labels": {"precision": 0.5}}


def stand_in_jobs(monkeypatch):
    """Put stand-ins in the place of the jobs that stages call; returns them."""
    jobs = Jobs()
    for name in ("synthesize", "calibrate", "pseudo_label", "report"):
        monkeypatch.setattr(getattr(stages, name), "job", jobs.job(name))
    monkeypatch.setattr(stages.train, "work", jobs.job("train"))
    monkeypatch.setattr(stages.evaluate, "measure", jobs.measure)
    monkeypatch.setattr(point_stages.refilter, "job", jobs.job("refilter"))
    monkeypatch.setattr(point_stages.oracles, "rewrite", lambda config, *_: jobs.job("oracle")(config, False))
    monkeypatch.setattr(point_stages.Truth, "at", classmethod(lambda cls, path: None))
    monkeypatch.setattr(point_stages.label_measures, "measured", measured)
    for module in (pipeline, study):
        monkeypatch.setattr(module.session, "start", lambda config: contextlib.nullcontext())
    return jobs


def quality_file(path, score="reprojection"):
    """A quality model of one score, by the default settings; returns the setting that names it."""
    model = QualityModel(
        {score: Curve((0.0, 1.0), (0.0, 1.0) if score == "side" else (1.0, 0.0), 0.0)},
        0,
        (0.0, 1.0),
        (0.0, 1.0),
        readings_of(FilterConfig()),
    )
    path.write_bytes(model.to_bytes())
    return f"filters.quality_model={path}"
