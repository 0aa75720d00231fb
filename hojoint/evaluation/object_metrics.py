"""Object scores: ADD, ADD-S and REP-5 of 6-DoF poses (Sec. 6.2), object by object and their mean.

Inputs are poses and intrinsics as numbers; how the network's control points become a pose is in ``model.object_pose``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial import cKDTree

from hojoint.datasets.ycb import ObjectModel
from hojoint.errors import InputError
from hojoint.evaluation.metrics import Points, distances, numbers

# N samples, P points; 34 is a pose, 33 are intrinsics.


def add_errors(points: np.ndarray, pred_pose: np.ndarray, true_pose: np.ndarray) -> np.ndarray:
    """ADD (N,) in metres: mean distance of the model's points (P, 3) m under two poses (N, 3, 4)."""
    return distances(_posed(points, true_pose), _posed(points, pred_pose)).mean(-1)


def adds_errors(points: np.ndarray, pred_pose: np.ndarray, true_pose: np.ndarray) -> np.ndarray:
    """ADD-S (N,) in metres: as ADD, from each true point to the nearest predicted one; for symmetric objects."""
    pairs = zip(_posed(points, true_pose), _posed(points, pred_pose), strict=True)
    return np.array([_nearest_mean(true, pred) for true, pred in pairs])


def reprojection_errors(
    points: np.ndarray, pred_pose: np.ndarray, true_pose: np.ndarray, camera: np.ndarray
) -> np.ndarray:
    """Mean distance (N,) in px of the projected points (P, 3) m; ``camera`` (N, 3, 3) intrinsics define the pixel."""
    return distances(_pixels(_posed(points, true_pose), camera), _pixels(_posed(points, pred_pose), camera)).mean(-1)


def pose_errors(points: np.ndarray, pred_pose: np.ndarray, true_pose: np.ndarray) -> dict[str, np.ndarray]:
    """Where poses (N, 3, 4) are wrong, each (N,): ``depth`` and ``lateral`` in metres, ``rotation`` in degrees.

    Depth is the error of the middle of the model's points (P, 3) m along the ray to its true place, above zero where
    the prediction is too far; lateral is the rest of that error. Of a symmetric object the rotation says little.
    """
    middle = points.mean(0, keepdims=True)
    true_N3 = _posed(middle, true_pose)[:, 0]
    error_N3 = _posed(middle, pred_pose)[:, 0] - true_N3
    ray_N3 = true_N3 / np.linalg.norm(true_N3, axis=1, keepdims=True)
    depth = (error_N3 * ray_N3).sum(1)
    turn = pred_pose[..., :3] @ true_pose[..., :3].swapaxes(-1, -2)
    cosine = (np.trace(turn, axis1=1, axis2=2) - 1) / 2
    return {
        "depth": depth,
        "lateral": np.linalg.norm(error_N3 - depth[:, None] * ray_N3, axis=1),
        "rotation": np.degrees(np.arccos(cosine.clip(-1, 1))),
    }


def object_scores(
    models: Mapping[str, ObjectModel],
    names: Sequence[str],
    pred_pose: Points,
    true_pose: Points,
    camera: Points,
    averaged: Sequence[str] | None = None,
) -> dict[str, dict[str, float | None]]:
    """Scores per object name, and their plain 'mean' over the objects in ``averaged`` (Sec. 6.2).

    ``add_0.1d`` is the paper's: share of samples with ADD within a tenth of the diagonal of the model's box;
    ``*_true_diameter`` takes the true diameter, as BOP does. ``rep_5`` is the share within 5 px of ``camera``: the
    paper's pixels are those of the 512 px crop, and it leaves 019_pitcher_base, unseen in training, out of the mean.
    ``depth_median_mm``, ``lateral_median_mm`` and ``rotation_median_deg`` say where poses are wrong (``pose_errors``),
    ``depth_bias_mm`` is the median of depth errors with their sign. A median of 'mean' is over all samples, no mean of
    medians. A pose that is not finite counts as wrong: in ``add_median_mm`` its error is infinite. The other medians
    are of the solved poses, None without any.

    Args:
        models: objects by name, metres (``datasets.ycb.load_models``, or ``object_model`` of points (P, 3)).
        names: N, the object of each sample.
        pred_pose, true_pose: (N, 3, 4) model to camera, metres. A predicted pose may be NaN: it is not solved.
        camera: (N, 3, 3) intrinsics, px.
        averaged: objects of the mean, those of them that are in ``names``; None means all in ``names``.

    Raises:
        InputError: a shape is wrong, a name is not in ``models``, ``averaged`` is no list, or a true pose or camera is
            not finite.
    """
    if unknown := sorted(set(names) - set(models)):
        raise InputError(f"names: expected objects among {', '.join(sorted(models))}; found {', '.join(unknown)}")
    if averaged is not None:
        _check_averaged(averaged, models)
    pred_N34 = _matrices("pred_pose", pred_pose, (len(names), 3, 4), finite=False)
    true_N34 = _matrices("true_pose", true_pose, (len(names), 3, 4))
    camera_N33 = _matrices("camera", camera, (len(names), 3, 3))
    shares: dict[str, dict[str, float]] = {}
    errors: dict[str, dict[str, np.ndarray]] = {}
    for name in sorted(set(names)):
        rows = np.array([n == name for n in names])
        shares[name], errors[name] = _one_object(models[name], pred_N34[rows], true_N34[rows], camera_N33[rows])
    chosen = [name for name in shares if averaged is None or name in averaged]
    if chosen:
        mean = {key: float(np.mean([shares[name][key] for name in chosen])) for key in shares[chosen[0]]}
        shares["mean"] = mean | {"samples": float(sum(shares[name]["samples"] for name in chosen))}
        errors["mean"] = {key: np.concatenate([errors[name][key] for name in chosen]) for key in errors[chosen[0]]}
    return {name: {**of_name, **_medians(errors[name])} for name, of_name in shares.items()}


