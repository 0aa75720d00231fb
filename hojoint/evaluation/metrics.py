"""Hand scores equal to the official scripts' to the last digit (scores.txt of HO-3D and FreiHAND; Sec. 6.2).

Errors are computed sample by sample (``hand_errors``) and summed up once (``hand_scores_of``), so that a cluster may
share the first part and the numbers stay those of one process. Surprises of the official scripts are kept: Procrustes
admits reflections; an error equal to a threshold counts for the PCK and not for the F-score. Not here: objects
(``object_metrics``), files (``submission_files``) and the rules that judge pseudo-labels (``labelling.filters``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree
from torch import Tensor

from hojoint import arrays
from hojoint.errors import InputError

# N samples, P points, V vertices.

Points = ArrayLike | Tensor
"""Numbers as a numpy array, nested lists or a tensor on any device."""
F_THRESHOLDS = {5: 0.005, 15: 0.015}  # mm of the key -> metres
PCK_THRESHOLDS = np.linspace(0.0, 0.05, 100)  # metres
_MIDDLE_MCP = {"simple": 9, "mano": 4}
_CHUNK = 256


@dataclass(frozen=True, eq=False)
class HandErrors:
    """Errors of each point of each sample, metres; those of the mesh are None if the vertex counts differ."""

    joints: np.ndarray  # (N, 21)
    joints_procrustes: np.ndarray  # (N, 21)
    joints_scale_translation: np.ndarray  # (N, 21)
    mesh: np.ndarray | None  # (N, V)
    mesh_procrustes: np.ndarray | None  # (N, V)
    f_scores: np.ndarray  # (N, 2) at 5 and 15 mm
    f_scores_procrustes: np.ndarray  # (N, 2)


def hand_scores(
    pred_joints: Points,
    pred_vertices: Points,
    true_joints: Points,
    true_vertices: Points,
    order: Literal["simple", "mano"] = "simple",
) -> dict[str, float]:
    """The 14 numbers of HO-3D's scores.txt (Sec. 6.2).

    ``xyz_*`` are of joints, ``mesh_*`` of vertices, ``f_*`` of vertices by nearest neighbours: ``*_mean3d`` is the mean
    distance in cm, ``*_auc3d`` the area under the PCK curve from 0 to 50 mm in [0, 1], ``*_5`` and ``*_15`` the
    F-scores at 5 and 15 mm in [0, 1]. Times ten, means are in mm:

    * ``xyz_mean3d`` and ``mesh_mean3d`` are MPJPE and MPVPE, root-aligned if both sides have the wrist at one point;
    * ``xyz_procrustes_al_mean3d`` is PA-MPJPE, ``mesh_al_mean3d`` PA-MPVPE; papers print ``f_al_score_*``;
    * ``xyz_scale_trans_al_mean3d`` has the wrist and the scale of the truth (wrist to middle MCP).

    Args:
        pred_joints, true_joints: (N, 21, 3) metres: wrist, thumb, index, middle, ring, pinky, each base to tip.
        pred_vertices, true_vertices: (N, V, 3) metres. If the counts V differ or are 0, mesh scores are -100 cm and -1.
            All four are in one camera frame; which one does not matter.
        order: 'mano' for joints in HO-3D's raw order. It only selects the middle MCP, which scales the
            scale-translation alignment.

    Raises:
        InputError: a shape is wrong, the numbers of samples differ or are 0, or a value is not finite.
    """
    return hand_scores_of(hand_errors(pred_joints, pred_vertices, true_joints, true_vertices, order))


def freihand_scores(
    pred_joints: Points, pred_vertices: Points, true_joints: Points, true_vertices: Points
) -> dict[str, float]:
    """The 12 numbers of FreiHAND's scores.txt (Sec. 6.2).

    Arguments, units and errors as in ``hand_scores``. Keys: ``xyz_*`` and ``xyz_al_*`` (after Procrustes) of joints,
    ``mesh_*`` and ``mesh_al_*`` of vertices, ``f_score_*`` and ``f_al_score_*``; no scale-translation alignment.
    """
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
    pred_joints: Points,
    pred_vertices: Points,
    true_joints: Points,
    true_vertices: Points,
    order: Literal["simple", "mano"] = "simple",
) -> HandErrors:
    """Errors per sample; arguments as in ``hand_scores``. Parts of the samples may be computed apart and ``merge``d."""
    if order not in _MIDDLE_MCP:
        raise InputError(f"order: expected 'simple' or 'mano'; found {order!r}")
    names = ("predicted joints", "predicted vertices", "true joints", "true vertices")
    points = (pred_joints, pred_vertices, true_joints, true_vertices)
    arrays = [numbers(name, values) for name, values in zip(names, points, strict=True)]
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
    """Share of the errors (any shape, metres) that are at most each threshold (T,); (T,)."""
    return np.searchsorted(np.sort(errors, axis=None), thresholds, side="right") / errors.size


def area_under(curve: np.ndarray, thresholds: np.ndarray = PCK_THRESHOLDS) -> float:
    """Area under a PCK curve (T,) over its thresholds; 1 for a perfect one."""
    return float(np.trapezoid(curve, thresholds) / (thresholds[-1] - thresholds[0]))


def procrustes(true: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """``pred`` (N, P, 3) moved, rotated, scaled and, if it fits better, mirrored onto ``true``: the official alignment.

    Most code of the field forbids the reflection and gets other numbers; here a mirrored prediction has no error.
    """
    rotation, scale, pred_size = _similarity(true, pred)
    return (centred(pred) / pred_size) @ rotation * scale + true.mean(1, keepdims=True)


def f_scores(true: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """F-scores (N, 2) at 5 and 15 mm of point sets (N, P, 3), (N, Q, 3) by nearest neighbours, strictly below."""
    limits = np.array(list(F_THRESHOLDS.values()))
    scores = np.zeros((len(true), len(limits)))
    if true.shape[1] == 0 or pred.shape[1] == 0:
        return scores  # no point is near another
    for row, (true_points, pred_points) in enumerate(zip(true, pred, strict=True)):
        # Beyond the largest limit the distance does not matter, and the trees need not search there.
        reach = limits[-1] * 1.001
        to_pred = cKDTree(pred_points).query(true_points, distance_upper_bound=reach)[0]
        to_true = cKDTree(true_points).query(pred_points, distance_upper_bound=reach)[0]
        precision = (to_pred[:, None] < limits).mean(0)
        recall = (to_true[:, None] < limits).mean(0)
        scores[row] = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return scores


def _similarity(true: np.ndarray, pred: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Orthogonal (N, 3, 3), applied from the right, and scale (N, 1, 1) for a centred pred of size 1; its size."""
    true, pred = centred(true), centred(pred)
    # The official guard against a prediction that is one single point, which then stays at the true centre.
    true_size = np.linalg.norm(true, axis=(1, 2), keepdims=True) + 1e-8
    pred_size = np.linalg.norm(pred, axis=(1, 2), keepdims=True) + 1e-8
    left, singular, right = np.linalg.svd((pred / pred_size).swapaxes(1, 2) @ (true / true_size))
    return left @ right, singular.sum(1)[:, None, None] * true_size, pred_size


