"""Submission files: written and read back, scored, and refused with the position of the mistake."""

import functools
import json
import re
import zipfile

import numpy as np
import pytest
import torch
from mano_files import random_pose

from hojoint.errors import InputError
from hojoint.evaluation import conventions, metrics, submission_files
from hojoint.hand.layer import ManoLayer
from hojoint.hand.model import MANO_TO_SIMPLE, SIMPLE_TO_MANO
from hojoint.hand.stand_in.model import stand_in_model

GL = np.array([1.0, -1, -1])


def hands(count=3, seed=0):
    rng = np.random.default_rng(seed)
    centre = np.array([0.0, 0.1, 0.6])
    return rng.normal(0, 0.04, (count, 21, 3)) + centre, rng.normal(0, 0.04, (count, 778, 3)) + centre


def write_truth(folder, joints, vertices):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation_xyz.json").write_text(json.dumps(joints.tolist()))
    (folder / "evaluation_verts.json").write_text(json.dumps(vertices.tolist()))


def test_ho3d_gets_the_opengl_frame_and_manos_joint_order(tmp_path):
    joints, vertices = hands()
    submission_files.write_submission(tmp_path / "pred.json", joints, vertices, "ho3d")
    raw_joints, raw_vertices = json.loads((tmp_path / "pred.json").read_text())
    np.testing.assert_allclose(raw_joints, joints[:, SIMPLE_TO_MANO] * GL, atol=5.001e-6)
    np.testing.assert_allclose(raw_vertices, vertices * GL, atol=5.001e-6)
    assert np.max(np.array(raw_joints)[..., 2]) < 0  # in front of an OpenGL camera
    read = submission_files.load_submission(tmp_path)
    np.testing.assert_array_equal(read.joints, raw_joints)


def test_freihand_gets_the_projects_frame_and_order(tmp_path):
    joints, vertices = hands()
    submission_files.write_submission(tmp_path / "pred.json", joints, vertices, "freihand")
    read = submission_files.load_submission(tmp_path / "pred.json")
    np.testing.assert_allclose(read.joints, joints, atol=5.001e-6)
    np.testing.assert_allclose(read.vertices, vertices, atol=5.001e-6)


