"""The table of true poses that labels are judged by: what it must hold, and how people write it.

One row per hand: ``video_id``, ``frame``, ``side``, ``joints_px`` [42] px of the true image, ``joints`` [63] m of the
right-hand model. A row whose joints are null or NaN says that the frame shows no hand. Not here: the comparison
(``label_quality``).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hojoint.datasets import hand_names
from hojoint.datasets.video_boxes import LEFT, RIGHT, UNKNOWN
from hojoint.errors import InputError

WIDTHS = {"joints_px": 42, "joints": 63}
COLUMNS = ("video_id", "frame", "side", *WIDTHS)
SIDES = {LEFT: "left", RIGHT: "right"}


def checked(truth: pa.Table, name: str = "the table of true poses") -> pa.Table:
    """The table with ``video_id`` as strings, ``frame`` as int64, and ``side`` as 'left', 'right' or null.

    Args:
        truth: as it was read; other columns stay as they are.
        name: what messages call it.

    Raises:
        InputError: a column is missing or of another form, a side is none, or a hand has no 2D joints.
    """
    if missing := [column for column in COLUMNS if column not in truth.column_names]:
        raise InputError(
            f"{name} needs the columns {', '.join(COLUMNS)}; '{missing[0]}' is missing, found "
            f"{', '.join(truth.column_names)}. Rename or add it"
        )
    for column, kind in (("video_id", pa.string()), ("frame", pa.int64()), ("side", pa.string())):
        truth = _set(truth, column, _cast(truth, column, kind, name))
    for column, width in WIDTHS.items():
        if pa.types.is_null(truth.schema.field(column).type):  # no frame shows a hand
            truth = _set(truth, column, pa.nulls(len(truth), pa.list_(pa.float64())))
        _check_lists(truth, column, width, name)
    hand = has_hand(truth)
    unseen = hand & ~np.isfinite(stacked(truth, "joints_px", WIDTHS["joints_px"])).all(axis=1)
    if unseen.any():
        raise InputError(
            f"{name}: {int(unseen.sum())} rows have joints and no finite joints_px; give both, or neither where the "
            "frame shows no hand"
        )
    return _set(truth, "side", _sides(truth, hand, name))


def has_hand(truth: pa.Table) -> np.ndarray:
    """(N,) bool: the rows that hold a hand."""
    there: np.ndarray = np.isfinite(stacked(truth, "joints", WIDTHS["joints"])).all(axis=1)
    return there


def stacked(table: pa.Table, column: str, width: int | None = None) -> np.ndarray:
    """A column of lists of one length K as (N, K) float64; a null is a row of NaN. ``width`` is K, if known."""
    values = table[column].combine_chunks()
    there = values.is_valid().to_numpy(zero_copy_only=False)
    numbers = values.drop_null().flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    if width is None:
        width = len(numbers) // max(1, int(there.sum()))
    out = np.full((len(there), width), np.nan)
    out[there] = numbers.reshape(-1, width)
    return out


def _set(table: pa.Table, column: str, values: pa.ChunkedArray | pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(column), column, values)


def _cast(truth: pa.Table, column: str, kind: pa.DataType, name: str) -> pa.ChunkedArray:
    """Whole numbers and dictionaries become ids as well; a fraction is no frame."""
    values, given = truth[column], truth.schema.field(column).type
    try:
        if pa.types.is_floating(given) and pa.types.is_string(kind):
            values = values.cast(pa.int64())
        cast = values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        cast = None
    if cast is None or (column != "side" and cast.null_count):
        what = "whole numbers from 0" if column == "frame" else "text"
        found = given if cast is None else f"{given} with {cast.null_count} empty rows"
        raise InputError(f"{name}: expected the column '{column}' to hold {what}; found {found}")
    return cast


def _check_lists(truth: pa.Table, column: str, width: int, name: str) -> None:
    kind = truth.schema.field(column).type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    numeric = lists and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))
    lengths = sorted(set(pc.list_value_length(truth[column]).drop_null().unique().to_pylist())) if lists else []
    if not numeric or any(length != width for length in lengths):
        found = f"{kind}, of {', '.join(map(str, lengths[:3]))}" if lengths else str(kind)
        raise InputError(
            f"{name}: expected the column '{column}' to hold flat lists of {width} numbers, 21 joints one after the "
            f"other; found {found}. Flatten them"
        )


def _sides(truth: pa.Table, hand: np.ndarray, name: str) -> pa.Array:
    """'left', 'right' or null for each row; null only where no hand is."""
    given: list[str | None] = truth["side"].to_pylist()
    sides = {word: SIDES.get(hand_names.side_given(word or "") or UNKNOWN) for word in set(given)}
    out = [sides[word] for word in given]
    untold = hand & np.array([side is None for side in out], dtype=bool)
    wrong = sorted({repr(given[row]) for row in np.flatnonzero(untold)})
    if wrong:
        raise InputError(
            f"{name}: expected the side of each hand in the column 'side', 'left' or 'right'; found "
            f"{', '.join(wrong[:3])}. Correct it"
        )
    return pa.array(out, pa.string())
