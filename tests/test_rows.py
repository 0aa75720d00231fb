"""Rows taken of many: evenly spaced, with both ends."""

from __future__ import annotations

from hojoint.rows import evenly


def test_rows_are_spread_evenly_with_both_ends() -> None:
    assert evenly(20, 3).tolist() == [0, 10, 19]
    assert evenly(5, 8).tolist() == [0, 1, 2, 3, 4]
    assert evenly(1, 8).tolist() == [0]
    assert evenly(7, 1).tolist() == [0]


def test_of_nothing_and_for_nothing_no_row_is_taken() -> None:
    assert evenly(0, 3).tolist() == []
    assert evenly(3, 0).tolist() == []
