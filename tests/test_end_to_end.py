"""The whole route on the real engines, in miniature: a drawn world, two trainings, labelling, scores, a report."""

from __future__ import annotations

import json

import pytest
from labelled import TINY_WORDS
from training_here import train_here

from jobs import pipeline, study

MINIATURE = [
    *TINY_WORDS,
    *("synthetic.train_sequences=1", "synthetic.train_frames=6", "synthetic.evaluation_sequences=1"),
    *("synthetic.evaluation_frames=3", "synthetic.wild_videos=3", "synthetic.wild_frames=8"),
    *("synthetic.broken_videos=1", "synthetic.test_images=3", "train.steps=3", "train.batch_size=4"),
    *("synthetic.image_width=320", "synthetic.image_height=240", "evaluate.actors=[1,1]"),
    # An untrained network keeps nothing under the real rules, and there must be something to retrain on.
    *("filters.enabled=[]", "labelling.side=right", "cluster.teachers=[1,1]", "cluster.threads=1"),
]


@pytest.mark.ray
@pytest.mark.slow
def test_calibrated_rounds_run_to_their_report(tmp_path, capsys, monkeypatch):
    trained = train_here(monkeypatch)  # the study below trains over Ray Train
    # For random weights every label is right: calibration then has something to propose.
    lenient = ["calibrate.max_aligned_mm=1000", "calibrate.max_joints_2d=100", "calibrate.mirrored=false"]
    sizes = ["synthetic.train_sequences=4", "synthetic.train_frames=20", "calibrate.stride=1", "train.held_out=1"]
    rules = ["filters.enabled=[shape_spread]", "calibrate.enabled=true", "calibrate.precision=0.5"]
    length = ["train.steps=40", "student.rounds=2"]  # enough that a camera fits the hands
    arguments = [f"output={tmp_path}", *MINIATURE, *sizes, *lenient, *rules, *length]
    assert pipeline.main(arguments) == 0
    assert trained == [f"{tmp_path}/{name}" for name in ("teacher", "student", "student-2")]
    out = capsys.readouterr().out
    assert "By round" in out
    assert "What calibration promised" in out
    run = json.loads((tmp_path / "labels-2" / "run.json").read_text())
    proposed = json.loads((tmp_path / "calibration-2" / "calibration.json").read_text())["proposed"]
    assert run["fingerprint"]["filters.shape_sigmas"] == proposed["shape_sigmas"]
    assert run["fingerprint"]["teacher"] == json.loads((tmp_path / "student" / "training.json").read_text())["sha256"]
    assert set(json.loads((tmp_path / "report.json").read_text())["evaluation"]) == {"teacher", "student", "student-2"}
    assert pipeline.main(arguments) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.ray
@pytest.mark.slow
def test_a_study_tells_what_better_labels_would_be_worth(tmp_path, capsys, monkeypatch):
    """Teacher and student are trained over Ray Train, as by the command line; the others here, in less time."""
    seed = f"{tmp_path}/seed-0"
    trained = train_here(monkeypatch, lambda output: output not in (f"{seed}/teacher", f"{seed}/student"))
    rules = ["filters.enabled=[pose_step]", "filters.max_pose_step=5"]  # keeps what random weights predict
    points = ["study.grid=labels", "study.points=[true_all]"]
    arguments = [f"output={tmp_path}", *MINIATURE, *rules, "study.seeds=[0]", *points]
    assert study.main(arguments) == 0
    assert trained == [f"{seed}/control", f"{seed}/points/labels-true_all/student"]
    assert "[7/7] report" in capsys.readouterr().out
    frames = check_route(tmp_path / "seed-0")
    grid = json.loads((tmp_path / "study.json").read_text())["grids"]["labels"]
    rows = {row["key"]: row for row in grid["rows"]}
    assert rows["true_all"]["labels"]["wrist_mm_median"]["mean"] < 1e-3
    assert rows["true_all"]["labels"]["kept"]["mean"] >= frames["kept"]  # all that a camera fits
    assert "freihand" in rows["true_all"]["domains"]
    steps = [json.loads(path.read_text())["steps"] for path in tmp_path.glob("seed-0/points/*/student/training.json")]
    assert steps == [3]
    before = times(tmp_path)
    assert study.main(arguments) == 0
    assert "..." not in capsys.readouterr().out  # no stage ran again
    assert times(tmp_path) == before


def check_route(output):
    """The files of one pipeline with a control fit together; returns its counts of frames."""
    labels = json.loads((output / "labels" / "report.json").read_text())
    videos, frames = labels["videos"], labels["frames"]
    assert videos["listed"] == 4 == videos["labelled"] + videos["empty"] + videos["quarantined"]
    assert videos["quarantined"] >= 1
    assert frames["predicted"] == frames["kept"] + sum(frames["rejected"].values()) > 0
    student = json.loads((output / "student" / "training.json").read_text())
    assert student["datasets"]["pseudo"] == frames["kept"]
    report = json.loads((output / "report.json").read_text())
    assert set(report["evaluation"]) == {"teacher", "control", "student"}
    assert report["quality"]["frames"] == frames["predicted"]
    html = (output / "report.html").read_text()
    assert html.count("<img") > 6
    assert "http://" not in html.replace("http://www.w3.org", "")
    return frames


def times(output):
    """When each file of the seeds was last written. A study writes its own tables anew, and opens its locks."""
    files = [path for path in output.glob("seed-*/**/*") if path.is_file() and path.name != ".lock"]
    return {path: path.stat().st_mtime_ns for path in files}