def centred(points: np.ndarray) -> np.ndarray:
    """Points (N, P, 3) of each sample about their mean."""
    return points - points.mean(1, keepdims=True)


def _scale_translation(true: np.ndarray, pred: np.ndarray, middle: int) -> np.ndarray:
    """``pred`` with the true distance from wrist to middle MCP, at the true wrist."""
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
    same_mesh = pred_vertices.shape[1] == true_vertices.shape[1] > 0
    if same_mesh:
        aligned_vertices = procrustes(true_vertices, pred_vertices)
    elif pred_vertices.shape[1] == 0:
        aligned_vertices = pred_vertices  # joints alone
    else:
        # The official script then takes rotation and scale from the joints, about the centre of the vertices, and does
        # not divide by the size of the predicted joints.
        rotation, scale, _ = _similarity(true_joints, pred_joints)
        shift = true_joints.mean(1, keepdims=True) - pred_joints.mean(1, keepdims=True)
        aligned_vertices = centred(pred_vertices) @ rotation * scale + shift + pred_vertices.mean(1, keepdims=True)
    moved = _scale_translation(true_joints, pred_joints, middle)
    return HandErrors(
        joints=distances(true_joints, pred_joints),
        joints_procrustes=distances(true_joints, procrustes(true_joints, pred_joints)),
        joints_scale_translation=distances(true_joints, moved),
        mesh=distances(true_vertices, pred_vertices) if same_mesh else None,
        mesh_procrustes=distances(true_vertices, aligned_vertices) if same_mesh else None,
        f_scores=f_scores(true_vertices, pred_vertices),
        f_scores_procrustes=f_scores(true_vertices, aligned_vertices),
    )


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Distances (...) of points (..., 3)."""
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


def numbers(name: str, values: Any) -> np.ndarray:
    """Float64, from arrays, lists and tensors."""
    try:
        return np.asarray(arrays.without_tensors(values), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected numbers of one shape (array, nested lists or tensor): {error}") from None


def _check(
    pred_joints: np.ndarray, pred_vertices: np.ndarray, true_joints: np.ndarray, true_vertices: np.ndarray
) -> None:
    arrays = {"joints": (pred_joints, true_joints), "vertices": (pred_vertices, true_vertices)}
    for name, (pred, true) in arrays.items():
        shape = f"(N, {'21' if name == 'joints' else 'V'}, 3)"
        for side, points in (("predicted", pred), ("true", true)):
            if points.ndim != 3 or points.shape[2] != 3 or (name == "joints" and points.shape[1] != 21):
                raise InputError(f"{side} {name}: expected {shape} in metres; found {points.shape}")
        if len(pred) != len(true_joints) or len(true) != len(true_joints) or len(pred) == 0:
            raise InputError(
                f"expected as many predicted as true samples, at least one; found {len(pred)} of predicted {name}, "
                f"{len(true)} of true {name} and {len(true_joints)} of true joints"
            )
        for side, points in (("predicted", pred), ("true", true)):
            broken = ~np.isfinite(points).all((1, 2))
            if broken.any():
                raise InputError(
                    f"{side} {name}: expected finite numbers; found NaN or infinity in {broken.sum()} samples, "
                    f"first {broken.argmax()}"
                )
