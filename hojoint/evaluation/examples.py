"""Test images for the report with what a network predicts for them: meshes, boxes and attention (Figs. 6 and 7).

Images are evenly spaced over the data set and never chosen by their result. Numbers are in ``scores``, drawing is in
``report.draw`` and ``report.figures``, captions are in ``report.album``.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import fields

import cv2
import numpy as np
import torch

from hojoint import geometry
from hojoint.config import Config
from hojoint.datasets.collate import collate
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.datasets.ycb import ObjectModel
from hojoint.errors import InputError
from hojoint.evaluation import object_metrics
from hojoint.evaluation.metrics import HandErrors
from hojoint.model.network import HOJoint
from hojoint.records import Example, Sample
from hojoint.report import draw, figures
from hojoint.rows import evenly
from hojoint.training.batches import prepare
from hojoint.training.prediction import Predictions

ATTENTION_PX = 240
OBJECT_POINTS = 600  # of an example's object, enough to see it
EXAMPLE_FIELDS = tuple(field.name for field in fields(Example) if field.name not in ("name", "image"))


def example_rows(images: int, shown: int) -> np.ndarray:
    """Rows (<= shown,) of the images to show, evenly spaced, whatever the network predicts for them."""
    return evenly(images, shown)


def make_examples(
    dataset: HO3D | FreiHAND,
    rows: np.ndarray,
    predictions: Predictions,
    errors: HandErrors,
    models: Mapping[str, ObjectModel] | None,
    config: Config,
) -> list[Example]:
    """Some images with the network's predictions, in pixels of the region that the reader cuts.

    Args:
        rows: numbers of the images in ``dataset``.
        predictions, errors: of the complete data set, placed at the true wrists (``scores.placed``).
        models: the objects by name; None leaves objects out.
    """
    examples = []
    for row in rows.tolist():
        sample = dataset[row]
        vertices = predictions.vertices[row] - predictions.joints[row, 0]
        joints_px, vertices_px = _hand_px(sample, predictions, row, vertices, config)
        pose, name = predictions.object_pose[row], predictions.object_names[row]
        model = models.get(name) if models is not None and name and predictions.object_solved[row] else None
        mesh_errors = errors.mesh_procrustes
        examples.append(
            Example(
                name=sample.name,
                image=sample.image,
                hand_box=sample.hand_box,
                object_box=sample.object_box,
                joints_px=joints_px,
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
    return examples


def _hand_px(
    sample: Sample, predictions: Predictions, row: int, vertices: np.ndarray, config: Config
) -> tuple[np.ndarray, np.ndarray]:
    """Joints (21, 2) and ``vertices`` (778, 2) in px of the region, the latter by the fitted weak perspective."""
    affine = prepare(collate([sample]), config, None, "cpu").affine
    back = geometry.invert_affine(affine)
    joints_px = geometry.apply_affine(back, torch.from_numpy(predictions.joints_px[row : row + 1]))
    joints = torch.from_numpy(predictions.joints[row : row + 1]).float()
    camera = geometry.weak_perspective(joints - joints[:, :1], joints_px)
    vertices_px = geometry.project_weak(torch.from_numpy(vertices)[None].float(), camera)[0].numpy()
    return joints_px[0].numpy(), vertices_px


def _corners(model: ObjectModel | None, pose: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """(8, 2) px of the corners of the model's box; NaN without a model."""
    if model is None:
        return np.full((8, 2), np.nan)
    corners = geometry.control_points(torch.from_numpy(model.lo), torch.from_numpy(model.hi))[:8].numpy()
    homogeneous = (corners @ pose[:, :3].T + pose[:, 3]) @ camera.T
    px: np.ndarray = homogeneous[:, :2] / homogeneous[:, 2:]
    return px


def _object_points(model: ObjectModel | None, pose: np.ndarray) -> np.ndarray:
    """(P, 3) m, some of the model's points under the pose; one point of NaN without a model."""
    if model is None:
        return np.full((1, 3), np.nan)
    sparse = model.points[:: max(1, len(model.points) // OBJECT_POINTS)]
    points: np.ndarray = sparse @ pose[:, :3].T + pose[:, 3]
    return points


def _add_mm(model: ObjectModel | None, pose: np.ndarray, true_pose: np.ndarray) -> float:
    if model is None:
        return float("nan")
    return float(1000 * object_metrics.add_errors(model.points, pose[None], true_pose[None].astype(np.float64))[0])


def attention_cells(config: Config) -> list[tuple[int, int]]:
    """(row, column) of the RoI cells that ``attention_tiles`` shows.

    Raises:
        InputError: ``evaluate.attention_cells`` names a cell beyond the network's grid.
    """
    side = config.model.roi_cells
    if config.evaluate.attention_cells is None:
        return [(side // 4 * quarters, side // 4 * quarters) for quarters in (1, 2, 3)]
    for row, column in config.evaluate.attention_cells:
        if max(row, column) >= side:
            raise InputError(
                f"evaluate.attention_cells: expected [row, column] between 0 and {side - 1}; found [{row}, {column}], "
                f"which is beyond the network's {side} x {side} RoI cells"
            )
    return list(config.evaluate.attention_cells)


@torch.inference_mode()
def attention_tiles(network: HOJoint, dataset: HO3D | FreiHAND, rows: np.ndarray, config: Config) -> list[np.ndarray]:
    """Attention of some cells of the object's box (Fig. 7), one RGB tile per image.

    Images whose hand and object boxes do not overlap are left out. The network is on the CPU.
    """
    cells = attention_cells(config)
    tiles: list[np.ndarray] = []
    if not cells:
        return tiles
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
        hand_box, object_box = ((box + 0.5) * zoom - 0.5 for box in boxes)
        tiles.append(figures.attention(picture, weights[0].numpy(), cells, hand_box=hand_box, object_box=object_box))
    return tiles


def pack_examples(examples: Sequence[Example]) -> bytes:
    """Examples as one npz file of numbers and JPEGs; it holds no pickles."""
    arrays: dict[str, np.ndarray] = {"names": np.array([example.name for example in examples], dtype=np.str_)}
    for number, example in enumerate(examples):
        arrays[f"image_{number}"] = np.frombuffer(draw.jpeg(example.image, 92), np.uint8)
        for name in EXAMPLE_FIELDS:
            arrays[f"{name}_{number}"] = np.asarray(getattr(example, name), dtype=np.float32)
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def unpack_examples(data: bytes) -> list[Example]:
    """The inverse of ``pack_examples``, up to the JPEGs' loss."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        nowhere = np.full((1, 3), np.nan)  # older files have no object points
        return [
            Example(
                name=str(name),
                image=draw.open_jpeg(arrays[f"image_{number}"].tobytes()),
                **{field: arrays.get(f"{field}_{number}", nowhere).astype(np.float64) for field in EXAMPLE_FIELDS},
            )
            for number, name in enumerate(arrays["names"])
        ]
