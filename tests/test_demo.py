"""jobs.demo: the mesh sits on the hand, an image or a video comes out, and wrong input is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from labelled import SMALL, write_teacher
from test_labels import World
from video_files import HEIGHT, WIDTH, write_video
from wild import boxes_of

from hojoint import config as settings
from hojoint.config import ManoConfig
from hojoint.evaluation import demo
from hojoint.hand.factory import hand_layer
from jobs import demo as job

pytestmark = pytest.mark.slow  # seconds each: files, videos or processes

FRAMES = 6


@pytest.fixture(scope="module")
def place(tmp_path_factory: Any) -> Path:
    """A network of random weights, a picture, and a video with its boxes in both formats."""
    folder = tmp_path_factory.mktemp("demo")
    config = settings.from_tree({"model": SMALL, "tta": {"views": 2}})
    write_teacher(config, folder / "net.pt")
    cv2.imwrite(str(folder / "hand.png"), np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))
    write_video(folder / "7.webm", FRAMES)
    (folder / "boxes.json").write_text(json.dumps(boxes_of(["7", "8"], FRAMES)))
    listed = [None, [10, 10, 40, 46], [11, 10, 41, 46], None, [12, 10, 42, 46], None]
    (folder / "list.json").write_text(json.dumps(listed))
    return folder


def run(place: Path, *words: str) -> int:
    given = [word.replace("PLACE", str(place)) for word in words]
    return job.main([*given, f"evaluate.checkpoint={place / 'net.pt'}", "tta.views=2"])


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("left", [False, True])
def test_the_mesh_sits_where_the_hand_is(left: bool) -> None:
    world = World(hand_layer(ManoConfig()), lefts={"a": left}, count=3)
    (label,) = world.label(side="left" if left else "right")
    blank = np.full((180, 240, 3), 255, np.uint8)
    for row in range(3):
        drawn = demo.draw_hand(blank, label.prediction, world.predictor.mano_layer.faces, row)
        y, x = np.nonzero((drawn != 255).any(-1))
        np.testing.assert_allclose([x.min(), y.min(), x.max(), y.max()], label.clip.hand_boxes[row], atol=1.5)


def test_a_hand_whose_camera_does_not_fit_is_not_drawn() -> None:
    world = World(hand_layer(ManoConfig()), lefts={"a": False}, count=2)
    (label,) = world.label(side="right")
    hand, blank = label.prediction, np.zeros((180, 240, 3), np.uint8)
    mirrored = dataclasses.replace(hand, joints_px=-hand.joints_px)
    broken = dataclasses.replace(hand, vertices=hand.vertices * torch.nan)
    for prediction, visible in ((hand, True), (mirrored, False), (broken, False)):
        drawn = demo.draw_hand(blank, prediction, world.predictor.mano_layer.faces)
        assert drawn.any() == visible


@pytest.mark.parametrize("prefix", ["", "demo."])
@pytest.mark.parametrize("name", ["a.png", "b.jpg", "new/folder"])
def test_an_image_is_drawn_under_short_and_long_keys(place: Path, tmp_path: Path, prefix: str, name: str) -> None:
    words = [f"{prefix}image=PLACE/hand.png", f"{prefix}box=[10,5,50,45]", f"{prefix}object_box=[30,5,70,45]"]
    assert run(place, *words, f"output={tmp_path / name}", f"{prefix}side=left") == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written == [tmp_path / name if "." in name else tmp_path / name / "demo.jpg"]
    assert cv2.imread(str(written[0])).shape == (60, 80, 3)


def test_a_video_is_drawn_frame_by_frame(place: Path, tmp_path: Path, capsys: Any) -> None:
    assert run(place, "video=PLACE/7.webm", "boxes=PLACE/boxes.json", f"output={tmp_path}") == 0
    frames = frames_of(tmp_path / "demo.webm")
    assert len(frames) == FRAMES
    assert frames[0].shape[1] == WIDTH
    assert frames[0].shape[0] > HEIGHT  # the strip with the verdict
    assert f"frames with a hand box {FRAMES}" in capsys.readouterr().out


def test_a_list_of_boxes_is_read_and_frames_between_are_shown(place: Path, tmp_path: Path, capsys: Any) -> None:
    assert run(place, "video=PLACE/7.webm", "boxes=PLACE/list.json", f"output={tmp_path}/x.webm", "side=right") == 0
    assert len(frames_of(tmp_path / "x.webm")) == 4  # from the first to the last box
    assert "hand     7, right, kept" in capsys.readouterr().out
    assert run(place, "video=PLACE/7.webm", "boxes=PLACE/list.json", f"output={tmp_path}/y.webm", "limit=2") == 0
    assert len(frames_of(tmp_path / "y.webm")) == 2


def test_an_annotation_of_one_box_is_drawn_as_a_list_of_one(place: Path, tmp_path: Path, capsys: Any) -> None:
    boxes = boxes_of(["7"], FRAMES)
    boxes["7"] = boxes["7"][:1]
    (tmp_path / "one.json").write_text(json.dumps(boxes))
    assert run(place, "video=PLACE/7.webm", f"boxes={tmp_path}/one.json", f"output={tmp_path}/one.webm") == 0
    assert len(frames_of(tmp_path / "one.webm")) == 1
    assert "frames with a hand box 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["image=PLACE/hand.png", "box=[10,5,50,45]"], ["video=PLACE/7.webm", "boxes=PLACE/boxes.json"]]
)
def test_a_dry_run_writes_nothing(place: Path, tmp_path: Path, words: list[str], capsys: Any) -> None:
    assert run(place, *words, f"output={tmp_path / 'new'}", "--dry-run") == 0
    assert "would write demo." in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give either image=FILE box=[x0,y0,x1,y1] or video=FILE boxes=FILE"),
        (["image=PLACE/hand.png", "video=PLACE/7.webm"], "give either image=FILE"),
        (["image=PLACE/hand.png"], "an image needs the box of its hand; give it in px as box=[x0,y0,x1,y1]"),
        (
            ["image=PLACE/hand.png", "box=[90,5,99,45]"],
            "box=[90.0,5.0,99.0,45.0] has no area inside the image of 80",
        ),
        (["image=PLACE/hand.png", "box=[1,2,3]"], "'demo.box' should be a list"),
        (["image=PLACE/list.json", "box=[1,5,50,45]"], "list.json: expected a JPEG or PNG"),
        (["image=/nowhere.png", "box=[1,5,50,45]"], "/nowhere.png"),
        (["imgae=PLACE/hand.png"], "did you mean 'demo.image'?"),
        (["sied=left"], "did you mean 'demo.side'?"),
        (["ouput=x"], "did you mean 'output'?"),
        (["image=PLACE/hand.png", "box=[1,5,50,45]", "output=PLACE/x.gif/y.webm"], "the image is written as .jpg or"),
        (["video=PLACE/7.webm"], "boxes=FILE.json"),
        (["video=PLACE/7.webm", "boxes=PLACE/boxes.json", "output=PLACE/x.mp4"], "the video is written as .webm"),
        (["video=PLACE/9.webm", "boxes=PLACE/boxes.json"], "has no boxes of 9"),
        (["video=PLACE/8.webm", "boxes=PLACE/boxes.json"], "8.webm: missing: no such file"),
        (["video=PLACE/7.webm", "boxes=PLACE/none.json"], "no boxes at"),
    ],
)
def test_wrong_input_is_named_in_one_message(words: list[str], message: str, place: Path, capsys: Any) -> None:
    assert run(place, f"output={place / 'out'}", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[1,2,3]]", "entry 0 is"),
        ("[null]", "shows no hand"),
        ("[1", "is not JSON"),
        ('[{"x":1}]', "or null, for each"),
    ],
)
def test_a_list_of_other_things_is_refused(place: Path, tmp_path: Path, text: str, message: str, capsys: Any) -> None:
    (tmp_path / "list.json").write_text(text)
    assert run(place, "video=PLACE/7.webm", f"boxes={tmp_path / 'list.json'}", f"output={tmp_path}") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["table", "list", "times"])
def test_boxes_of_another_rate_lie_on_the_pictures_shown_then(tmp_path: Path, kind: str) -> None:
    """A list of 4 boxes a second over a video of 12 pictures a second: box k lies on picture 3 k + 1."""
    write_video(tmp_path / "v.webm", 18)
    boxes = tmp_path / ("list.json" if kind == "list" else "boxes.csv")
    corners = [[10 + k, 10, 40 + k, 46] for k in range(6)]
    if kind == "list":
        boxes.write_text(json.dumps(corners))
    else:
        when = [(k + 0.5) / 4 if kind == "times" else k for k in range(6)]
        rows = [f"v,{at},{','.join(map(str, box))}" for at, box in zip(when, corners, strict=True)]
        header = f"video,{'time' if kind == 'times' else 'frame'},x1,y1,x2,y2"
        boxes.write_text("\n".join([header, *rows]))
    rate = {} if kind == "times" else {"videos": {"boxes_fps": 4}}
    for limit, expected in ((150, [1, 4, 7, 10, 13, 16]), (4, [1, 4])):
        config = settings.from_tree({"demo": {"limit": limit}, **rate})
        decoded, [clip] = demo.decode(
            str(tmp_path / "v.webm"), demo.read_clips(str(tmp_path / "v.webm"), str(boxes), config), config
        )
        assert clip.frames.tolist() == expected
        assert clip.hand_boxes[:, 0].tolist() == [10.0 + k for k in range(len(expected))]
        assert decoded.numbers.tolist() == list(range(1, expected[-1] + 1))


def test_a_folder_of_pictures_has_its_complete_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = tmp_path / "P01.v2"
    pictures.mkdir()
    (tmp_path / "boxes.json").write_text(json.dumps(boxes_of(["P01.v2"], FRAMES)))
    boxes = str(tmp_path / "boxes.json")
    assert [clip.video_id for clip in demo.read_clips(str(pictures), boxes, settings.Config())] == ["P01.v2"]
    monkeypatch.chdir(pictures)
    assert demo.read_clips(".", boxes, settings.Config())[0].video_id == "P01.v2"
