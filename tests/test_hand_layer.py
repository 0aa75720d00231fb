"""The hand layer against a slow implementation in numpy, and manopth's against ours."""

import importlib.util

import numpy as np
import pytest
import torch
from mano_files import PARENTS, random_file, random_pose, write
from scipy.spatial.transform import Rotation

from hojoint import geometry
from hojoint.config import ManoConfig
from hojoint.errors import InputError
from hojoint.hand.factory import hand_layer
from hojoint.hand.layer import ManoLayer
from hojoint.hand.model import (
    FINGERTIPS,
    MANO_TO_SIMPLE,
    SIMPLE_TO_MANO,
    HandModel,
    fingertip_errors,
    load_mano,
    mirror_points,
    mirror_pose,
)

torch.set_num_threads(1)


@pytest.fixture
def model(tmp_path):
    return load_mano(write(tmp_path, random_file()))


@pytest.fixture
def exact():
    """Layers made in double precision, for answers to the last digit."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def slow_hand(file, pose, betas, tips):
    """MANO's forward pass for one hand, vertex by vertex, with 4 x 4 matrices; not centred, MANO's joint order."""
    rotations = Rotation.from_rotvec(pose.reshape(16, 3)).as_matrix()
    shaped = file["v_template"] + file["shapedirs"] @ betas
    rest = file["J_regressor"].toarray() @ shaped
    feature = np.concatenate([(rotation - np.eye(3)).ravel() for rotation in rotations[1:]])
    posed = shaped + file["posedirs"] @ feature
    transforms = []
    for joint, parent in enumerate(PARENTS):
        local = np.eye(4)
        local[:3, :3] = rotations[joint]
        local[:3, 3] = rest[joint] - (rest[parent] if parent >= 0 else 0)
        transforms.append(transforms[parent] @ local if parent >= 0 else local)
    vertices = np.zeros((778, 3))
    for vertex in range(778):
        for joint in range(16):
            unposed = np.append(posed[vertex] - rest[joint], 1.0)
            vertices[vertex] += file["weights"][vertex, joint] * (transforms[joint] @ unposed)[:3]
    joints = np.stack([transform[:3, 3] for transform in transforms] + [vertices[tip] for tip in tips])
    return vertices, joints


@pytest.mark.parametrize("flat", [True, False])
def test_the_layer_is_mano_as_a_slow_loop_computes_it(model, exact, flat):
    file = random_file()
    pose, betas = random_pose(2)
    output = ManoLayer(model, flat_hand_mean=flat, center=False)(pose, betas)
    for row in range(2):
        full = pose[row].numpy().copy()
        full[3:] += 0 if flat else file["hands_mean"]
        vertices, joints = slow_hand(file, full, betas[row].numpy(), FINGERTIPS["ho3d_v2"])
        np.testing.assert_allclose(output.vertices[row], vertices, atol=1e-12)
        np.testing.assert_allclose(output.joints[row], joints[MANO_TO_SIMPLE], atol=1e-12)


def test_single_precision_stays_within_a_micrometre(model, exact):
    pose, betas = random_pose(8, seed=1)
    expected = ManoLayer(model)(pose, betas)
    torch.set_default_dtype(torch.float32)
    computed = ManoLayer(model)(pose.float(), betas.float())
    torch.testing.assert_close(computed.vertices.double(), expected.vertices, atol=1e-6, rtol=0)
    torch.testing.assert_close(computed.joints.double(), expected.joints, atol=1e-6, rtol=0)


def test_the_wrist_is_the_origin_unless_it_is_left_where_it_is(model, exact):
    pose, betas = random_pose(3)
    centred, raw = ManoLayer(model)(pose, betas), ManoLayer(model, center=False)(pose, betas)
    assert not centred.joints[:, 0].any()
    torch.testing.assert_close(raw.vertices - raw.joints[:, :1], centred.vertices)
    rest = torch.tensor(model.J_regressor) @ (
        torch.tensor(model.v_template) + torch.einsum("vck,bk->bvc", torch.tensor(model.shapedirs), betas)
    )
    torch.testing.assert_close(raw.joints[:, 0], rest[:, 0])


def test_turning_the_root_turns_the_centred_hand(model, exact):
    layer = ManoLayer(model)
    pose, betas = random_pose(4, seed=2)
    turn = Rotation.from_rotvec([0.4, -1.2, 0.9])
    turned = pose.clone()
    turned[:, :3] = torch.tensor((turn * Rotation.from_rotvec(pose[:, :3].numpy())).as_rotvec())
    before, after = layer(pose, betas), layer(turned, betas)
    matrix = torch.tensor(turn.as_matrix())
    torch.testing.assert_close(after.vertices, before.vertices @ matrix.T)
    torch.testing.assert_close(after.joints, before.joints @ matrix.T)


def test_rotations_and_axis_angles_are_two_ways_to_say_one_pose(model, exact):
    layer = ManoLayer(model, flat_hand_mean=False)
    pose, betas = random_pose(3, seed=3)
    full = pose.clone()
    full[:, 3:] += torch.tensor(model.hands_mean)
    rotations = torch.tensor(Rotation.from_rotvec(full.reshape(-1, 3).numpy()).as_matrix()).reshape(3, 16, 3, 3)
    torch.testing.assert_close(layer.from_rotations(rotations, betas).vertices, layer(pose, betas).vertices)


def test_gradients_are_those_of_differences_and_finite_at_rest(model, exact):
    layer = ManoLayer(model)
    pose, betas = random_pose(1, seed=4)
    directions = torch.tensor(np.random.default_rng(5).normal(size=(778, 3)))

    def summary(p, s):
        output = layer(p, s)
        return (output.vertices * directions).sum() + (output.joints**2).sum()

    assert torch.autograd.gradcheck(summary, (pose.requires_grad_(), betas.requires_grad_()), atol=1e-6)
    rest = torch.zeros(2, 48, requires_grad=True)
    layer(rest, torch.zeros(2, 10)).vertices.sum().backward()
    assert torch.isfinite(rest.grad).all()


def test_freihand_key_points_are_regressed_from_posed_vertices(model, exact):
    layer = ManoLayer(model, fingertips="freihand")
    output = layer(*random_pose(2))
    raw = layer.regressed_joints(output.vertices)[1, SIMPLE_TO_MANO]
    np.testing.assert_allclose(raw[:16], random_file()["J_regressor"] @ output.vertices[1].numpy())
    torch.testing.assert_close(raw[16:], output.vertices[1, [744, 320, 443, 555, 672]])


def test_a_left_hand_is_the_mirrored_right_one(model, exact):
    # A mirrored model in the mirrored pose is the mirrored hand.
    flip = np.array([-1.0, 1, 1])
    signs = np.tile(np.outer(flip, flip).ravel(), 15)  # of vec(M R M) against vec(R)
    left = HandModel(
        **{
            **vars(model),
            "v_template": model.v_template * flip,
            "shapedirs": model.shapedirs * flip[:, None],
            "posedirs": model.posedirs * flip[:, None] * signs,
        }
    )
    pose, betas = random_pose(3, seed=6)
    right_hand = ManoLayer(model)(pose, betas)
    left_hand = ManoLayer(left)(mirror_pose(pose), betas)
    torch.testing.assert_close(left_hand.vertices, mirror_points(right_hand.vertices))
    torch.testing.assert_close(left_hand.joints, mirror_points(right_hand.joints))


def test_mirrored_matrices_are_those_of_mirrored_vectors():
    vectors = torch.randn(5, 48, dtype=torch.double)
    matrices = geometry.axis_angle_to_matrix(vectors.reshape(5, 16, 3))
    expected = geometry.axis_angle_to_matrix(mirror_pose(vectors).reshape(5, 16, 3))
    torch.testing.assert_close(mirror_pose(matrices), expected)
    matrices[2, 3] = torch.nan  # as a prediction may be
    array = mirror_pose(matrices.float().numpy())
    assert array.dtype == np.float32
    np.testing.assert_allclose(np.delete(array, 2, 0), np.delete(expected.numpy(), 2, 0), atol=1e-6)
    np.testing.assert_array_equal(mirror_pose(vectors.numpy()), mirror_pose(vectors).numpy())


@pytest.mark.parametrize("pose", [torch.ones(4, 3, 3), np.ones((3, 3)), np.zeros((2, 16)), np.zeros(()), [0.0] * 48])
def test_what_is_no_pose_is_not_mirrored(pose):
    with pytest.raises(InputError, match=r"expected (axis-angles|rotation matrices)"):
        mirror_pose(pose)


def test_the_hand_model_does_not_enter_checkpoints(model):
    layer = ManoLayer(model)
    assert not layer.state_dict()
    assert layer(torch.zeros(0, 48), torch.zeros(0, 10)).vertices.shape == (0, 778, 3)
    assert layer.faces.shape == (1538, 3)


def test_autocast_does_not_coarsen_the_hand(model):
    layer = ManoLayer(model)
    pose, betas = random_pose(2, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        computed = layer(pose, betas).vertices
    torch.testing.assert_close(computed, layer(pose, betas).vertices)


def test_the_fingertip_set_that_made_the_joints_is_found(model, exact):
    pose, betas = random_pose(5)
    for name, ids in FINGERTIPS.items():
        output = ManoLayer(model, fingertips=name)(pose, betas)
        torch.testing.assert_close(output.joints[:, [4, 8, 12, 16, 20]], output.vertices[:, list(ids)])
        errors = fingertip_errors(output.joints.numpy(), output.vertices.numpy())
        assert errors[name] == 0
        assert min(value for other, value in errors.items() if other != name) > 1e-3
    with pytest.raises(InputError, match=r"'ho3d'.*ho3d_v2"):
        ManoLayer(model, fingertips="ho3d")


def test_the_layer_that_the_settings_name_is_made(tmp_path):
    config = ManoConfig(path=str(write(tmp_path, random_file())), flat_hand_mean=False, fingertips="smplx")
    layer = hand_layer(config)
    assert layer.tips == list(FINGERTIPS["smplx"])
    assert not layer.mean_pose.any()  # the readers complete the poses


# ------------------------------------------------------------------------------------------------------- manopth

HAS_MANOPTH = importlib.util.find_spec("manopth") is not None


@pytest.mark.skipif(HAS_MANOPTH, reason="manopth is installed")
def test_without_manopth_the_message_says_what_to_do(tmp_path):
    config = ManoConfig(path=str(write(tmp_path, random_file())), layer="manopth")
    with pytest.raises(InputError, match=r"needs the package manopth.*mano\.layer=builtin"):
        hand_layer(config)


@pytest.mark.skipif(not HAS_MANOPTH, reason="manopth is not installed (GPL-3, not on PyPI)")
@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("fingertips", ["ho3d_v2", "manopth"])
def test_manopth_and_the_builtin_layer_are_the_same_hand(model, flat, fingertips):
    from hojoint.hand.manopth import ManopthLayer

    pose, betas = random_pose(6, seed=7, dtype=torch.float32)
    ours = ManoLayer(model, flat_hand_mean=flat, fingertips=fingertips)
    theirs = ManopthLayer(model, flat_hand_mean=flat, fingertips=fingertips)
    rotations = torch.tensor(Rotation.random(96, random_state=0).as_matrix().astype(np.float32)).reshape(6, 16, 3, 3)
    for computed, expected in (
        (theirs(pose, betas), ours(pose, betas)),
        (theirs.from_rotations(rotations, betas), ours.from_rotations(rotations, betas)),
    ):
        torch.testing.assert_close(computed.vertices, expected.vertices, atol=1e-5, rtol=0)
        torch.testing.assert_close(computed.joints, expected.joints, atol=1e-5, rtol=0)
    assert not theirs.state_dict()