def test_a_zip_holds_pred_json_at_its_root_and_reads_back(tmp_path):
    joints, vertices = hands()
    submission_files.write_submission(tmp_path / "pred.zip", joints, vertices, "ho3d")
    assert zipfile.ZipFile(tmp_path / "pred.zip").namelist() == ["pred.json"]
    assert submission_files.load_submission(tmp_path / "pred.zip").vertices.shape == (3, 778, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["pred.zip"]


@pytest.mark.parametrize("subfolder", ["", "evaluation", "ref"])
@pytest.mark.parametrize("layout", ["ho3d", "freihand"])
def test_scores_of_files_are_the_scores_of_the_arrays(tmp_path, layout, subfolder):
    (joints, vertices), (true_joints, true_vertices) = hands(seed=1), hands(seed=2)
    submission_files.write_submission(tmp_path / "pred.json", joints, vertices, layout)
    frame, order = (GL, SIMPLE_TO_MANO) if layout == "ho3d" else (1, list(range(21)))
    write_truth(tmp_path / subfolder, true_joints[:, order] * frame, true_vertices * frame)
    scored = submission_files.score_submission(tmp_path / "pred.json", tmp_path, layout)
    of_arrays = metrics.hand_scores if layout == "ho3d" else metrics.freihand_scores
    expected = of_arrays(np.round(joints, 5), np.round(vertices, 5), true_joints, true_vertices)
    assert scored.scores == pytest.approx(expected, abs=1e-9)
    assert scored.notes == ()


def posed(count=40, seed=0):
    """True hands in the camera frame and ours order, and predictions 8 mm off: joints, vertices, joints, vertices."""
    pose, betas = random_pose(count, seed, torch.float32)
    out = ManoLayer(stand_in_model())(pose * torch.tensor([3.0] * 3 + [0.6] * 45), betas * 0.5)
    rng = np.random.default_rng(seed)
    place = np.array([0.05, -0.1, 0.7])
    true = [part.double().numpy() + place for part in (out.joints, out.vertices)]
    noise = rng.normal(0, 0.005, (count, 1, 3))  # of the position
    pred = [part + noise + rng.normal(0, 0.005, part.shape) for part in true]
    return *true, *pred


CHANGES = {
    "millimetres": (lambda joints, vertices, _: (joints * 1000, vertices * 1000), "are in millimetres"),
    "centimetres": (lambda joints, vertices, _: (joints * 100, vertices * 100), "are in centimetres"),
    "frame": (lambda joints, vertices, _: (joints * GL, vertices * GL), "are in another camera frame"),
    "axes": (lambda joints, vertices, _: (joints * [-1, -1, 1], vertices * [-1, -1, 1]), "with x and y turned round"),
    "order": (lambda joints, vertices, other: (joints[:, other], vertices), "order, expected .*; reordered"),
    "all": (
        lambda joints, vertices, other: (joints[:, other] * GL * 1000, vertices * GL * 1000),
        "another camera frame",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("layout", ["ho3d", "freihand"])
def test_another_convention_is_converted_and_said(tmp_path, layout, change):
    true_joints, true_vertices, joints, vertices = posed()
    ours = list(range(21))
    frame, order, other = (GL, SIMPLE_TO_MANO, MANO_TO_SIMPLE) if layout == "ho3d" else (1, ours, SIMPLE_TO_MANO)
    truth = (true_joints[:, order] * frame, true_vertices * frame)
    pred = (joints[:, order] * frame, vertices * frame)
    write_truth(tmp_path, *truth)
    apply, sentence = CHANGES[change]
    changed = apply(*pred, other)
    (tmp_path / "pred.json").write_text(json.dumps([part.tolist() for part in changed]))
    scored = submission_files.score_submission(tmp_path / "pred.json", tmp_path, layout)
    of_arrays = functools.partial(metrics.hand_scores, order="mano") if layout == "ho3d" else metrics.freihand_scores
    assert scored.scores == pytest.approx(of_arrays(*pred, *truth), abs=1e-9)
    assert re.search(sentence, " ".join(scored.notes))
    official = of_arrays(*changed, *truth)["xyz_mean3d"]
    assert f"for the file as it stands it prints xyz_mean3d {official:f}" in scored.notes[-1]


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03, 0.1])
def test_right_files_are_never_converted(noise):
    for seed in range(5):
        joints, vertices, *_ = posed(seed=seed)
        rng = np.random.default_rng(seed)
        for pred in (
            joints + rng.normal(0, noise, joints.shape),
            joints[::-1],  # other hands
            joints[:1].repeat(len(joints), 0),  # one pose for all
            joints * [-1, 1, 1],  # mirrored hands
            joints * 0.6,
            np.zeros_like(joints),
        ):
            for layout in ("ho3d", "freihand"):
                np.testing.assert_array_equal(conventions.joints_as_meant(pred, joints, layout)[0], pred)
        np.testing.assert_array_equal(
            conventions.vertices_as_meant(vertices[::-1], vertices, "ho3d")[0], vertices[::-1]
        )


@pytest.mark.parametrize("axes", ["x", "y", "z", "x, y and z"])
def test_mirrored_hands_are_named_and_stay(axes):
    true_joints, true_vertices, joints, vertices = posed()
    signs = np.array([-1.0 if axis in axes else 1.0 for axis in "xyz"])
    for name, as_meant, pred, true in (
        ("joints", conventions.joints_as_meant, joints, true_joints),
        ("vertices", conventions.vertices_as_meant, vertices, true_vertices),
    ):
        kept, [note] = as_meant(pred * signs, true, "freihand")
        np.testing.assert_array_equal(kept, pred * signs)
        assert note.startswith(f"{name} are mirrored: they fit the truth to ")
        assert f"with {axes} mirrored" in note
        assert "turned round" not in note
        assert as_meant(pred, true, "freihand")[1] == []
    [note] = conventions.joints_as_meant(joints[:, SIMPLE_TO_MANO] * signs, true_joints, "freihand")[1]
    assert note.startswith("joints are mirrored in another order")


def test_a_doubtful_file_stays_as_it_is_with_a_note():
    joints, *_ = posed()
    half = joints * GL
    half[: len(half) // 3] = joints[: len(half) // 3]  # two frames in one file
    as_meant, notes = conventions.joints_as_meant(half, joints, "freihand")
    np.testing.assert_array_equal(as_meant, half)
    assert re.search("y and z turned round, which is not clearly better; scored as they stand", notes[0])
    as_meant, notes = conventions.joints_as_meant(joints * 9, joints, "freihand")
    np.testing.assert_array_equal(as_meant, joints * 9)
    assert "9 times the size of the true ones (joints), which is no unit" in notes[0]


@pytest.mark.parametrize("shape", ["two lists", "one list", "samples"])
def test_joints_alone_get_the_scores_of_joints(tmp_path, shape):
    true_joints, true_vertices, joints, _ = posed(5)
    write_truth(tmp_path, true_joints, true_vertices)
    content = {"two lists": [joints.tolist(), []], "one list": [joints.tolist()], "samples": joints.tolist()}[shape]
    (tmp_path / "pred.json").write_text(json.dumps(content))
    scored = submission_files.score_submission(tmp_path / "pred.json", tmp_path, "freihand")
    expected = metrics.freihand_scores(joints, true_vertices, true_joints, true_vertices)
    assert scored.scores == pytest.approx({key: expected[key] for key in expected if key.startswith("xyz_")})
    assert "holds joints alone" in scored.notes[-1]
    (tmp_path / "evaluation_verts.json").unlink()  # not needed then
    assert submission_files.score_submission(tmp_path / "pred.json", tmp_path, "freihand") == scored


def test_zeros_are_named_and_numbers_that_are_none_refused(tmp_path):
    joints, vertices, *_ = posed(4)
    write_truth(tmp_path, joints, vertices)
    zeros = [np.where(np.arange(4)[:, None, None] == 2, 0, part).tolist() for part in (joints, vertices)]
    (tmp_path / "pred.json").write_text(json.dumps(zeros))
    (note,) = submission_files.score_submission(tmp_path / "pred.json", tmp_path, "freihand").notes
    assert "1 of 4 samples have all joints at one point (zeros), first sample 2" in note
    for bad in (None, float("nan")):
        zeros[1][3][7][0] = bad
        (tmp_path / "pred.json").write_text(json.dumps(zeros))
        with pytest.raises(InputError, match=r"pred\.json: vertices must be finite.* 1 of 4 samples, first sample 3"):
            submission_files.score_submission(tmp_path / "pred.json", tmp_path, "freihand")


def test_hands_behind_the_camera_are_not_written_for_ho3d(tmp_path):
    joints, vertices = hands()
    joints[1:], vertices[1:] = joints[1:] * GL, vertices[1:] * GL
    with pytest.raises(InputError, match="2 hands are completely behind the camera, first 1"):
        submission_files.write_submission(tmp_path / "pred.json", joints, vertices, "ho3d")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("{}", "must hold two lists.*found a dict"),
        ("[[], [], []]", "must hold two lists.*found a list of 3"),
        ("[[], []]", "joints must be a list of samples, 21 x 3 each; found a list of 0"),
        (json.dumps([[[[0, 0, 0]] * 21, [[0, 0, 0]] * 20], []]), "joints of sample 1 must be 21 x 3; found 20 x 3"),
        (json.dumps([[[[0, 0, 0]] * 20 + [[0, 0]]], []]), "joints of sample 0 are not 21 x 3 numbers"),
        (json.dumps([[[["a", 0, 0]] * 21], []]), "joints of sample 0 are not"),
        (json.dumps([[[[0, 0, 0]] * 21] * 2, [[[0, 0, 0]] * 778]]), "2 samples of joints but 1 of vertices"),
    ],
)
def test_a_wrong_file_is_refused_with_the_first_wrong_sample(tmp_path, text, message):
    (tmp_path / "pred.json").write_text(text)
    with pytest.raises(InputError, match=message):
        submission_files.load_submission(tmp_path / "pred.json")


