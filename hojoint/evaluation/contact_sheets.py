"""Overlays to look at: labels of a data set drawn over its images, object models and hand models drawn alone.

A fixed rule chooses what is shown, spread over sequences and sets, never its quality. Not here: what is counted and
compared (``set_checks``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from hojoint import crops
from hojoint.datasets import regions, ycb
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.datasets.ho3d_meta import joints_cv
from hojoint.errors import InputError
from hojoint.hand.layer import HandLayer, ManoLayer
from hojoint.hand.model import HandModel
from hojoint.records import Sample
from hojoint.report import album, draw, health

Tile = tuple[np.ndarray, Sequence[str]]
"""A square picture and the lines under it."""

LABELS = (
    "The labels projected onto the image: the hand's bones (thumb red, index orange, middle green, ring blue, pinky "
    "purple), the hand mesh where the hand model fits the labels, the object's box (orange) and axes (x red, y green, "
    "z blue). They must lie on the hand and on the object."
)
MODELS = "Each model with its points and its box, seen from above; the sides of the box in mm."
HANDS = "The hand in its rest pose and in its mean pose, from two sides; the fingertips must lie at the tips."
_TURN = np.array([[0.8, -0.6, 0.0], [-0.36, -0.48, -0.8], [0.48, 0.64, -0.6]])  # a view from above; z is depth


def of_ho3d(dataset: HO3D, count: int, layer: HandLayer | None) -> list[Tile]:
    """Frames with joints, mesh and object; ``layer`` is the hand that made the labels, None draws no mesh."""
    truth = _truth(dataset) if dataset.split == "evaluation" else None

    def hand(row: int, sample: Sample) -> tuple[np.ndarray | None, np.ndarray | None]:
        if truth is not None:
            return truth[0][row], truth[1][row] if layer is not None else None
        if dataset.split == "evaluation":
            return None, None
        joints = joints_cv(dataset.meta(row), sample.name)
        return joints, None if layer is None else _posed(layer, sample) + joints[0]

    sequences = [name.partition("/")[0] for name in dataset.names]
    return _labelled(dataset, sequences, count, hand, None if layer is None else layer.faces)


def of_freihand(dataset: FreiHAND, count: int, layer: ManoLayer | None) -> list[Tile]:
    """Images with joints and mesh, evenly spaced over the versions; ``layer`` as in ``of_ho3d``."""
    # Training meshes are posed: their file of vertices holds 32,560 hands, of which a sheet shows sixteen.
    truth = None if layer is None or dataset.split == "train" else _truth(dataset)

    def hand(row: int, sample: Sample) -> tuple[np.ndarray | None, np.ndarray | None]:
        joints = dataset.joints[dataset.rows[row]]
        if layer is None or dataset.split == "evaluation":
            return joints, None if truth is None else truth[1][row]
        vertices = _posed(layer, sample)
        wrist = layer.regressed_joints(torch.from_numpy(vertices)[None].to(layer.joint_regressor))[0, 0]
        return joints, vertices + joints[0] - wrist.double().numpy()

    groups = [str(number * count // len(dataset)) for number in range(len(dataset))]
    return _labelled(dataset, groups, count, hand, None if layer is None else layer.faces)


def _labelled(
    dataset: HO3D | FreiHAND,
    groups: Sequence[str],
    count: int,
    hand: Callable[[int, Sample], tuple[np.ndarray | None, np.ndarray | None]],
    faces: np.ndarray | None,
) -> list[Tile]:
    tiles: list[Tile] = []
    for row in album.spread_rows(groups, np.arange(len(dataset)), count).tolist():
        name = dataset.names[row]
        try:
            sample = dataset[row]
            joints, vertices = hand(row, sample)
        except InputError:
            tiles.append(health.blank(name))
            continue
        tiles.append((_overlay(sample, joints, vertices, faces), [name, sample.object_name]))
    return tiles


def _overlay(
    sample: Sample, joints: np.ndarray | None, vertices: np.ndarray | None, faces: np.ndarray | None
) -> np.ndarray:
    """A sample's image with its labels; joints (21, 3) and vertices (778, 3) in m, CV frame."""
    both = crops.union_box(sample.hand_box, sample.object_box) if sample.has_object else sample.hand_box
    tile, affine = draw.closeup(sample.image, both, health.TILE_PX, context=1.3)
    zoomed = np.vstack([affine, [0, 0, 1]]) @ sample.camera
    if vertices is not None and faces is not None and (vertices[:, 2] > 0).all():
        tile = draw.mesh(tile, regions.project(vertices, zoomed), vertices, faces, alpha=0.4)
    if joints is not None and (joints[:, 2] > 0).all():
        tile = draw.skeleton(tile, regions.project(joints, zoomed))
    elif joints is None:
        tile = draw.box(tile, draw.mapped(affine, sample.hand_box.reshape(2, 2)).reshape(4), draw.HAND)
    if sample.has_object:
        tile = draw.wireframe(tile, draw.mapped(affine, sample.control_px[:8]))
        tile = draw.axes(tile, sample.object_pose, zoomed, 0.06)
    return tile


