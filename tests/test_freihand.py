"""datasets.freihand: labels pose the hand that the image's joints show, and versions share labels."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from labelled import draw_world, write_teacher

from hojoint import config as settings
from hojoint.config import FreiHANDConfig
from hojoint.datasets.audit import audit
from hojoint.datasets.freihand import FreiHAND
from hojoint.errors import InputError
from hojoint.evaluation import scores as evaluation
from hojoint.hand.chosen import hand_model
from hojoint.hand.factory import hand_layer
from jobs import evaluate, sets


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return draw_world(tmp_path_factory.mktemp("world"), frames=1)


def test_the_pose_with_the_mean_added_makes_the_true_vertices(world):
    model = hand_model(world.mano)
    reader = FreiHAND(world.data.freihand, "evaluation", world.crop, mean_pose=model.hands_mean)
    joints, vertices = reader.truth()
    layer = hand_layer(world.mano)
    for row in range(len(reader)):
        sample = reader[row]
        posed = layer(torch.from_numpy(sample.pose)[None], torch.from_numpy(sample.betas)[None]).vertices[0].numpy()
        centred = [points - points.mean(0) for points in (posed, vertices[row])]
        np.testing.assert_allclose(*centred, atol=3e-5)
        px = joints[row].astype(np.float64) @ sample.camera.T
        np.testing.assert_allclose(sample.joints_px, px[:, :2] / px[:, 2:], atol=0.01)
        assert not sample.has_object
        assert np.isnan(sample.object_box).all()
    np.testing.assert_allclose(reader.roots(), joints[:, 0], atol=1e-6)


def write_training_set(folder):
    """Two labels, each image in four versions, as FreiHAND_pub_v2 has them: the evaluation images lack their truth."""
    (folder / "training" / "rgb").mkdir(parents=True)
    for index in range(8):
        path = folder / "training" / "rgb" / f"{index:08d}.jpg"
        cv2.imwrite(str(path), np.full((224, 224, 3), 20 * index, np.uint8))
    camera = [[300.0, 0, 112], [0, 300.0, 112], [0, 0, 1]]
    joints = (np.random.default_rng(0).uniform(-0.05, 0.05, (2, 21, 3)) + np.array([0, 0, 0.6])).tolist()
    labels = {"K": [camera] * 2, "xyz": joints, "mano": [[[0.1 * k] * 61] for k in (1, 2)]}
    for key, value in labels.items():
        (folder / f"training_{key}.json").write_text(json.dumps(value))
    (folder / "evaluation_K.json").write_text(json.dumps([camera]))
    return FreiHANDConfig(root=str(folder))


def test_training_images_of_all_versions_share_the_labels(tmp_path):
    reader = FreiHAND(write_training_set(tmp_path), "train", mean_pose=np.full(45, 0.5))
    assert len(reader) == 8
    first, again = reader[1], reader[7]
    np.testing.assert_array_equal(first.joints_px, again.joints_px)
    assert abs(float(again.image.mean()) - 140) < 2  # image 7 has label 7 % 2
    np.testing.assert_allclose(first.pose, [0.2] * 3 + [0.7] * 45, rtol=1e-6)
    np.testing.assert_allclose(first.betas, [0.2] * 10, rtol=1e-6)


@pytest.mark.parametrize(("kept", "kinds"), [((0, 1), "green screen, homogenised"), ((0, 2), "green screen, sample")])
def test_the_versions_that_exist_are_used_and_said(tmp_path, kept, kinds):
    config = write_training_set(tmp_path)
    assert FreiHAND(config, "train").advice() == ()
    for version in set(range(4)) - set(kept):
        for label in range(2):
            (tmp_path / "training" / "rgb" / f"{2 * version + label:08d}.jpg").unlink()
    reader = FreiHAND(config, "train", mean_pose=np.zeros(45))
    assert reader.names == [f"{2 * version + label:08d}" for version in kept for label in range(2)]
    (note,) = reader.advice()
    assert f"holds 2 of FreiHAND's 4 versions of each image ({kinds}" in note
    assert "2 x 2 images; these are used" in note
    for row, name in enumerate(reader.names):
        sample = reader[row]
        assert abs(float(sample.image.mean()) - 20 * int(name)) < 2
        np.testing.assert_allclose(sample.betas, [0.1 * (int(name) % 2 + 1)] * 10, rtol=1e-6)
    assert reader.fingerprint() == FreiHAND(config, "train").fingerprint()


@pytest.mark.parametrize("name", ["1.jpg", "0001.jpg", "000000010.jpg", "copy.jpg", "\u0663.jpg"])
def test_files_with_other_names_are_not_images(tmp_path, name):
    config = write_training_set(tmp_path)
    names = FreiHAND(config, "train").names
    (tmp_path / "training" / "rgb" / name).write_bytes(b"")
    assert FreiHAND(config, "train").names == names


def test_missing_images_are_refused_or_left_out(tmp_path):
    config = write_training_set(tmp_path)
    full = FreiHAND(config, "train").fingerprint()
    (tmp_path / "training" / "rgb" / "00000005.jpg").unlink()
    reader = FreiHAND(config, "train")
    with pytest.raises(InputError, match=r"1 of 8 images are missing in .*, the first is 00000005\.jpg\. Fetch them"):
        reader.fingerprint()
    left = FreiHAND(config.model_copy(update={"missing": "leave_out"}), "train")
    assert (len(left), left.left_out) == (7, ["00000005"])
    assert abs(float(left[5].image.mean()) - 120) < 2  # 00000006 follows 00000004
    assert "they are left out (data.freihand.missing)" in left.advice()[0]
    assert left.fingerprint() != full


def test_truth_stays_aligned_where_images_are_left_out(world, tmp_path):
    shutil.copytree(world.data.freihand.root, tmp_path / "eval")
    joints, vertices = FreiHAND(world.data.freihand, "evaluation").truth()
    (tmp_path / "eval" / "evaluation" / "rgb" / "00000001.jpg").unlink()
    config = FreiHANDConfig(root=str(tmp_path / "eval"), missing="leave_out")
    reader = FreiHAND(config, "evaluation")
    np.testing.assert_array_equal(reader.truth()[0], joints[[0, 2]])
    np.testing.assert_array_equal(reader.truth()[1], vertices[[0, 2]])
    np.testing.assert_allclose(reader.roots(), joints[[0, 2], 0], atol=1e-6)
    for path in (tmp_path / "eval" / "evaluation" / "rgb").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="leaves none; unpack FreiHAND v2"):
        FreiHAND(config, "evaluation")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_label_files_are_read_in_other_encodings(tmp_path, encoding):
    config = write_training_set(tmp_path)
    joints = FreiHAND(config, "train").joints
    path = tmp_path / "training_xyz.json"
    path.write_bytes(path.read_text().encode(encoding))
    np.testing.assert_array_equal(FreiHAND(config, "train").joints, joints)
    (tmp_path / "training_mano.json").unlink()
    with pytest.raises(InputError, match=r"no .*training_mano\.json: expected FreiHAND v2 with its label files"):
        FreiHAND(config, "train")


@pytest.mark.parametrize("key", ["K", "xyz", "mano"])
def test_the_fingerprint_tells_every_label_that_training_reads(tmp_path, key):
    config = write_training_set(tmp_path)
    before = FreiHAND(config, "train").fingerprint()
    assert FreiHAND(config, "train").fingerprint() == before
    path = tmp_path / f"training_{key}.json"
    path.write_text(path.read_text().replace("0.", "0.0"))
    assert FreiHAND(config, "train").fingerprint() != before


@pytest.mark.parametrize("key", ["K", "xyz", "mano"])
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_labels_that_are_no_number_are_refused_with_their_row(tmp_path, key, value):
    config = write_training_set(tmp_path)
    path = tmp_path / f"training_{key}.json"
    labels = json.loads(path.read_text())
    labels[1][0][0] = value
    path.write_text(json.dumps(labels))
    words = rf"training_{key}\.json must hold finite .* in 1 of 2 rows, the first is row 1 \(from 0\); fetch FreiHAND"
    with pytest.raises(InputError, match=words):
        FreiHAND(config, "train")


def test_a_true_vertex_that_is_no_number_is_refused(tmp_path, world):
    shutil.copytree(world.data.freihand.root, tmp_path / "set")
    path = tmp_path / "set" / "evaluation_verts.json"
    vertices = json.loads(path.read_text())
    vertices[2][5][0] = None
    path.write_text(json.dumps(vertices))
    with pytest.raises(InputError, match=r"evaluation_verts\.json must hold finite .* row 2 "):
        FreiHAND(FreiHANDConfig(root=str(tmp_path / "set")), "evaluation").truth()


def test_the_evaluation_set_lies_beside_the_training_set(world, tmp_path):
    given = Path(world.data.freihand.root)  # an evaluation set alone, as the contract's data.freihand.root=DIR
    assert FreiHAND(world.data.freihand, "evaluation").root == given
    config = write_training_set(tmp_path / "FreiHAND_pub_v2")
    both = config.model_copy(update={"evaluation_root": str(given)})
    assert len(FreiHAND(both, "evaluation")) == 3
    assert len(FreiHAND(FreiHANDConfig(evaluation_root=str(given)), "evaluation")) == 3
    (tmp_path / "FreiHAND_pub_v2_eval").symlink_to(given)
    assert FreiHAND(config, "evaluation").root == tmp_path / "FreiHAND_pub_v2_eval"
    assert FreiHAND(config, "train").root == tmp_path / "FreiHAND_pub_v2"


def test_a_training_set_alone_is_not_measured_but_reported(world, tmp_path, capsys):
    config = write_training_set(tmp_path)
    both = settings.changed(world, data={"freihand": settings.to_tree(config)})
    assert evaluation.domains_of(both) == ["ho3d"]
    assert evaluation.domains_of(world) == ["ho3d", "freihand"]
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(settings.to_tree(both)))
    teacher = write_teacher(world, tmp_path / "teacher.pt")
    assert evaluate.main(["--config", str(path), "--dry-run", f"evaluate.checkpoint={teacher}"]) == 0
    assert f"note: {tmp_path} is FreiHAND's training set" in capsys.readouterr().out
    # another folder than FreiHAND's is an error, never a set left out
    wrong = settings.changed(world, data={"freihand": {"root": str(tmp_path / "nowhere")}})
    assert evaluation.domains_of(wrong) == ["ho3d", "freihand"]


def test_missing_and_foreign_files_are_named(tmp_path, world):
    with pytest.raises(InputError, match=r"data\.freihand\.root"):
        FreiHAND(FreiHANDConfig(), "evaluation")
    with pytest.raises(InputError, match=r"evaluation_K\.json"):
        FreiHAND(FreiHANDConfig(root=str(tmp_path)), "evaluation")
    (tmp_path / "evaluation_K.json").write_text("[[1, 2]]")
    with pytest.raises(InputError, match=r"\(3, 3\) numbers per image"):
        FreiHAND(FreiHANDConfig(root=str(tmp_path)), "evaluation")


def test_training_images_of_more_labels_are_refused(tmp_path):
    """A part made by cutting the label files alone: image 5 would get label 1 of 2, and its own is 5 of 8."""
    config = write_training_set(tmp_path)
    image = tmp_path / "training" / "rgb" / "00000007.jpg"
    shutil.copy(image, image.with_name("00000008.jpg"))
    words = r"training_K\.json has 2 labels, .* numbers below 8; found 1 others, up to 00000008\.jpg\. Images would get"
    with pytest.raises(InputError, match=words):
        FreiHAND(config, "train")
    with pytest.raises(InputError, match=words):
        FreiHAND(config.model_copy(update={"missing": "leave_out"}), "train")


def test_evaluation_images_without_a_label_are_noted(world, tmp_path):
    shutil.copytree(world.data.freihand.root, tmp_path / "eval")
    config = FreiHANDConfig(root=str(tmp_path / "eval"))
    assert FreiHAND(config, "evaluation").advice() == ()
    folder = tmp_path / "eval" / "evaluation" / "rgb"
    for number in (3, 4):
        shutil.copy(folder / "00000000.jpg", folder / f"{number:08d}.jpg")
    reader = FreiHAND(config, "evaluation")
    assert len(reader) == 3
    (note,) = reader.advice()
    assert "holds 2 images beyond the 3 labels of evaluation_K.json, the first is 00000003.jpg; they are not" in note
    (fault,) = audit(reader, world.mano).faults
    assert (fault.kind, fault.count, fault.fatal) == ("images_unlabelled", 2, False)
    assert fault.kind in sets.FILES  # so that a job says it once


@pytest.mark.parametrize("split", ["train", "evaluation"])
def test_poses_of_another_length_are_refused_with_both(world, tmp_path, split):
    config, stem = write_training_set(tmp_path / "train"), "training"
    if split == "evaluation":
        shutil.copytree(world.data.freihand.root, tmp_path / "eval")
        config, stem = FreiHANDConfig(root=str(tmp_path / "eval")), "evaluation"
    path = Path(config.root) / f"{stem}_mano.json"
    poses = json.loads(path.read_text())
    path.write_text(json.dumps(poses[:-1]))
    words = rf"{stem}_mano\.json and .*_xyz\.json must be of one length, found {len(poses) - 1} and {len(poses)}; fetch"
    with pytest.raises(InputError, match=words):
        FreiHAND(config, split)