def test_another_number_of_samples_than_in_the_truth_is_refused(tmp_path):
    submission_files.write_submission(tmp_path / "pred.json", *hands(2), "freihand")
    write_truth(tmp_path, *hands(3))
    with pytest.raises(InputError, match=r"holds 2 samples for 3 samples"):
        submission_files.score_submission(tmp_path / "pred.json", tmp_path, "freihand")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no evaluation_xyz\.json under"):
        submission_files.load_truth(tmp_path)
    (tmp_path / "evaluation_xyz.json").write_text(json.dumps(hands()[0].tolist()))
    with pytest.raises(InputError, match=r"cannot read .*evaluation_verts\.json"):
        submission_files.load_truth(tmp_path)
    with pytest.raises(InputError, match=r"cannot read .*none\.json"):
        submission_files.load_submission(tmp_path / "none.json")
    (tmp_path / "bad.zip").write_text("x")
    with pytest.raises(InputError, match=r"not a zip file of pred\.json"):
        submission_files.load_submission(tmp_path / "bad.zip")


def zipped(path, method=zipfile.ZIP_DEFLATED):
    joints, vertices = hands()
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("pred.json", json.dumps([joints.tolist(), vertices.tolist()]))
    return bytearray(path.read_bytes())


def flipped(data, places):
    for place in places:
        data[place] ^= 0xFF


