"""The world's files, read back with a few lines of OpenCV, pickle, json and decord, and held to the formats."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import decord
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError
from hojoint.evaluation import true_poses
from hojoint.hand.layer import ManoLayer
from hojoint.hand.model import MANO_TO_SIMPLE, load_mano
from hojoint.synthetic import write
from hojoint.synthetic.encode import encode
from hojoint.synthetic.film import Film

pytestmark = pytest.mark.slow  # seconds each: files, videos or processes

E = np.diag([1.0, -1.0, -1.0])
SIZE = {
    "train_sequences": 2, "train_frames": 3, "evaluation_sequences": 1, "evaluation_frames": 3, "image_width": 320,
    "image_height": 240, "wild_videos": 8, "wild_frames": 14, "test_images": 3, "broken_videos": 3,
}  # fmt: skip


def _config(folder: Path, seed: int = 1, version: str = "v2", **changed: Any) -> Config:
    tree = {"seed": seed, "world": str(folder), "synthetic": SIZE | {"ho3d_version": version} | changed}
    return settings.from_tree(tree)


def _draw(config: Config) -> Path:
    for piece in write.missing_pieces(config):
        write.write_piece(piece, config)
    write.finish(config)
    return write.world_of(config)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _draw(_config(tmp_path_factory.mktemp("world")))


@pytest.fixture(scope="module")
def layer(world: Path) -> ManoLayer:
    return ManoLayer(load_mano(world / "mano" / "MANO_RIGHT.pkl"), center=False)


def _meta(world: Path, split: str, frame: str) -> dict[str, Any]:
    sequence, number = frame.split("/")
    root = world / ("HO3D_v2" if (world / "HO3D_v2").exists() else "HO3D_v3")
    return pickle.loads((root / split / sequence / "meta" / f"{number}.pkl").read_bytes())


def _listed(world: Path, split: str) -> list[str]:
    return (world / "HO3D_v2" / f"{split}.txt").read_text().split()


def _boxes(world: Path) -> dict[str, list[dict[str, Any]]]:
    parts = [
        json.loads((world / "something" / "boxes" / f"bounding_box_smthsmth_part{k}.json").read_text())
        for k in range(1, 5)
    ]
    merged = {video: frames for part in parts for video, frames in part.items()}
    assert len(merged) == sum(len(part) for part in parts)
    return merged


def test_ho3d_joints_reproject_on_the_hand_of_the_segmentation(world: Path) -> None:
    hits, number = 0, 0
    for frame in _listed(world, "train"):
        meta = _meta(world, "train", frame)
        sequence, stem = frame.split("/")
        seg = cv2.imread(str(world / "HO3D_v2_segmentations_rendered" / "train" / sequence / "seg" / f"{stem}.jpg"))
        assert seg.shape == (60, 80, 3)
        body = cv2.dilate(seg.max(2), np.ones((3, 3))) > 128
        px = (meta["handJoints3D"] @ E) @ meta["camMat"].T
        assert (px[:, 2] > 0).all()  # GL: z looks backwards, so in front of the camera it is negative
        for x, y in px[:, :2] / px[:, 2:] / 4:
            hits += body[min(59, max(0, round(y))), min(79, max(0, round(x)))]
            number += 1
    assert hits / number > 0.97


def test_ho3d_pose_trans_and_beta_give_the_joints(world: Path, layer: ManoLayer) -> None:
    for frame in _listed(world, "train"):
        meta = _meta(world, "train", frame)
        output = layer(torch.tensor(meta["handPose"][None]), torch.tensor(meta["handBeta"][None]))
        expected = meta["handJoints3D"][MANO_TO_SIMPLE]
        np.testing.assert_allclose(output.joints[0].numpy() + meta["handTrans"], expected, atol=2e-5)


def test_ho3d_object_corners_agree_with_its_pose_and_mask(world: Path) -> None:
    for frame in _listed(world, "train"):
        meta = _meta(world, "train", frame)
        rotation = cv2.Rodrigues(np.asarray(meta["objRot"], dtype=float).reshape(3))[0]
        corners = meta["objCorners3DRest"] @ rotation.T + meta["objTrans"]
        np.testing.assert_allclose(corners, meta["objCorners3D"], atol=1e-5)
        points = np.loadtxt(world / "object_models" / meta["objName"] / "points.xyz")
        np.testing.assert_allclose(points.min(0), meta["objCorners3DRest"][0], atol=1e-5)
        px = ((points @ rotation.T + meta["objTrans"]) @ E) @ meta["camMat"].T
        px = px[:, :2] / px[:, 2:]
        sequence, stem = frame.split("/")
        seg = cv2.imread(str(world / "HO3D_v2_segmentations_rendered" / "train" / sequence / "seg" / f"{stem}.jpg"))
        rows, columns = np.nonzero((seg[..., 0] > 230) & (seg[..., 2] < 10))
        assert columns.min() * 4 >= px[:, 0].min() - 6
        assert columns.max() * 4 <= px[:, 0].max() + 6
        assert rows.max() * 4 <= px[:, 1].max() + 6


def test_ho3d_depth_is_packed_in_red_and_green(world: Path) -> None:
    frame = _listed(world, "train")[1]
    sequence, stem = frame.split("/")
    image = cv2.imread(str(world / "HO3D_v2" / "train" / sequence / "depth" / f"{stem}.png")).astype(np.uint32)
    metres = (image[..., 2] + 256 * image[..., 1]) * 0.00012498664727900177
    meta = _meta(world, "train", frame)
    joints = meta["handJoints3D"] @ E
    px = joints @ meta["camMat"].T
    seen = metres[np.round(px[:, 1] / px[:, 2]).astype(int), np.round(px[:, 0] / px[:, 2]).astype(int)]
    assert np.median(np.abs(seen - joints[:, 2])) < 0.03  # joints lie under the skin, some behind the object
    assert (seen < joints[:, 2] + 0.004).mean() > 0.9


def test_ho3d_has_the_quirks_of_the_real_folders(world: Path) -> None:
    listed = set(_listed(world, "train"))
    written = {f"{path.parent.parent.name}/{path.stem}" for path in (world / "HO3D_v2" / "train").glob("*/meta/*.pkl")}
    extra = written - listed
    assert listed < written
    assert any(_meta(world, "train", frame)["objRot"] is None for frame in extra)
    assert any(_meta(world, "train", frame)["objRot"] is not None for frame in extra)
    shapes = {np.shape(_meta(world, "train", frame)["objRot"]) for frame in listed}
    assert shapes == {(3,), (3, 1)}
    assert _meta(world, "train", min(listed))["handPose"].dtype == np.float32


def test_ho3d_evaluation_has_the_hand_in_its_score_files_alone(world: Path) -> None:
    names = _listed(world, "evaluation")
    xyz = np.array(json.loads((world / "HO3D_v2" / "evaluation_xyz.json").read_text()))
    verts = np.array(json.loads((world / "HO3D_v2" / "evaluation_verts.json").read_text()))
    assert xyz.shape == (len(names), 21, 3)
    assert verts.shape == (len(names), 778, 3)
    assert (xyz[..., 2] < 0).all()  # GL
    for index, frame in enumerate(names):
        meta = _meta(world, "evaluation", frame)
        assert meta["handJoints3D"].shape == (3,)
        np.testing.assert_allclose(meta["handJoints3D"], xyz[index, 0], atol=1e-6)
        assert isinstance(meta["handBoundingBox"], list)
        px = (xyz[index] @ E) @ meta["camMat"].T
        px = px[:, :2] / px[:, 2:]
        np.testing.assert_allclose(meta["handBoundingBox"], [*px.min(0), *px.max(0)], atol=0.01)
        np.testing.assert_allclose(xyz[index, 16:], verts[index, [728, 353, 442, 576, 694]], atol=1e-6)


def test_ho3d_v3_is_jpeg_with_doubles_and_contacts(tmp_path: Path) -> None:
    small = {"train_sequences": 1, "evaluation_sequences": 1, "wild_videos": 1, "test_images": 1, "broken_videos": 0}
    config = _config(tmp_path, version="v3", **small)
    write.write_piece(write.pieces(config)[0], config)
    (sequence,) = (tmp_path / "HO3D_v3" / "train").iterdir()
    assert (sequence / "rgb" / "0000.jpg").exists()
    meta = pickle.loads((sequence / "meta" / "0000.pkl").read_bytes())
    assert meta["handPose"].dtype == np.float64
    assert meta["handVertContact"].dtype == bool
    assert meta["handVertContact"].any()
    np.testing.assert_array_equal(meta["handVertContact"], meta["handVertDist"] < 0.004)


def test_videos_decode_to_the_rendered_frames(tmp_path: Path) -> None:
    from hojoint.synthetic import scene

    film = Film(scene.generator(4, "wild", 2), 4, 2, 15)
    encode(tmp_path / "a.webm", film.rgb)
    reader = decord.VideoReader(str(tmp_path / "a.webm"))
    assert len(reader) == 15
    assert reader.get_avg_fps() == pytest.approx(12, abs=0.05)
    for frame in (0, 7, 14):
        error = reader[frame].asnumpy().astype(float) - film.rgb[frame]
        assert 10 * np.log10(255**2 / np.mean(error**2)) > 26  # PSNR, dB


def test_videos_are_vp9_as_something_something_has_it(world: Path) -> None:
    import av

    folder = world / "something" / "20bn-something-something-v2"
    good = 0
    for path in sorted(folder.glob("*.webm")):
        try:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                count = sum(1 for _ in container.decode(stream))
                assert not container.streams.audio
        except av.FFmpegError:
            continue
        if count < SIZE["wild_frames"]:
            continue
        good += 1
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("libvpx-vp9", "yuv420p") or (
            stream.codec_context.name == "vp9"
        )
        assert stream.codec_context.height == 240
        assert float(stream.average_rate) == pytest.approx(12, abs=0.1)
    assert good == SIZE["wild_videos"] + 1  # and the one without boxes


def test_boxes_and_videos_do_not_all_have_each_other(world: Path) -> None:
    files = {path.stem for path in (world / "something" / "20bn-something-something-v2").glob("*.webm")}
    boxes = set(_boxes(world))
    assert len(boxes - files) == 1
    assert len(files - boxes) == 1


def test_box_files_have_every_key_and_match_the_frames(world: Path) -> None:
    keys = {"name", "gt_placeholders", "nr_instances", "url", "split", "task_index", "labels"}
    shorter = 0
    for video, frames in _boxes(world).items():
        shorter += len(frames) < SIZE["wild_frames"]
        for number, frame in enumerate(frames):
            assert set(frame) == keys
            assert frame["name"] == f"{video}/{number + 1:04d}.jpg"
            assert frame["nr_instances"] == len(frame["labels"])
            for label in frame["labels"]:
                assert set(label) == {"category", "standard_category", "gt_annotation", "box2d"}
                box = label["box2d"]
                assert box["x1"] < box["x2"]
                assert box["y1"] < box["y2"]
                assert box["y2"] <= 240 * (1 + 1e-12)
    assert shorter


def test_hand_boxes_hold_the_true_joints_where_they_were_drawn(world: Path) -> None:
    """Between key frames a box is interpolated and may lag behind a fast hand, as in Something-Else."""
    truth: dict[str, dict[int, np.ndarray]] = {}
    for row in _hands(world):
        truth.setdefault(row["video_id"], {})[row["frame"]] = np.array(row["joints_px"]).reshape(21, 2)
    everywhere, drawn = [], []
    for video, frames in _boxes(world).items():
        if video not in truth:
            continue
        path = world / "something" / "20bn-something-something-v2" / f"{video}.webm"
        width = decord.VideoReader(str(path))[0].shape[1]
        boxes = {number: box for number, frame in enumerate(frames) if (box := _hand_box(frame)) is not None}
        for number, box in boxes.items():
            share = _share_inside(truth[video][number], box, width)
            everywhere.append(share)
            if _is_key(boxes, number):
                drawn.append(share)
    assert len(drawn) > 20
    assert np.mean(drawn) > 0.95
    assert np.median(everywhere) == 1
    assert np.mean(everywhere) > 0.9


def _hands(world: Path) -> list[dict[str, Any]]:
    """Rows of the truth that hold a hand."""
    rows = pq.read_table(world / "something_truth.parquet").to_pylist()
    return [row for row in rows if row["joints"] is not None]


def test_the_truth_has_a_row_for_every_frame_of_a_video(world: Path) -> None:
    """Also where no hand can be seen: no box is there either, and a label there is wrong."""
    truth = pq.read_table(world / "something_truth.parquet")
    checked, boxes = true_poses.checked(truth), _boxes(world)
    keys = zip(checked["video_id"].to_pylist(), checked["frame"].to_pylist(), strict=True)
    seen = dict(zip(keys, true_poses.has_hand(checked), strict=True))
    assert not all(seen.values())
    for video in {video for video, _ in seen}:
        numbers = sorted(number for other, number in seen if other == video)
        assert numbers == list(range(SIZE["wild_frames"]))
        for number, frame in enumerate(boxes.get(video, [])):
            assert (_hand_box(frame) is not None) == seen[video, number]


def _hand_box(frame: dict[str, Any]) -> np.ndarray | None:
    boxes = [label["box2d"] for label in frame["labels"] if label["standard_category"] == "hand"]
    assert len(boxes) <= 1
    return np.array([boxes[0][side] for side in ("x1", "y1", "x2", "y2")]) if boxes else None


def _share_inside(joints_px: np.ndarray, box: np.ndarray, width: int) -> float:
    """Share of the joints inside the picture that a box holds, up to 8 % of its width; 1 where none is inside."""
    seen = ((joints_px >= 0) & (joints_px < (width, 240))).all(axis=1)
    slack = 0.08 * (box[2] - box[0])
    held = ((joints_px > box[:2] - slack) & (joints_px < box[2:] + slack)).all(axis=1)
    return float(held[seen].mean()) if seen.any() else 1.0


def _is_key(boxes: dict[int, np.ndarray], number: int) -> bool:
    """Whether the track starts, ends or bends here: linear between key frames, it bends nowhere else."""
    if number - 1 not in boxes or number + 1 not in boxes:
        return True
    return bool(np.abs(boxes[number + 1] - 2 * boxes[number] + boxes[number - 1]).max() > 0.5)


def test_the_truth_projects_onto_its_pixels(world: Path, layer: ManoLayer) -> None:
    rows = _hands(world)
    assert {row["side"] for row in rows} == {"left", "right"}
    for row in rows[::7]:
        output = layer(torch.tensor([row["pose"]]), torch.tensor([row["shape"]]))
        joints = (output.joints - output.joints[:, :1])[0].numpy()
        np.testing.assert_allclose(joints, np.array(row["joints"]).reshape(21, 3), atol=1e-5)


def test_freihand_labels_project_and_agree_with_each_other(world: Path) -> None:
    root = world / "FreiHAND_pub_v2_eval"
    read = {
        key: json.loads((root / f"evaluation_{key}.json").read_text()) for key in ("K", "mano", "xyz", "verts", "scale")
    }
    model = load_mano(world / "mano" / "MANO_RIGHT.pkl")
    layer = ManoLayer(model, flat_hand_mean=False, center=False)
    assert {len(value) for value in read.values()} == {SIZE["test_images"]}
    for index in range(SIZE["test_images"]):
        image = cv2.imread(str(root / "evaluation" / "rgb" / f"{index:08d}.jpg"))
        assert image.shape == (224, 224, 3)
        camera, xyz, verts = (np.array(read[key][index]) for key in ("K", "xyz", "verts"))
        mano = np.array(read["mano"][index])
        assert mano.shape == (1, 61)
        px = xyz @ camera.T
        px = px[:, :2] / px[:, 2:]
        assert (px > -2).all()
        assert (px < 226).all()
        np.testing.assert_allclose(mano[0, 58:60], px[9], atol=1e-3)
        assert mano[0, 60] == pytest.approx(camera[0, 0] / xyz[9, 2], rel=1e-5)
        assert read["scale"][index] == pytest.approx(np.linalg.norm(xyz[9] - xyz[10]), abs=1e-6)
        out = layer(torch.tensor(mano[:, :48]).float(), torch.tensor(mano[:, 48:58]).float()).vertices[0].numpy()
        np.testing.assert_allclose(out - out.mean(0), verts - verts.mean(0), atol=1e-5)


def test_object_models_are_laid_out_as_ycb(world: Path) -> None:
    import trimesh

    for folder in (world / "object_models").iterdir():
        lines = (folder / "points.xyz").read_text().splitlines()
        assert len(lines) == 2620
        mesh = trimesh.load(folder / "textured_simple.obj", process=False)
        points = np.loadtxt(folder / "points.xyz")
        np.testing.assert_allclose(mesh.bounds, [points.min(0), points.max(0)], atol=1e-5)


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_seed_alone_decides_the_bytes_in_any_order(tmp_path: Path) -> None:
    small = {"train_frames": 1, "evaluation_frames": 1, "wild_videos": 2, "wild_frames": 5, "test_images": 2}
    first, again, other = (_config(tmp_path / name, seed, **small) for name, seed in (("a", 5), ("b", 5), ("c", 6)))
    one = _digests(_draw(first))
    for piece in reversed(write.pieces(again)):
        write.write_piece(piece, again)
    write.finish(again)
    assert _digests(tmp_path / "b") == one
    three = _digests(_draw(other))
    drawn = [name for name in one if name.endswith((".png", ".jpg", ".webm")) and "object_models" not in name]
    assert all(one[name] != three.get(name) for name in drawn if "seg" not in name and Path(name).suffix != ".webm")
    assert not {one[n] for n in one if n.endswith(".webm")} & {three[n] for n in three if n.endswith(".webm")} - {
        hashlib.sha256(b"").hexdigest()
    }


def test_a_finished_piece_is_kept_and_a_complete_world_known(tmp_path: Path) -> None:
    small = {"train_frames": 1, "evaluation_frames": 1, "wild_videos": 1, "wild_frames": 4, "test_images": 1}
    config = _config(tmp_path, **small)
    everything = write.pieces(config)
    write.write_piece(everything[0], config)
    assert write.missing_pieces(config) == everything[1:]
    assert not write.is_complete(config)
    _draw(config)
    assert write.is_complete(config)
    with pytest.raises(InputError, match=r"world made with different settings \(synthetic.seed: \d+ before, 2 now\)"):
        write.is_complete(_config(tmp_path, seed=2, **small))
    other = {**small, "wild_videos": 2, "train_frames": 3}
    with pytest.raises(InputError, match=r"train_frames: 1 before, 3 now, synthetic.wild_videos: 1 before, 2 now\)"):
        write.is_complete(_config(tmp_path, **other))


def test_settings_point_into_the_world(tmp_path: Path) -> None:
    config = write.with_world(_config(tmp_path))
    assert config.data.ho3d.root == str(tmp_path / "HO3D_v2")
    assert config.videos.boxes == str(tmp_path / "something" / "boxes")
    assert config.data.freihand.root == str(tmp_path / "FreiHAND_pub_v2_eval")
    with pytest.raises(InputError, match="local folder"):
        write.world_of(settings.from_tree({"output": "s3://bucket/run"}))
