"""The columns of a table of boxes: which name means what, and whether a value can be meant.

Every fault is an InputError with the file, the row (1 is the first below the header), the column and the value. Not
here: files (``box_tables``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hojoint.datasets import video_boxes
from hojoint.errors import InputError

ROLES = {
    "video": ("video", "video_id", "videoid", "video_name"),
    "frame": ("frame", "frame_id", "frame_idx", "frame_index"),
    "time": ("time", "time_s", "timestamp", "timestamp_s", "timestamp_sec", "seconds"),
    "side": ("side", "hand_side"),
    "track": ("track", "track_id"),
    "category": ("category", "class", "label", "standard_category"),
    "object": ("object", "is_object"),
}
"""What a column is used for: its names, in lower case, with '_' for blanks."""
MIRRORED = "handedness"  # no name of a side: whether it is the picture's or a mirrored one's differs
CORNERS = (
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x0", "y0", "x1", "y1"),
    ("left", "top", "right", "bottom"),
)
SIZES = ({"w", "h"}, {"width", "height"})
EMPTY = ("", "nan", "null", "none", "na", "n/a")


def roles_of(where: str, columns: Sequence[str]) -> dict[str, str]:
    """Role or corner ('x1', 'y1', 'x2', 'y2') to the column that has it.

    Raises:
        InputError: a column that is needed is missing, or two have the same role.
    """
    plain = [_plain(column) for column in columns]
    found = f"found {', '.join(columns) or 'none'}"[:300]
    doubled = sorted({name for name in plain if name and plain.count(name) > 1})
    if doubled:
        raise InputError(f"{where}: two columns are called {doubled[0]!r}; {found}")
    roles: dict[str, str] = {}
    for role, names in ROLES.items():
        mine = [columns[plain.index(name)] for name in names if name in plain]
        if len(mine) > 1:
            raise InputError(f"{where}: two columns say the {role}: {', '.join(mine)}; remove one")
        if mine:
            roles[role] = mine[0]
    if MIRRORED in plain and "side" not in roles:
        raise InputError(
            f"{where}: the column {columns[plain.index(MIRRORED)]!r} does not tell in which picture a hand is right or "
            "left: MediaPipe's legacy solution writes that of the mirrored picture. Swap right and left if it wrote "
            "them, then call the column side; or leave it out"
        )
    corners = next((names for names in CORNERS if set(names) <= set(plain)), None)
    if corners is None and any(sizes <= set(plain) for sizes in SIZES):
        raise InputError(
            f"{where}: expected the corners x1, y1, x2, y2 of a box in px, {found}; give x2 = x + width and "
            "y2 = y + height"
        )
    missing = [name for name in ("video",) if name not in roles] + ([] if corners else ["x1, y1, x2, y2"])
    missing += [] if "frame" in roles or "time" in roles else ["frame (or time)"]
    if missing or corners is None:
        raise InputError(
            f"{where}: a table of boxes needs the columns video, frame (counted from 0) or time (s), x1, y1, x2, y2 "
            f"(px); without {' and '.join(missing)}: {found}"
        )
    return roles | {role: columns[plain.index(name)] for role, name in zip(video_boxes.CORNERS, corners, strict=True)}


def _plain(column: str) -> str:
    """The name without what makes no difference."""
    return column.strip().lower().replace(" ", "_")


def texts(column: pa.ChunkedArray | pa.Array) -> list[str | None]:
    """Values as text, None where empty."""
    return [
        None if value is None or value.strip().lower() in EMPTY else value.strip()
        for value in pc.cast(column, pa.string()).to_pylist()
    ]


class Column:
    """One column of one batch, and where it stands."""

    def __init__(self, where: str, name: str, values: pa.Array, first_row: int) -> None:
        self._where, self._name, self._first = where, name, first_row
        self._values = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values

    def fail(self, row: int, expected: str) -> InputError:
        """The error for a value: ``row`` counts from 0 within the batch."""
        value = self._values[row].as_py()
        return InputError(
            f"{self._where}: row {self._first + row + 1}, column {self._name!r}: expected {expected}, "
            f"found {value!r:.60}"
        )

    def numbers(self, expected: str, low: float, high: float) -> np.ndarray:
        """(N,) float64, NaN where the cell is empty."""
        values = self._values
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            try:
                values = pc.utf8_trim_whitespace(values)
                lowered = pc.utf8_lower(values)
            except pa.ArrowInvalid:
                raise self._no_text() from None
            values = pc.if_else(pc.is_in(lowered, pa.array(EMPTY, lowered.type)), pa.scalar(None, values.type), values)
        try:
            numbers = pc.cast(values, pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise self.fail(self._first_that_is_no_number(values), expected) from None
        array = pc.fill_null(numbers, float("nan")).to_numpy(zero_copy_only=False)
        bad = ~np.isnan(array) & ~((array >= low) & (array <= high))
        if bad.any():
            raise self.fail(int(bad.argmax()), expected)
        return array

    def whole(self, expected: str, low: float, high: float) -> np.ndarray:
        """As ``numbers``, without fractions."""
        array = self.numbers(expected, low, high)
        bad = ~np.isnan(array) & (array != np.floor(array))
        if bad.any():
            raise self.fail(int(bad.argmax()), expected)
        return array

    def distinct(self) -> tuple[np.ndarray, list[str | None]]:
        """(N,) int32 index of each row's text, and the texts; None where the cell is empty."""
        try:
            coded = pc.dictionary_encode(self._values, null_encoding="encode")
            return coded.indices.to_numpy(zero_copy_only=False).astype(np.int32), texts(coded.dictionary)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeError):
            raise self._no_text() from None

    def refuse_fractions(self) -> None:
        """Raise InputError if the column holds floats: 7 became 7.0, and 007 became 7, before the table was written."""
        if pa.types.is_floating(self._values.type) and len(self._values):
            raise self.fail(0, "text or a whole number")

    def is_called(self, name: str) -> bool:
        """Whether the table calls the column so; ``name`` is written as in ``ROLES``."""
        return _plain(self._name) == name

    def _no_text(self) -> InputError:
        return InputError(
            f"{self._where}: column {self._name!r}: expected text or numbers, found values of type "
            f"{self._values.type!s:.60} that are no UTF-8 text; write the column as text"
        )

    def _first_that_is_no_number(self, values: pa.Array) -> int:
        for row, value in enumerate(values.to_pylist()):
            try:
                if value is not None:
                    float(value)
            except (TypeError, ValueError):
                return row
        return 0
