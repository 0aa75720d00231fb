"""datasets.ho3d: both versions read back what was drawn, in our conventions, and faults are named."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from labelled import draw_world

from hojoint.config import Config, HO3DConfig
from hojoint.datasets import ho3d_meta, recordings, ycb
from hojoint.datasets.ho3d import HO3D
from hojoint.errors import InputError
from hojoint.hand.factory import hand_layer
from hojoint.hand.model import MANO_TO_SIMPLE


@pytest.fixture(scope="module", params=["v2", "v3"])
def world(request, tmp_path_factory) -> Config:
    return draw_world(tmp_path_factory.mktemp("world"), version=request.param)


@pytest.mark.slow
def test_samples_are_the_annotation_in_pixels_of_their_region(world):
    """OpenCV's own projection: turning by pi about x takes OpenGL's camera frame to ours."""
    reader = HO3D(world.data.ho3d, "train", world.crop)
    assert len(reader) == 2 * world.synthetic.train_frames
    half_turn = np.array([np.pi, 0, 0])
    for row in range(len(reader)):
        sample, name = reader[row], reader.names[row]
        meta = pickle.loads((reader.root / "train" / f"{name.replace('/', '/meta/')}.pkl").read_bytes())
        camera = np.asarray(meta["camMat"], np.float64)
        joints = np.asarray(meta["handJoints3D"], np.float64)[MANO_TO_SIMPLE]
        px = cv2.projectPoints(joints, half_turn, np.zeros(3), camera, None)[0][:, 0]
        # the region is not shrunk, so it differs from the image by whole pixels
        shift = sample.camera[:2, 2] - camera[:2, 2]
        np.testing.assert_allclose(shift, np.rint(shift), atol=1e-3)
        np.testing.assert_allclose(sample.joints_px, px + shift, atol=0.02)
        np.testing.assert_allclose(sample.hand_box, [*sample.joints_px.min(0), *sample.joints_px.max(0)])
        np.testing.assert_allclose(sample.betas, meta["handBeta"], atol=1e-6)
        corners = np.asarray(meta["objCorners3DRest"]) @ sample.object_pose[:, :3].T + sample.object_pose[:, 3]
        np.testing.assert_allclose(corners * [1, -1, -1], meta["objCorners3D"], atol=1e-5)


def test_pose_and_shape_pose_the_hand_that_the_joints_show(world):
    """The root turns from OpenGL to CV about the wrist, so wrist-centred joints agree without any translation."""
    reader = HO3D(world.data.ho3d, "train", world.crop)
    layer = hand_layer(world.mano)
    for row in (0, len(reader) - 1):
        sample = reader[row]
        posed = layer(torch.from_numpy(sample.pose)[None], torch.from_numpy(sample.betas)[None]).joints[0].numpy()
        joints = ho3d_meta.joints_cv(reader.meta(row), reader.names[row])
        np.testing.assert_allclose(posed, joints - joints[0], atol=3e-5)


def test_control_points_and_mask_cover_the_object(world):
    reader = HO3D(world.data.ho3d, "train", world.crop)
    sample = reader[0]
    points = reader.models[sample.object_name].points
    px = points @ sample.object_pose[:, :3].T + sample.object_pose[:, 3]
    px = (px @ sample.camera.T)[:, :2] / (px @ sample.camera.T)[:, 2:]
    low, high = sample.control_px.min(0), sample.control_px.max(0)
    assert (px >= low - 0.5).all()
    assert (px <= high + 0.5).all()
    np.testing.assert_allclose(sample.object_box, [*low, *high], atol=1e-3)
    rows, columns = np.nonzero(sample.object_mask)
    assert len(rows) > 50
    assert columns.min() >= px[:, 0].min() - 5  # the segmentation has a quarter of the resolution
    assert columns.max() <= px[:, 0].max() + 5
    assert set(np.unique(sample.object_mask)) == {0, 1}


def test_without_a_segmentation_the_model_is_drawn(world, tmp_path):
    given_reader = HO3D(world.data.ho3d, "train", world.crop)
    given = given_reader[0]
    (tmp_path / "HO3D").symlink_to(given_reader.root)  # without the sibling that has the segmentations
    reader = HO3D(world.data.ho3d.model_copy(update={"root": str(tmp_path / "HO3D")}), "train", world.crop)
    made = reader[0].object_mask
    seen = given.object_mask
    # the drawn one ignores the hand in front, so it holds nearly all of the seen one
    assert (made & seen).sum() > 0.95 * seen.sum()
    assert (made != seen).any()
    assert reader.fingerprint() != given_reader.fingerprint()
    assert given_reader.advice() == ()
    assert f"no {tmp_path}/HO3D_segmentations_rendered" in reader.advice()[0]


def test_configured_segmentations_must_exist_and_be_complete(world, tmp_path):
    config = world.data.ho3d.model_copy(update={"segmentations": str(tmp_path)})
    with pytest.raises(InputError, match=rf"data\.ho3d\.segmentations={tmp_path} must be .* with train/ in it"):
        HO3D(config, "train", world.crop)
    HO3D(config, "evaluation", world.crop)  # which needs none
    shutil.copytree(HO3D(world.data.ho3d, "train").segmentations, tmp_path, dirs_exist_ok=True)
    reader = HO3D(config, "train", world.crop)
    path = tmp_path / "train" / f"{reader.names[0].replace('/', '/seg/')}.jpg"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=rf"{path.name} is not a complete image"):
        reader[0]


def test_a_point_cloud_without_a_mesh_fills_its_hull():
    corners = np.array([[x, y, z] for x in (-0.1, 0.1) for y in (-0.1, 0.1) for z in (-0.1, 0.1)])
    model = ycb.object_model(corners)
    camera = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])
    pose = np.hstack([np.eye(3), [[0.0], [0], [1.1]]])
    mask = ycb.silhouette(model, pose, camera, (80, 100))
    expected = np.zeros((80, 100), np.uint8)
    expected[30:51, 40:61] = 1  # the near face at 1 m: 10 px each way
    np.testing.assert_array_equal(mask, expected)


def test_evaluation_has_the_annotated_box_and_the_truth(world):
    reader = HO3D(world.data.ho3d, "evaluation", world.crop)
    joints, vertices = reader.truth()
    assert joints.shape == (len(reader), 21, 3)
    assert vertices.shape == (len(reader), 778, 3)
    np.testing.assert_allclose(reader.roots(), joints[:, 0], atol=1e-5)
    for row in range(len(reader)):
        sample = reader[row]
        px = joints[row].astype(np.float64) @ sample.camera.T
        px = px[:, :2] / px[:, 2:]
        np.testing.assert_allclose(sample.hand_box, [*px.min(0), *px.max(0)], atol=0.05)
        assert np.isnan(sample.pose).all()
        assert np.isnan(sample.joints_px).all()
        assert sample.has_object


def test_a_shrunk_region_moves_labels_with_its_pixels(world):
    full = HO3D(world.data.ho3d, "train", world.crop)[0]
    small = HO3D(world.data.ho3d, "train", world.crop, region_px=60)[0]
    assert max(small.image.shape[:2]) == 60
    zoom = np.array(small.image.shape[1::-1]) / np.array(full.image.shape[1::-1])
    np.testing.assert_allclose(small.joints_px, (full.joints_px + 0.5) * zoom - 0.5, atol=1e-3)
    shrunk = cv2.resize(full.image, small.image.shape[1::-1], interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(small.image, shrunk)


def test_the_fingerprint_changes_with_the_data_alone(world, tmp_path):
    reader = HO3D(world.data.ho3d, "train", world.crop)
    assert reader.fingerprint() == HO3D(world.data.ho3d, "train", world.crop).fingerprint()
    copy = tmp_path / "copy"
    shutil.copytree(reader.root, copy)
    meta = next(iter(sorted((copy / "train").glob("*/meta/0000.pkl"))))
    content = pickle.loads(meta.read_bytes())
    meta.write_bytes(pickle.dumps({**content, "handBeta": content["handBeta"] + 1}, protocol=2))
    moved = HO3D(world.data.ho3d.model_copy(update={"root": str(copy)}), "train", world.crop)
    assert moved.fingerprint() != reader.fingerprint()


def test_frames_without_annotation_are_refused_at_the_start(world, tmp_path):
    root = Path(shutil.copytree(world.data.ho3d.root, tmp_path / "copy"))
    name = (root / "train.txt").read_text().split()[1]
    path = root / "train" / f"{name.replace('/', '/meta/')}.pkl"
    path.write_bytes(pickle.dumps(dict.fromkeys(pickle.loads(path.read_bytes())), protocol=2))
    config = world.data.ho3d.model_copy(update={"root": str(root)})
    HO3D(config).refuse_missing()  # lists files and opens none
    with pytest.raises(InputError, match=r"1 with a meta file that holds no annotation; .*missing=leave_out"):
        HO3D(config).fingerprint()
    left = HO3D(config.model_copy(update={"missing": "leave_out"}))
    assert list(left.left_out) == [name]
    assert left.fingerprint() != HO3D(world.data.ho3d).fingerprint()


def test_a_frame_without_annotation_is_refused_by_name(world, tmp_path):
    reader = HO3D(world.data.ho3d, "train", world.crop)
    blank = next(
        path for path in sorted((reader.root / "train").glob("*/meta/*.pkl"))
        if pickle.loads(path.read_bytes())["objRot"] is None
    )  # fmt: skip
    reader.names = [f"{blank.parent.parent.name}/{blank.stem}"]
    with pytest.raises(InputError, match=f"{blank.stem}.*holds no annotation"):
        reader[0]


def test_missing_files_are_named_with_what_to_do(world, tmp_path):
    with pytest.raises(InputError, match=r"data\.ho3d\.root.*needed"):
        HO3D(HO3DConfig())
    with pytest.raises(InputError, match=r"no .*train\.txt.*no such folder.*data\.ho3d\.root"):
        HO3D(HO3DConfig(root=str(tmp_path / "nowhere")))
    (tmp_path / "train.txt").write_text("MC1/0000\n")
    reader = HO3D(HO3DConfig(root=str(tmp_path)))
    with pytest.raises(InputError, match=r"0000\.pkl"):
        reader[0]
    (tmp_path / "train.txt").write_text("../../etc/passwd\n")
    with pytest.raises(InputError, match="SEQUENCE/FRAME"):
        HO3D(HO3DConfig(root=str(tmp_path)))
    root = world.data.ho3d.model_copy(update={"object_models": str(tmp_path)})
    with pytest.raises(InputError, match="object_models"):
        HO3D(root, "train", world.crop)[0]


def test_held_out_recordings_are_never_in_training(world):
    whole = HO3D(world.data.ho3d, "train", world.crop)
    train = HO3D(world.data.ho3d, "train", world.crop, held_out=1)
    apart = HO3D(world.data.ho3d, "held_out", world.crop, held_out=1)
    kinds = [{recordings.recording_of(name) for name in reader.names} for reader in (train, apart)]
    assert not kinds[0] & kinds[1]
    assert kinds[1] == recordings.held_out_recordings(whole.names, 1)
    assert sorted(train.names + apart.names) == sorted(whole.names)
    np.testing.assert_array_equal(apart[0].pose, whole[whole.names.index(apart.names[0])].pose)
    assert len({reader.fingerprint() for reader in (whole, train, apart)}) == 3
    assert any("held out of training" in note for note in train.advice())
    assert not any("held out of training" in note for note in (*whole.advice(), *apart.advice()))
    assert HO3D(world.data.ho3d, "evaluation", world.crop, held_out=1).names


def test_too_many_recordings_or_none_held_out_are_refused(world):
    with pytest.raises(InputError, match=r"train\.held_out=2 leaves nothing to train on"):
        HO3D(world.data.ho3d, "train", world.crop, held_out=2)
    with pytest.raises(InputError, match=r"set train\.held_out"):
        HO3D(world.data.ho3d, "held_out", world.crop)
