"""Tables of true poses as people write them: read alike, or refused in one sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hojoint.errors import InputError
from hojoint.evaluation import true_poses


def table(**columns: Any) -> pa.Table:
    """Two hands, one of each side, with some columns written in another way."""
    joints = np.arange(2 * 63.0).reshape(2, 63)
    plain = {"video_id": ["7", "8"], "frame": [3, 4], "side": ["left", "right"]}
    return pa.table({**plain, "joints_px": list(joints[:, :42]), "joints": list(joints), **columns})


@pytest.mark.parametrize("sides", [["Left", "RIGHT"], ["L", "R"], ["left hand", "right_hand"], [" l", "rh "]])
def test_a_side_is_read_however_it_is_spelt(sides: list[str]) -> None:
    assert true_poses.checked(table(side=sides))["side"].to_pylist() == ["left", "right"]


@pytest.mark.parametrize("side", ["lfet", "", None, "both", "2"])
def test_what_is_no_side_of_a_hand_is_named(side: str | None) -> None:
    with pytest.raises(InputError, match=f"T: expected the side .* found {side!r}"):
        true_poses.checked(table(side=["right", side]), "T")


def test_a_row_without_joints_says_that_no_hand_is_there() -> None:
    for nothing in (None, [np.nan] * 63):
        given = table(side=["left", None], joints=[[0.0] * 63, nothing], joints_px=[[0.0] * 42, None])
        assert true_poses.has_hand(true_poses.checked(given)).tolist() == [True, False]
    none = table(side=[None, None], joints=[None, None], joints_px=[None, None])
    assert not true_poses.has_hand(true_poses.checked(none)).any()


@pytest.mark.parametrize(
    "ids",
    [pa.array([7, 8]), pa.array(["7", "8"]).dictionary_encode(), pa.array(["7", "8"], pa.large_string()), [7.0, 8.0]],
)
def test_ids_are_text_whatever_their_type(ids: Any) -> None:
    checked = true_poses.checked(table(video_id=ids, frame=pa.array([3.0, 4.0])))
    assert checked["video_id"].to_pylist() == ["7", "8"]
    assert checked["frame"].to_pylist() == [3, 4]


NESTED = [np.zeros((21, 3)).tolist()] * 2


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"joints": NESTED}, "'joints' to hold flat lists of 63 numbers, .* found list.*of 21"),
        ({"joints_px": [[0.0] * 63] * 2}, "'joints_px' to hold flat lists of 42 numbers, .* of 63"),
        ({"joints": ["a", "b"]}, "'joints' to hold flat lists .* found string"),
        ({"joints_px": [[0.0] * 42, None]}, "1 rows have joints and no finite joints_px"),
        ({"frame": [3, 4.5]}, "'frame' to hold whole numbers from 0; found double"),
        ({"frame": [3, None]}, "'frame' .* with 1 empty rows"),
        ({"video_id": [["7"], ["8"]]}, "'video_id' to hold text; found list"),
        ({"video_id": ["7", None]}, "'video_id' .* with 1 empty rows"),
    ],
)
def test_another_form_of_a_column_is_refused(columns: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"T: .*{said}"):
        true_poses.checked(table(**columns), "T")


def test_a_missing_column_is_named_beside_those_that_are_there() -> None:
    with pytest.raises(InputError, match=r"'video_id' is missing, found frame, side, joints_px, joints\. Rename"):
        true_poses.checked(table().drop_columns(["video_id"]))
