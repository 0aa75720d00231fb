"""Hand scores to the official scripts' last digit (HO-3D, FreiHAND; formats of their scores.txt), and object scores.

Errors are computed sample by sample (``hand_errors``) and summed up once (``hand_scores_of``), so that a cluster may
share the first part and the numbers stay those of one process. What the official scripts do is kept where it may
surprise: Procrustes admits reflections, a threshold of the PCK counts and one of the F-score does not. Not here: files
(``submission_files``), and the rules that judge pseudo-labels (``filters``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.spatial import cKDTree
from torch import Tensor

from hojoint.datasets.ycb import ObjectModel
from hojoint.errors import InputError

# N samples, P points, J joints, V vertices.

F_THRESHOLDS = {5: 0.005, 15: 0.015}  # mm of the key -> metres
PCK_THRESHOLDS = np.linspace(0.0, 0.05, 100)  # metres
_MIDDLE_MCP = {"simple": 9, "mano": 4}
_CHUNK = 256


@dataclass(frozen=True, eq=False)
class HandErrors:
    """Errors of each point of each sample, metres; the mesh's are None where its vertex count is not the truth's."""

    joints: np.ndarray  # (N, 21)
    joints_procrustes: np.ndarray  # (N, 21)
    joints_scale_translation: np.ndarray  # (N, 21)
    mesh: np.ndarray | None  # (N, V)
    mesh_procrustes: np.ndarray | None  # (N, V)
    f_scores: np.ndarray  # (N, 2) at 5 and 15 mm
    f_scores_procrustes: np.ndarray  # (N, 2)


def hand_scores(
    pred_joints: np.ndarray,
    pred_vertices: np.ndarray,
    true_joints: np.ndarray,
    true_vertices: np.ndarray,
    order: Literal["simple", "mano"] = "simple",
) -> dict[str, float]:
    """The 14 numbers of HO-3D's scores.txt: ``*_mean3d`` in cm, ``*_auc3d`` and ``f_*`` in [0, 1].

    Joints are (N, 21, 3) and vertices (N, V, 3), both in metres and in one camera frame, whichever it is; arrays, lists
    or tensors on any device. ``order`` is the joints' order (simple: thumb, index, middle, ring, pinky; mano: HO-3D's
    raw order); it decides only which joint is the middle MCP, from which the scale of the scale-translation alignment
    is taken.
    """
    return hand_scores_of(hand_errors(pred_joints, pred_vertices, true_joints, true_vertices, order))


def freihand_scores(
    pred_joints: np.ndarray, pred_vertices: np.ndarray, true_joints: np.ndarray, true_vertices: np.ndarray
) -> dict[str, float]:
    """The 12 numbers of FreiHAND's scores.txt; units as in ``hand_scores``."""
    return freihand_scores_of(hand_errors(pred_joints, pred_vertices, true_joints, true_vertices))


def hand_scores_of(errors: HandErrors) -> dict[str, float]:
    """HO-3D's numbers from errors that are already computed."""
    return {
        **_point_scores("xyz", errors.joints),
        **_point_scores("xyz_procrustes_al", errors.joints_procrustes),
        **_point_scores("xyz_scale_trans_al", errors.joints_scale_translation),
        **_mesh_and_f_scores(errors),
    }


def freihand_scores_of(errors: HandErrors) -> dict[str, float]:
    """FreiHAND's numbers from errors that are already computed."""
    aligned = _point_scores("xyz_al", errors.joints_procrustes)
    return {**_point_scores("xyz", errors.joints), **aligned, **_mesh_and_f_scores(errors)}


def hand_errors(
    pred_joints: np.ndarray,
    pred_vertices: np.ndarray,
    true_joints: np.ndarray,
    true_vertices: np.ndarray,
    order: Literal["simple", "mano"] = "simple",
) -> HandErrors:
    """Errors per sample; see ``hand_scores``. Chunks of samples may be computed apart and ``merge``d."""
    arrays = [_numbers(a) for a in (pred_joints, pred_vertices, true_joints, true_vertices)]
    _check(*arrays)
    chunks = [[a[first : first + _CHUNK] for a in arrays] for first in range(0, len(arrays[0]), _CHUNK)]
    return merge([_chunk_errors(*chunk, middle=_MIDDLE_MCP[order]) for chunk in chunks])


