"""Plain tables of boxes, CSV or Parquet, one row per box: the format of jobs.detect and of everybody else's exports.

Columns: video, frame (counted from 0) or time (s), x1, y1, x2, y2 (px), and, where they are there, side, track,
category or object; docs/boxes.md has the other names. A row without corners says that its frame, or its video, shows no
hand. Rows may have any order. A table with both frame and time is read by frame. Not here: which values are allowed
(``box_columns``).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from hojoint.datasets import box_columns, hand_names
from hojoint.datasets.box_columns import Column
from hojoint.datasets.box_spool import WITHOUT_FRAME, Spool
from hojoint.datasets.video_boxes import (
    CORNERS,
    HAND,
    LARGEST_PX,
    LATEST_FRAME,
    NO_TRACK,
    NOTHING,
    ROW,
    UNKNOWN,
    VideoBoxes,
)
from hojoint.errors import InputError

VERSION_KEY = b"hojoint.boxes"
VERSION = 1
BOXES_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("frame", pa.int32()),  # 0-based; null in the one row of a video that was looked at and shows no hand
        pa.field("time_s", pa.float64()),  # of the picture, the first of the video at 0; null where it is not known
        *(pa.field(corner, pa.float32()) for corner in CORNERS),  # px; null in a row without a box
        pa.field("side", pa.string()),  # 'right' or 'left'
        pa.field("score", pa.float32()),
        pa.field("track", pa.int32()),  # rows of one number are one hand
        pa.field("filled", pa.bool_()),  # between two detections, not detected itself
    ],
    metadata={VERSION_KEY: str(VERSION).encode()},
)
"""What jobs.detect writes. A row with a frame and null corners says that the frame was looked at and shows no hand;
the last picture of a video always has a row, so that the list is checked against the video that is labelled."""
BLOCK = 1 << 22  # bytes of CSV, or about 64 thousand rows of Parquet, at a time
BOMS = (b"\xff\xfe", b"\xfe\xff")  # of UTF-16
SEPARATORS = ",;\t|"
VIDEO_SUFFIXES = (".webm", ".mp4", ".mov", ".mkv", ".m4v", ".avi")
LATEST_S = 1e6


def iterate(path: Path, progress: Callable[[int], None]) -> Iterator[VideoBoxes]:
    """The videos of a table, in the order in which they appear first.

    The complete table is read and checked before the first video comes. ``progress`` is called with the bytes read.

    Raises:
        InputError: with file, row, column and value.
    """
    with Spool(str(path)) as spool:
        row = 0
        for batch, roles, read in _batches(path, spool):
            columns = {role: Column(str(path), name, batch.column(name), row) for role, name in roles.items()}
            spool.add(_rows(columns, batch.num_rows, spool))
            row += batch.num_rows
            progress(read)
        yield from spool.videos()


_Batches = Iterator[tuple[pa.RecordBatch, dict[str, str], int]]


def _batches(path: Path, spool: Spool) -> _Batches:
    """Batches, the columns that have a role (role to name), and the bytes read so far."""
    with path.open("rb") as file:
        parquet = file.read(4) == b"PAR1"
    try:
        yield from _parquet(path, spool) if parquet else _csv(path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, UnicodeError) as error:
        raise InputError(
            f"{path} cannot be read as a {'Parquet' if parquet else 'CSV'} table: {error!s:.300}"
        ) from None


def _parquet(path: Path, spool: Spool) -> _Batches:
    with pq.ParquetFile(path) as table:
        version = (table.schema_arrow.metadata or {}).get(VERSION_KEY)
        if version is not None and version != str(VERSION).encode():
            raise InputError(
                f"{path} is version {version.decode()} of the table of boxes; this program reads {VERSION}"
            )
        spool.tells_length = version is not None
        roles = box_columns.roles_of(str(path), table.schema_arrow.names)
        names, size, rows = list(dict.fromkeys(roles.values())), path.stat().st_size, 0
        for batch in table.iter_batches(batch_size=1 << 16, columns=names):
            rows += batch.num_rows
            yield batch, roles, size * rows // max(table.metadata.num_rows, 1)


def _csv(path: Path) -> _Batches:
    encoding, separator, columns = _header(path)
    roles = box_columns.roles_of(str(path), columns)
    faults: list[str] = []

    def invalid(row: pa.csv.InvalidRow) -> str:
        faults.append(f"{row.actual_columns} cells under {row.expected_columns} columns: {row.text!r:.80}")
        return "skip"

    with pa.input_stream(str(path)) as stream:
        reader = pa.csv.open_csv(
            stream,
            read_options=pa.csv.ReadOptions(block_size=BLOCK, encoding=encoding, column_names=columns, skip_rows=1),
            parse_options=pa.csv.ParseOptions(delimiter=separator, invalid_row_handler=invalid),
            # As text: a type that is guessed from the first rows makes 7 of the id 007.
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(roles.values(), pa.string()), include_columns=list(roles.values())
            ),
        )
        size, read = path.stat().st_size, 0
        for batch in reader:
            if faults:
                raise InputError(f"{path}: a row has {faults[0]}")
            read = min(read + BLOCK, size)
            yield batch, roles, read
        if faults:
            raise InputError(f"{path}: a row has {faults[0]}")


def _header(path: Path) -> tuple[str, str, list[str]]:
    """Encoding, separator and the names of the columns."""
    with pa.input_stream(str(path)) as stream:
        start = stream.read(1 << 16)
    if start[:2] not in BOMS and (b"\0" in start[:64:2]) != (b"\0" in start[1:64:2]):
        raise InputError(
            f"{path} seems to be UTF-16 without a byte-order mark (every second byte is 0); write it as UTF-8, or as "
            "UTF-16 with the mark"
        )
    encoding = "utf-16" if start[:2] in BOMS else "utf-8"
    text = start.decode("utf-8-sig" if encoding == "utf-8" else encoding, errors="ignore")
    line = next(iter(text.splitlines()), "")
    separator = max(SEPARATORS, key=line.count)
    return encoding, separator, next(csv.reader(io.StringIO(line), delimiter=separator), [])


def _rows(columns: dict[str, Column], length: int, spool: Spool) -> np.ndarray:
    """The rows of a batch, checked."""
    rows = np.zeros(length, ROW)
    rows["video"] = _videos(columns["video"], spool)
    corners = f"pixels from {-LARGEST_PX:.0f} to {LARGEST_PX:.0f}"
    box = np.stack([columns[name].numbers(corners, -LARGEST_PX, LARGEST_PX) for name in CORNERS], 1)
    empty = np.isnan(box).all(axis=1)
    half = np.isnan(box).any(axis=1) & ~empty
    if half.any():
        row = int(half.argmax())
        lost = CORNERS[int(np.isnan(box[row]).argmax())]
        raise columns[lost].fail(row, "a number, as another corner of the row is given")
    rows["box"] = box
    rows["frame"], rows["time_s"] = _when(columns, empty)
    rows["track"] = NO_TRACK
    if "track" in columns:
        track = columns["track"].whole("a whole number from 0 (or -1 or nothing)", -1, 2**31 - 1)
        rows["track"] = np.where(np.isnan(track), NO_TRACK, track)
    rows["name"], rows["side"] = _kinds(columns, spool, empty)
    rows["name"][empty] = NOTHING
    return rows


def _videos(column: Column, spool: Spool) -> np.ndarray:
    """(N,) number of each row's video; the suffix of a file name is left out.

    The tables of jobs.detect hold ids, of which what looks like a suffix is a part: ``clip.avi`` of clip.avi.mp4.
    """
    column.refuse_fractions()
    index, words = column.distinct()
    if None in words:
        raise column.fail(int((index == words.index(None)).argmax()), "the video's id")
    suffix_of = (lambda word: "") if spool.tells_length else _suffix
    codes = [spool.video(word.removesuffix(suffix_of(word)), word) for word in words if word is not None]
    return _taken(codes, index, np.int32)


def _suffix(word: str) -> str:
    return next((word[-len(suffix) :] for suffix in VIDEO_SUFFIXES if word.lower().endswith(suffix)), "")


def _when(columns: dict[str, Column], empty: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frame and time of each row (N,): one of them, the other is WITHOUT_FRAME or NaN."""
    role = "frame" if "frame" in columns else "time"
    if role == "frame":
        when = columns[role].whole(f"a whole number from 0 to {LATEST_FRAME}", 0, LATEST_FRAME)
    else:
        when = columns[role].numbers(f"seconds from 0 to {LATEST_S:.0f}", 0, LATEST_S)
    lost = np.isnan(when) & ~empty
    if lost.any():
        raise columns[role].fail(int(lost.argmax()), f"the {role} of the box")
    frames = np.full(len(when), WITHOUT_FRAME, np.int32)
    if role == "time":
        return frames, when
    known = ~np.isnan(when)
    frames[known] = when[known].astype(np.int32)
    return frames, np.full(len(when), np.nan)


