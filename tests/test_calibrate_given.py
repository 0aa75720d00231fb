"""jobs.calibrate on a labelling run and a table of true poses: what is judged, left out, counted and refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_tables import labels as made_labels

from cluster.labelling import commits
from cluster.labelling.counts import Counts
from cluster.store import open_store
from hojoint.config import PAPER_RULES, FilterConfig, ManoConfig
from hojoint.errors import InputError
from hojoint.evaluation import calibration, label_quality
from hojoint.evaluation.precision import Judged
from hojoint.hand.factory import hand_layer
from hojoint.labelling import tables
from hojoint.labelling.clip_filter import filter_clip
from jobs import calibrate

FRAMES = 20  # of each of two videos


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at the figure here; test_calibration does."""
    monkeypatch.setattr(calibrate.calibration_figure, "draw", lambda result: b"a figure")


@pytest.fixture
def predictions() -> pa.Table:
    return tables.predictions_table([made_labels(f"{name}-h0", numbers=tuple(range(FRAMES))) for name in "ab"])


@pytest.fixture
def truth(predictions: pa.Table) -> pa.Table:
    """True poses under which every second frame is labelled rightly."""
    joints = label_quality.hand_joints(
        hand_layer(ManoConfig()), tables.array_of(predictions, "mano_pose"), tables.array_of(predictions, "mano_shape")
    )
    joints[::2] = np.random.default_rng(0).normal(size=(FRAMES, 21, 3))
    side = ["left" if flipped else "right" for flipped in predictions["flipped"].to_pylist()]
    columns = {name: predictions[name] for name in ("video_id", "frame", "joints_px")}
    return pa.table({**columns, "side": side, "joints": list(joints.reshape(-1, 63))})


def judge(
    folder: Path, predictions: pa.Table, truth: pa.Table, *given: str, units: int = 1, **noted: dict[str, Any]
) -> int:
    """Call the job on these labels; ``noted`` stands in their run.json."""
    store = open_store(str(folder / "labels"))
    store.put(commits.RUN, json.dumps({"fingerprint": {}, "units": units, **noted}).encode())
    made = {name: predictions if name == "predictions" else predictions.slice(0, 0) for name in commits.TABLES}
    commits.commit(store, "u000000", "a0", made, counts=Counts(), started=0.0, seconds={})
    pq.write_table(truth, folder / "truth.parquet")
    (folder / "config.yaml").write_text("{}\n")
    where = [f"calibrate.predictions={folder / 'labels'}", f"calibrate.truth={folder / 'truth.parquet'}"]
    return calibrate.main(["--config", str(folder / "config.yaml"), *where, f"output={folder / 'out'}", *given])


def found(folder: Path) -> dict[str, Any]:
    out: dict[str, Any] = json.loads((folder / "out" / "calibration.json").read_text())
    return out


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_run_that_is_not_complete_is_no_fair_sample(tmp_path, capsys, predictions, truth, dry) -> None:
    assert judge(tmp_path, predictions, truth, *dry, units=8) == 2
    assert "is not complete: 1 of 8 units" in capsys.readouterr().err


def test_a_run_without_a_frame_does_not_blame_the_truth(tmp_path, capsys, predictions, truth) -> None:
    assert judge(tmp_path, predictions.slice(0, 0), truth) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "labels holds no predicted frame" in error
    assert "truth.parquet" not in error


def test_a_dry_run_refuses_a_truth_of_another_form(tmp_path, capsys, predictions, truth) -> None:
    assert judge(tmp_path, predictions, truth.drop_columns(["video_id"]), "--dry-run") == 2
    assert "'video_id' is missing" in capsys.readouterr().err


def test_now_is_what_is_enabled_whatever_is_searched(tmp_path, capsys, predictions, truth) -> None:
    assert judge(tmp_path, predictions, truth, "filters.enabled=[box_iou,joint_step]") == 0
    plain = found(tmp_path)
    capsys.readouterr()
    (tmp_path / "more").mkdir()
    asked = ["filters.enabled=[box_iou,joint_step]", "calibrate.rules=[reprojection]", "calibrate.precision=0.3"]
    assert judge(tmp_path / "more", predictions, truth, *asked) == 0
    searched = found(tmp_path / "more")
    assert searched["together"]["current"] == plain["together"]["current"]
    assert [name for name, rule in searched["rules"].items() if rule["enabled"]] == ["box_iou", "joint_step"]
    assert [name for name, rule in searched["rules"].items() if rule["proposed"] is not None] == ["reprojection"]
    assert searched["proposed"]["enabled"] == ["reprojection"]
    said = capsys.readouterr().out
    assert "reprojection (off)" in said
    assert "box_iou (off)" not in said


