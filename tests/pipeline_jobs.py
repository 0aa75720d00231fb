"""Stand-ins for the jobs that a pipeline calls: they note the calls and leave what the jobs would leave."""

from __future__ import annotations

import contextlib
import json

from cluster.store import open_store
from jobs import pipeline, stages, study

REJECTED = {"box_iou": 3, "reprojection": 1}


def hand(joints_mm):
    errors = dict.fromkeys(("joints_mm", "joints_wrist_mm", "mesh_mm"), joints_mm)
    return {**errors, "joints_auc": 0.7, "mesh_auc": 0.7, "f5": 0.5, "f15": 0.9}


class Jobs:
    """Stands for the jobs: notes every call and leaves what a job would leave."""

    def __init__(self):
        self.calls = []
        self.fails_at = None
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
            store.put("training.json", json.dumps({"steps": steps, "samples": 10}).encode())
            store.put("checkpoint.pt", b"weights")
        elif name == "synthesize":
            store.put("world.json", b'{"labelled_frames": 1, "videos": 1, "test_images": 1}')
        elif name == "pseudo_label":
            videos = {"listed": 4, "labelled": 3, "empty": 1, "quarantined": 0}
            frames = {"decoded": 10, "predicted": 10, "kept": 6, "rejected": REJECTED}
            store.put("report.json", json.dumps({"videos": videos, "frames": frames}).encode())
            store.put("run.json", b"{}")
        elif name == "evaluate":
            error = self.error_mm[config.name] + config.seed
            domains = {"freihand": {"images": 5, "hand": hand(error), "object": None}}
            store.put(f"{config.name}.json", json.dumps({"domains": domains}).encode())
        elif name == "report":
            group = {"frames": 6, "precision": 0.5, "aligned_mm_median": 9.0, "joints_2d_median": 0.1}
            store.put("report.json", json.dumps({"quality": {"kept": group, "rejected": group}}).encode())
            store.put("report.html", b"<html></html>")

    @property
    def names(self):
        return [f"{name}:{config.name}" if name in ("train", "evaluate") else name for name, config in self.calls]


def stand_in_jobs(monkeypatch):
    """Put stand-ins in the place of the jobs that stages call; returns them."""
    jobs = Jobs()
    for name in ("synthesize", "pseudo_label", "report"):
        monkeypatch.setattr(getattr(stages, name), "job", jobs.job(name))
    monkeypatch.setattr(stages.train, "work", jobs.job("train"))
    monkeypatch.setattr(stages.evaluate, "measure", jobs.measure)
    for module in (pipeline, study):
        monkeypatch.setattr(module.session, "start", lambda config: contextlib.nullcontext())
    return jobs
