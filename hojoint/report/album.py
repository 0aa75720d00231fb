"""Which frames and test images a report shows, and how each is drawn (the paper's Figs. 4 and 6).

Choices are by rule and spread over videos, never by how good a picture looks: a report that picks its best frames says
nothing. Drawing itself is in ``draw``; where rows and pixels come from is the caller's matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from hojoint import crops, geometry
from hojoint.hand.layer import HandLayer, ManoOutput
from hojoint.records import Example
from hojoint.report import draw, figures
from hojoint.report.page import Picture

TILE_PX = 300
KEPT = "kept"
REACH_M = 0.4  # an object further from the hand than this is not drawn beside it


def spread_rows(videos: Sequence[str], rows: np.ndarray, count: int) -> np.ndarray:
    """Up to ``count`` of some rows, evenly over the videos they belong to, the middle row of each video first."""
    by_video: dict[str, list[int]] = {}
    for row in rows.tolist():
        by_video.setdefault(videos[row], []).append(row)
    queues = [_middle_out(by_video[video]) for video in sorted(by_video)]
    if len(queues) > count:
        queues = [queues[int(place)] for place in np.linspace(0, len(queues) - 1, count).round()]
    chosen: list[int] = []
    depth = 0
    while len(chosen) < count and any(depth < len(queue) for queue in queues):
        chosen += [queue[depth] for queue in queues if depth < len(queue)]
        depth += 1
    return np.array(chosen[:count], dtype=np.int64)


def _middle_out(rows: Sequence[int]) -> list[int]:
    middle = (len(rows) - 1) / 2
    return [row for _, row in sorted(enumerate(rows), key=lambda pair: (abs(pair[0] - middle), pair[0]))]


def label_picture(
    row: Mapping[str, Any],
    image: np.ndarray,
    origin: np.ndarray,
    layer: HandLayer,
    faces: np.ndarray,
    error_mm: float | None = None,
) -> Picture:
    """A predicted frame with its mesh and the given box; ``origin``: where the image's corner is in the video frame."""
    vertices = mesh_of(row, layer)
    s, tx, ty = (float(value) for value in row["camera"])
    points = vertices[:, :2] * s + np.array([tx, ty]) - origin
    box = np.asarray(row["hand_box"], dtype=np.float64) - np.tile(origin, 2)
    tile, affine = draw.closeup(image, box, TILE_PX, context=1.6)
    tile = draw.box(tile, draw.mapped(affine, box.reshape(2, 2)).reshape(4), draw.HAND)
    if np.isfinite(points).all():
        tile = draw.mesh(tile, draw.mapped(affine, points), vertices, faces, alpha=0.8)
    verdict = row["verdict"]
    side = "left hand" if row["flipped"] else "right hand"
    caption = f"video {row['video_id']}, frame {row['frame']}, {side}"
    if verdict != KEPT:
        caption += f"; {verdict} {row[f'score_{verdict}']:.2f}"
    if error_mm is not None and np.isfinite(error_mm):
        caption += f"; true error {error_mm:.1f} mm"
    return Picture(draw.jpeg(tile), caption, verdict, "kept" if verdict == KEPT else "rejected")


def mesh_of(row: Mapping[str, Any], layer: HandLayer) -> np.ndarray:
    """(778, 3) wrist-centred vertices of a labelled frame, in the true image's camera frame."""
    pose, betas = (torch.tensor([row[name]], dtype=torch.float32) for name in ("mano_pose", "mano_shape"))
    with torch.no_grad():
        vertices: np.ndarray = _posed(layer, pose, betas).vertices[0].double().numpy()
    return vertices * [-1.0, 1, 1] if row["flipped"] else vertices


def hand_joints(layer: HandLayer, pose: np.ndarray, betas: np.ndarray, chunk: int = 512) -> np.ndarray:
    """(N, 21, 3) joints of the right-hand model, for ``label_quality``."""
    out = [np.zeros((0, 21, 3))]
    for start in range(0, len(pose), chunk):
        some = (torch.from_numpy(array[start : start + chunk]).float() for array in (pose, betas))
        with torch.no_grad():
            out.append(_posed(layer, *some).joints.double().numpy())
    return np.concatenate(out)


