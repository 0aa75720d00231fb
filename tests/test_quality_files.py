"""Quality models of labelling runs: kept beside the labels, and refused where their scores were never made."""

from __future__ import annotations

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
    with pytest.raises(InputError, match=f"judge frames by {rule}, which the labels at .* do not hold"):
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
