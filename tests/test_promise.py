"""What a quality promised against what is correct, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hojoint.evaluation.promise import promised_and_measured, reliability
from hojoint.report import label_tables


def test_a_row_for_each_bin_that_is_used() -> None:
    rows = reliability(np.array([0.0, 0.09, 0.95, 1.0, 1.0]), np.array([0, 1, 1, 1, 0], bool))
    assert [(row["from"], row["to"], row["frames"]) for row in rows] == [(0.0, 0.1, 2), (0.9, 1.0, 3)]
    assert rows[0]["promised"] == pytest.approx(0.045)
    assert [row["right"] for row in rows] == [0.5, pytest.approx(2 / 3)]


def test_promised_and_measured_of_the_kept_frames() -> None:
    chances = np.array([0.9, 0.8, 0.3, np.nan])
    found = promised_and_measured(
        chances, np.array([1, 0, 0, 1], bool), ["kept", "kept", "quality", "kept"], {"auc": 0.8}
    )
    assert found is not None
    assert found["frames"] == 3  # a frame without a quality promises nothing
    assert (found["kept"]["kept"], found["kept"]["precision"]) == (2, 0.5)
    assert found["kept"]["promised"] == pytest.approx(0.85)
    assert found["auc"] == 1.0
    assert found["fitted"]["auc"] == 0.8
    assert promised_and_measured(np.full(4, np.nan), np.ones(4, bool), ["kept"] * 4, None) is None


@pytest.mark.parametrize(
    ("out_of_fold", "words"),
    [
        (True, "on, out of fold, the"),
        (False, "on, on the very frames that fitted it, the"),
        (None, "on the"),
    ],
)
def test_a_promise_names_its_limit_and_how_it_was_measured(out_of_fold: bool | None, words: str) -> None:
    about = {"min_quality": 0.725, "promised": {"precision": 0.9, "yield": 0.4}}
    about |= {} if out_of_fold is None else {"out_of_fold": out_of_fold}
    shown = label_tables.promise(promised_and_measured(np.array([0.9]), np.ones(1, bool), ["kept"], about))
    assert shown is not None
    promised = "model promised 90 % correct labels among the 40 % of the frames with a quality of at least 0.725."
    assert f"{words} {promised}" in shown["text"]
    assert ("out of fold" in shown["text"]) == (out_of_fold is True)


def test_the_table_of_a_promise_ends_with_the_kept() -> None:
    found = promised_and_measured(np.array([0.9, 0.2]), np.array([1, 0], bool), ["kept", "quality"], None)
    shown = label_tables.promise(found)
    assert shown is not None
    assert [row["name"] for row in shown["rows"]] == ["0.2 to 0.3", "0.9 to 1.0", "kept"]
    assert label_tables.promise(None) is None
