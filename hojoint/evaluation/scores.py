"""A network measured on a data set: predictions in, the paper's numbers and some examples out (Sec. 6.2, Tables 1-5).

As in the released code, a hand is predicted relative to its wrist and put at the true wrist, and the object's box is an
oracle's (reading A9). FreiHAND's key points are those of its own definition: the joint regressor on posed vertices.
Formulas are in ``metrics``, the network's part in ``engine``; spreading over a cluster is ``cluster.scoring``.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal

import cv2
import numpy as np
import torch

from hojoint import crops, geometry
from hojoint.config import Config
from hojoint.datasets import freihand
from hojoint.datasets.collate import collate
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.datasets.ycb import ObjectModel
from hojoint.errors import InputError
from hojoint.evaluation import metrics
from hojoint.evaluation.metrics import HandErrors
from hojoint.hand.factory import hand_model
from hojoint.hand.layer import ManoLayer
from hojoint.model.network import HOJoint
from hojoint.records import Example
from hojoint.report import draw, figures
from hojoint.training.batches import prepare
from hojoint.training.engine import Predictions

Domain = Literal["ho3d", "freihand"]
UNSEEN = ("019_pitcher_base",)
"""Left out of the objects' mean, as in the paper: HO-3D's training set never shows it."""
REFINED = ("add_0.1d", "add_median_mm")
"""Scores that are also given of the refined object pose, as ``<key>_refined``."""
ATTENTION_PX = 240
OBJECT_POINTS = 600  # of an example's object, enough to see it
EXAMPLE_FIELDS = tuple(field.name for field in fields(Example) if field.name not in ("name", "image"))


def domains_of(config: Config) -> list[Domain]:
    """The data sets that the settings name, but for a FreiHAND without its evaluation set (``freihand.advice``)."""
    given = config.data.freihand
    measured = freihand.evaluation_root(given) is not None and freihand.advice(given) is None
    named: dict[Domain, bool] = {"ho3d": config.data.ho3d.root is not None, "freihand": measured}
    return [domain for domain, there in named.items() if there]


def open_domain(domain: Domain, config: Config) -> HO3D | FreiHAND:
    """The evaluation split of a data set."""
    region_px = crops.region_side(config.model.input_px)
    if domain == "ho3d":
        return HO3D(config.data.ho3d, "evaluation", config.crop, region_px)
    mean = hand_model(config.mano).hands_mean
    return FreiHAND(config.data.freihand, "evaluation", config.crop, region_px, mean)


def placed(predictions: Predictions, roots: np.ndarray, domain: Domain, config: Config) -> Predictions:
    """The predictions at the true wrists (N, 3), with the key points that the data set defines."""
    joints, vertices = predictions.joints.astype(np.float64), predictions.vertices.astype(np.float64)
    if domain == "freihand":
        layer = ManoLayer(hand_model(config.mano), fingertips="freihand").double()
        joints = layer.regressed_joints(torch.from_numpy(vertices)).numpy()
    shift = roots[:, None] - joints[:, :1]
    return replace(predictions, joints=joints + shift, vertices=vertices + shift)


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Predictions of consecutive rows as those of all."""
    values: dict[str, Any] = {}
    for field in fields(Predictions):
        pieces = [getattr(part, field.name) for part in parts]
        values[field.name] = sum(pieces, start=()) if isinstance(pieces[0], tuple) else np.concatenate(pieces)
    return Predictions(**values)


