"""The stand-in hand: MANO's counts, tips where code bases look for them, limits, and its file."""

from __future__ import annotations

import collections
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from hojoint.hand.layer import ManoLayer
from hojoint.hand.model import FINGERTIPS, load_mano
from hojoint.hand.stand_in import anatomy, angles
from hojoint.hand.stand_in import mesh as hand_mesh
from hojoint.hand.stand_in.angles import joint_axes, joint_limits, pose_from_angles
from hojoint.hand.stand_in.model import save_model, stand_in_model

MODEL = stand_in_model()
FINGERS = ("thumb", "index", "middle", "ring", "pinky")  # order of the fingertip sets


def _edges() -> collections.Counter[tuple[int, int]]:
    return collections.Counter(
        (min(a, b), max(a, b)) for face in MODEL.faces.tolist() for a, b in zip(face, face[1:] + face[:1], strict=True)
    )


def test_the_mesh_has_manos_counts_and_one_opening() -> None:
    edges = _edges()
    assert MODEL.v_template.shape == (778, 3)
    assert MODEL.faces.shape == (1538, 3)
    assert sorted(set(edges.values())) == [1, 2]  # a surface: no edge has three faces
    assert sum(count == 1 for count in edges.values()) == 16
    assert 778 - len(edges) + 1538 == 1  # Euler's number of a disc: no handle, no second hole, no loose piece
    assert len(np.unique(MODEL.faces)) == 778


def test_neighbouring_faces_turn_the_same_way_and_outwards() -> None:
    directed = collections.Counter(
        (a, b) for face in MODEL.faces.tolist() for a, b in zip(face, face[1:] + face[:1], strict=True)
    )
    assert max(directed.values()) == 1
    corners = MODEL.v_template[MODEL.faces] - MODEL.v_template.mean(0)
    volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    assert 1.5e-4 < volume < 5.0e-4  # a slim human hand, 150 to 500 ml


def test_the_hand_has_human_proportions() -> None:
    joints = MODEL.J_regressor @ MODEL.v_template
    assert np.linalg.norm(joints[4] - joints[0]) == pytest.approx(0.091, abs=0.004)  # wrist to middle knuckle
    tip = MODEL.v_template[FINGERTIPS["ho3d_v2"][2]]
    assert 0.17 < np.linalg.norm(tip - joints[0]) < 0.20
    assert np.ptp(MODEL.v_template[:, 1]) < 0.07  # flat at rest


@pytest.mark.parametrize("name", sorted(FINGERTIPS))
def test_every_known_set_of_tip_ids_lies_at_the_tips(name: str) -> None:
    for finger, vertex in zip(FINGERS, FINGERTIPS[name], strict=True):
        tip = anatomy.to_model(anatomy.finger_joints(finger)[3])
        assert np.linalg.norm(MODEL.v_template[vertex] - tip) < 0.012, (name, finger)


def test_the_ho3d_set_is_the_farthest_vertex_of_each_finger() -> None:
    for finger, vertex in zip(FINGERS, FINGERTIPS["ho3d_v2"], strict=True):
        along = anatomy.directions_to_model(anatomy.finger_frame(finger)[0])
        chain = anatomy.FINGERS.index(finger)
        mine = np.flatnonzero(MODEL.weights[:, 3 + 3 * chain] > 0.9)
        assert mine[np.argmax(MODEL.v_template[mine] @ along)] == vertex


def test_the_regressor_is_convex_and_finds_the_built_joints() -> None:
    assert (MODEL.J_regressor >= 0).all()
    np.testing.assert_allclose(MODEL.J_regressor.sum(1), 1)
    np.testing.assert_allclose(MODEL.J_regressor @ MODEL.v_template, hand_mesh.build().joints, atol=1e-4)


def test_skinning_weights_are_shares_and_a_finger_moves_alone() -> None:
    assert (MODEL.weights >= -1e-12).all()
    np.testing.assert_allclose(MODEL.weights.sum(1), 1)
    layer = ManoLayer(MODEL)
    pose = torch.zeros(2, 48)
    pose[1, 3 + 9 * 3 : 3 + 9 * 3 + 9] = 0.5  # the ring finger: fourth chain of MANO
    moved = layer(pose, torch.zeros(2, 10)).joints
    change = (moved[1] - moved[0]).norm(dim=1)
    assert change[:13].max() < 1e-6
    assert change[14:17].min() > 0.002
    assert change[17:].max() < 1e-6


