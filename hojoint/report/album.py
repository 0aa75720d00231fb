"""Which frames and test images a report shows, and how each is drawn (the paper's Figs. 4 and 6).

A fixed rule chooses them, spread over videos, never their quality: a report of the best frames proves nothing. Drawing
itself is in ``draw`` and ``figures``; the caller reads rows and pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from hojoint import crops, geometry
from hojoint.hand.layer import HandLayer
from hojoint.records import Example
from hojoint.report import draw, figures
from hojoint.report.page import Picture

TILE_PX = 300
KEPT = "kept"
WORST_MM = 25.0  # an error that is drawn in pure red
REACH_M = 0.4  # an object further from the hand than this is not drawn beside it


@dataclass(frozen=True)
class Judged:
    """What the truth says of a label."""

    error_mm: float  # PA-MPJPE; NaN where the frame has no true hand
    side_correct: bool
    correct: bool  # in all that a correct label needs


def spread_rows(videos: Sequence[str], rows: np.ndarray, count: int) -> np.ndarray:
    """Up to ``count`` of ``rows``, evenly over their videos, the middle row of each video first.

    Args:
        videos: the video of every row of the table.
        rows: (R,) numbers of the rows to choose from.
    """
    by_video: dict[str, list[int]] = {}
    for row in rows.tolist():
        by_video.setdefault(videos[row], []).append(row)
    queues = [_middle_out(by_video[video]) for video in sorted(by_video)]
    if len(queues) > count:
        queues = [queues[int(number)] for number in np.linspace(0, len(queues) - 1, count).round()]
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
    judged: Judged | None = None,
) -> Picture:
    """A predicted frame with its mesh and the given box.

    Args:
        row: of a predictions table.
        image: (H, W, 3) RGB, the video frame or a part of it.
        origin: (2,) px of the video frame, the image's top-left corner.
        faces: (F, 3) vertex indices.
        judged: where the truth is known.
    """
    vertices = mesh_of(row, layer)
    s, tx, ty = (float(value) for value in row["camera"])
    points = vertices[:, :2] * s + np.array([tx, ty]) - origin
    box = np.asarray(row["hand_box"], dtype=np.float64) - np.tile(origin, 2)
    tile, affine = draw.closeup(image, box, TILE_PX, context=1.6)
    tile = draw.box(tile, draw.mapped(affine, box.reshape(2, 2)).reshape(4), draw.HAND)
    if np.isfinite(points).all():
        tile = draw.mesh(tile, draw.mapped(affine, points), vertices, faces, alpha=0.8)
    verdict = row["verdict"]
    known = judged is not None and np.isfinite(judged.error_mm)
    side = "left hand" if row["flipped"] else "right hand"
    side += " (wrong side)" if judged is not None and known and not judged.side_correct else ""
    caption = f"video {row['video_id']}, frame {row['frame']}, {side}"
    if verdict != KEPT:
        score = row["quality"] if verdict == "quality" else row[f"score_{verdict}"]
        caption += f"; {verdict} {score:.2f}" if score is not None else f"; {verdict}"
    if judged is not None and known:
        caption += f"; PA-MPJPE {judged.error_mm:.1f} mm, {'correct' if judged.correct else 'not correct'}"
    return Picture(draw.jpeg(tile), caption, verdict, "kept" if verdict == KEPT else "rejected")


def mesh_of(row: Mapping[str, Any], layer: HandLayer) -> np.ndarray:
    """(778, 3) m wrist-centred vertices of a labelled frame, in the camera frame of the true (not mirrored) image."""
    pose, betas = (torch.tensor([row[name]], dtype=torch.float32) for name in ("mano_pose", "mano_shape"))
    with torch.no_grad():
        # The tables hold complete rotations, to which no layer adds the mean hand.
        rotations = geometry.axis_angle_to_matrix(pose.reshape(-1, 16, 3))
        vertices: np.ndarray = layer.from_rotations(rotations, betas).vertices[0].double().numpy()
    return vertices * [-1.0, 1, 1] if row["flipped"] else vertices


def example_picture(example: Example, faces: np.ndarray) -> Picture:
    """A test image with the estimated hand mesh and the object's box and axes."""
    both = crops.union_box(example.hand_box, example.object_box)
    tile, affine = draw.closeup(example.image, both, TILE_PX, context=1.25)
    tile = draw.mesh(tile, draw.mapped(affine, example.vertices_px), example.vertices, faces, alpha=0.75)
    caption = f"{example.name}; hand {float(np.mean(example.error_mm)):.1f} mm (PA-MPVPE)"
    if np.isfinite(example.corners_px).all():
        tile = draw.wireframe(tile, draw.mapped(affine, example.corners_px))
        zoomed = np.vstack([affine, [0, 0, 1]]) @ example.camera
        tile = draw.axes(tile, example.object_pose, zoomed, 0.06)
    if np.isfinite(example.add_mm):
        far = example.add_mm >= 1000
        caption += ", object more than 1 m off" if far else f", object {example.add_mm:.0f} mm (ADD)"
    return Picture(draw.jpeg(tile), caption)


def error_picture(example: Example, faces: np.ndarray) -> Picture:
    """The same hand, each vertex coloured by its error after Procrustes alignment (Fig. 6)."""
    tile, affine = draw.closeup(example.image, example.hand_box, TILE_PX, context=1.4)
    colours = draw.error_colours(example.error_mm, WORST_MM)
    points = draw.mapped(affine, example.vertices_px)
    tile = draw.mesh(tile, points, example.vertices, faces, colours=colours, alpha=0.95)
    return Picture(draw.jpeg(tile), f"{example.name}; aligned vertex error, blue 0, red {WORST_MM:.0f} mm and more")


def space_picture(example: Example, faces: np.ndarray) -> Picture:
    """The same in 3D, with the object under its estimated pose (Fig. 6) if that is within ``REACH_M`` of the hand."""
    away_m = float(np.linalg.norm(example.object_points.mean(axis=0) - example.vertices.mean(axis=0)))
    points = example.object_points if away_m <= REACH_M else None
    image = figures.errors_in_space(example.vertices, example.error_mm, faces, worst_mm=WORST_MM, object_points=points)
    caption = f"{example.name}; from the camera and from the side"
    if away_m > REACH_M:  # the hand would shrink to a dot
        caption += f"; the estimated object is {100 * away_m:.0f} cm away and left out"
    return Picture(image, caption)


def pck_picture(pck: Mapping[str, Any]) -> Picture:
    """PCK of joints and, where known, of the mesh after Procrustes alignment, with their AUC (Fig. 8).

    Args:
        pck: as in the result of ``evaluation.scores.scores``.
    """
    thresholds = np.asarray(pck["thresholds_mm"])
    shares = {"joints": pck["share"], "mesh": pck.get("mesh_share")}
    curves = {name: (thresholds, np.asarray(share)) for name, share in shares.items() if share is not None}
    return Picture(figures.pck(curves, "joints and mesh", kind="png"), "PCK curves after Procrustes alignment")


def chosen_rows(table: pa.Table, rules: Sequence[str], kept: int, per_rule: int) -> np.ndarray:
    """(R,) rows of a predictions table to show: up to ``kept`` kept ones, then up to ``per_rule`` rejected by each."""
    verdicts = np.array(table["verdict"].to_pylist(), dtype=object)
    videos = table["video_id"].to_pylist()
    groups = [spread_rows(videos, np.flatnonzero(verdicts == KEPT), kept)]
    groups += [spread_rows(videos, np.flatnonzero(verdicts == rule), per_rule) for rule in rules]
    return np.concatenate(groups)
