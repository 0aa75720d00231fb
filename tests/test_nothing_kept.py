"""A labelling run that keeps no frame says why; Ray is replaced by a loop in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wild

from cluster.labelling.run import label
from cluster.store import open_store
from hojoint.labelling import tables
from jobs import nothing_kept, pseudo_label

pytestmark = pytest.mark.slow  # seconds each: files, videos or processes
ODD_IDS = ("my video.v2", "Küche & <b>", "日本", "50%=A")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good videos whose ids have spaces, dots and other letters."""
    folder = tmp_path_factory.mktemp("wild")
    boxes = wild.write_wild(folder, good=len(ODD_IDS))
    for before, after in zip(sorted(boxes), ODD_IDS, strict=True):
        (folder / "videos" / f"{before}.webm").rename(folder / "videos" / f"{after}.webm")
    wild.write_boxes(folder, wild.boxes_of(ODD_IDS))
    wild.write_teacher(folder / "teacher.pt")
    return folder


def test_the_rule_that_took_most_is_named_with_its_median(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    wild.without_ray(monkeypatch)
    config = wild.config_of(made, tmp_path / "out", filters={"enabled": ["box_iou"], "min_box_iou": 1.0})
    pseudo_label.job(config, dry_run=False)
    said = capsys.readouterr().out
    rows = wild.rows_of(tmp_path / "out", "predictions")
    assert sorted(set(rows["video_id"].to_pylist())) == sorted(ODD_IDS)
    scores = tables.array_of(rows, "score_box_iou")
    count, median = len(rows), np.median(scores[~np.isnan(scores)])
    assert f"note: none of {count} predicted frames is kept. box_iou rejects most, {count}: " in said
    assert f"its median score is {median:.3g}, the limit is filters.min_box_iou=1;" in said


@pytest.mark.parametrize(
    ("median", "words"),
    [(float("nan"), "they have no score, so no limit keeps them"), (None, "most, 9: the limit is filters.max_j")],
)
def test_frames_without_a_score_are_not_sent_to_other_limits(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, median: float | None, words: str
) -> None:
    monkeypatch.setattr(nothing_kept, "_median_score", lambda store, rule: median)
    frames = {"kept": 0, "predicted": 12, "rejected": {"box_iou": 3, "joint_step": 9}}
    report = {"videos": {"quarantined": 0, "listed": 1}, "frames": frames}
    said = nothing_kept.note(report, open_store(str(tmp_path)), wild.config_of(made, tmp_path)) or ""
    assert words in said
    assert ("jobs.refilter" in said) == (median is None)


def test_a_run_that_keeps_frames_has_no_note(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wild.without_ray(monkeypatch)
    config = wild.config_of(made, tmp_path / "out")
    report = label(config)
    assert report["videos"]["labelled"] == len(ODD_IDS)
    assert nothing_kept.note(report, open_store(str(tmp_path / "out")), config) is None


def test_videos_whose_boxes_are_of_another_size_are_quarantined(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    wild.without_ray(monkeypatch)
    boxes = wild.boxes_of(ODD_IDS)
    for frames in boxes.values():
        for item in frames:
            for found in item["labels"]:
                found["box2d"] = {corner: 4 * value for corner, value in found["box2d"].items()}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    budget = {"error_budget_count": 9}
    config = wild.config_of(made, tmp_path / "out", videos={"boxes": str(tmp_path / "boxes.json")}, labelling=budget)
    pseudo_label.job(config, dry_run=False)
    rows = wild.rows_of(tmp_path / "out", "quarantine").to_pylist()
    assert [row["video_id"] for row in rows] == sorted(ODD_IDS)
    assert {row["class"] for row in rows} == {"boxes_outside"}
    said = capsys.readouterr().out
    assert "note: no frame was predicted: 4 of 4 videos are quarantined; quarantine/ in" in said
