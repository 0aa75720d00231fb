"""Quality models of labelling runs: kept beside the labels, and refused where their scores were never made."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.labelling import commits, quality_files
from cluster.labelling.commits import Commit
from cluster.labelling.counts import Counts
from cluster.store import Store
from cluster.store.local import LocalStore
from hojoint.config import FilterConfig
from hojoint.errors import InputError
from hojoint.labelling import quality, tables
from hojoint.labelling.quality import Curve, QualityModel

MODEL = QualityModel(
    {"rotation_spread": Curve((0.0, 1.0), (2.0, 0.0), 0.0)},
    bias=0.0,
    logits=(0.0, 2.0),
    chances=(0.1, 0.9),
    readings=quality.readings_of(FilterConfig()),
)


def committed(store: Store, **spreads: float | None) -> Commit:
    """One unit of two frames that hold ``spreads`` in the given columns and null elsewhere."""
    same = {"video_id": "v", "clip_id": "v-0", "flipped": False, "verdict": "kept", "teacher": "t"}
    rows = [{**same, "frame": number, **spreads} for number in range(2)]
    made = {
        "predictions": pa.Table.from_pylist(rows, schema=tables.PREDICTIONS_SCHEMA),
        "pseudo_labels": tables.PSEUDO_LABELS_SCHEMA.empty_table(),
        "quarantine": commits.quarantine_table([]),
    }
    commit = commits.commit(store, "u", "a", made, counts=Counts(), started=0.0, seconds={})
    assert commit is not None
    return commit


def test_a_kept_model_is_read_back_and_not_replaced(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert quality_files.kept(store) is None
    quality_files.keep(store, None)
    assert not store.exists(quality_files.FILE)
    quality_files.keep(store, MODEL.to_bytes())
    quality_files.keep(store, b"another")
    found = quality_files.kept(store)
    assert found is not None
    assert found.to_bytes() == MODEL.to_bytes()
    assert quality_files.model_of(None) is None


@pytest.mark.parametrize("rule", ["view_spread", "side"])
def test_a_rule_whose_column_is_all_null_is_refused(tmp_path: Path, rule: str) -> None:
    store, config = LocalStore(tmp_path), FilterConfig(enabled=(rule,))
    commit = committed(store)
    with pytest.raises(InputError, match=f"judge frames by {rule}, which the labels at .* do not have"):
        quality_files.refuse_unknown(store, commit, config, None)


def test_a_model_whose_column_is_all_null_is_refused(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    commit = committed(store, joints_spread_px=1.0)
    with pytest.raises(InputError, match="judge frames by rotation_spread"):
        quality_files.refuse_unknown(store, commit, FilterConfig(), MODEL.to_bytes())


def test_columns_that_hold_numbers_or_are_not_asked_pass(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    commit = committed(store, rotation_spread=0.1)
    quality_files.refuse_unknown(store, commit, FilterConfig(), MODEL.to_bytes())  # the rules of the paper need neither


CLIP_RULE = {"shape_spread": Curve((0.0, 9.0), (2.0, 0.0), 0.0)}


@pytest.mark.parametrize(
    ("parts", "given", "refused"),
    [
        (CLIP_RULE, {"max_reprojection": 0.3}, r"then reprojection 0\.65; now reprojection 0\.3"),
        (CLIP_RULE, {"enabled": ("box_iou", "shape_spread")}, "now .*joint_angle off"),
        (CLIP_RULE, {"min_quality": 0.9, "shape_sigmas": 1.0}, None),  # neither changes a score
        (CLIP_RULE, {"max_reprojection": 0.3, "mode": "thresholds"}, None),  # there the quality is only told
        (MODEL.parts, {"max_reprojection": 0.3}, None),
        ({"pose_step": Curve((0.0, 9.0), (2.0, 0.0), 0.0)}, {"max_reprojection": 0.3}, None),
    ],
)
def test_a_clips_betas_are_learnt_from_the_frames_of_the_fit(parts, given, refused) -> None:
    config = FilterConfig(**{"mode": "quality", **given})
    model = dataclasses.replace(MODEL, parts=parts)
    read_back = quality.read(model.to_bytes(), "quality.json")
    if refused is None:
        read_back.check(config)
    else:
        with pytest.raises(InputError, match=refused):
            read_back.check(config)
    earlier = {name: value for name, value in MODEL.readings.items() if name != quality.CONFIDENT}
    dataclasses.replace(model, readings=earlier).check(config)  # it does not tell


def test_steps_between_valid_neighbours_depend_on_thresholds(tmp_path: Path) -> None:
    valid = FilterConfig(mode="quality", neighbour="valid")
    part = {"pose_step": Curve((0.0, 9.0), (2.0, 0.0), 0.0)}
    model = dataclasses.replace(MODEL, parts=part, readings=quality.readings_of(valid))
    model.check(valid)
    with pytest.raises(InputError, match="fit another model"):
        model.check(FilterConfig(mode="quality", neighbour="valid", min_box_iou=0.9))
