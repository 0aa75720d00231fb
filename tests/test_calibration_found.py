"""What a calibration found, put into the settings of labelling."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.store.local import LocalStore
from hojoint.config import Config, changed
from hojoint.errors import InputError
from jobs import calibrate, calibration_found, label_measures

FOUND = {
    "wanted_precision": 0.9,
    "frames": 50,
    "proposed": {"min_box_iou": 0.75, "max_reprojection": 0.2},
    "quality": {"min_quality": 0.85},
}


def calibrated(folder: Path, **changes: object) -> LocalStore:
    store = LocalStore(folder)
    store.put(f"calibration/{calibrate.RESULT}", json.dumps(FOUND | changes).encode())
    return store


@pytest.mark.parametrize(("mode", "limits"), [("thresholds", FOUND["proposed"]), ("quality", {"min_quality": 0.85})])
def test_each_mode_takes_the_limits_that_it_decides_by(tmp_path: Path, mode: str, limits: dict[str, float]) -> None:
    store = calibrated(tmp_path)
    before = changed(Config(), filters={"mode": mode})
    model = store.uri(f"calibration/{calibrate.QUALITY}")
    after = calibration_found.applied(before, store, "calibration")
    assert after == changed(before, filters={"quality_model": model, **limits})
    alone = calibration_found.applied(before, store, "calibration", thresholds=False)
    assert alone == changed(before, filters={"quality_model": model})


@pytest.mark.parametrize(
    ("mode", "changes", "message"),
    [
        ("thresholds", {"proposed": None}, "found no thresholds by which 90%"),
        ("quality", {"quality": {"min_quality": None}}, "judged 50 frames, too few for a least quality"),
    ],
)
def test_where_nothing_is_proposed_nothing_is_applied(tmp_path: Path, mode: str, changes: dict, message: str) -> None:
    store = calibrated(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        calibration_found.applied(changed(Config(), filters={"mode": mode}), store, "calibration")


@pytest.mark.parametrize("held_out", [None, {"precision": None, "yield": 0.0}])
def test_where_unseen_recordings_keep_nothing_the_rest_tells(tmp_path: Path, held_out: dict | None) -> None:
    proposed = {"precision": 0.91, "yield": 0.3}
    store = calibrated(tmp_path, together={"held_out": held_out, "proposed": proposed})
    thresholds = changed(Config(), filters={"mode": "thresholds"})
    assert calibration_found.promise(calibration_found.read(store, "calibration"), thresholds) == proposed
    told = calibration_found.text(store, "calibration", thresholds)
    assert told == "promises 91% correct labels among 30% of the frames"


def test_a_rounds_promise_stands_with_its_definition(tmp_path: Path) -> None:
    then = {"aligned_mm": 15.0, "joints_2d": 0.15, "wrist_mm": 30.0}
    store = calibrated(tmp_path, together={"held_out": None, "proposed": None}, right_when=then)
    store.put("labels/report.json", json.dumps({"videos": {}, "frames": {"predicted": 9, "kept": 3}}).encode())
    [told] = label_measures.by_round(Config(), store, None)
    assert told["right_when"] == {"promised": then, "measured": then | {"wrist_mm": None}}
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "labels").symlink_to(tmp_path / "labels")
    old = calibrated(tmp_path / "old", together={"held_out": None, "proposed": None})
    assert label_measures.by_round(Config(), old, None)[0]["right_when"]["promised"] is None
