"""The hand layer against a slow implementation in numpy, the file reader against files of every make."""

import importlib.util
import pickle
import sys
import types

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.spatial.transform import Rotation

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
    mirror_rotations,
    pose_from_components,
)

torch.set_num_threads(1)

PARENTS = [-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14]


def random_file(seed=0):
    """The keys and shapes of MANO_RIGHT.pkl around random numbers."""
    rng = np.random.default_rng(seed)
    regressor = np.where(rng.random((16, 778)) < 0.02, rng.random((16, 778)), 0.0) + np.eye(16, 778)
    weights = rng.random((778, 16)) ** 8
    kintree = np.stack((np.array(PARENTS, dtype=np.int64) % 2**32, np.arange(16)))
    return {
        "v_template": rng.normal(0, 0.05, (778, 3)),
        "f": rng.integers(0, 778, (1538, 3)).astype(np.uint32),
        "shapedirs": rng.normal(0, 0.005, (778, 3, 10)),
        "posedirs": rng.normal(0, 0.005, (778, 3, 135)),
        "J_regressor": scipy.sparse.csc_matrix(regressor / regressor.sum(1, keepdims=True)),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": kintree,
        "hands_mean": rng.normal(0, 0.3, 45),
        "hands_components": np.linalg.qr(rng.normal(size=(45, 45)))[0],
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def write(tmp_path, content, protocol=2):
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.fixture
def model(tmp_path):
    return load_mano(write(tmp_path, random_file()))


@pytest.fixture
def exact():
    """Layers made in double precision, for answers to the last digit."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def random_pose(count, seed=0, dtype=torch.float64):
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(0, 0.6, (count, 48)), dtype=dtype), torch.tensor(
        rng.normal(0, 1, (count, 10)), dtype=dtype
    )


def slow_hand(file, pose, shape, tips):
    """MANO's forward pass for one hand, vertex by vertex, with 4 x 4 matrices; not centred, MANO's joint order."""
    rotations = Rotation.from_rotvec(pose.reshape(16, 3)).as_matrix()
    shaped = file["v_template"] + file["shapedirs"] @ shape
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


# --------------------------------------------------------------------------------------------------------- layer


@pytest.mark.parametrize("flat", [True, False])
def test_the_layer_is_mano_as_a_slow_loop_computes_it(model, exact, flat):
    file = random_file()
    pose, shape = random_pose(2)
    output = ManoLayer(model, flat_hand_mean=flat, center=False)(pose, shape)
    for row in range(2):
        full = pose[row].numpy().copy()
        full[3:] += 0 if flat else file["hands_mean"]
        vertices, joints = slow_hand(file, full, shape[row].numpy(), FINGERTIPS["ho3d_v2"])
        np.testing.assert_allclose(output.vertices[row], vertices, atol=1e-12)
        np.testing.assert_allclose(output.joints[row], joints[MANO_TO_SIMPLE], atol=1e-12)


def test_single_precision_stays_within_a_micrometre(model, exact):
    pose, shape = random_pose(8, seed=1)
    wanted = ManoLayer(model)(pose, shape)
    torch.set_default_dtype(torch.float32)
    found = ManoLayer(model)(pose.float(), shape.float())
    torch.testing.assert_close(found.vertices.double(), wanted.vertices, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.joints.double(), wanted.joints, atol=1e-6, rtol=0)


def test_the_wrist_is_the_origin_unless_it_is_left_where_it_is(model, exact):
    pose, shape = random_pose(3)
    centred, raw = ManoLayer(model)(pose, shape), ManoLayer(model, center=False)(pose, shape)
    assert not centred.joints[:, 0].any()
    torch.testing.assert_close(raw.vertices - raw.joints[:, :1], centred.vertices)
    rest = torch.tensor(model.J_regressor) @ (
        torch.tensor(model.v_template) + torch.einsum("vck,bk->bvc", torch.tensor(model.shapedirs), shape)
    )
    torch.testing.assert_close(raw.joints[:, 0], rest[:, 0])


def test_turning_the_root_turns_the_centred_hand(model, exact):
    layer = ManoLayer(model)
    pose, shape = random_pose(4, seed=2)
    turn = Rotation.from_rotvec([0.4, -1.2, 0.9])
    turned = pose.clone()
    turned[:, :3] = torch.tensor((turn * Rotation.from_rotvec(pose[:, :3].numpy())).as_rotvec())
    before, after = layer(pose, shape), layer(turned, shape)
    matrix = torch.tensor(turn.as_matrix())
    torch.testing.assert_close(after.vertices, before.vertices @ matrix.T)
    torch.testing.assert_close(after.joints, before.joints @ matrix.T)


def test_rotations_and_axis_angles_are_two_ways_to_say_one_pose(model, exact):
    layer = ManoLayer(model, flat_hand_mean=False)
    pose, shape = random_pose(3, seed=3)
    full = pose.clone()
    full[:, 3:] += torch.tensor(model.hands_mean)
    rotations = torch.tensor(Rotation.from_rotvec(full.reshape(-1, 3).numpy()).as_matrix()).reshape(3, 16, 3, 3)
    torch.testing.assert_close(layer.from_rotations(rotations, shape).vertices, layer(pose, shape).vertices)


def test_principal_components_span_the_pose(model):
    root, coefficients = torch.randn(2, 3).double(), torch.randn(2, 6).double()
    pose = pose_from_components(model, root, coefficients)
    np.testing.assert_allclose(pose[:, 3:], coefficients.numpy() @ model.hands_components[:6])
    torch.testing.assert_close(pose[:, :3], root)


def test_gradients_agree_with_finite_differences_and_are_finite_at_rest(model, exact):
    layer = ManoLayer(model)
    pose, shape = random_pose(1, seed=4)
    directions = torch.tensor(np.random.default_rng(5).normal(size=(778, 3)))

    def summary(p, s):
        output = layer(p, s)
        return (output.vertices * directions).sum() + (output.joints**2).sum()

    assert torch.autograd.gradcheck(summary, (pose.requires_grad_(), shape.requires_grad_()), atol=1e-6)
    rest = torch.zeros(2, 48, requires_grad=True)
    layer(rest, torch.zeros(2, 10)).vertices.sum().backward()
    assert torch.isfinite(rest.grad).all()


def test_joint_orders_are_inverse_and_put_fingers_in_simple_order():
    names = [f"{finger}{k}" for finger in ("index", "middle", "pinky", "ring", "thumb") for k in (1, 2, 3)]
    raw = ["wrist", *names, "thumb4", "index4", "middle4", "ring4", "pinky4"]
    simple = ["wrist", *(f"{f}{k}" for f in ("thumb", "index", "middle", "ring", "pinky") for k in (1, 2, 3, 4))]
    assert [raw[i] for i in MANO_TO_SIMPLE] == simple
    assert [simple[i] for i in SIMPLE_TO_MANO] == raw


def test_the_fingertip_set_that_made_the_joints_is_found(model, exact):
    pose, shape = random_pose(5)
    for name, ids in FINGERTIPS.items():
        output = ManoLayer(model, fingertips=name)(pose, shape)
        torch.testing.assert_close(output.joints[:, [4, 8, 12, 16, 20]], output.vertices[:, list(ids)])
        errors = fingertip_errors(output.joints.numpy(), output.vertices.numpy())
        assert errors[name] == 0
        assert min(value for other, value in errors.items() if other != name) > 1e-3
    with pytest.raises(InputError, match=r"'ho3d'.*ho3d_v2"):
        ManoLayer(model, fingertips="ho3d")


def test_freihand_key_points_are_regressed_from_posed_vertices(model, exact):
    layer = ManoLayer(model, fingertips="freihand")
    output = layer(*random_pose(2))
    raw = layer.regressed_joints(output.vertices)[1, SIMPLE_TO_MANO]
    np.testing.assert_allclose(raw[:16], random_file()["J_regressor"] @ output.vertices[1].numpy())
    torch.testing.assert_close(raw[16:], output.vertices[1, [744, 320, 443, 555, 672]])


def test_a_left_hand_is_the_mirrored_right_one(model, exact):
    # A mirror-symmetric model: posing it by the mirrored pose gives the mirrored hand.
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
    pose, shape = random_pose(3, seed=6)
    right_hand = ManoLayer(model)(pose, shape)
    left_hand = ManoLayer(left)(mirror_pose(pose), shape)
    torch.testing.assert_close(left_hand.vertices, mirror_points(right_hand.vertices))
    torch.testing.assert_close(left_hand.joints, mirror_points(right_hand.joints))
    rotations = torch.tensor(Rotation.from_rotvec(pose.reshape(-1, 3).numpy()).as_matrix()).reshape(3, 16, 3, 3)
    by_matrix = ManoLayer(left).from_rotations(mirror_rotations(rotations), shape)
    torch.testing.assert_close(by_matrix.vertices, left_hand.vertices)


def test_the_model_does_not_travel_in_checkpoints_and_an_empty_batch_is_empty(model):
    layer = ManoLayer(model)
    assert not layer.state_dict()
    assert layer(torch.zeros(0, 48), torch.zeros(0, 10)).vertices.shape == (0, 778, 3)
    assert layer.faces.shape == (1538, 3)


def test_autocast_does_not_coarsen_the_hand(model):
    layer = ManoLayer(model)
    pose, shape = random_pose(2, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(pose, shape).vertices
    torch.testing.assert_close(found, layer(pose, shape).vertices)


# ---------------------------------------------------------------------------------------------------------- file


def chumpy_flavoured(content, monkeypatch):
    """The same file as MANO ships it: shapedirs a Select over a Ch of 20 directions, posedirs a Ch."""
    made = {}
    for module, name in (("chumpy.ch", "Ch"), ("chumpy.reordering", "Select")):
        made[name] = type(name, (), {"__module__": module})
        monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(**{name: made[name]}))
    monkeypatch.setitem(sys.modules, "chumpy", types.SimpleNamespace())

    def make(name, **state):
        instance = made[name]()
        instance.__dict__.update(state)
        return instance

    twenty = np.concatenate((content["shapedirs"], np.ones((778, 3, 10))), axis=2)
    first_ten = np.arange(twenty.size).reshape(twenty.shape)[:, :, :10].ravel()
    inner = make("Ch", x=twenty, _dirty_vars=set(), _itr=None)
    return {
        **content,
        "shapedirs": make("Select", a=inner, idxs=first_ten, preferred_shape=(778, 3, 10), _dirty_vars={"a"}),
        "posedirs": make("Ch", x=content["posedirs"], _dirty_vars=set()),
        "J": content["J_regressor"] @ content["v_template"],
        "hands_coeffs": np.zeros((3, 45)),
    }


@pytest.mark.parametrize("protocol", [0, 2])
def test_a_file_with_chumpy_arrays_loads_as_the_plain_one(tmp_path, monkeypatch, protocol):
    path = write(tmp_path, chumpy_flavoured(random_file(), monkeypatch), protocol)
    data = path.read_bytes()
    assert b"chumpy.reordering\nSelect" in data
    assert b"chumpy.ch\nCh" in data
    monkeypatch.undo()
    assert "chumpy" not in sys.modules
    found = load_mano(path)
    plain = load_mano(write(tmp_path, random_file()))
    for name, values in vars(plain).items():
        np.testing.assert_array_equal(getattr(found, name), values)
        assert type(getattr(found, name)) is np.ndarray


@pytest.mark.parametrize("sentinel", [-1, 2**32 - 1, 0])
def test_every_way_to_write_no_parent_is_read(tmp_path, sentinel):
    file = random_file()
    file["kintree_table"] = file["kintree_table"].astype(np.int64)
    file["kintree_table"][0, 0] = sentinel
    assert load_mano(write(tmp_path, file)).parents.tolist() == PARENTS


def test_a_dense_regressor_a_folder_and_any_key_order_are_fine(tmp_path):
    file = random_file()
    file["J_regressor"] = file["J_regressor"].toarray()
    (tmp_path / "models").mkdir()
    write(tmp_path / "models", dict(reversed(file.items())))
    np.testing.assert_array_equal(load_mano(tmp_path).J_regressor, file["J_regressor"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v_template": np.zeros((10475, 3))}, r"'v_template' must be .*\(778, 3\), found float64 \(10475, 3\)"),
        ({"weights": np.full((778, 16), np.nan)}, "'weights' must be finite"),
        ({"posedirs": np.full((778, 3, 135), "x")}, "'posedirs' must be finite"),
        ({"J_regressor": scipy.sparse.csc_matrix((200_000, 200_000))}, r"'J_regressor' must be .*sparse.*\(200000, "),
        ({"hands_mean": [[1.0, 2.0], [3.0]]}, "'hands_mean' must be finite .* found a list that is no array"),
        ({"f": np.full((1538, 3), 778, np.uint32)}, "'f' names vertices outside"),
        ({"kintree_table": np.tile(np.arange(16), (2, 1))}, "'kintree_table' must give"),
    ],
)
def test_a_file_of_the_wrong_shape_is_refused_by_key(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        load_mano(write(tmp_path, {**random_file(), **change}))


def test_what_is_not_a_mano_file_is_refused_with_what_it_lacks(tmp_path):
    file = random_file()
    del file["hands_mean"], file["f"]
    with pytest.raises(InputError, match="lacks f, hands_mean"):
        load_mano(write(tmp_path, file))
    with pytest.raises(InputError, match="holds a list"):
        load_mano(write(tmp_path, [1, 2]))
    with pytest.raises(InputError, match=r"no MANO model at .*mano\.path"):
        load_mano(tmp_path / "none.pkl")


def test_the_layer_that_the_settings_name_is_made(tmp_path):
    config = ManoConfig(path=str(write(tmp_path, random_file())), flat_hand_mean=False, fingertips="smplx")
    layer = hand_layer(config)
    assert layer.tips == list(FINGERTIPS["smplx"])
    assert layer.mean_pose.any()


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

    pose, shape = random_pose(6, seed=7, dtype=torch.float32)
    ours = ManoLayer(model, flat_hand_mean=flat, fingertips=fingertips)
    theirs = ManopthLayer(model, flat_hand_mean=flat, fingertips=fingertips)
    rotations = torch.tensor(Rotation.random(96, random_state=0).as_matrix().astype(np.float32)).reshape(6, 16, 3, 3)
    for found, wanted in (
        (theirs(pose, shape), ours(pose, shape)),
        (theirs.from_rotations(rotations, shape), ours.from_rotations(rotations, shape)),
    ):
        torch.testing.assert_close(found.vertices, wanted.vertices, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.joints, wanted.joints, atol=1e-5, rtol=0)
    assert not theirs.state_dict()
