"""datasets.freihand: labels pose the hand that the image's joints show, and versions share labels."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from labelled import draw_world

from hojoint import mano
from hojoint.config import FreiHANDConfig
from hojoint.datasets.freihand import FreiHAND
from hojoint.errors import InputError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return draw_world(tmp_path_factory.mktemp("world"), frames=1)


def test_pose_with_the_mean_added_poses_the_vertices_of_the_truth(world):
    model = mano.hand_model(world.mano)
    reader = FreiHAND(world.data.freihand, "evaluation", world.crop, mean_pose=model.hands_mean)
    joints, vertices = reader.truth()
    layer = mano.hand_layer(world.mano)
    for row in range(len(reader)):
        sample = reader[row]
        posed = layer(torch.from_numpy(sample.pose)[None], torch.from_numpy(sample.shape)[None]).vertices[0].numpy()
        centred = [points - points.mean(0) for points in (posed, vertices[row])]
        np.testing.assert_allclose(*centred, atol=3e-5)
        px = joints[row].astype(np.float64) @ sample.camera.T
        np.testing.assert_allclose(sample.joints_px, px[:, :2] / px[:, 2:], atol=0.01)
        assert not sample.has_object
        assert np.isnan(sample.object_box).all()
    np.testing.assert_allclose(reader.roots(), joints[:, 0], atol=1e-6)


def test_training_images_of_all_versions_share_the_labels(tmp_path):
    folder = tmp_path / "training" / "rgb"
    folder.mkdir(parents=True)
    for index in range(8):
        cv2.imwrite(str(folder / f"{index:08d}.jpg"), np.full((224, 224, 3), 20 * index, np.uint8))
    camera = [[300.0, 0, 112], [0, 300.0, 112], [0, 0, 1]]
    joints = (np.random.default_rng(0).uniform(-0.05, 0.05, (2, 21, 3)) + np.array([0, 0, 0.6])).tolist()
    labels = {"K": [camera] * 2, "xyz": joints, "mano": [[[0.1 * k] * 61] for k in (1, 2)]}
    for key, value in labels.items():
        (tmp_path / f"training_{key}.json").write_text(json.dumps(value))
    reader = FreiHAND(FreiHANDConfig(root=str(tmp_path)), "train", mean_pose=np.full(45, 0.5))
    assert len(reader) == 8
    first, again = reader[1], reader[7]
    np.testing.assert_array_equal(first.joints_px, again.joints_px)
    assert abs(float(again.image.mean()) - 140) < 2  # image 7 has label 7 % 2
    np.testing.assert_allclose(first.pose, [0.2] * 3 + [0.7] * 45, rtol=1e-6)
    np.testing.assert_allclose(first.shape, [0.2] * 10, rtol=1e-6)


def test_missing_and_foreign_files_are_named(tmp_path, world):
    with pytest.raises(InputError, match=r"data\.freihand\.root"):
        FreiHAND(FreiHANDConfig(), "evaluation")
    with pytest.raises(InputError, match=r"evaluation_K\.json"):
        FreiHAND(FreiHANDConfig(root=str(tmp_path)), "evaluation")
    (tmp_path / "evaluation_K.json").write_text("[[1, 2]]")
    with pytest.raises(InputError, match=r"\(3, 3\) numbers per image"):
        FreiHAND(FreiHANDConfig(root=str(tmp_path)), "evaluation")
