"""Something-Else boxes and which hand is followed through which frames; files are written here, answers by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hojoint.datasets import box_json, something
from hojoint.datasets.boxes import read_boxes
from hojoint.datasets.video_boxes import VideoBoxes
from hojoint.errors import InputError
from hojoint.records import Clip

LEFT = (0, 0, 60, 80)
RIGHT = (200, 100, 280, 180)


def label(category: str, box: tuple[float, ...]) -> dict[str, Any]:
    return {"standard_category": category, "box2d": dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))}


def frame(video: str, number: int, *labels: dict[str, Any]) -> dict[str, Any]:
    return {"name": f"{video}/{number:04d}.jpg", "nr_instances": len(labels), "labels": list(labels)}


def write(folder: Path, annotation: Any, name: str = "bounding_box_smthsmth_part1.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(annotation if isinstance(annotation, str) else json.dumps(annotation))
    return path


def clips_of(tmp_path: Path, frames: list[dict[str, Any]], **options: Any) -> list[Clip]:
    [boxes] = read_boxes(write(tmp_path / "boxes", {"7": frames})).values()
    return something.clips_of("7.webm", boxes, **options)


def test_the_parts_of_a_folder_are_merged(tmp_path: Path) -> None:
    first = {"22": [frame("22", 1, label("hand", (1, 2.5, 3, 427.00000000000006))), frame("22", 2)]}
    second = {"4": [], "a_-Z9": [frame("a_-Z9", 3, label("0001", (0, 0, 9, 9)), label("0000", (1, 1, 2, 2)))]}
    write(tmp_path, first), write(tmp_path, second, "bounding_box_smthsmth_part2.json"), write(tmp_path, "[]", "x.json")
    read = read_boxes(tmp_path)
    assert sorted(read) == ["22", "4", "a_-Z9"]
    np.testing.assert_array_equal(read["22"].hand_boxes, np.float32([[1, 2.5, 3, 427]]))
    assert read["22"].hand_frames.tolist() == [0]
    assert [read[v].annotated_frames for v in ("22", "4", "a_-Z9")] == [2, 0, 3]
    assert [read["a_-Z9"].object_names[i] for i in read["a_-Z9"].object_ids] == ["0000", "0001"]


@pytest.mark.parametrize("chunk", [1, 7, 100, 1 << 20])
def test_the_videos_do_not_depend_on_the_size_of_a_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    annotation = {str(v): [frame(str(v), f + 1, label("hand", (f, v, 50, 60.25))) for f in range(v)] for v in range(6)}
    path = write(tmp_path, json.dumps(annotation, indent=1))
    monkeypatch.setattr(box_json, "CHUNK", chunk)
    read = read_boxes(path)
    assert {v: boxes.hand_boxes.tolist() for v, boxes in read.items()} == {
        v: [list(f["labels"][0]["box2d"].values()) for f in frames] for v, frames in annotation.items()
    }


def test_an_empty_annotation_holds_no_video(tmp_path: Path) -> None:
    assert read_boxes(write(tmp_path, " {}\n")) == {}


ONES = {"x1": 1, "y1": 1, "x2": 1, "y2": 1}
ONE = frame("7", 1, label("hand", LEFT))


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ("", ["not a Something-Else file", "ends"]),
        ("[]", ["not a Something-Else file", "'[]'"]),
        ('{"7": [{"name"', ["not JSON", "video 7", "ends"]),
        ('{"7": [1, 2,, 3]' + " " * 200 + "}", ["not JSON", "video 7", ", 3]"]),
        ('{"7": [] "8": []}', ["video 7", '"8"']),
        ({"../7": []}, ["video id", "'../7'"]),
        ({"": []}, ["video id", "''"]),
        ({"7" * 201: []}, ["video id"]),
        ({"7": {}}, ["video 7", "list of frames", "dict"]),
        ({"7": [ONE, 3]}, ["video 7, frame 2", "int 3"]),
        ({"7": [{"name": "7/0001.jpg"}]}, ["frame 1", "'labels'", "None"]),
        ({"7": [{"name": "7/0000.jpg", "labels": []}]}, ["counts from 0001", "7/0000.jpg"]),
        ({"7": [{"name": 5, "labels": []}]}, ["frame 1", "int 5"]),
        ('{"7": [],}', ["a video id", "'}'"]),
        ('{"7": []} and more', ["end of the file", "'and more'"]),
        ('{"7": [' + "9" * 5000 + "]}", ["frames of video 7", "digits"]),
        ('{"7": ' + json.dumps([ONE]).replace("60", "6" * 400, 1) + "}", ["frame 1", "as pixels"]),
        ({"7": [ONE, ONE]}, ["frame 2", "two frames"]),
        ({"7": [frame("7", 2), {"labels": []}]}, ["frame 2", "two frames have the number 2"]),
        ({"7": [frame("7", 1, {"standard_category": "hand"})]}, ["box2d", "None"]),
        ({"7": [frame("7", 1, {"box2d": {}})]}, ["standard_category"]),
        ({"7": [frame("7", 1, {"standard_category": "hand", "box2d": {"x1": 1, "y1": 2, "x2": 3}})]}, ["y2", "None"]),
        ({"7": [frame("7", 1, label("hand", (float("nan"), 0, 1, 1)))]}, ["frame 1", "x1", "nan"]),
        ({"7": [frame("7", 1, label("0000", (0, 0, float("inf"), 1)))]}, ["'0000'", "x2", "inf"]),
        ({"7": [frame("7", 1, {"standard_category": "hand", "box2d": {**ONES, "x1": "0"}})]}, ["str '0'"]),
        ({"7": [frame("7", 1, {"standard_category": "hand", "box2d": {**ONES, "x1": True}})]}, ["bool"]),
    ],
)  # fmt: skip
def test_a_broken_annotation_is_refused_with_its_position(tmp_path: Path, annotation: Any, words: list[str]) -> None:
    path = write(tmp_path, annotation)
    with pytest.raises(InputError) as refusal:
        read_boxes(path)
    for word in [str(path), *words]:
        assert word in str(refusal.value)


def test_missing_empty_and_binary_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no boxes at .*nowhere"):
        read_boxes(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no bounding_box_smthsmth_part\*\.json"):
        read_boxes(tmp_path)
    (tmp_path / "x.json").write_bytes(b"{\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        read_boxes(tmp_path)


def test_a_video_in_two_parts_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"7": []}), write(tmp_path, {"7": []}, "bounding_box_smthsmth_part2.json")
    with pytest.raises(InputError, match=r"'7' is annotated twice"):
        read_boxes(tmp_path)


def test_a_frame_is_numbered_by_its_name_else_by_its_position(tmp_path: Path) -> None:
    named = [frame("7", n, label("hand", LEFT)) for n in (3, 4, 9)]
    assert clips_of(tmp_path / "a", named)[0].frames.tolist() == [2, 3, 8]
    nameless = [{"labels": item["labels"]} for item in named]
    assert clips_of(tmp_path / "b", nameless)[0].frames.tolist() == [0, 1, 2]


def test_a_hand_away_for_thirteen_frames_begins_a_new_clip(tmp_path: Path) -> None:
    for gap, spans in ((12, ["7-h0-0000-0015"]), (13, ["7-h0-0000-0001", "7-h1-0015-0016"])):
        seen = [1, 2, 3 + gap, 4 + gap]
        clips = clips_of(tmp_path / str(gap), [frame("7", n, label("hand", LEFT)) for n in seen])
        assert [clip.clip_id for clip in clips] == spans


def test_two_hands_are_followed_apart_in_any_order(tmp_path: Path) -> None:
    moving = [(2 * n, 0, 60 + 2 * n, 80) for n in range(6)]
    frames = []
    for n in range(6):
        pair = [label("hand", moving[n]), label("hand", RIGHT)]
        frames.append(frame("7", n + 1, *(pair if n % 2 else pair[::-1])))
    clips = clips_of(tmp_path, frames)
    assert len(clips) == 2
    by_side = sorted(clips, key=lambda clip: clip.hand_boxes[0, 0])
    np.testing.assert_array_equal(by_side[0].hand_boxes, np.float32(moving))
    np.testing.assert_array_equal(by_side[1].hand_boxes, np.float32([RIGHT] * 6))


def test_a_hand_that_reappears_across_the_frame_is_another_hand(tmp_path: Path) -> None:
    frames = [frame("7", n + 1, label("hand", LEFT if n < 3 else RIGHT)) for n in range(6)]
    clips = clips_of(tmp_path, frames)
    assert [clip.frames.tolist() for clip in clips] == [[0, 1, 2], [3, 4, 5]]


def test_hands_seen_too_shortly_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path, {"7": [frame("7", 1, label("hand", LEFT)), frame("7", 2)]})
    assert something.tracks_of("7.webm", read_boxes(path)["7"]) == ([], 1, 1)


def test_the_object_is_the_one_inside_the_hand_box(tmp_path: Path) -> None:
    table, cup, far = (0, 0, 400, 240), (10, 10, 40, 40), (300, 0, 320, 20)
    frames = [frame("7", n + 1, label("hand", LEFT), label("0000", table), label("0002", far)) for n in range(5)]
    for n in (1, 2):
        frames[n]["labels"].insert(0, label("0001", cup))
    clip = clips_of(tmp_path, frames)[0]
    assert np.isnan(clip.object_boxes[[0, 3, 4]]).all()
    np.testing.assert_array_equal(clip.object_boxes[1:3], np.float32([cup, cup]))


def test_an_object_that_never_meets_the_hand_is_none(tmp_path: Path) -> None:
    frames = [frame("7", n + 1, label("hand", LEFT), label("0000", RIGHT)) for n in range(3)]
    assert np.isnan(clips_of(tmp_path, frames)[0].object_boxes).all()


def test_of_two_boxes_with_one_name_the_one_in_the_hand_is_taken(tmp_path: Path) -> None:
    near, half = (0, 0, 10, 10), (50, 0, 70, 20)
    frames = [frame("7", n + 1, label("hand", LEFT), label("0000", half), label("0000", near)) for n in range(2)]
    np.testing.assert_array_equal(clips_of(tmp_path, frames)[0].object_boxes, np.float32([near] * 2))


def table(tmp_path: Path, *frames: int) -> VideoBoxes:
    path = tmp_path / "boxes.csv"
    path.write_text("\n".join(["video,frame,x1,y1,x2,y2", *(f"7,{number},0,0,60,80" for number in frames)]))
    return read_boxes(path)["7"]


def test_the_gap_is_one_second_where_the_rate_is_known(tmp_path: Path) -> None:
    """Frames 0 to 3, then 20 frames without the hand: two thirds of a second at 30 per second, two at 10."""
    boxes = table(tmp_path, 0, 1, 2, 3, 24, 25, 26, 27)
    spans = {fps: [clip.frames.tolist() for clip in something.clips_of("", boxes, boxes_fps=fps)] for fps in (30, 10)}
    assert spans == {30: [[0, 1, 2, 3, 24, 25, 26, 27]], 10: [[0, 1, 2, 3], [24, 25, 26, 27]]}


def test_a_list_of_every_nth_picture_is_followed(tmp_path: Path) -> None:
    boxes = table(tmp_path, *range(0, 300, 30))
    assert [clip.frames.tolist() for clip in something.clips_of("", boxes)] == [list(range(0, 300, 30))]
    slow = table(tmp_path, *range(10))  # a frame every two seconds
    assert [clip.frames.tolist() for clip in something.clips_of("", slow, boxes_fps=0.5)] == [list(range(10))]
    late = table(tmp_path, *range(0, 150, 30), *range(210, 330, 30))  # away for one frame of the list
    assert [len(clip.frames) for clip in something.clips_of("", late)] == [5, 4]
