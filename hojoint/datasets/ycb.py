"""YCB object models as HO-3D's users keep them: ``object_models/<NAME>/{points.xyz, textured_simple.obj}``, metres.

The points give the 21 control points (Sec. 4.3) and the object metrics; the mesh, where one exists, is for drawing.
The frame is that of the PoseCNN / YCB-Video package, not of the original scans and not of BOP (millimetres).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from hojoint.datasets import listing, regions
from hojoint.errors import InputError

_MESHES = ("textured_simple.obj", "textured_simple_2000.obj")
_LARGEST = 2.0  # metres; a model beyond it was written in millimetres


@dataclass(frozen=True, eq=False)
class ObjectModel:
    """One object, in the frame of its model, metres."""

    points: np.ndarray  # (P, 3) of points.xyz
    faces: np.ndarray | None  # (F, 3) int64 into vertices; None without a mesh
    vertices: np.ndarray  # (V, 3) of the mesh; the points without one
    lo: np.ndarray  # (3,) smallest coordinates of the points
    hi: np.ndarray  # (3,) largest
    diameter_box: float  # diagonal of the box lo..hi: the diameter of the paper's ADD-0.1D
    diameter_true: float  # largest distance of two points: the usual diameter, up to a fifth smaller


def load_models(root: str | Path) -> dict[str, ObjectModel]:
    """All models under ``root`` by name.

    Raises:
        InputError: no model exists, or a file is damaged or in millimetres; the message names it.
    """
    folder = Path(root)
    return {name: load_model(folder / name) for name in names_in(folder)}


def names_in(root: str | Path) -> list[str]:
    """Names of the models under ``root``; InputError where there is none."""
    folder = Path(root)
    names = sorted(path.parent.name for path in folder.glob("*/points.xyz"))
    if not names:
        raise InputError(
            f"no object models under {folder}: expected <name>/points.xyz (of the YCB-Video models), as in "
            f"{folder / '006_mustard_bottle' / 'points.xyz'}; set data.ho3d.object_models"
        )
    return names


def files_of(root: str | Path) -> list[Path]:
    """The files of all models that shape a result: points and, where there is one, the mesh that is read."""
    folders = sorted(path.parent for path in Path(root).glob("*/points.xyz"))
    return [file for folder in folders for file in (folder / "points.xyz", *_mesh(folder)[:1])]


def _mesh(folder: Path) -> list[Path]:
    return [folder / name for name in _MESHES if (folder / name).is_file()]


def load_model(folder: Path) -> ObjectModel:
    """One model; InputError where a file is damaged or in millimetres."""
    points = _read_points(folder / "points.xyz")
    files = _mesh(folder)
    vertices, faces = read_obj(files[0]) if files else (points, None)
    return object_model(points, vertices, faces)


def object_model(
    points: np.ndarray, vertices: np.ndarray | None = None, faces: np.ndarray | None = None
) -> ObjectModel:
    """A model from points (P, 3), vertices (V, 3) m and faces (F, 3); box and diameters are those of ``points``."""
    low, high = points.min(0), points.max(0)
    return ObjectModel(
        points=points,
        faces=faces,
        vertices=points if vertices is None else vertices,
        lo=low,
        hi=high,
        diameter_box=float(np.linalg.norm(high - low)),
        diameter_true=_diameter(points),
    )


def read_obj(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and triangles (F, 3) of a Wavefront file; colours, normals and textures are ignored.

    Raises:
        InputError: the file cannot be read, or its faces do not fit its vertices.
    """
    vertices: list[list[float]] = []
    faces: list[tuple[int, int, int]] = []
    try:
        for line in Path(path).read_text(errors="replace").splitlines():
            kind, *fields = line.split() or [""]
            if kind == "v":
                vertices.append([float(field) for field in fields[:3]])
            elif kind == "f":
                corners = [int(field.split("/")[0]) for field in fields]
                # Indices count from 1; negative ones count back from the vertex read last.
                corners = [corner - 1 if corner > 0 else len(vertices) + corner for corner in corners]
                faces += [(corners[0], b, c) for b, c in itertools.pairwise(corners[1:])]
        vertex_array = np.array(vertices, dtype=np.float64).reshape(-1, 3)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a Wavefront mesh: {error}") from None
    face_array = np.array(faces, dtype=np.int64).reshape(-1, 3)
    if not len(face_array) or face_array.min() < 0 or face_array.max() >= len(vertex_array):
        raise InputError(f"{path}: {len(face_array)} faces over {len(vertex_array)} vertices do not make a mesh")
    return vertex_array, face_array


def silhouette(
    model: ObjectModel, pose: np.ndarray, camera: np.ndarray, size: Sequence[int]
) -> np.ndarray:  # fmt: skip
    """The model's outline filled, (H, W) of 0 and 1; without a mesh, its points' convex hull. Ignores occlusion.

    Args:
        model: of the object.
        pose: (3, 4) model to camera, m.
        camera: (3, 3) intrinsics, px.
        size: height and width of the mask.
    """
    vertices = model.vertices if model.faces is not None else model.points
    px = np.rint(regions.project(vertices @ pose[:, :3].T + pose[:, 3], camera)).astype(np.int32)
    mask = np.zeros((size[0], size[1]), np.uint8)
    if model.faces is None:
        cv2.fillConvexPoly(mask, cv2.convexHull(px), 1)
        return mask
    for triangle in px[model.faces]:  # one by one: fillPoly of all at once lets overlaps cancel out
        cv2.fillConvexPoly(mask, triangle, 1)
    return mask


def _read_points(path: Path) -> np.ndarray:
    try:
        points = np.array(
            [line.split()[:3] for line in listing.read_text(path).splitlines() if line.strip()], dtype=np.float64
        )
    except ValueError as error:
        raise InputError(f"{path} must hold one 'x y z' per line: {error}") from None
    if points.ndim != 2 or points.shape[1] != 3 or len(points) < 4 or not np.isfinite(points).all():
        raise InputError(f"{path} must hold at least four lines 'x y z' of numbers, found shape {points.shape}")
    if np.ptp(points, axis=0).max() > _LARGEST:
        raise InputError(f"{path} spans {np.ptp(points, axis=0).max():.0f} m: it must be in metres, not millimetres")
    return points


def _diameter(points: np.ndarray) -> float:
    with contextlib.suppress(QhullError):  # flat point sets have no hull; all pairs then
        points = points[ConvexHull(points).vertices]  # the farthest pair lies on the hull
    return float(pdist(points).max())