def _posed(layer: HandLayer, sample: Sample) -> np.ndarray:
    """(778, 3) m wrist-centred vertices of a sample's labels."""
    with torch.no_grad():
        pose, betas = torch.from_numpy(sample.pose)[None].float(), torch.from_numpy(sample.betas)[None].float()
        vertices: np.ndarray = layer(pose, betas).vertices[0].double().numpy()
    return vertices


def _truth(dataset: HO3D | FreiHAND) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        joints, vertices = dataset.truth()
    except InputError:  # the check names it
        return None
    return joints.astype(np.float64), vertices.astype(np.float64)


def of_models(models: dict[str, ycb.ObjectModel], count: int) -> list[Tile]:
    """Object models with their boxes."""
    return [(_model(model), [name, _sides(model)]) for name, model in list(models.items())[:count]]


def _model(model: ycb.ObjectModel) -> np.ndarray:
    tile = np.full((health.TILE_PX, health.TILE_PX, 3), 255, np.uint8)
    corners = np.array([[(model.lo, model.hi)[k >> axis & 1][axis] for axis in range(3)] for k in range(8)])
    middle = (corners @ _TURN.T).mean(0)
    scale = 0.8 * health.TILE_PX / max(np.ptp(corners @ _TURN.T, axis=0)[:2].max(), 1e-6)

    def px(points: np.ndarray) -> np.ndarray:
        return (points @ _TURN.T - middle)[:, :2] * scale + health.TILE_PX / 2

    if model.faces is not None:
        turned = model.vertices @ _TURN.T
        tile = draw.mesh(tile, px(model.vertices), turned, model.faces, colours=(200, 205, 212), alpha=1.0)
    for point in px(model.points[:: max(1, len(model.points) // 800)]):
        x, y = np.round(point).astype(int)
        if 0 <= x < health.TILE_PX and 0 <= y < health.TILE_PX:
            tile[y, x] = (90, 100, 115)
    return draw.wireframe(tile, px(corners), thickness=1)


def _sides(model: ycb.ObjectModel) -> str:
    mesh = "no mesh" if model.faces is None else f"{len(model.faces)} faces"
    return f"{' x '.join(f'{1000 * side:.0f}' for side in model.hi - model.lo)} mm, {mesh}"


def of_hand(model: HandModel, fingertips: str) -> list[Tile]:
    """A hand model at rest and in its mean pose, each from the back of the hand and from the palm."""
    layer = ManoLayer(model, flat_hand_mean=False, fingertips=fingertips)
    tiles: list[Tile] = []
    for words, fingers in (("rest pose", -model.hands_mean), ("mean pose", np.zeros(45))):
        pose = torch.from_numpy(np.concatenate([np.zeros(3), fingers])).float()[None]
        with torch.no_grad():
            out = layer(pose, torch.zeros(1, 10))
        vertices, joints = out.vertices[0].double().numpy(), out.joints[0].double().numpy()
        for side, view in (
            ("back", [[-1, 0, 0], [0, 0, -1], [0, -1, 0]]),
            ("palm", [[-1, 0, 0], [0, 0, 1], [0, 1, 0]]),
        ):
            turned, bones = vertices @ np.array(view, float).T, joints @ np.array(view, float).T
            low, high = turned[:, :2].min(0), turned[:, :2].max(0)
            scale = 0.85 * health.TILE_PX / float((high - low).max())
            shift = health.TILE_PX / 2 - scale * (low + high) / 2
            tile = np.full((health.TILE_PX, health.TILE_PX, 3), 255, np.uint8)
            tile = draw.mesh(tile, turned[:, :2] * scale + shift, turned, model.faces, alpha=0.9)
            tiles.append((draw.skeleton(tile, bones[:, :2] * scale + shift), [f"{words}, {side}"]))
    return tiles
