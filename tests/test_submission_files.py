"""Submission files: written and read back, scored, and refused with the position of the mistake."""

import json
import zipfile

import numpy as np
import pytest

from hojoint.errors import InputError
from hojoint.evaluation import metrics, submission_files
from hojoint.hand.model import SIMPLE_TO_MANO

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
    scores = submission_files.score_submission(tmp_path / "pred.json", tmp_path, layout)
    of_arrays = metrics.hand_scores if layout == "ho3d" else metrics.freihand_scores
    expected = of_arrays(np.round(joints, 5), np.round(vertices, 5), true_joints, true_vertices)
    assert scores == pytest.approx(expected, abs=1e-9)


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