def _forward(pose: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Vertices by the definition: one vertex, one joint at a time, homogeneous matrices."""
    from scipy.spatial.transform import Rotation

    shaped = MODEL.v_template + MODEL.shapedirs @ shape
    joints = MODEL.J_regressor @ shaped
    turns = Rotation.from_rotvec(pose.reshape(16, 3)).as_matrix()
    posed = shaped + MODEL.posedirs @ (turns[1:] - np.eye(3)).reshape(135)
    world = []
    for joint in range(16):
        local = np.eye(4)
        local[:3, :3] = turns[joint]
        parent = MODEL.parents[joint]
        local[:3, 3] = joints[joint] - (joints[parent] if joint else 0)
        world.append(local if joint == 0 else world[parent] @ local)
    back = [
        matrix @ np.block([[np.eye(3), -joints[j][:, None]], [np.zeros((1, 3)), 1]]) for j, matrix in enumerate(world)
    ]
    blended = np.einsum("vj,jab->vab", MODEL.weights, np.array(back))
    return np.einsum("vab,vb->va", blended, np.c_[posed, np.ones(778)])[:, :3]


def test_the_layer_agrees_with_linear_blend_skinning_written_out() -> None:
    rng = np.random.default_rng(2)
    pose = np.concatenate([rng.normal(size=3), pose_from_angles(angles.draw_angles(rng))])
    shape = rng.normal(size=10)
    expected = _forward(pose, shape)
    layer = ManoLayer(MODEL, center=False)
    vertices = layer(torch.tensor(pose[None]).float(), torch.tensor(shape[None]).float()).vertices[0]
    np.testing.assert_allclose(vertices.numpy(), expected, atol=2e-6)


def test_flexion_closes_the_hand_towards_the_palm() -> None:
    angles = np.zeros((15, 3))
    angles[:, 0] = 0.6
    pose = torch.tensor(np.concatenate([np.zeros(3), pose_from_angles(angles)])[None]).float()
    layer = ManoLayer(MODEL)
    flat, bent = (layer(p, torch.zeros(1, 10)).joints[0].numpy() for p in (torch.zeros(1, 48), pose))
    for tip in (8, 12, 16, 20):
        assert bent[tip, 1] < flat[tip, 1] - 0.03  # the palm looks along -y


def _angles_of(pose: np.ndarray) -> np.ndarray:
    """The inverse of ``pose_from_angles``: (45,) to (15, 3) rad."""
    return np.einsum("jc,jac->ja", pose.reshape(15, 3), joint_axes())


@pytest.mark.parametrize("family", angles.FAMILIES)
def test_drawn_poses_stay_inside_the_anatomical_limits(family: str) -> None:
    rng = np.random.default_rng(4)
    limits = joint_limits()
    for _ in range(40):
        drawn = _angles_of(pose_from_angles(angles.draw_angles(rng, family)))
        assert (drawn >= limits[..., 0] - 1e-9).all()
        assert (drawn <= limits[..., 1] + 1e-9).all()


def test_one_unit_of_betas_moves_millimetres_and_keeps_the_wrist() -> None:
    size = np.linalg.norm(MODEL.shapedirs, axis=1).max(0)
    assert (size > 0.0003).all()
    assert (size < 0.012).all()
    moved = np.einsum("jv,vck->jck", MODEL.J_regressor, MODEL.shapedirs)[0]
    assert np.abs(moved).max() < 0.0005


def test_mean_pose_and_components_make_a_pose_space() -> None:
    np.testing.assert_allclose(MODEL.hands_components @ MODEL.hands_components.T, np.eye(45), atol=1e-9)
    flexion = _angles_of(MODEL.hands_mean)[:, 0]
    assert (flexion[:12] > 0.1).all()  # curled, as MANO's mean is


def test_the_file_has_manos_layout_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "MANO_RIGHT.pkl"
    save_model(MODEL, path)
    with path.open("rb") as file:
        content = pickle.load(file, encoding="latin1")
    assert content["kintree_table"][0, 0] == 2**32 - 1
    assert content["J_regressor"].format == "csc"
    assert content["f"].dtype == np.uint32
    assert (content["bs_style"], content["bs_type"]) == ("lbs", "lrotmin")
    read = load_mano(path)
    for field in ("v_template", "shapedirs", "posedirs", "weights", "J_regressor", "hands_mean", "hands_components"):
        np.testing.assert_array_equal(getattr(read, field), getattr(MODEL, field), err_msg=field)
    np.testing.assert_array_equal(read.faces, MODEL.faces)
    assert read.parents.tolist() == MODEL.parents.tolist()
