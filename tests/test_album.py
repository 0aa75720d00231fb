"""album: which rows and images a report shows, and what the captions say."""

from __future__ import annotations

import cv2
import numpy as np
import pyarrow as pa
import pytest

from hojoint.config import ManoConfig
from hojoint.hand.factory import hand_layer
from hojoint.records import Example
from hojoint.report import album

FACES = np.array([[0, 1, 2], [2, 1, 3]])
CORNERS = np.array([[10.0, 10], [30, 10], [10, 30], [30, 30]])


def example(**changes):
    fields = {
        "name": "SM1/0000",
        "image": np.full((48, 64, 3), 128, np.uint8),
        "hand_box": np.array([8.0, 8, 32, 32]),
        "object_box": np.array([20.0, 20, 60, 44]),
        "joints_px": np.zeros((21, 2)),
        "vertices": np.concatenate([CORNERS / 500, np.zeros((4, 1))], axis=1),
        "vertices_px": CORNERS,
        "error_mm": np.array([4.0, 8, 8, 12]),
        "corners_px": np.full((8, 2), np.nan),
        "object_pose": np.full((3, 4), np.nan),
        "camera": np.eye(3),
        "add_mm": np.nan,
        "object_points": np.full((1, 3), np.nan),
    }
    return Example(**{**fields, **changes})


def row(verdict, **changes):
    fields = {"video_id": "7", "frame": 3, "flipped": False, "verdict": verdict, "score_box_iou": 0.25}
    fields |= {"mano_pose": [0.0] * 48, "mano_shape": [0.0] * 10, "camera": [100.0, 32.0, 24.0]}
    return {**fields, "hand_box": [8.0, 8.0, 56.0, 40.0], **changes}


def test_rows_are_spread_over_videos_middle_first():
    videos = ["a"] * 5 + ["b"] * 3
    assert album.spread_rows(videos, np.arange(8), 3).tolist() == [2, 6, 1]
    assert album.spread_rows(videos, np.array([0, 4]), 9).tolist() == [0, 4]
    many = [str(number) for number in range(9)]
    assert album.spread_rows(many, np.arange(9), 3).tolist() == [0, 4, 8]
    assert album.spread_rows([], np.zeros(0, int), 3).tolist() == []


def test_kept_rows_come_before_those_of_each_rule():
    verdicts = ["box_iou", "kept", "kept", "pose_step", "box_iou", "kept"]
    table = pa.table({"verdict": verdicts, "video_id": ["a", "a", "b", "b", "b", "c"]})
    assert album.chosen_rows(table, ["box_iou", "pose_step"], 2, 1).tolist() == [1, 5, 0, 3]


@pytest.mark.parametrize(
    ("frame", "judged", "caption", "tone"),
    [
        (row("kept"), (12.34, True, True), "video 7, frame 3, right hand; PA-MPJPE 12.3 mm, correct", "kept"),
        (
            row("kept"),
            (12.34, False, False),
            "video 7, frame 3, right hand (wrong side); PA-MPJPE 12.3 mm, not correct",
            "kept",
        ),
        (row("kept"), (np.nan, False, False), "video 7, frame 3, right hand", "kept"),
        (row("box_iou", flipped=True), None, "video 7, frame 3, left hand; box_iou 0.25", "rejected"),
    ],
)
def test_a_labelled_frame_has_its_verdict_and_error(frame, judged, caption, tone):
    layer = hand_layer(ManoConfig())
    image = np.full((48, 64, 3), 128, np.uint8)
    picture = album.label_picture(frame, image, np.zeros(2), layer, layer.faces, judged and album.Judged(*judged))
    assert (picture.caption, picture.tag, picture.tone) == (caption, frame["verdict"], tone)
    tile = cv2.imdecode(np.frombuffer(picture.data, np.uint8), cv2.IMREAD_COLOR)
    assert tile.shape == (album.TILE_PX, album.TILE_PX, 3)


def test_a_left_hands_mesh_is_mirrored():
    layer = hand_layer(ManoConfig())
    right, left = (album.mesh_of(row("kept", flipped=flipped), layer) for flipped in (False, True))
    np.testing.assert_array_equal(left, right * [-1, 1, 1])


@pytest.mark.parametrize(
    ("add_mm", "words"), [(np.nan, ""), (34.4, ", object 34 mm (ADD)"), (5000.0, ", object more than 1 m off")]
)
def test_an_example_has_pa_mpvpe_and_add_in_its_caption(add_mm, words):
    picture = album.example_picture(example(add_mm=add_mm), FACES)
    assert picture.caption == "SM1/0000; hand 8.0 mm (PA-MPVPE)" + words


def test_error_pictures_name_their_scale():
    assert album.error_picture(example(), FACES).caption.endswith("blue 0, red 25 mm and more")
    pck = {"thresholds_mm": [0.0, 25.0, 50.0], "share": [0.0, 0.5, 1.0], "mesh_share": None}
    assert album.pck_picture(pck).data.startswith(b"\x89PNG")