def _kinds(columns: dict[str, Column], spool: Spool, empty: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Name and side of each row, (N,) each; a row that is ``empty`` (N,) needs no category."""
    length = len(empty)
    names, sides = np.full(length, HAND, np.int32), np.full(length, UNKNOWN, np.int8)
    if "category" in columns:
        index, words = columns["category"].distinct()
        if None in words and (lost := (index == words.index(None)) & ~empty).any():
            raise columns["category"].fail(int(lost.argmax()), "'hand' or an object's name")
        read = [hand_names.side_of(word or "") for word in words]
        codes = [
            HAND if side is not None or word is None else spool.name(word)
            for side, word in zip(read, words, strict=True)
        ]
        names, sides = _taken(codes, index, np.int32), _taken([side or UNKNOWN for side in read], index, np.int8)
    if "object" in columns:
        index, words = columns["object"].distinct()
        no = (None, "false", "0", "0.0", "no")  # pandas writes whole numbers beside gaps as 0.0 and 1.0
        objects = [word is not None and word.lower() not in no for word in words]
        plain = [word if word and word.lower() not in ("true", "1", "1.0", "yes") else "object" for word in words]
        codes = [spool.name(word) if yes else HAND for word, yes in zip(plain, objects, strict=True)]
        named = _taken(codes, index, np.int32)
        names = np.where((names == HAND), named, names)
    if "side" in columns:
        given = _sides(columns["side"])
        sides = np.where(given == UNKNOWN, sides, given)
    return names, sides


def _taken(values: Sequence[int], index: np.ndarray, kind: type) -> np.ndarray:
    return np.array(values, kind)[index] if values else np.zeros(0, kind)


def _sides(column: Column) -> np.ndarray:
    index, words = column.distinct()
    if column.is_called("hand_side"):  # 100DOH's own name and numbers
        words = [{"0": "left", "1": "right", "0.0": "left", "1.0": "right"}.get(word or "", word) for word in words]
    codes = []
    for number, word in enumerate(words):
        code = hand_names.side_given(word or "")
        if code is None:
            raise column.fail(
                int((index == number).argmax()),
                "'right', 'left' or nothing (100DOH's 0 and 1 are read in a column hand_side)",
            )
        codes.append(code)
    return _taken(codes, index, np.int8)
