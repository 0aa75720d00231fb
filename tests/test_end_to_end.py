"""The whole route on the real engines, in miniature: a drawn world, two trainings, labelling, scores, a report."""

from __future__ import annotations

import json

import pytest

from jobs import pipeline

MINIATURE = [
    *("model.input_px=64", "model.roi_cells=8", "model.width=8", "model.channels=16", "model.encoder_stages=2"),
    *("synthetic.train_sequences=1", "synthetic.train_frames=6", "synthetic.evaluation_sequences=1"),
    *("synthetic.evaluation_frames=3", "synthetic.wild_videos=3", "synthetic.wild_frames=8"),
    *("synthetic.broken_videos=1", "synthetic.test_images=3", "train.steps=3", "train.batch_size=4"),
    # An untrained network keeps nothing under the real rules, and there must be something to retrain on.
    *("filters.enabled=[]", "labelling.side=right", "cluster.teachers=[1,1]", "cluster.threads=1"),
]


@pytest.mark.ray
@pytest.mark.slow
def test_the_route_runs_and_a_second_run_does_nothing(tmp_path, capsys):
    arguments = [f"output={tmp_path}", *MINIATURE]
    assert pipeline.main(arguments) == 0
    first = capsys.readouterr().out
    assert "[6/6] report" in first
    labels = json.loads((tmp_path / "labels" / "report.json").read_text())
    videos, frames = labels["videos"], labels["frames"]
    assert videos["listed"] == 4 == videos["labelled"] + videos["empty"] + videos["quarantined"]
    assert videos["quarantined"] >= 1
    assert frames["predicted"] == frames["kept"] + sum(frames["rejected"].values()) > 0
    student = json.loads((tmp_path / "student" / "training.json").read_text())
    assert student["datasets"]["pseudo"] == frames["kept"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["evaluation"]) == {"teacher", "student"}
    assert report["quality"]["frames"] == frames["predicted"]
    html = (tmp_path / "report.html").read_text()
    assert html.count("<img") > 6
    assert "http://" not in html.replace("http://www.w3.org", "")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert pipeline.main(arguments) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
