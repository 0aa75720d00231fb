"""MANO files of every make are read, or refused by key; joint orders."""

import dataclasses
import sys
import types
import zipfile

import numpy as np
import pytest
import scipy.sparse
from mano_files import PARENTS, random_file, write
from scipy.spatial.transform import Rotation

from hojoint.errors import InputError
from hojoint.hand.handedness import is_left
from hojoint.hand.model import MANO_TO_SIMPLE, SIMPLE_TO_MANO, load_mano
from hojoint.hand.stand_in.model import save_model, stand_in_model


def test_joint_orders_are_inverse_of_each_other():
    names = [f"{finger}{k}" for finger in ("index", "middle", "pinky", "ring", "thumb") for k in (1, 2, 3)]
    raw = ["wrist", *names, "thumb4", "index4", "middle4", "ring4", "pinky4"]
    simple = ["wrist", *(f"{f}{k}" for f in ("thumb", "index", "middle", "ring", "pinky") for k in (1, 2, 3, 4))]
    assert [raw[i] for i in MANO_TO_SIMPLE] == simple
    assert [simple[i] for i in SIMPLE_TO_MANO] == raw


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
    loaded = load_mano(path)
    plain = load_mano(write(tmp_path, random_file()))
    for name, values in vars(plain).items():
        np.testing.assert_array_equal(getattr(loaded, name), values)
        assert type(getattr(loaded, name)) is np.ndarray


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
        ({"kintree_table": np.tile(np.arange(16), (2, 1))}, "'kintree_table' must name"),
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


@pytest.mark.parametrize("kind", [scipy.sparse.csc_array, scipy.sparse.csr_array, scipy.sparse.coo_array])
@pytest.mark.parametrize("protocol", [2, 5])
def test_sparse_arrays_of_newer_scipy_are_read(tmp_path, kind, protocol):
    file = random_file()
    expected = file["J_regressor"].toarray()
    file["J_regressor"] = kind(file["J_regressor"])
    np.testing.assert_array_equal(load_mano(write(tmp_path, file, protocol)).J_regressor, expected)


def npz(path, **content):
    np.savez(path, **content)
    return path


def test_an_npz_of_the_arrays_is_the_same_hand(tmp_path):
    plain = load_mano(write(tmp_path, random_file()))
    file = random_file()
    file["J_regressor"] = file["J_regressor"].toarray()
    (tmp_path / "npz").mkdir()
    npz(tmp_path / "npz" / "MANO_RIGHT.npz", **file, hands_coeffs=np.array([object()]))  # never opened
    for path in (tmp_path / "npz", tmp_path / "npz" / "MANO_RIGHT.npz"):
        for name, values in vars(load_mano(path)).items():
            np.testing.assert_array_equal(values, getattr(plain, name))


def test_a_member_without_suffix_is_not_the_array(tmp_path, monkeypatch):
    """numpy takes 'f' before 'f.npy', and the size limit is of the latter."""
    file = random_file()
    path = npz(tmp_path / "MANO_RIGHT.npz", **{**file, "J_regressor": file["J_regressor"].toarray()})
    expected = load_mano(path).v_template
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("v_template", b"\0" * 2**20)
    np.testing.assert_array_equal(load_mano(path).v_template, expected)
    monkeypatch.setattr("hojoint.hand.mano_file._LARGEST", 2**10)
    with pytest.raises(InputError, match="no array of MANO is so large"):
        load_mano(path)


def test_an_npz_that_needs_code_or_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"'J_regressor' is an array of Python objects.*toarray\(\)"):
        load_mano(npz(tmp_path / "objects.npz", **random_file()))
    whole = (tmp_path / "objects.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.npz is not a complete \.npz archive"):
        load_mano(tmp_path / "cut.npz")
    some = {key: np.zeros(1) for key in random_file() if key not in ("f", "hands_mean")}
    with pytest.raises(InputError, match="lacks f, hands_mean"):
        load_mano(npz(tmp_path / "few.npz", **some))
    with zipfile.ZipFile(tmp_path / "mano_v1_2.zip", "w") as archive:
        archive.writestr("mano_v1_2/models/MANO_RIGHT.pkl", b"")
    with pytest.raises(InputError, match="zip archive, not a MANO model: unzip it"):
        load_mano(tmp_path / "mano_v1_2.zip")


def right(tmp_path, name="MANO_RIGHT.pkl", **changes):
    path = tmp_path / name
    save_model(dataclasses.replace(stand_in_model(), **changes), path)
    return path


MIRROR = np.array([-1.0, 1, 1])
MEAN = stand_in_model().hands_mean.reshape(15, 3)


@pytest.mark.parametrize("mean", [MEAN * [1, -1, -1], 0 * MEAN, MEAN], ids=["mirrored", "flat", "of the right hand"])
def test_a_left_hand_given_as_right_is_refused(tmp_path, mean):
    model = stand_in_model()
    left = {"v_template": model.v_template * MIRROR, "shapedirs": model.shapedirs * MIRROR[:, None]}
    path = right(tmp_path, **left, hands_mean=mean.ravel())
    with pytest.raises(InputError, match=r"is a left hand .*set mano\.path .*to MANO_RIGHT\.pkl"):
        load_mano(path)


def test_a_right_hand_is_never_taken_for_a_left_one(tmp_path):
    model = stand_in_model()
    load_mano(right(tmp_path))
    load_mano(right(tmp_path, name="MANO_LEFT.pkl"))  # the content counts
    load_mano(right(tmp_path, v_template=1.4 * model.v_template + [0.3, -0.2, 1.0], hands_mean=np.zeros(45)))
    joints = model.J_regressor @ model.v_template
    for seed in range(50):
        turn = Rotation.random(random_state=seed).as_matrix()
        for mean in (MEAN @ turn.T, 0 * MEAN):
            assert not is_left(joints @ turn.T, mean.ravel())
        assert is_left((joints * MIRROR) @ turn.T, (MEAN * [1, -1, -1] @ turn.T).ravel())


def test_a_folder_with_the_left_hand_alone_says_so(tmp_path):
    right(tmp_path, name="MANO_LEFT.pkl")
    with pytest.raises(InputError, match=r"no MANO model at .*Found MANO_LEFT\.pkl there"):
        load_mano(tmp_path)
