"""A network measured on a data set: predictions in, the paper's numbers out (Sec. 6.2, Tables 1-5).

As in the released code, a hand is predicted relative to its wrist and moved to the true wrist, and the object's box
comes from the annotation (reading A9). FreiHAND defines its key points by the joint regressor on posed vertices.
Formulas are in ``metrics``, the network's part in ``training.prediction``, pictures in ``examples``;
``cluster.scoring`` spreads the work over a cluster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch

from hojoint import crops
from hojoint.config import Config
from hojoint.datasets import freihand
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.datasets.ycb import ObjectModel
from hojoint.evaluation import metrics, object_metrics
from hojoint.evaluation.metrics import HandErrors
from hojoint.hand.chosen import hand_model
from hojoint.hand.layer import ManoLayer
from hojoint.training.prediction import Predictions

Domain = Literal["ho3d", "freihand"]
UNSEEN = ("019_pitcher_base",)
"""Objects left out of the mean, as in the paper: HO-3D's training set does not show them."""
REFINED = ("add_0.1d", "add_median_mm")
"""Scores that are also computed for the refined object pose, as ``<key>_refined``."""


def domains_of(config: Config) -> list[Domain]:
    """The data sets that the settings name, except a FreiHAND without its evaluation set (``freihand.advice``)."""
    folders = config.data.freihand
    measurable = freihand.evaluation_root(folders) is not None and freihand.advice(folders) is None
    named: dict[Domain, bool] = {"ho3d": config.data.ho3d.root is not None, "freihand": measurable}
    return [domain for domain, is_named in named.items() if is_named]


def open_domain(domain: Domain, config: Config) -> HO3D | FreiHAND:
    """The evaluation split of a data set."""
    region_px = crops.region_side(config.model.input_px)
    if domain == "ho3d":
        return HO3D(config.data.ho3d, "evaluation", config.crop, region_px)
    mean = hand_model(config.mano).hands_mean
    return FreiHAND(config.data.freihand, "evaluation", config.crop, region_px, mean)


def placed(predictions: Predictions, roots: np.ndarray, domain: Domain, config: Config) -> Predictions:
    """The predictions moved to the true wrists, with the key points that the data set defines.

    Args:
        roots: (N, 3) true wrists in the camera frame, metres.
    """
    joints, vertices = predictions.joints.astype(np.float64), predictions.vertices.astype(np.float64)
    if domain == "freihand":
        layer = ManoLayer(hand_model(config.mano), fingertips="freihand").double()
        joints = layer.regressed_joints(torch.from_numpy(vertices)).numpy()
    shift = roots[:, None] - joints[:, :1]
    return replace(predictions, joints=joints + shift, vertices=vertices + shift)


def scores(
    predictions: Predictions, errors: HandErrors, models: Mapping[str, ObjectModel] | None, domain: Domain
) -> dict[str, Any]:
    """All numbers of one data set, for JSON: the table's, the official ones, the PCK curves, and object by object.

    In 'hand': ``joints_wrist_mm`` is MPJPE (root-aligned), ``joints_mm`` PA-MPJPE, ``mesh_mm`` PA-MPVPE, ``f5`` and
    ``f15`` the F-scores after Procrustes alignment. F-scores, AUC and shares are in [0, 1].
    """
    official = metrics.hand_scores_of(errors) if domain == "ho3d" else metrics.freihand_scores_of(errors)
    aligned = "xyz_procrustes_al" if domain == "ho3d" else "xyz_al"
    pixels = predictions.joints_error_px[np.isfinite(predictions.joints_error_px)]
    mesh = errors.mesh_procrustes
    return {
        "images": len(predictions.names),
        "hand": {
            "joints_wrist_mm": 10 * official["xyz_mean3d"],  # ``placed`` put the wrist on the true one
            "joints_mm": 10 * official[f"{aligned}_mean3d"],  # scores.txt is in cm
            "mesh_mm": 10 * official["mesh_al_mean3d"],
            "joints_auc": official[f"{aligned}_auc3d"],
            "mesh_auc": official["mesh_al_auc3d"],
            "f5": official["f_al_score_5"],
            "f15": official["f_al_score_15"],
            "joints_px": float(pixels.mean()) if len(pixels) else None,
        },
        "object": _object_scores(predictions, models),
        "official": official,
        "pck": {
            "thresholds_mm": (1000 * metrics.PCK_THRESHOLDS).round(4).tolist(),
            "share": metrics.pck_curve(errors.joints_procrustes).round(5).tolist(),
            "mesh_share": None if mesh is None else metrics.pck_curve(mesh).round(5).tolist(),
        },
    }


def _object_scores(predictions: Predictions, models: Mapping[str, ObjectModel] | None) -> dict[str, Any] | None:
    rows = np.array([bool(name) for name in predictions.object_names], dtype=bool)
    if models is None or not rows.any():
        return None
    names = [name for name in predictions.object_names if name]
    trained = [name for name in set(names) if name not in UNSEEN] or None
    truth = predictions.true_object_pose[rows].astype(np.float64), predictions.camera[rows].astype(np.float64)
    solved, refined = predictions.object_solved[rows], predictions.object_pose_refined[rows]

    def scores_of(pose: np.ndarray) -> dict[str, dict[str, float | None]]:
        known = np.where(solved[:, None, None], pose, np.nan)  # an unsolved pose is a placeholder, and no guess
        return object_metrics.object_scores(models, names, known, *truth, averaged=trained)

    by_object = scores_of(predictions.object_pose[rows])
    if np.isfinite(refined).any() and np.isfinite(refined[solved]).all():
        after = scores_of(refined)
        for name, values in by_object.items():
            values |= {f"{key}_refined": after[name][key] for key in REFINED}
    by_object = {name: {key: _for_json(value) for key, value in values.items()} for name, values in by_object.items()}
    mean = by_object.pop("mean")
    return {**mean, "solved": float(solved.mean()), "by_object": by_object}


def _for_json(value: float | None) -> float | None:
    """None for the infinite median of poses of which most are not solved: JSON has no infinity."""
    return value if value is not None and math.isfinite(value) else None