def encrypted(data):
    for start, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(start) + at] |= 1


def unknown(data):
    for start, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(start) + at] = 97


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("harm", [lambda data: flipped(data, range(5000, 5040)), encrypted, unknown])
def test_a_zip_that_cannot_be_unpacked_is_refused(tmp_path, method, harm):
    data = zipped(tmp_path / "pred.zip", method)
    harm(data)
    (tmp_path / "pred.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"pred\.zip"):
        submission_files.load_submission(tmp_path / "pred.zip")


def test_a_zip_without_pred_json_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "pred.zip", "w") as archive:
        archive.writestr("folder/pred.json", "[]")
    with pytest.raises(InputError, match=r"expected pred.json at its root, found none"):
        submission_files.load_submission(tmp_path / "pred.zip")


def test_a_truth_of_the_other_layout_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(submission_files, "_KNOWN_SIZES", {3: "FreiHAND", 4: "HO-3D v2"})
    for count, right, wrong in ((3, "freihand", "ho3d"), (4, "ho3d", "freihand"), (5, "ho3d", None)):
        joints, vertices = hands(count)
        submission_files.write_submission(tmp_path / "pred.json", joints, vertices, right)
        write_truth(tmp_path, *(np.array(part) for part in json.loads((tmp_path / "pred.json").read_text())))
        assert submission_files.score_submission(tmp_path / "pred.json", tmp_path, right).notes == ()
        if wrong is not None:
            notes = submission_files.score_submission(tmp_path / "pred.json", tmp_path, wrong).notes
            known = {"freihand": "FreiHAND", "ho3d": "HO-3D v2"}[right]
            assert notes[0] == (
                f"the truth has {count} samples (as {known} has), and it is scored with the keys and units of "
                f"score.layout={wrong}; for {known} give score.layout={right}"
            )