def merge(parts: Sequence[HandErrors]) -> HandErrors:
    """Errors of several sets of samples as those of one."""

    def joined(name: str) -> np.ndarray | None:
        pieces = [getattr(part, name) for part in parts]
        return None if pieces[0] is None else np.concatenate(pieces)

    return HandErrors(**{name: joined(name) for name in HandErrors.__dataclass_fields__})  # type: ignore[arg-type]


def pck_curve(errors: np.ndarray, thresholds: np.ndarray = PCK_THRESHOLDS) -> np.ndarray:
    """Share of the points whose error is at most each threshold, (len(thresholds),)."""
    return np.searchsorted(np.sort(errors, axis=None), thresholds, side="right") / errors.size


def area_under(curve: np.ndarray, thresholds: np.ndarray = PCK_THRESHOLDS) -> float:
    """Area under a PCK curve, 1 for a perfect one."""
    return float(np.trapezoid(curve, thresholds) / (thresholds[-1] - thresholds[0]))


def procrustes(true: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """``pred`` (N, P, 3) moved, turned, scaled and, if it fits better, mirrored onto ``true``: the official alignment.

    Most code of the field forbids the reflection and gets other numbers: a mirrored prediction scores 0 here.
    """
    rotation, scale, pred_size = _similarity(true, pred)
    return (_centred(pred) / pred_size) @ rotation * scale + true.mean(1, keepdims=True)


def f_scores(true: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """F-scores (N, 2) at 5 and 15 mm of point sets (N, P, 3), (N, Q, 3) by nearest neighbours, strictly below."""
    limits = np.array(list(F_THRESHOLDS.values()))
    scores = np.zeros((len(true), len(limits)))
    for row, (wanted, found) in enumerate(zip(true, pred, strict=True)):
        # Beyond the largest limit the distance does not matter, and the trees need not look for it.
        reach = limits[-1] * 1.001
        to_found = cKDTree(found).query(wanted, distance_upper_bound=reach)[0]
        to_wanted = cKDTree(wanted).query(found, distance_upper_bound=reach)[0]
        precision = (to_found[:, None] < limits).mean(0)
        recall = (to_wanted[:, None] < limits).mean(0)
        scores[row] = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return scores


def _similarity(true: np.ndarray, pred: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Orthogonal (N, 3, 3), applied from the right, and scale (N, 1, 1) for a centred pred of size 1; its size."""
    true, pred = _centred(true), _centred(pred)
    # The official guard against a prediction of one single point, which then stays on the true centre.
    true_size = np.linalg.norm(true, axis=(1, 2), keepdims=True) + 1e-8
    pred_size = np.linalg.norm(pred, axis=(1, 2), keepdims=True) + 1e-8
    left, singular, right = np.linalg.svd((pred / pred_size).swapaxes(1, 2) @ (true / true_size))
    return left @ right, singular.sum(1)[:, None, None] * true_size, pred_size


def _centred(points: np.ndarray) -> np.ndarray:
    return points - points.mean(1, keepdims=True)


def _scale_translation(true: np.ndarray, pred: np.ndarray, middle: int) -> np.ndarray:
    """Pred with the truth's distance from wrist to middle MCP and with its wrist."""
    pred_length = np.linalg.norm(pred[:, middle] - pred[:, 0], axis=-1)[:, None, None]
    true_length = np.linalg.norm(true[:, middle] - true[:, 0], axis=-1)[:, None, None]
    scaled = pred / np.where(pred_length > 0, pred_length, 1.0) * true_length
    return scaled - scaled[:, :1] + true[:, :1]


def _chunk_errors(
    pred_joints: np.ndarray,
    pred_vertices: np.ndarray,
    true_joints: np.ndarray,
    true_vertices: np.ndarray,
    *,
    middle: int,
) -> HandErrors:
    same_mesh = pred_vertices.shape[1] == true_vertices.shape[1]
    if same_mesh:
        aligned_vertices = procrustes(true_vertices, pred_vertices)
    else:
        # The official script then borrows the joints' turn and scale, about the centre of the vertices, and does not
        # divide by the size of the predicted joints.
        rotation, scale, _ = _similarity(true_joints, pred_joints)
        shift = true_joints.mean(1, keepdims=True) - pred_joints.mean(1, keepdims=True)
        aligned_vertices = _centred(pred_vertices) @ rotation * scale + shift + pred_vertices.mean(1, keepdims=True)
    moved = _scale_translation(true_joints, pred_joints, middle)
    return HandErrors(
        joints=_distances(true_joints, pred_joints),
        joints_procrustes=_distances(true_joints, procrustes(true_joints, pred_joints)),
        joints_scale_translation=_distances(true_joints, moved),
        mesh=_distances(true_vertices, pred_vertices) if same_mesh else None,
        mesh_procrustes=_distances(true_vertices, aligned_vertices) if same_mesh else None,
        f_scores=f_scores(true_vertices, pred_vertices),
        f_scores_procrustes=f_scores(true_vertices, aligned_vertices),
    )


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.linalg.norm(first - second, axis=-1)


def _point_scores(prefix: str, errors: np.ndarray | None) -> dict[str, float]:
    if errors is None:  # as the official scripts print it: -1, and -1 m in cm
        return {f"{prefix}_mean3d": -100.0, f"{prefix}_auc3d": -1.0}
    return {f"{prefix}_mean3d": float(errors.mean() * 100), f"{prefix}_auc3d": area_under(pck_curve(errors))}


def _mesh_and_f_scores(errors: HandErrors) -> dict[str, float]:
    scores = {**_point_scores("mesh", errors.mesh), **_point_scores("mesh_al", errors.mesh_procrustes)}
    for column, millimetres in enumerate(F_THRESHOLDS):
        scores[f"f_score_{millimetres}"] = float(errors.f_scores[:, column].mean())
        scores[f"f_al_score_{millimetres}"] = float(errors.f_scores_procrustes[:, column].mean())
    return scores


def _numbers(points: Any) -> np.ndarray:
    """Float64, from whatever numpy takes and from tensors that a network has just made."""
    return np.asarray(points.detach().cpu().double() if isinstance(points, Tensor) else points, dtype=np.float64)


def _check(
    pred_joints: np.ndarray, pred_vertices: np.ndarray, true_joints: np.ndarray, true_vertices: np.ndarray
) -> None:
    arrays = {"joints": (pred_joints, true_joints), "vertices": (pred_vertices, true_vertices)}
    for name, (pred, true) in arrays.items():
        wanted = f"(N, {'21' if name == 'joints' else 'V'}, 3)"
        for array in (pred, true):
            if array.ndim != 3 or array.shape[2] != 3 or (name == "joints" and array.shape[1] != 21):
                raise InputError(f"{name} must be {wanted}; found {array.shape}")
        if len(pred) != len(true_joints) or len(true) != len(true_joints) or len(pred) == 0:
            raise InputError(f"{len(pred)} samples of predicted {name} for {len(true_joints)} true ones")
        for side, points in (("predicted", pred), ("true", true)):
            broken = ~np.isfinite(points).all((1, 2))
            if broken.any():
                raise InputError(
                    f"{side} {name} hold NaN or infinity in {broken.sum()} samples, first {broken.argmax()}; "
                    "all must be finite"
                )


# ------------------------------------------------------------------------------------------------------- objects


def add_errors(points: np.ndarray, pred_pose: np.ndarray, true_pose: np.ndarray) -> np.ndarray:
    """ADD (N,) in metres: mean distance of the model's points (P, 3) under two poses (N, 3, 4)."""
    return _distances(_posed(points, true_pose), _posed(points, pred_pose)).mean(-1)


def adds_errors(points: np.ndarray, pred_pose: np.ndarray, true_pose: np.ndarray) -> np.ndarray:
    """ADD-S (N,) in metres: as ADD, each true point to the nearest predicted one, for symmetric objects."""
    pairs = zip(_posed(points, true_pose), _posed(points, pred_pose), strict=True)
    return np.array([_nearest_mean(true, pred) for true, pred in pairs])


def reprojection_errors(
    points: np.ndarray, pred_pose: np.ndarray, true_pose: np.ndarray, camera: np.ndarray
) -> np.ndarray:
    """Mean distance (N,) in px of the model's points in the image; cameras (N, 3, 3) fix what a pixel is."""
    return _distances(_pixels(_posed(points, true_pose), camera), _pixels(_posed(points, pred_pose), camera)).mean(-1)


def object_scores(
    models: Mapping[str, ObjectModel],
    names: Sequence[str],
    pred_pose: np.ndarray,
    true_pose: np.ndarray,
    camera: np.ndarray,
    averaged: Sequence[str] | None = None,
) -> dict[str, dict[str, float]]:
    """Scores per object name, and their plain 'mean' over the objects in ``averaged`` (nothing: over all found).

    ``add_0.1d`` is the paper's: share of samples with ADD within a tenth of the diagonal of the model's box;
    ``*_true_diameter`` takes the true diameter, as BOP does. ``rep_5`` is in the pixels of ``camera``: the paper's are
    those of the 512 px crop, and it leaves 019_pitcher_base, unseen in training, out of the mean.
    ``add_median_mm`` of 'mean' is the median over all their samples, not a mean of medians.

    Args:
        models: by name, from ``hojoint.datasets.ycb.load_models``.
        names: (N,) the object in each sample.
        pred_pose, true_pose: (N, 3, 4) model to camera, metres; arrays, lists or tensors.
        camera: (N, 3, 3) intrinsics, px.
        averaged: names that enter the mean.

    Raises:
        InputError: an array has another shape, or an object has no model.
    """
    pred_pose, true_pose, camera = (_numbers(array) for array in (pred_pose, true_pose, camera))
    _check_objects(models, names, {"pred_pose": pred_pose, "true_pose": true_pose, "camera": camera})
    scores: dict[str, dict[str, float]] = {}
    errors = {}
    for name in sorted(set(names)):
        rows, model = np.array([n == name for n in names]), models[name]
        poses = (pred_pose[rows], true_pose[rows])
        add, adds = add_errors(model.points, *poses), adds_errors(model.points, *poses)
        scores[name] = {
            "samples": float(rows.sum()),
            "add_0.1d": float((add <= 0.1 * model.diameter_box).mean()),
            "add_0.1d_true_diameter": float((add <= 0.1 * model.diameter_true).mean()),
            "adds_0.1d_true_diameter": float((adds <= 0.1 * model.diameter_true).mean()),
            "rep_5": float((reprojection_errors(model.points, *poses, camera[rows]) <= 5).mean()),
            "add_median_mm": float(np.median(add) * 1000),
        }
        errors[name] = add
    chosen = [name for name in scores if averaged is None or name in averaged]
    if chosen:
        scores["mean"] = {key: float(np.mean([scores[name][key] for name in chosen])) for key in scores[chosen[0]]}
        scores["mean"]["samples"] = float(sum(scores[name]["samples"] for name in chosen))
        scores["mean"]["add_median_mm"] = float(np.median(np.concatenate([errors[name] for name in chosen])) * 1000)
    return scores


def _check_objects(
    models: Mapping[str, ObjectModel], names: Sequence[str], arrays: Mapping[str, np.ndarray]
) -> None:  # fmt: skip
    for name, array in arrays.items():
        expected = (len(names), 3, 3 if name == "camera" else 4)
        if array.shape != expected:
            raise InputError(f"{name} must be {expected} for {len(names)} names; found {array.shape}")
    if unknown := sorted(set(names) - models.keys()):
        raise InputError(f"no object model of {', '.join(unknown)}; the models are {', '.join(sorted(models))}")


def _posed(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    return points @ pose[..., :3].swapaxes(-1, -2) + pose[..., None, :, 3]


def _pixels(points: np.ndarray, camera: np.ndarray) -> np.ndarray:
    homogeneous = points @ camera.swapaxes(-1, -2)
    return homogeneous[..., :2] / (homogeneous[..., 2:] + 1e-5)  # the released code's guard, part of its numbers


def _nearest_mean(true: np.ndarray, pred: np.ndarray) -> float:
    return float(cKDTree(pred).query(true)[0].mean()) if np.isfinite(pred).all() else float("nan")
