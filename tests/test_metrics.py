"""Scores against a second implementation, loops from the published description, and against counts by hand."""

import itertools

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from hojoint.datasets.ycb import object_model
from hojoint.errors import InputError
from hojoint.evaluation import metrics, object_metrics
from hojoint.hand.model import SIMPLE_TO_MANO


def hands(count=7, vertices=60, noise=0.006, seed=0):
    """Predicted joints and vertices, then true ones: similar hands, moved, turned and scaled a little."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 0.04, (count, 21 + vertices, 3)) + rng.normal(0, 0.3, (count, 1, 3))
    turns = Rotation.from_rotvec(rng.normal(0, 0.2, (count, 3))).as_matrix()
    centre = true.mean(1, keepdims=True)
    pred = (true - centre) @ turns * rng.uniform(0.9, 1.1, (count, 1, 1)) + centre + rng.normal(0, 0.01, (count, 1, 3))
    pred = pred + rng.normal(0, noise, pred.shape)
    return pred[:, :21], pred[:, 21:], true[:, :21], true[:, 21:]


# ------------------------------------------------------------------------------------- the second implementation


def align(true, pred, *, borrowed=None):
    """Procrustes of one sample; ``borrowed`` joints lend their transform to vertices."""
    a, b = (true, pred) if borrowed is None else borrowed
    size_a, size_b = np.linalg.norm(a - a.mean(0)) + 1e-8, np.linalg.norm(b - b.mean(0)) + 1e-8
    rotation, scale = orthogonal_procrustes((a - a.mean(0)) / size_a, (b - b.mean(0)) / size_b)
    if borrowed is None:
        return ((b - b.mean(0)) / size_b) @ rotation.T * scale * size_a + a.mean(0)
    return (pred - pred.mean(0)) @ rotation.T * scale * size_a + (a.mean(0) - b.mean(0)) + pred.mean(0)


def f_score(true, pred, limit):
    distances = cdist(true, pred)
    precision, recall = (distances.min(1) < limit).mean(), (distances.min(0) < limit).mean()
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def points_report(true, pred):
    """Mean in cm and AUC, joint by joint, threshold by threshold."""
    errors = np.sqrt(((true - pred) ** 2).sum(-1))
    thresholds = np.linspace(0, 0.05, 100)
    areas = []
    for joint in range(errors.shape[1]):
        curve = [np.mean(errors[:, joint] <= t) for t in thresholds]
        area = sum((low + high) / 2 * (thresholds[1] - thresholds[0]) for low, high in itertools.pairwise(curve))
        areas.append(area / 0.05)
    return np.mean([errors[:, joint].mean() for joint in range(errors.shape[1])]) * 100, np.mean(areas)


def reference_scores(pred_joints, pred_vertices, true_joints, true_vertices, middle=9):
    scores, count = {}, len(pred_joints)
    same = pred_vertices.shape == true_vertices.shape
    moved = np.empty_like(pred_joints)
    for i in range(count):
        length = np.linalg.norm(pred_joints[i, middle] - pred_joints[i, 0])
        scaled = pred_joints[i] / (length if length > 0 else 1)
        scaled = scaled * np.linalg.norm(true_joints[i, middle] - true_joints[i, 0])
        moved[i] = scaled - scaled[0] + true_joints[i, 0]
    aligned = np.stack([align(true_joints[i], pred_joints[i]) for i in range(count)])
    for name, points in (("xyz", pred_joints), ("xyz_procrustes_al", aligned), ("xyz_scale_trans_al", moved)):
        scores[f"{name}_mean3d"], scores[f"{name}_auc3d"] = points_report(true_joints, points)
    aligned_vertices = np.stack(
        [
            align(true_vertices[i], pred_vertices[i], borrowed=None if same else (true_joints[i], pred_joints[i]))
            for i in range(count)
        ]
    )
    for name, points in (("mesh", pred_vertices), ("mesh_al", aligned_vertices)):
        scores[f"{name}_mean3d"], scores[f"{name}_auc3d"] = (
            points_report(true_vertices, points) if same else (-100.0, -1.0)
        )
    for name, points in (("f_score", pred_vertices), ("f_al_score", aligned_vertices)):
        for key, limit in ((5, 0.005), (15, 0.015)):
            scores[f"{name}_{key}"] = np.mean([f_score(true_vertices[i], points[i], limit) for i in range(count)])
    return scores


KEYS = [
    "xyz_mean3d", "xyz_auc3d", "xyz_procrustes_al_mean3d", "xyz_procrustes_al_auc3d", "xyz_scale_trans_al_mean3d",
    "xyz_scale_trans_al_auc3d", "mesh_mean3d", "mesh_auc3d", "mesh_al_mean3d", "mesh_al_auc3d", "f_score_5",
    "f_al_score_5", "f_score_15", "f_al_score_15",
]  # fmt: skip


@pytest.mark.parametrize(("vertices", "noise"), [(60, 0.0005), (60, 0.006), (60, 0.03), (778, 0.006)])
def test_all_fourteen_scores_match_the_second_implementation(noise, vertices):
    sample = hands(vertices=vertices, noise=noise, seed=1)
    scores, expected = metrics.hand_scores(*sample), reference_scores(*sample)
    assert list(scores) == KEYS
    assert {k: round(v, 6) for k, v in scores.items()} == {k: round(float(expected[k]), 6) for k in KEYS}


def test_the_raw_order_takes_joint_four_for_the_middle_finger():
    pred_joints, pred_vertices, true_joints, true_vertices = hands(seed=2)
    raw = metrics.hand_scores(
        pred_joints[:, SIMPLE_TO_MANO], pred_vertices, true_joints[:, SIMPLE_TO_MANO], true_vertices, order="mano"
    )
    simple = metrics.hand_scores(pred_joints, pred_vertices, true_joints, true_vertices)
    assert raw == pytest.approx(simple, abs=1e-9)
    wrong = metrics.hand_scores(pred_joints, pred_vertices, true_joints, true_vertices, order="mano")
    assert abs(wrong["xyz_scale_trans_al_mean3d"] - simple["xyz_scale_trans_al_mean3d"]) > 1e-3


def test_with_other_vertices_the_joints_align_the_mesh():
    pred_joints, pred_vertices, true_joints, true_vertices = hands(noise=0.001, seed=3)
    sample = (pred_joints, pred_vertices[:, :50], true_joints, true_vertices)
    scores, expected = metrics.hand_scores(*sample), reference_scores(*sample)
    assert scores == pytest.approx({k: float(expected[k]) for k in KEYS}, abs=1e-9)
    assert (scores["mesh_mean3d"], scores["mesh_al_auc3d"]) == (-100.0, -1.0)


def test_freihand_scores_are_ho3ds_under_freihands_keys():
    sample = hands(seed=4)
    freihand, official = metrics.freihand_scores(*sample), metrics.hand_scores(*sample)
    renamed = {k.replace("procrustes_", ""): v for k, v in official.items() if "scale_trans" not in k}
    assert freihand == renamed
    assert len(freihand) == 12


def test_a_mirrored_prediction_has_no_aligned_error():
    _, _, joints, vertices = hands(seed=5)
    mirror = np.array([-1.0, 1, 1])
    scores = metrics.hand_scores(joints * mirror, vertices * mirror, joints, vertices)
    assert scores["xyz_procrustes_al_mean3d"] == pytest.approx(0, abs=1e-5)  # the guard of 1e-8 against sizes of zero
    assert scores["f_al_score_5"] == 1.0
    assert scores["xyz_mean3d"] > 1


def test_any_similarity_leaves_the_aligned_scores_alone():
    pred_joints, pred_vertices, true_joints, true_vertices = hands(seed=6)
    turn = Rotation.from_rotvec([0.3, 2.0, -1.0]).as_matrix()
    moved = [points @ turn.T * 3 + [1.0, -2.0, 0.5] for points in (pred_joints, pred_vertices)]
    before = metrics.hand_scores(pred_joints, pred_vertices, true_joints, true_vertices)
    after = metrics.hand_scores(*moved, true_joints, true_vertices)
    for key in ("xyz_procrustes_al_mean3d", "mesh_al_mean3d", "f_al_score_5", "mesh_al_auc3d"):
        assert after[key] == pytest.approx(before[key], abs=1e-6)


def test_a_zero_prediction_collapses_to_the_true_centre():
    _, _, joints, vertices = hands(seed=7)
    scores = metrics.hand_scores(joints * 0, vertices * 0, joints, vertices)
    spread = np.linalg.norm(joints - joints.mean(1, keepdims=True), axis=-1).mean() * 100
    assert scores["xyz_procrustes_al_mean3d"] == pytest.approx(spread)
    assert scores == pytest.approx(reference_scores(joints * 0, vertices * 0, joints, vertices), abs=1e-9)
    assert scores["xyz_scale_trans_al_mean3d"] == pytest.approx(
        np.linalg.norm(joints - joints[:, :1], axis=-1).mean() * 100
    )


def test_a_threshold_counts_in_the_curve_and_not_in_the_f_score():
    step = metrics.PCK_THRESHOLDS[10]
    assert metrics.pck_curve(np.array([[0.0, step, 1.0, 1.0]]))[[0, 9, 10]].tolist() == [0.25, 0.25, 0.5]
    true, pred = np.array([[[0.0, 0, 0], [1, 0, 0]]]), np.array([[[0.005, 0, 0], [1, 0, 0]]])
    np.testing.assert_array_equal(metrics.f_scores(true, pred), [[0.5, 1.0]])


def test_the_area_is_one_for_no_error_and_half_for_even_errors():
    assert metrics.area_under(metrics.pck_curve(np.zeros((3, 21)))) == pytest.approx(1)
    assert metrics.area_under(metrics.pck_curve(np.linspace(0, 0.05, 100_001))) == pytest.approx(0.5, abs=1e-4)
    assert metrics.area_under(metrics.pck_curve(np.full(5, 0.06))) == 0


def test_chunks_and_shares_of_the_work_give_the_numbers_of_one(monkeypatch):
    sample = hands(count=11, seed=8)
    scores = metrics.hand_scores(*sample)
    monkeypatch.setattr(metrics, "_CHUNK", 4)
    assert metrics.hand_scores(*sample) == scores
    parts = [metrics.hand_errors(*(a[rows] for a in sample)) for rows in (slice(0, 3), slice(3, 11))]
    assert metrics.hand_scores_of(metrics.merge(parts)) == scores


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda j, v, tj, tv: (j[:, :20], v, tj, tv),
            r"predicted joints: expected \(N, 21, 3\) in metres; found \(7, 20, 3\)",
        ),
        (
            lambda j, v, tj, tv: (j, v[:5], tj, tv),
            "found 5 of predicted vertices, 7 of true vertices and 7 of true joints",
        ),
        (lambda j, v, tj, tv: (j[:0], v[:0], tj[:0], tv[:0]), "at least one; found 0 of predicted joints"),
        (
            lambda j, v, tj, tv: (np.where(np.arange(7)[:, None, None] > 4, np.nan, j), v, tj, tv),
            "predicted joints: .* in 2 samples, first 5",
        ),
        (
            lambda j, v, tj, tv: (j, v, tj, np.where(np.arange(7)[:, None, None] == 3, np.inf, tv)),
            "true vertices: expected finite numbers; found NaN or infinity in 1 samples, first 3",
        ),
        (lambda j, v, tj, tv: ([[[0.0, 1.0], [2.0]]], v, tj, tv), "predicted joints: expected numbers of one shape"),
        (lambda j, v, tj, tv: (j, v, tj, tv, "smpl"), "order: expected 'simple' or 'mano'; found 'smpl'"),
        (lambda j, v, tj, tv: (j, v, np.full_like(tj, np.nan), tv), "true joints: .* in 7 samples"),
    ],
)
def test_what_cannot_be_scored_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        metrics.hand_scores(*change(*hands()))


def test_tensors_and_lists_score_as_arrays_do():
    sample = hands()
    tensors = [torch.tensor(array, requires_grad=True) for array in sample]
    lists = [array.tolist() for array in sample]
    for score in (metrics.hand_scores, metrics.freihand_scores):
        assert score(*tensors) == score(*lists) == score(*sample)
        assert score(*([*points] for points in tensors)) == score(*sample)  # a list of tensors, one per sample


# ------------------------------------------------------------------------------------------------------- objects


def cube(half=0.1):
    grid = np.array([[x, y, z] for x in (-1.0, 1) for y in (-1.0, 1) for z in (-1.0, 1)]) * half
    return object_model(grid)


def pose(rotvec=(0, 0, 0), shift=(0, 0, 1)):
    return np.concatenate((Rotation.from_rotvec(rotvec).as_matrix(), np.array(shift, dtype=float)[:, None]), axis=1)


CAMERA = np.array([[500.0, 0, 256], [0, 500, 256], [0, 0, 1]])


def test_a_shifted_object_has_the_shift_for_add():
    model = cube()
    pred, true = pose(shift=(0.03, 0, 1))[None], pose()[None]
    np.testing.assert_allclose(object_metrics.add_errors(model.points, pred, true), [0.03])
    np.testing.assert_allclose(object_metrics.adds_errors(model.points, pred, true), [0.03])
    expected = np.mean([500 * 0.03 / (1 + z + 1e-5) for z in model.points[:, 2]])
    np.testing.assert_allclose(object_metrics.reprojection_errors(model.points, pred, true, CAMERA[None]), [expected])


def test_a_cube_turned_by_a_quarter_is_right_for_add_s_alone():
    model = cube()
    pred, true = pose((0, 0, np.pi / 2))[None], pose()[None]
    np.testing.assert_allclose(object_metrics.add_errors(model.points, pred, true), [0.2])
    np.testing.assert_allclose(object_metrics.adds_errors(model.points, pred, true), [0], atol=1e-12)


def test_object_scores_count_per_object_and_average_over_objects():
    models = {"cube": cube(), "small": cube(0.05), "unseen": cube()}
    assert models["cube"].diameter_box == pytest.approx(0.2 * np.sqrt(3))
    names = ["cube", "cube", "small", "small", "unseen"]
    shifts = [0.03, 0.04, 0.01, 0.03, 0.5]  # limits: 0.0346 for the cube, 0.0173 for the small one
    pred, true = np.stack([pose(shift=(s, 0, 1)) for s in shifts]), np.stack([pose()] * 5)
    cameras = np.stack([CAMERA] * 5)
    scores = object_metrics.object_scores(models, names, pred, true, cameras, averaged=("cube", "small"))
    assert [scores[n]["add_0.1d"] for n in ("cube", "small", "unseen", "mean")] == [0.5, 0.5, 0, 0.5]
    assert scores["small"]["rep_5"] == 0.0  # 0.01 m at 1 m is 5.01 px: the near face counts for more
    assert scores["mean"]["samples"] == 4
    assert [scores[n]["add_median_mm"] for n in ("cube", "small")] == pytest.approx([35, 20])
    assert scores["mean"]["add_median_mm"] == pytest.approx(30)  # of 10, 30, 30 and 40; the unseen one is left out
    assert object_metrics.object_scores(models, names, pred, true, cameras)["mean"]["add_0.1d"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("averaged", "message"),
    [
        (["cube", "smal"], "averaged: expected a list of objects among cube, small; found smal"),
        (["smal"], "found smal"),
        ("cube", r"found the text 'cube': write \['cube'\]"),
    ],
)
def test_a_misspelt_object_of_the_mean_is_refused(averaged, message):
    models = {"cube": cube(), "small": cube(0.05)}
    poses = np.stack([pose()] * 2), np.stack([pose()] * 2), np.stack([CAMERA] * 2)
    with pytest.raises(InputError, match=message):
        object_metrics.object_scores(models, ["cube", "small"], *poses, averaged=averaged)
    scores = object_metrics.object_scores(models, ["cube", "cube"], *poses, averaged=["cube", "small"])
    assert scores["mean"]["samples"] == 2  # the other one has no sample


def test_an_error_is_told_by_depth_side_and_turn():
    """An object on a slanted ray, moved along it, moved across it, and turned about its own middle."""
    model = cube()
    there = np.array([0.3, 0.0, 0.4])  # half a metre away
    along, across = there / 0.5, np.array([0.8, 0, -0.6])
    true = np.stack([pose(shift=there)] * 3)
    pred = np.stack(
        [
            pose(shift=there + 0.05 * along),
            pose(shift=there - 0.02 * along + 0.01 * across),
            pose((0, np.pi / 6, 0), there),
        ]
    )
    found = object_metrics.pose_errors(model.points, pred, true)
    np.testing.assert_allclose(found["depth"], [0.05, -0.02, 0], atol=1e-12)
    np.testing.assert_allclose(found["lateral"], [0, 0.01, 0], atol=1e-12)
    np.testing.assert_allclose(found["rotation"], [0, 0, 30], atol=1e-5)
    scores = object_metrics.object_scores({"cube": model}, ["cube"] * 3, pred, true, np.stack([CAMERA] * 3))
    assert scores["mean"]["depth_median_mm"] == pytest.approx(20)
    assert scores["mean"]["depth_bias_mm"] == pytest.approx(0, abs=1e-9)


def test_the_true_diameter_is_the_stricter_limit():
    # A ball: its box's diagonal is sqrt(3) times its diameter.
    ball = object_model(np.random.default_rng(0).normal(size=(500, 3)))
    points = ball.points / np.linalg.norm(ball.points, axis=1, keepdims=True) * 0.1
    ball = object_model(points)
    assert ball.diameter_box == pytest.approx(0.2 * np.sqrt(3), rel=0.01)
    assert ball.diameter_true == pytest.approx(0.2, rel=0.01)
    pred, true = pose(shift=(0.03, 0, 1))[None], pose()[None]
    scores = object_metrics.object_scores({"ball": ball}, ["ball"], pred, true, CAMERA[None])["ball"]
    assert (scores["add_0.1d"], scores["add_0.1d_true_diameter"]) == (1.0, 0.0)


def test_an_unsolved_pose_of_nan_counts_as_wrong():
    model = cube()
    pred = np.full((1, 3, 4), np.nan)
    scores = object_metrics.object_scores({"cube": model}, ["cube"], pred, pose()[None], CAMERA[None])
    assert (scores["cube"]["add_0.1d"], scores["cube"]["adds_0.1d_true_diameter"], scores["cube"]["rep_5"]) == (0, 0, 0)


def test_medians_are_told_of_the_solved_poses():
    """Three of four cubes are solved, and the small one is not."""
    models, names = {"cube": cube(), "small": cube(0.05)}, ["cube"] * 4 + ["small"]
    pred = np.stack([pose(shift=(0, 0, 1 + far)) for far in (0.01, -0.02, 0.03, 0, 0)])
    pred[3:] = np.nan
    scores = object_metrics.object_scores(models, names, pred, np.stack([pose()] * 5), np.stack([CAMERA] * 5))
    assert scores["cube"]["add_median_mm"] == pytest.approx(25)  # of 10, 20, 30 and infinity
    assert scores["mean"]["add_median_mm"] == pytest.approx(30)
    assert scores["small"]["add_median_mm"] == np.inf
    for name in ("cube", "mean"):
        told = [scores[name][key] for key in ("depth_median_mm", "depth_bias_mm", "lateral_median_mm")]
        assert told == pytest.approx([20, 10, 0], abs=1e-9)
        assert scores[name]["rotation_median_deg"] == pytest.approx(0, abs=1e-5)
    assert scores["small"]["depth_median_mm"] is scores["small"]["rotation_median_deg"] is None
    assert scores["mean"]["samples"] == 5


def test_object_scores_take_tensors_and_lists():
    pred, true = pose(shift=(0.03, 0, 1))[None], pose()[None]
    scores = object_metrics.object_scores({"cube": cube()}, ["cube"], pred, true, CAMERA[None])
    tensors = [torch.tensor(array, requires_grad=True) for array in (pred, true, CAMERA[None])]
    assert object_metrics.object_scores({"cube": cube()}, ["cube"], *tensors) == scores
    lists = [array.tolist() for array in (pred, true, CAMERA[None])]
    assert object_metrics.object_scores({"cube": cube()}, ["cube"], *lists) == scores


@pytest.mark.parametrize(
    ("names", "pred", "true", "camera", "message"),
    [
        (["ball"], pose()[None], pose()[None], CAMERA[None], "names: expected objects among cube; found ball"),
        (["cube"], np.eye(4)[None], pose()[None], CAMERA[None], r"pred_pose: expected \(1, 3, 4\).*found \(1, 4, 4\)"),
        (["cube"] * 2, pose()[None], pose()[None], CAMERA[None], r"pred_pose: expected \(2, 3, 4\), one per name"),
        (["cube"], pose()[None], pose()[None], CAMERA, r"camera: expected \(1, 3, 3\).*found \(3, 3\)"),
        (["cube"], pose()[None], pose()[None] * np.nan, CAMERA[None], "true_pose: expected finite numbers"),
    ],
)
def test_object_scores_name_the_argument_that_is_wrong(names, pred, true, camera, message):
    with pytest.raises(InputError, match=message):
        object_metrics.object_scores({"cube": cube()}, names, pred, true, camera)


def test_no_vertices_are_no_mesh_and_no_warning():
    rng = np.random.default_rng(0)
    pred, true, none = *rng.normal(0, 0.05, (2, 4, 21, 3)), np.zeros((4, 0, 3))
    mesh = rng.normal(0, 0.05, (4, 778, 3))
    expected = metrics.hand_scores(pred, mesh, true, mesh)
    for true_vertices in (none, mesh):
        scores = metrics.hand_scores(pred, none, true, true_vertices)
        assert {key: scores[key] for key in scores if key[0] == "x"} == {
            k: expected[k] for k in expected if k[0] == "x"
        }
        assert [scores[key] for key in ("mesh_mean3d", "mesh_al_auc3d", "f_score_5", "f_al_score_15")] == [
            -100,
            -1,
            0,
            0,
        ]
