"""YCB models from files written by hand."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from hojoint.datasets import ycb
from hojoint.errors import InputError

OBJ = """# a pyramid with a quadrilateral base
mtllib textured_simple.obj.mtl
v 0 0 0 0.5 0.5 0.5
v 0.1 0 0 0.5 0.5 0.5
v 0.1 0.1 0 0.5 0.5 0.5
v 0 0.1 0 0.5 0.5 0.5
v 0.05 0.05 0.1
vt 0 0
vn 0 0 1
f 1/1/1 2/1/1 5/1/1
f 2//1 3//1 5//1
f 3/1 4/1 5/1
f -2 -5 -1
f 1 2 3 4
"""


def write(root, name, points, mesh=None, file="textured_simple.obj"):
    folder = root / name
    folder.mkdir()
    (folder / "points.xyz").write_text("".join("{:.6f} {:.6f} {:.6f}\n".format(*p) for p in points))
    if mesh is not None:
        (folder / file).write_text(mesh)


def test_points_box_and_both_diameters_are_read(tmp_path):
    points = np.round(np.random.default_rng(0).normal(0, 0.05, (200, 3)), 6)
    write(tmp_path, "006_mustard_bottle", points)
    write(tmp_path, "003_cracker_box", points * 2)
    models = ycb.load_models(tmp_path)
    assert list(models) == ["003_cracker_box", "006_mustard_bottle"]
    model = models["006_mustard_bottle"]
    np.testing.assert_array_equal(model.points, points)
    np.testing.assert_array_equal((model.lo, model.hi), (points.min(0), points.max(0)))
    assert model.diameter_box == pytest.approx(np.sqrt((np.ptp(points, axis=0) ** 2).sum()))
    assert model.diameter_true == pytest.approx(pdist(points).max())
    assert model.diameter_true < model.diameter_box
    assert model.faces is None
    np.testing.assert_array_equal(model.vertices, points)


@pytest.mark.parametrize("file", ["textured_simple.obj", "textured_simple_2000.obj"])
def test_a_mesh_with_colours_and_every_kind_of_face_is_read(tmp_path, file):
    write(tmp_path, "pyramid", np.eye(4, 3) * 0.1, OBJ, file)
    model = ycb.load_models(tmp_path)["pyramid"]
    np.testing.assert_array_equal(model.vertices[4], [0.05, 0.05, 0.1])
    assert model.faces.tolist() == [[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4], [0, 1, 2], [0, 2, 3]]


def test_a_flat_object_has_a_diameter_too():
    square = np.array([[0, 0, 0], [0.3, 0, 0], [0.3, 0.4, 0], [0, 0.4, 0], [0.1, 0.1, 0]])
    assert ycb.object_model(square).diameter_true == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0 0\n1 2\n", "must hold one 'x y z' per line"),
        ("a b c\n", "must hold one 'x y z' per line"),
        ("0 0 0\n", "at least four lines"),
        ("0 0 0\n0 0 nan\n0 1 0\n1 0 0\n", "at least four lines"),
        ("0 0 0\n100 0 0\n0 100 0\n0 0 190\n", "spans 190 m: it must be in metres"),
    ],
)
def test_a_damaged_points_file_is_refused(tmp_path, text, message):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "points.xyz").write_text(text)
    with pytest.raises(InputError, match=message):
        ycb.load_models(tmp_path)


@pytest.mark.parametrize("text", ["v 0 0 0\nf 1 2 3\n", "v 0 0\nf 1 1 1\n", "v 0 0 0\nf a b c\n", "solid ascii\n"])
def test_a_damaged_mesh_is_refused(tmp_path, text):
    write(tmp_path, "x", np.eye(4, 3), text)
    with pytest.raises(InputError, match="textured_simple"):
        ycb.load_models(tmp_path)


def test_a_folder_without_models_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no object models under .*points\.xyz"):
        ycb.load_models(tmp_path / "none")
