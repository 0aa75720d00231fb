"""Names of hands, sides, 100DOH and ids: what an annotation says about its hands, in each format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hojoint.datasets import hand_names, something
from hojoint.datasets.boxes import read_boxes
from hojoint.datasets.video_boxes import LEFT, RIGHT, UNKNOWN, VideoBoxes
from hojoint.errors import InputError


@pytest.mark.parametrize(
    ("side", "names"),
    [
        (UNKNOWN, "hand Hand HAND hand_1 hand2"),
        (LEFT, "left_hand|left hand|LeftHand|Left-Hand|hand_l|hand_left|lefthand|lhand|HAND (LEFT)|left_hand_0|LHand"),
        (RIGHT, "right_hand|right hand|RightHand|hand.r|Hand_R|righthand|rhand|RIGHT_HAND|R hand"),
    ],
)
def test_names_of_hands_are_read_with_their_side(side: int, names: str) -> None:
    for name in names.split("|" if "|" in names else " "):
        assert hand_names.side_of(name) == side, name


def test_names_that_only_contain_hand_are_objects() -> None:
    objects = ["handle", "handbag", "door handle", "handkerchief", "0000", "cup", "", "second hand book"]
    near = ["hands", "hand on cup", "left right hand", "both_hands", "hand of man", "palm", "hand hand"]
    for name in [*objects, *near]:
        assert hand_names.side_of(name) is None, name
    assert [name for name in objects if hand_names.doubtful(name)] in ([], ["second hand book"])
    assert [name for name in near if not hand_names.doubtful(name)] == []
    assert not hand_names.doubtful("Hand")


def annotation(path: Path, labels: list[list[tuple[str, tuple[float, ...]]]], video: str = "7") -> VideoBoxes:
    """A Something-Else file with these labels per frame, read."""
    frames = [
        {
            "name": f"{video}/{number:04d}.jpg",
            "labels": [
                {"standard_category": name, "box2d": dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))}
                for name, box in frame
            ],
        }
        for number, frame in enumerate(labels, start=1)
    ]
    path.write_text(json.dumps({video: frames}))
    [read] = read_boxes(path).values()
    return read


NEAR, FAR = (0, 0, 60, 80), (200, 100, 260, 180)


def test_the_side_of_most_boxes_is_the_side_of_the_clip(tmp_path: Path) -> None:
    names = ["left_hand", "right_hand", "left_hand", "hand"]
    boxes = annotation(tmp_path / "x.json", [[(name, NEAR)] for name in names])
    assert [clip.side for clip in something.clips_of("7.webm", boxes)] == ["left"]
    assert something.side_conflicts(boxes) == (1, 1)
    tie = annotation(tmp_path / "y.json", [[(name, NEAR)] for name in ("left_hand", "right_hand")])
    assert [clip.side for clip in something.clips_of("7.webm", tie)] == [None]
    assert something.side_conflicts(tie) == (1, 1)
    plain = annotation(tmp_path / "z.json", [[("hand", NEAR)]] * 2)
    assert [clip.side for clip in something.clips_of("7.webm", plain)] == [None]
    assert something.side_conflicts(plain) == (0, 0)


def test_hands_that_cross_stay_apart_by_their_sides(tmp_path: Path) -> None:
    # At frame 3 the boxes swap places; overlap alone would follow the place.
    right, left = [(0, 0, 60, 80)] * 3 + [(20, 0, 80, 80)] * 3, [(20, 0, 80, 80)] * 3 + [(0, 0, 60, 80)] * 3
    frames = [[("right hand", r), ("left hand", b)] for r, b in zip(right, left, strict=True)]
    clips = something.clips_of("7.webm", annotation(tmp_path / "x.json", frames))
    by_side = {clip.side: clip.hand_boxes for clip in clips}
    np.testing.assert_array_equal(by_side["right"], np.float32(right))
    np.testing.assert_array_equal(by_side["left"], np.float32(left))


def test_given_tracks_are_followed_and_cut_at_long_gaps(tmp_path: Path) -> None:
    lines = ["video,frame,x1,y1,x2,y2,track"]
    for frame in range(4):
        swapped = frame % 2  # the hands jump; only the track follows
        lines += [
            f"7,{frame},{200 * swapped},0,{200 * swapped + 50},50,5",
            f"7,{frame},{200 - 200 * swapped},0,260,50,2",
        ]
    lines += [f"7,{frame},0,0,50,50,5" for frame in (17, 18)]  # 13 frames away
    (tmp_path / "x.csv").write_text("\n".join(lines))
    [boxes] = read_boxes(tmp_path / "x.csv").values()
    clips = something.clips_of("7.webm", boxes)
    assert [(clip.clip_id, clip.frames.tolist()) for clip in clips] == [
        ("7-h0-0000-0003", [0, 1, 2, 3]),
        ("7-h1-0000-0003", [0, 1, 2, 3]),
        ("7-h2-0017-0018", [17, 18]),
    ]
    assert clips[0].hand_boxes[:, 0].tolist() == [0, 200, 0, 200]


def test_boxes_fps_gives_times_and_leaves_the_ids(tmp_path: Path) -> None:
    boxes = annotation(tmp_path / "x.json", [[("hand", NEAR)]] * 3)
    [plain], [timed] = (something.clips_of("7.webm", boxes, boxes_fps=fps) for fps in (None, 12))
    assert plain.times_s is None
    assert timed.times_s is not None
    np.testing.assert_allclose(timed.times_s, [0.5 / 12, 1.5 / 12, 2.5 / 12])
    assert timed.clip_id == plain.clip_id == "7-h0-0000-0002"
    assert timed.frames.tolist() == [0, 1, 2]


def test_ids_with_spaces_dots_and_other_letters_are_kept(tmp_path: Path) -> None:
    for video in ("my video.final", "日本 語", "a" * 200, "-rf", "50% off & <b>"):
        boxes = annotation(tmp_path / "x.json", [[("hand", NEAR)]] * 2, video)
        assert boxes.video_id == video
        assert something.clips_of("x.webm", boxes)[0].clip_id == f"{video}-h0-0000-0001"


def hand(**change: Any) -> dict[str, Any]:
    box = {"x1": 0.25, "y1": 0.5, "x2": 0.5, "y2": 1.0}
    return box | {"width": 400, "height": 200, "hand_side": "l", "contact_state": 3, "obj_bbox": box} | change


def write_json(folder: Path, content: Any) -> Path:
    path = folder / "100doh.json"
    path.write_text(json.dumps(content))
    return path


def test_annotations_of_100doh_become_pixels(tmp_path: Path) -> None:
    images = {
        "food_v_a-B_frame000002.jpg": [hand(), hand(hand_side=1, contact_state=0, x1=0.75, x2=1.0)],
        "diy_v_x_frame000001.jpg": [hand(obj_bbox=None, hand_side=None)],
        "food_v_a-B_frame000001.jpg": [],
    }
    read = read_boxes(write_json(tmp_path, images))
    assert list(read) == ["food_v_a-B", "diy_v_x"]
    video = read["food_v_a-B"]
    assert video.hand_frames.tolist() == [1, 1]
    np.testing.assert_array_equal(video.hand_boxes, [[100, 100, 200, 200], [300, 100, 400, 200]])
    assert video.hand_sides.tolist() == [LEFT, RIGHT]
    np.testing.assert_array_equal(video.object_boxes, [[100, 100, 200, 200]])
    assert (video.object_names, video.every_frame_listed) == (("targetobject",), True)
    assert read["diy_v_x"].hand_sides.tolist() == [UNKNOWN]


def test_detections_of_100doh_are_read_with_side_and_object(tmp_path: Path) -> None:
    def row(x: float, state: int, side: int) -> list[float]:
        return [x, 10, x + 50, 60, 0.9, state, 0, 1, 0.1, side]

    images = {
        "P01/frame_0000000001.jpg": {"hand_dets": [row(0, 3, 0), row(90, 0, 1)], "obj_dets": [row(20, 0, 0)]},
        "P01/frame_0000000002.jpg": {"hand_dets": [row(1, 0, 0)], "obj_dets": [row(20, 0, 0)]},
        "P01/frame_0000000003.jpg": {"hand_dets": None, "obj_dets": None},
    }
    [video] = read_boxes(write_json(tmp_path, images)).values()
    assert (video.video_id, video.hand_frames.tolist()) == ("P01", [0, 0, 1])
    assert video.hand_sides.tolist() == [LEFT, RIGHT, LEFT]
    assert (video.object_frames.tolist(), video.annotated_frames, video.every_frame_listed) == ([0], 3, True)


@pytest.mark.parametrize(
    ("image", "value", "words"),
    [
        ("a_frame000000.jpg", [], ["counted from 1"]),
        ("a_frame000001.jpg", 3, ["list of hands", "int 3"]),
        ("a_frame000001.jpg", [3], ["hand 1", "int 3"]),
        ("a_frame000001.jpg", [hand(width=None)], ["hand 1", "width", "None"]),
        ("a_frame000001.jpg", [hand(x2=300)], ["hand 1", "x2 from -1 to 2", "300"]),
        ("a_frame000001.jpg", [hand(hand_side="up")], ["hand_side", "'up'"]),
        ("a_frame000001.jpg", [hand(obj_bbox={"x1": "0"})], ["obj_bbox", "'0'"]),
        ("a_frame000001.jpg", {"hand_dets": [[1, 2, 3]]}, ["hand_dets", "10 numbers"]),
        ("a_frame000001.jpg", {"hand_dets": 4}, ["hand_dets", "int 4"]),
        ("a_frame000001.jpg", {"hand_dets": [[float("nan")] * 10]}, ["number 1", "nan"]),
        ("7", [], ["counted from 1", "'7'"]),
        ("100088.jpg", [], ["counted from 1"]),  # not frame 87 of a video "1"
        ("v_12345678901.jpg", [], ["counted from 1"]),
    ],
)
def test_a_broken_100doh_file_is_refused(tmp_path: Path, image: str, value: Any, words: list[str]) -> None:
    path = write_json(tmp_path, {"b_frame000001.jpg": [hand()], image: value})
    with pytest.raises(InputError) as refusal:
        read_boxes(path)
    for word in [str(path), image, *words]:
        assert word in str(refusal.value)


def test_a_file_of_images_without_a_video_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"image '100088\.jpg': expected a frame of a video"):
        read_boxes(write_json(tmp_path, {"100088.jpg": [hand()]}))


def test_one_name_in_two_folders_is_refused(tmp_path: Path) -> None:
    images = {f"{part}/cam1/000{number}.jpg": [hand()] for part in ("train", "test") for number in (1, 2)}
    with pytest.raises(InputError, match=r"'train/cam1' and 'test/cam1' would both be the video 'cam1'"):
        read_boxes(write_json(tmp_path, images))
    assert list(read_boxes(write_json(tmp_path, {name: images[name] for name in list(images)[:2]}))) == ["cam1"]


@pytest.mark.parametrize(
    ("image", "video"),
    [
        ("my_img/000001.jpg", "my_img"), ("timeframe/000001.jpg", "timeframe"), ("a_/frame_000001.jpg", "a_"),
        ("kitchen_frame/image-000001.png", "kitchen_frame"), ("train/kitchen-/000001.jpg", "kitchen-"),
        ("timeframe_000001.jpg", "timeframe"), ("food_v_x-_00000001.png", "food_v_x-"), ("P01_01/000001.jpg", "P01_01"),
        ("food_v_x-_frame000001.jpg", "food_v_x-"), ("abc_00000001.png", "abc"), ("abc000001.JPG", "abc"),
        ("train/food_v_x_frame000001.jpg", "food_v_x"), ("abc_img_000001.jpg", "abc"), ("frame_000001.jpg", "frame"),
    ],
)  # fmt: skip
def test_the_name_of_a_video_keeps_its_end(image: str, video: str, tmp_path: Path) -> None:
    [read] = read_boxes(write_json(tmp_path, {image: [hand()]})).values()
    assert (read.video_id, read.hand_frames.tolist()) == (video, [0])


def test_two_folders_of_similar_names_are_two_videos(tmp_path: Path) -> None:
    images = {f"{folder}/000001.jpg": [hand()] for folder in ("kitchen", "kitchen_frame", "kitchen_")}
    assert list(read_boxes(write_json(tmp_path, images))) == ["kitchen", "kitchen_frame", "kitchen_"]
    with pytest.raises(InputError, match=r"'a_' and 'a_frame_' would both be the video 'a'"):
        read_boxes(write_json(tmp_path, {"a_000001.jpg": [hand()], "a_frame_000001.jpg": [hand()]}))


def test_json_in_utf_16_is_read_and_coco_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(json.dumps({"é": []}, ensure_ascii=False).encode("utf-16"))
    assert list(read_boxes(path)) == ["é"]
    path.write_text(json.dumps({"info": {}, "images": []}))
    with pytest.raises(InputError, match="COCO's JSON is not read"):
        read_boxes(path)
    path.write_bytes(json.dumps({"e": []}).encode("utf-16-le"))
    with pytest.raises(InputError, match="UTF-16 without a byte-order mark"):
        read_boxes(path)


@pytest.mark.parametrize("keys", [("4", "5"), ("5", "4")])
def test_frames_named_after_another_video_are_refused(tmp_path: Path, keys: tuple[str, ...]) -> None:
    path = tmp_path / "boxes.json"
    frame = {"name": "frames/4/0001.jpg", "labels": []}
    path.write_text(json.dumps({key: [frame] for key in keys}))
    with pytest.raises(InputError, match=r"video 5: a frame is called 'frames/4/0001\.jpg', and '4' is another video"):
        read_boxes(path)
    path.write_text(json.dumps({"5": [frame]}))  # no other video of the file
    assert list(read_boxes(path)) == ["5"]