def _check_averaged(averaged: Sequence[str], models: Mapping[str, ObjectModel]) -> None:
    """InputError for a name that is misspelt, which would leave its object out of the mean without a word."""
    known = f"averaged: expected a list of objects among {', '.join(sorted(models))}"
    if isinstance(averaged, str):
        raise InputError(f"{known}; found the text {averaged!r}: write [{averaged!r}]")
    if unknown := [str(name) for name in averaged if name not in models]:
        raise InputError(f"{known}; found {', '.join(sorted(unknown))}")


def _one_object(
    model: ObjectModel, pred_pose: np.ndarray, true_pose: np.ndarray, camera: np.ndarray
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """The shares of one object's samples, and the errors (N,) of which medians are taken."""
    poses = (pred_pose, true_pose)
    add, adds = add_errors(model.points, *poses), adds_errors(model.points, *poses)
    shares = {
        "samples": float(len(add)),
        "add_0.1d": float((add <= 0.1 * model.diameter_box).mean()),
        "add_0.1d_true_diameter": float((add <= 0.1 * model.diameter_true).mean()),
        "adds_0.1d_true_diameter": float((adds <= 0.1 * model.diameter_true).mean()),
        "rep_5": float((reprojection_errors(model.points, *poses, camera) <= 5).mean()),
    }
    return shares, {"add": add, **pose_errors(model.points, *poses)}


def _medians(errors: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """Medians of errors (N,) in metres and degrees, all NaN where a pose is not solved."""
    solved = np.isfinite(errors["add"])

    def of_solved(values: np.ndarray, scale: float = 1000) -> float | None:
        return float(np.median(values[solved]) * scale) if solved.any() else None

    return {
        "add_median_mm": float(np.median(np.where(solved, errors["add"], np.inf)) * 1000),
        "depth_median_mm": of_solved(np.abs(errors["depth"])),
        "depth_bias_mm": of_solved(errors["depth"]),
        "lateral_median_mm": of_solved(errors["lateral"]),
        "rotation_median_deg": of_solved(errors["rotation"], 1),
    }


def _matrices(name: str, values: Points, shape: tuple[int, int, int], *, finite: bool = True) -> np.ndarray:
    array = numbers(name, values)
    if array.shape != shape:
        raise InputError(f"{name}: expected {shape}, one per name; found {array.shape}")
    broken = ~np.isfinite(array).all((1, 2))
    if finite and broken.any():
        raise InputError(f"{name}: expected finite numbers; found NaN or infinity, first in sample {broken.argmax()}")
    return array


def _posed(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    return points @ pose[..., :3].swapaxes(-1, -2) + pose[..., None, :, 3]


def _pixels(points: np.ndarray, camera: np.ndarray) -> np.ndarray:
    homogeneous = points @ camera.swapaxes(-1, -2)
    return homogeneous[..., :2] / (homogeneous[..., 2:] + 1e-5)  # the released code's guard, part of its numbers


def _nearest_mean(true: np.ndarray, pred: np.ndarray) -> float:
    return float(cKDTree(pred).query(true)[0].mean()) if np.isfinite(pred).all() else float("nan")