def _posed(layer: HandLayer, pose: torch.Tensor, betas: torch.Tensor) -> ManoOutput:
    """The tables' poses are whole rotations: a layer whose zero is the mean hand must not add that again."""
    return layer.from_rotations(geometry.axis_angle_to_matrix(pose.reshape(-1, 16, 3)), betas)


def example_picture(example: Example, faces: np.ndarray) -> Picture:
    """A test image with the estimated hand mesh and the object's box and axes."""
    whole = crops.union_box(example.hand_box, example.object_box)
    tile, affine = draw.closeup(example.image, whole, TILE_PX, context=1.25)
    tile = draw.mesh(tile, draw.mapped(affine, example.vertices_px), example.vertices, faces, alpha=0.75)
    caption = f"{example.name}; hand {float(np.mean(example.error_mm)):.1f} mm"
    if np.isfinite(example.corners_px).all():
        tile = draw.wireframe(tile, draw.mapped(affine, example.corners_px))
        zoomed = np.vstack([affine, [0, 0, 1]]) @ example.camera
        tile = draw.axes(tile, example.object_pose, zoomed, 0.06)
    if np.isfinite(example.add_mm):
        far = example.add_mm >= 1000
        caption += ", object more than 1 m off" if far else f", object {example.add_mm:.0f} mm (ADD)"
    return Picture(draw.jpeg(tile), caption)


def error_picture(example: Example, faces: np.ndarray, worst_mm: float = 25.0) -> Picture:
    """The same hand coloured by its error (Fig. 6)."""
    tile, affine = draw.closeup(example.image, example.hand_box, TILE_PX, context=1.4)
    colours = draw.error_colours(example.error_mm, worst_mm)
    points = draw.mapped(affine, example.vertices_px)
    tile = draw.mesh(tile, points, example.vertices, faces, colours=colours, alpha=0.95)
    return Picture(draw.jpeg(tile), f"{example.name}; blue 0, red {worst_mm:.0f} mm and more")


def space_picture(example: Example, faces: np.ndarray, worst_mm: float = 25.0) -> Picture:
    """The same in 3D, with the estimated object where its pose puts it (Fig. 6), unless that is nowhere near."""
    away_m = float(np.linalg.norm(example.object_points.mean(axis=0) - example.vertices.mean(axis=0)))
    points = example.object_points if away_m <= REACH_M else None
    image = figures.errors_in_space(example.vertices, example.error_mm, faces, worst_mm=worst_mm, object_points=points)
    caption = f"{example.name}; from the camera and from the side"
    if away_m > REACH_M:  # it would shrink the hand to a dot
        caption += f"; the estimated object is {100 * away_m:.0f} cm away and left out"
    return Picture(image, caption)


def pck_picture(pck: Mapping[str, Any]) -> Picture:
    """PCK of joints and, where known, of the mesh, with their AUC (Fig. 8).

    Args:
        pck: as ``evaluation.scores`` gives it.
    """
    thresholds = np.asarray(pck["thresholds_mm"])
    shares = {"joints": pck["share"], "mesh": pck.get("mesh_share")}
    curves = {name: (thresholds, np.asarray(share)) for name, share in shares.items() if share is not None}
    return Picture(figures.pck(curves, "after Procrustes", kind="png"), "PCK curves")


def chosen_rows(table: pa.Table, rules: Sequence[str], kept: int, per_rule: int) -> np.ndarray:
    """Rows of a predictions table to show: kept ones, then some that each rule rejected."""
    verdicts = np.array(table["verdict"].to_pylist(), dtype=object)
    videos = table["video_id"].to_pylist()
    groups = [spread_rows(videos, np.flatnonzero(verdicts == KEPT), kept)]
    groups += [spread_rows(videos, np.flatnonzero(verdicts == rule), per_rule) for rule in rules]
    return np.concatenate(groups)
