"""Tables of boxes, CSV and Parquet: what is read, in any order of rows, and what is refused with row and column."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hojoint.datasets import box_spool, box_tables, something
from hojoint.datasets.box_tables import BOXES_SCHEMA
from hojoint.datasets.boxes import iterate_boxes, read_boxes
from hojoint.datasets.video_boxes import LEFT, RIGHT, UNKNOWN, VideoBoxes
from hojoint.errors import InputError

HEADER = "video,frame,x1,y1,x2,y2"


def csv(folder: Path, text: str, name: str = "boxes.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def parquet(folder: Path, **columns: Any) -> Path:
    path = folder / "boxes.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def one(path: Path) -> VideoBoxes:
    [video] = read_boxes(path).values()
    return video


def table_of(videos: list[VideoBoxes]) -> pa.Table:
    """Hand boxes as jobs.detect writes them."""
    sides = {UNKNOWN: None, RIGHT: "right", LEFT: "left"}
    rows: list[dict[str, Any]] = []
    for video in videos:
        for row, box in enumerate(video.hand_boxes.tolist()):
            rows.append(
                {
                    "video_id": video.video_id,
                    "frame": int(video.hand_frames[row]),
                    "side": sides[int(video.hand_sides[row])],
                    "track": int(video.hand_tracks[row]),
                    **dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)),
                }
            )
    return pa.Table.from_pylist(rows, BOXES_SCHEMA)


def test_a_csv_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    text = "Y2,Track_ID,X1,Y1,X2,Video ID,Frame,Side,note\n40,3,1.5,2,30,007,5,L,hello\n41,3,2.5,2,31,007,6,left,\n"
    video = one(csv(tmp_path, text))
    assert video.video_id == "007"
    assert video.hand_frames.tolist() == [5, 6]
    np.testing.assert_array_equal(video.hand_boxes, np.float32([[1.5, 2, 30, 40], [2.5, 2, 31, 41]]))
    assert video.hand_sides.tolist() == [LEFT, LEFT]
    assert video.hand_tracks.tolist() == [3, 3]
    assert (video.annotated_frames, video.every_frame_listed, video.hand_times_s) == (7, False, None)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings_separators_and_line_ends_do_not_matter(
    tmp_path: Path, encoding: str, separator: str, end: str
) -> None:
    lines = [HEADER, "Küche 1.b,0,1,2,3,4", "Küche 1.b,1,1,2,3,4.5"]
    text = end.join(line.replace(",", separator) for line in lines) + end
    video = one(csv(tmp_path, text, encoding=encoding))
    assert video.video_id == "Küche 1.b"
    assert video.hand_boxes[1].tolist() == [1, 2, 3, 4.5]


@pytest.mark.parametrize("at_once", [1, 70, 10_000])
def test_scattered_rows_give_the_same_as_sorted_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(box_tables, "BLOCK", 256)  # many batches
    monkeypatch.setattr(box_spool, "AT_ONCE", at_once)  # a pass for each video, for two, and for all
    rng = np.random.default_rng(0)
    rows = [
        f"v{video},{frame},{video},{frame},{video + 50},{frame + 60},{track}"
        for video in range(20)
        for frame in range(15)
        for track in (0, 1)
    ]
    order = rng.permutation(len(rows))
    ordered = read_boxes(csv(tmp_path, "\n".join([HEADER + ",track", *rows])))
    scattered = read_boxes(csv(tmp_path, "\n".join([HEADER + ",track", *(rows[at] for at in order)]), "x.csv"))
    assert ordered.keys() == scattered.keys()
    for video_id, video in ordered.items():
        other = scattered[video_id]
        assert other.hand_frames.tolist() == video.hand_frames.tolist() == sorted(list(range(15)) * 2)
        for track in (0, 1):
            np.testing.assert_array_equal(
                other.hand_boxes[other.hand_tracks == track], video.hand_boxes[video.hand_tracks == track]
            )
        assert video.hand_boxes[0].tolist() == [int(video_id[1:]), 0, int(video_id[1:]) + 50, 60]


def test_a_parquet_of_detections_survives_a_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    lines = [HEADER + ",side,track"]
    for video in ("a", "b c", "δ"):
        for frame in range(9):
            x, y = rng.uniform(0, 200, 2).astype(np.float32)
            lines.append(f"{video},{frame},{x},{y},{x + 50},{y + 50},{('right', 'left', '')[frame % 3]},{frame % 2}")
    first = read_boxes(csv(tmp_path, "\n".join(lines)))
    path = tmp_path / "boxes.parquet"
    pq.write_table(table_of(list(first.values())), path)
    second = read_boxes(path)
    assert list(second) == ["a", "b c", "δ"]
    for video_id, video in first.items():
        for name in ("hand_frames", "hand_boxes", "hand_sides", "hand_tracks"):
            np.testing.assert_array_equal(getattr(second[video_id], name), getattr(video, name))


def test_rows_without_a_box_tell_what_was_looked_at(tmp_path: Path) -> None:
    text = (
        f"{HEADER}\nempty,,,,,\nfull,0,1,1,9,9\nfull,1,,,,\nfull,2,1,1,9,9\nfull,3,,,,\nholes,0,1,1,9,9\nholes,2,,,,\n"
    )
    read = read_boxes(csv(tmp_path, text))
    assert (len(read["empty"].hand_boxes), read["empty"].annotated_frames) == (0, 0)
    assert not read["empty"].every_frame_listed
    assert (read["full"].hand_frames.tolist(), read["full"].annotated_frames) == ([0, 2], 4)
    assert read["full"].every_frame_listed
    assert not read["holes"].every_frame_listed


def test_a_row_per_frame_tells_how_long_the_video_is(tmp_path: Path) -> None:
    hands = [f"7,{frame},1,1,9,9,hand" for frame in range(6)]
    alone = csv(tmp_path, "\n".join([f"{HEADER},category", *hands]), "hands.csv")
    assert not read_boxes(alone)["7"].every_frame_listed  # the video may go on without the hand
    for more in ("8,0,1,1,9,9,cup", "8,0,,,,,"):  # frames without a hand are told, if only in another video
        read = read_boxes(csv(tmp_path, "\n".join([f"{HEADER},category", *hands, more])))
        assert (read["7"].annotated_frames, read["7"].every_frame_listed) == (6, True)
        read = read_boxes(csv(tmp_path, "\n".join([f"{HEADER},category", *hands[:3], *hands[4:], more])))
        assert not read["7"].every_frame_listed
    held = [*hands[2:], "7,0,1,1,9,9,cup", "7,1,1,1,9,9,cup", "7,6,1,1,9,9,cup"]
    read = read_boxes(csv(tmp_path, "\n".join([f"{HEADER},category", *held])))
    assert (read["7"].annotated_frames, read["7"].every_frame_listed) == (7, True)


def test_categories_and_objects_become_objects(tmp_path: Path) -> None:
    rows = ["7,0,0,0,60,80,hand", "7,0,10,10,40,40,cup", "7,1,0,0,60,80,Left_Hand", "7,1,10,10,41,41,cup"]
    video = one(csv(tmp_path, "\n".join([HEADER + ",category", *rows])))
    assert (video.object_names, video.object_ids.tolist()) == (("cup",), [0, 0])
    assert video.hand_sides.tolist() == [UNKNOWN, LEFT]
    [clip] = something.clips_of("7.webm", video)
    np.testing.assert_array_equal(clip.object_boxes, np.float32([[10, 10, 40, 40], [10, 10, 41, 41]]))
    flagged = [row.replace("hand", "false").replace("cup", "true").replace("Left_false", "") for row in rows]
    flagged = [row.replace("Left_Hand", "no") for row in flagged]
    video = one(csv(tmp_path, "\n".join([HEADER + ",is_object", *flagged])))
    assert (len(video.hand_boxes), video.object_names) == (2, ("object",))


def test_numbers_beside_gaps_tell_objects_as_pandas_writes_them(tmp_path: Path) -> None:
    rows = ["7,0,0,0,60,80,0.0", "7,0,10,10,40,40,1.0", "7,1,0,0,60,80,", "7,1,10,10,41,41,1.0"]
    video = one(csv(tmp_path, "\n".join([HEADER + ",is_object", *rows])))
    assert (len(video.hand_boxes), video.object_names) == (2, ("object",))


@pytest.mark.parametrize("name", ["boxes.txt", "boxes", "boxes.csv"])
def test_a_table_is_told_by_its_content(tmp_path: Path, name: str) -> None:
    assert one(csv(tmp_path, f"{HEADER}\n7,0,1,1,9,9\n", name)).hand_frames.tolist() == [0]


def test_times_become_the_times_of_the_clip(tmp_path: Path) -> None:
    lines = ["video,time,x1,y1,x2,y2,category"]
    for k in (3, 0, 1, 2):  # in no order
        lines += [f"7,{k / 30:.6f},{k},0,60,80,hand", f"7,{k / 30:.6f},{10 + k},10,40,40,cup"]
    lines.append("7,1.5,0,0,60,80,hand")  # away for more than a second
    video = one(csv(tmp_path, "\n".join(lines)))
    clips, short_tracks, short_boxes = something.tracks_of("7.webm", video)
    assert [clip.frames.tolist() for clip in clips] == [[0, 1, 2, 3]]
    assert clips[0].times_s is not None
    np.testing.assert_allclose(clips[0].times_s, np.arange(4) / 30, atol=1e-6)
    np.testing.assert_array_equal(clips[0].object_boxes[:, 0], [10, 11, 12, 13])
    assert (short_tracks, short_boxes) == (1, 1)
    with pytest.raises(InputError, match=r"videos\.boxes_fps=12 .*have times"):
        something.tracks_of("7.webm", video, boxes_fps=12)


def test_a_table_with_frame_and_time_is_read_by_frame(tmp_path: Path) -> None:
    video = one(csv(tmp_path, "video,frame,time,x1,y1,x2,y2\n7,4,0.1,1,1,9,9\n7,9,,1,1,9,9\n"))
    assert (video.hand_frames.tolist(), video.hand_times_s) == ([4, 9], None)


def test_numbers_and_text_of_parquet_are_taken_as_they_are(tmp_path: Path) -> None:
    corner = pa.array([1, 2], pa.int64())
    path = parquet(
        tmp_path, video=pa.array([7, 7]), frame=pa.array([0.0, 1.0]), xmin=corner, ymin=corner,
        xmax=pa.array([50.5, 51.5]), ymax=pa.array([60.0, 61.0]), hand_side=pa.array([0.0, 1.0]),
    )  # fmt: skip
    video = one(path)
    assert (video.video_id, video.hand_sides.tolist()) == ("7", [LEFT, RIGHT])
    coded = parquet(
        tmp_path, video=pa.array(["b", "a"]).dictionary_encode(), frame=[0, 0],
        **{name: pa.array([1.0, None]) for name in ("x1", "y1", "x2", "y2")},
    )  # fmt: skip
    assert [(video.video_id, len(video.hand_boxes)) for video in iterate_boxes(coded)] == [("b", 1), ("a", 0)]


def test_the_suffix_of_a_file_name_is_no_part_of_the_id(tmp_path: Path) -> None:
    assert one(csv(tmp_path, f"{HEADER}\nmy trip.v2.MP4,0,1,1,9,9\n")).video_id == "my trip.v2"
    with pytest.raises(InputError, match=r"'a\.mp4' and 'a\.webm' would both be the video 'a'"):
        read_boxes(csv(tmp_path, f"{HEADER}\na.mp4,0,1,1,9,9\na.webm,1,1,1,9,9\n"))


def test_ids_that_end_like_files_survive_in_own_tables(tmp_path: Path) -> None:
    ids = ["clip", "clip.avi", "walk.mp4"]  # of clip.webm, of clip.avi.mp4, and of a folder of pictures
    rows = [{"video_id": name, "frame": 0, "x1": 1.0, "y1": 1.0, "x2": 9.0, "y2": 9.0} for name in ids]
    pq.write_table(pa.Table.from_pylist(rows, BOXES_SCHEMA), tmp_path / "boxes.parquet")
    assert list(read_boxes(tmp_path / "boxes.parquet")) == ids


ROW = "7,0,1,1,9,9"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["needs the columns", "found none"]),
        ("a,b\n1,2\n", ["needs the columns", "without video and x1, y1, x2, y2 and frame (or time)", "found a, b"]),
        ("video,frame,x,y,width,height\n", ["x2 = x + width", "found video, frame, x, y, width, height"]),
        ("video,video,frame,x1,y1,x2,y2\n", ["two columns are called 'video'"]),
        ("video,video_id,frame,x1,y1,x2,y2\n", ["two columns say the video", "video, video_id"]),
        (f"{HEADER}\n{ROW}\n7,1,1,abc,9,9\n", ["row 2, column 'y1'", "pixels", "'abc'"]),
        (f"{HEADER}\n{ROW}\n7,1,1,,9,9\n", ["row 2, column 'y1'", "another corner", "''"]),
        (f"{HEADER}\n7,1,1,1,9,inf\n", ["row 1, column 'y2'", "'inf'"]),
        (f"{HEADER}\n7,1,1,1,9,2000000\n", ["row 1, column 'y2'", "'2000000'"]),
        (f"{HEADER}\n7,1.5,1,1,9,9\n", ["row 1, column 'frame'", "whole number", "'1.5'"]),
        (f"{HEADER}\n7,-1,1,1,9,9\n", ["row 1, column 'frame'", "'-1'"]),
        (f"{HEADER}\n7,,1,1,9,9\n", ["row 1, column 'frame'", "the frame of the box"]),
        (f"{HEADER}\n{ROW}\n,1,1,1,9,9\n", ["row 2, column 'video'", "the video's id"]),
        (f"{HEADER}\n../7,1,1,1,9,9\n", ["video id", "'../7'"]),
        (f"{HEADER}\n{ROW}\n7,1,1\n", ["3 cells under 6 columns", "'7,1,1'"]),
        (f"{HEADER.replace(',', ';')}\n7;1;1,5;1;9;9\n", ["row 1, column 'x1'", "'1,5'"]),
        (f"{HEADER},side\n{ROW},up\n", ["row 1, column 'side'", "'right', 'left'", "'up'"]),
        (f"{HEADER},side\n{ROW},1\n", ["row 1, column 'side'", "hand_side", "'1'"]),
        (f"{HEADER},Handedness\n{ROW},Left\n", ["'Handedness'", "mirrored", "Swap", "call the column side"]),
        (f"{HEADER},track\n{ROW},-2\n", ["row 1, column 'track'", "'-2'"]),
        (f"{HEADER},track\n{ROW},5\n{ROW},5\n", ["video '7'", "track 5 has two boxes in frame 0"]),
        (f"{HEADER},category\n{ROW},\n", ["row 1, column 'category'", "'hand' or an object's name"]),
        ("video,time,x1,y1,x2,y2\n7,1.7e9,1,1,9,9\n", ["row 1, column 'time'", "seconds", "'1.7e9'"]),
    ],
)  # fmt: skip
def test_a_broken_table_is_refused_with_row_and_column(tmp_path: Path, text: str, words: list[str]) -> None:
    path = csv(tmp_path, text)
    with pytest.raises(InputError) as refusal:
        read_boxes(path)
    for word in [str(path), *words]:
        assert word in str(refusal.value)


def test_a_row_far_below_is_named_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box_tables, "BLOCK", 512)
    rows = [f"7,{n},1,1,9,9" for n in range(500)]
    rows[437] = "7,437,1,1,nine,9"
    with pytest.raises(InputError, match=r"row 438, column 'x2'.*'nine'"):
        read_boxes(csv(tmp_path, "\n".join([HEADER, *rows])))


def test_ids_that_became_numbers_with_fractions_are_refused(tmp_path: Path) -> None:
    corners = {name: [1.0, 2.0] for name in ("x1", "y1", "x2", "y2")}
    with pytest.raises(InputError, match=r"row 1, column 'video'.*text or a whole number, found 7\.0"):
        read_boxes(parquet(tmp_path, video=[7.0, math.nan], frame=[0, 1], **corners))


def test_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    whole = parquet(
        tmp_path, video=["7"] * 1000, frame=list(range(1000)), **dict.fromkeys(("x1", "y1", "x2", "y2"), [1.0] * 1000)
    )
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(whole.read_bytes()[:-200])
    foreign = {
        "cut.parquet": None,
        "empty.parquet": b"",
        "lfs.parquet": b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n",
        "x.pkl": b"\x80\x04K\x01.",
        "x.npz": b"PK\x03\x04...",
        "x.csv": b"<!DOCTYPE html><html>",
        "latin.csv": f"{HEADER}\nK\xfcche,0,1,1,9,9\n".encode("latin-1"),
    }  # fmt: skip
    said = ["Parquet", "no Parquet file", "Git LFS pointer", "pickle", "zip archive", "HTML", "UTF8"]
    for (name, content), word in zip(foreign.items(), said, strict=True):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=word) as refusal:
            read_boxes(tmp_path / name)
        assert name in str(refusal.value)


def test_a_table_of_detections_tells_how_long_its_video_is(tmp_path: Path) -> None:
    """Its last picture always has a row, if only one without a box; another table may end anywhere."""
    rows = [{"video_id": "7", "frame": 3, "x1": 1.0, "y1": 1.0, "x2": 9.0, "y2": 9.0}, {"video_id": "7", "frame": 20}]
    path = tmp_path / "boxes.parquet"
    table = pa.Table.from_pylist([*rows, {"video_id": "8"}], BOXES_SCHEMA)
    pq.write_table(table, path)
    read = read_boxes(path)
    assert (read["7"].annotated_frames, read["7"].every_frame_listed) == (21, True)
    assert not read["8"].every_frame_listed
    pq.write_table(table.replace_schema_metadata(None), path)
    assert not read_boxes(path)["7"].every_frame_listed


def test_a_table_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(BOXES_SCHEMA.empty_table().replace_schema_metadata({box_tables.VERSION_KEY: b"9"}), path)
    with pytest.raises(InputError, match=r"version 9 .* reads 1"):
        read_boxes(path)
    pq.write_table(BOXES_SCHEMA.empty_table(), path)
    assert read_boxes(path) == {}


def test_parts_of_a_folder_are_of_one_kind(tmp_path: Path) -> None:
    csv(tmp_path, f"{HEADER}\na,0,1,1,9,9\n", "1.csv")
    csv(tmp_path, f"{HEADER}\nb,0,1,1,9,9\n", "2.csv")
    assert [video.video_id for video in iterate_boxes(tmp_path)] == ["a", "b"]
    (tmp_path / "._1.csv").write_bytes(b"\0\5\x16\7")  # macOS's notes beside a file on a foreign disk
    (tmp_path / ".old.json").write_text("{}")
    assert [video.video_id for video in iterate_boxes(tmp_path)] == ["a", "b"]
    csv(tmp_path, f"{HEADER}\na,3,1,1,9,9\n", "3.csv")
    assert [video.video_id for video in iterate_boxes(tmp_path)] == ["a", "b", "a"]
    with pytest.raises(InputError, match="'a' is annotated twice"):
        read_boxes(tmp_path)
    (tmp_path / "4.CSV").write_text(f"{HEADER}\nc,0,1,1,9,9\n")
    (tmp_path / "5.csv.gz").write_bytes(gzip.compress(f"{HEADER}\nd,0,1,1,9,9\n".encode()))
    assert [video.video_id for video in iterate_boxes(tmp_path)] == ["a", "b", "a", "c", "d"]
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(InputError, match=r"as \.csv and as \.json"):
        read_boxes(tmp_path)


def test_progress_counts_bytes_up_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box_tables, "BLOCK", 512)
    path = csv(tmp_path, "\n".join([HEADER, *(f"7,{n},1,1,9,9" for n in range(300))]))
    seen: list[tuple[int, int]] = []
    list(iterate_boxes(path, lambda read, total: seen.append((read, total))))
    assert len(seen) > 3
    assert seen == sorted(seen)
    assert seen[-1] == (path.stat().st_size,) * 2


def test_parquet_columns_that_are_no_text_are_refused(tmp_path: Path) -> None:
    box = {"frame": [0], "x1": [1.0], "y1": [1.0], "x2": [50.0], "y2": [60.0]}
    for video in (pa.array([b"\xff\xfea"], pa.binary()), pa.array([{"id": "a"}]), pa.array([["a"]])):
        path = parquet(tmp_path, video=video, **box)
        with pytest.raises(InputError, match=r"boxes\.parquet: column 'video': expected text") as caught:
            read_boxes(path)
        assert str(video.type)[:4] in str(caught.value)
    assert one(parquet(tmp_path, video=pa.array([b"a"], pa.binary()), **box)).video_id == "a"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_its_mark_is_named(tmp_path: Path, encoding: str) -> None:
    path = csv(tmp_path, f"{HEADER}\na,0,1,2,30,40\n", encoding=encoding)
    with pytest.raises(InputError, match="UTF-16 without a byte-order mark"):
        read_boxes(path)


def test_sides_of_100doh_as_floats_are_read(tmp_path: Path) -> None:
    for name in ("hand_side", "Hand Side", "HAND_SIDE "):
        path = csv(tmp_path, f"{HEADER},{name}\na,0,1,2,30,40,0.0\na,1,1,2,30,40,1.0\na,2,1,2,30,40,\n")
        assert one(path).hand_sides.tolist() == [LEFT, RIGHT, UNKNOWN]