def test_what_has_no_true_pose_is_left_out_and_counted(tmp_path, capsys, monkeypatch, predictions, truth) -> None:
    """The frames beside it keep the scores and verdicts that they have in complete clips."""
    seen: list[Judged] = []
    calibrated = calibration.calibrate
    monkeypatch.setattr(calibration, "calibrate", lambda *given: seen.append(given[0]) or calibrated(*given))
    assert judge(tmp_path, predictions, truth) == 0
    assert found(tmp_path)["frames"] == 2 * FRAMES
    assert "left out" not in capsys.readouterr().out
    (tmp_path / "thin").mkdir()
    some = np.arange(2 * FRAMES) % 5 < 2
    some[FRAMES:] = False  # of the first video two in five frames, of the second none
    assert judge(tmp_path / "thin", predictions, truth.filter(pa.array(some)), "calibrate.precision=0.4") == 0
    said, result = capsys.readouterr().out, found(tmp_path / "thin")
    assert "true pose: 12 frames in videos that have some" in said
    assert "true pose: 1 complete videos" in said
    assert (result["frames"], result["right"]) == (8, 4)
    complete, thin = seen
    rows = np.flatnonzero(some)
    for rule in ("joint_step", "pose_step", "shape_spread"):
        np.testing.assert_array_equal(thin.score(rule), complete.score(rule)[rows])
    for config in (FilterConfig(), FilterConfig(enabled=("joint_step", "shape_spread"), max_joint_step=0.9)):
        kept, of_complete = calibration.kept_by(thin, config), calibration.kept_by(complete, config)
        np.testing.assert_array_equal(kept, of_complete[rows])


def test_a_row_without_a_hand_makes_its_label_wrong(tmp_path, predictions, truth) -> None:
    rows = truth.to_pylist()
    for row in rows[1:11:2]:  # of labels that were correct
        row |= {"side": None, "joints": None, "joints_px": None}
    assert judge(tmp_path, predictions, pa.Table.from_pylist(rows, schema=truth.schema), "calibrate.precision=0.4") == 0
    assert (found(tmp_path)["frames"], found(tmp_path)["right"]) == (2 * FRAMES, FRAMES - 5)


def test_a_right_label_is_what_the_labels_run_says(tmp_path, capsys, predictions, truth) -> None:
    """Every second label has a wrong hand; by bounds as wide as a room these are correct too."""
    wide = {"calibrate": {"max_aligned_mm": 1e6, "max_wrist_mm": 30}}
    assert judge(tmp_path, predictions, truth, "calibrate.precision=0.4", config=wide) == 0
    result = found(tmp_path)
    assert result["right_when"] == {"aligned_mm": 1e6, "joints_2d": 0.15, "wrist_mm": 30.0}
    model = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert model["about"]["right_when"] == result["quality"]["right_when"] == result["right_when"]
    assert result["right"] == FRAMES
    assert "note: measured with" not in capsys.readouterr().out
    (tmp_path / "given").mkdir()
    given = ["calibrate.max_wrist_mm=null", "calibrate.precision=0.4"]
    assert judge(tmp_path / "given", predictions, truth, *given, config=wide) == 0
    assert found(tmp_path / "given")["right"] == 2 * FRAMES
    assert "note: measured with calibrate.max_wrist_mm=null, as given" in capsys.readouterr().out


def test_a_promise_by_another_definition_is_named(tmp_path, capsys, predictions, truth) -> None:
    assert judge(tmp_path, predictions, truth, "calibrate.precision=0.4", "calibrate.max_wrist_mm=30") == 0
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "labels").mkdir()
    model = (tmp_path / "out" / "quality.json").read_bytes()
    (tmp_path / "again" / "labels" / "quality.json").write_bytes(model)
    at = predictions.schema.get_field_index("quality")
    chances = pa.array(np.full(2 * FRAMES, 0.5), pa.float32())
    judged = predictions.set_column(at, predictions.schema.field("quality"), chances)
    capsys.readouterr()
    assert judge(tmp_path / "again", judged, truth, "calibrate.precision=0.4") == 0
    out = capsys.readouterr().out
    assert "promised within PA-MPJPE 15 mm, MPJPE 30 mm, 2D error 0.15 box sides; measured within PA-MPJPE 15 mm" in out


def test_a_model_of_named_scores_judges_a_prediction_alone(tmp_path, capsys, predictions, truth) -> None:
    clip = {
        "pose": np.zeros((2, 48)), "betas": np.zeros((2, 10)), "joints_px": np.random.default_rng(0).random((2, 21, 2)),
        "hand_boxes": [[10, 10, 50, 50]] * 2, "image_size": (64, 64),
    }  # fmt: skip
    config = FilterConfig(quality_model=str(tmp_path / "out" / "quality.json"), mode="quality", min_quality=0.2)
    assert judge(tmp_path, predictions, truth, "calibrate.precision=0.4") == 0
    with pytest.raises(InputError, match=r"rotation_spread, view_spread.*calibrate\.quality_scores=\[") as refused:
        filter_clip(**clip, config=config)
    named = re.search(r"calibrate\.quality_scores=\[\S+\]", str(refused.value))
    assert named is not None
    (tmp_path / "labels").rename(tmp_path / "before")
    assert judge(tmp_path, predictions, truth, "calibrate.precision=0.4", named[0]) == 0
    model = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert set() < set(model["parts"]) <= set(PAPER_RULES)
    assert filter_clip(**clip, config=config).quality.shape == (2,)
    capsys.readouterr()
    assert judge(tmp_path, predictions, truth, "calibrate.quality_scores=[box_iou,iou]") == 2
    assert "calibrate.quality_scores" in capsys.readouterr().err


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_labels_keep_the_model_that_judged_them(tmp_path, capsys, predictions, truth, dry) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "quality.json").write_text("the model of these labels")
    assert judge(tmp_path, predictions, truth, f"output={tmp_path / 'labels'}", *dry) == 2
    assert f"{tmp_path / 'labels'} holds labels or shards (run.json), and files of this job" in capsys.readouterr().err
    assert (tmp_path / "labels" / "quality.json").read_text() == "the model of these labels"