def scores(
    predictions: Predictions, errors: HandErrors, models: Mapping[str, ObjectModel] | None, domain: Domain
) -> dict[str, Any]:
    """All numbers of one data set, for JSON: the table's, the official ones, the PCK curve, and object by object."""
    official = metrics.hand_scores_of(errors) if domain == "ho3d" else metrics.freihand_scores_of(errors)
    aligned = "xyz_procrustes_al" if domain == "ho3d" else "xyz_al"
    pixels = predictions.joints_error_px[np.isfinite(predictions.joints_error_px)]
    mesh = errors.mesh_procrustes
    return {
        "images": len(predictions.names),
        "hand": {
            "joints_wrist_mm": 10 * official["xyz_mean3d"],  # wrist-centred on both sides where no wrist is predicted
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
    seen = [name for name in set(names) if name not in UNSEEN] or None
    truth = predictions.true_object_pose[rows].astype(np.float64), predictions.camera[rows].astype(np.float64)
    found = metrics.object_scores(models, names, predictions.object_pose[rows], *truth, averaged=seen)
    refined = predictions.object_pose_refined[rows]
    if np.isfinite(refined).all():
        after = metrics.object_scores(models, names, refined, *truth, averaged=seen)
        for name, values in found.items():
            values |= {f"{key}_refined": after[name][key] for key in REFINED}
    mean = found.pop("mean")
    return {**mean, "solved": float(predictions.object_solved[rows].mean()), "by_object": found}


def example_rows(count: int, wanted: int) -> np.ndarray:
    """Which images to show: evenly spaced, whatever the network made of them."""
    if wanted == 0:
        return np.zeros(0, dtype=np.int64)
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(np.int64))


def examples(
    dataset: HO3D | FreiHAND,
    rows: np.ndarray,
    predictions: Predictions,
    errors: HandErrors,
    models: Mapping[str, ObjectModel] | None,
    config: Config,
) -> list[Example]:
    """Some images with what the network said of them, in pixels of the region that was cut."""
    found = []
    for row in rows.tolist():
        sample = dataset[row]
        affine = prepare(collate([sample]), config, None, "cpu").affine
        back = geometry.invert_affine(affine)
        joints_px = geometry.apply_affine(back, torch.from_numpy(predictions.joints_px[row : row + 1]))
        joints = torch.from_numpy(predictions.joints[row : row + 1]).float()
        vertices = predictions.vertices[row] - predictions.joints[row, 0]
        camera = geometry.weak_perspective(joints - joints[:, :1], joints_px)
        vertices_px = geometry.project_weak(torch.from_numpy(vertices)[None].float(), camera)[0].numpy()
        pose, name = predictions.object_pose[row], predictions.object_names[row]
        model = models.get(name) if models is not None and name and predictions.object_solved[row] else None
        mesh_errors = errors.mesh_procrustes
        found.append(
            Example(
                name=sample.name,
                image=sample.image,
                hand_box=sample.hand_box,
                object_box=sample.object_box,
                joints_px=joints_px[0].numpy(),
                vertices=vertices,
                vertices_px=vertices_px,
                error_mm=np.full(len(vertices), np.nan) if mesh_errors is None else 1000 * mesh_errors[row],
                corners_px=_corners(model, pose, sample.camera),
                object_pose=pose,
                camera=sample.camera,
                add_mm=_add_mm(model, pose, sample.object_pose),
                object_points=_object_points(model, pose) - predictions.joints[row, 0],
            )
        )
    return found


def _corners(model: ObjectModel | None, pose: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """(8, 2) px of the corners of the model's box; NaN without a model."""
    if model is None:
        return np.full((8, 2), np.nan)
    corners = geometry.control_points(torch.from_numpy(model.lo), torch.from_numpy(model.hi))[:8].numpy()
    homogeneous = (corners @ pose[:, :3].T + pose[:, 3]) @ camera.T
    px: np.ndarray = homogeneous[:, :2] / homogeneous[:, 2:]
    return px


def _object_points(model: ObjectModel | None, pose: np.ndarray) -> np.ndarray:
    """(P, 3) m, some of the model's points where the pose puts them; one of NaN without a model."""
    if model is None:
        return np.full((1, 3), np.nan)
    some = model.points[:: max(1, len(model.points) // OBJECT_POINTS)]
    points: np.ndarray = some @ pose[:, :3].T + pose[:, 3]
    return points


def _add_mm(model: ObjectModel | None, pose: np.ndarray, true_pose: np.ndarray) -> float:
    if model is None:
        return float("nan")
    return float(1000 * metrics.add_errors(model.points, pose[None], true_pose[None].astype(np.float64))[0])


def attention_cells(config: Config) -> list[tuple[int, int]]:
    """(row, column) of the cells that ``attention_tiles`` shows, checked against the network's grid."""
    side = config.model.roi_cells
    if config.evaluate.attention_cells is None:
        return [(side // 4 * quarters, side // 4 * quarters) for quarters in (1, 2, 3)]
    for row, column in config.evaluate.attention_cells:
        if max(row, column) >= side:
            raise InputError(
                f"evaluate.attention_cells: [{row}, {column}] is beyond the network's {side} x {side} RoI cells; "
                f"give [row, column] between 0 and {side - 1}"
            )
    return list(config.evaluate.attention_cells)


@torch.inference_mode()
def attention_tiles(network: HOJoint, dataset: HO3D | FreiHAND, rows: np.ndarray, config: Config) -> list[np.ndarray]:
    """Where some cells of the object's box look (Fig. 7); images whose boxes do not meet are left out."""
    cells = attention_cells(config)
    tiles = []
    for row in rows.tolist():
        prepared = prepare(collate([dataset[row]]), config, None, "cpu")
        boxes = [box[0].numpy() for box in (prepared.hand_boxes, prepared.object_boxes)]
        weights = network(prepared.images, prepared.hand_boxes, prepared.object_boxes, with_attention=True).attention
        shared = np.minimum(boxes[0][2:], boxes[1][2:]) - np.maximum(boxes[0][:2], boxes[1][:2])
        if weights is None or not (shared > 0).all():
            continue
        zoom = ATTENTION_PX / config.model.input_px
        picture = np.rint(prepared.images[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        picture = cv2.resize(picture, (ATTENTION_PX, ATTENTION_PX), interpolation=cv2.INTER_CUBIC)
        hand, thing = ((box + 0.5) * zoom - 0.5 for box in boxes)
        tiles.append(figures.attention(picture, weights[0].numpy(), cells, hand_box=hand, object_box=thing))
    return tiles


def pack_examples(found: Sequence[Example]) -> bytes:
    """Examples as one file (npz of numbers and JPEGs; nothing in it is pickled)."""
    arrays: dict[str, np.ndarray] = {"names": np.array([example.name for example in found], dtype=np.str_)}
    for number, example in enumerate(found):
        arrays[f"image_{number}"] = np.frombuffer(draw.jpeg(example.image, 92), np.uint8)
        for name in EXAMPLE_FIELDS:
            arrays[f"{name}_{number}"] = np.asarray(getattr(example, name), dtype=np.float32)
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def unpack_examples(data: bytes) -> list[Example]:
    """The inverse of ``pack_examples``, up to the JPEGs' loss."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        nowhere = np.full((1, 3), np.nan)  # of files written before examples had object points
        return [
            Example(
                name=str(name),
                image=draw.open_jpeg(arrays[f"image_{number}"].tobytes()),
                **{field: arrays.get(f"{field}_{number}", nowhere).astype(np.float64) for field in EXAMPLE_FIELDS},
            )
            for number, name in enumerate(arrays["names"])
        ]
