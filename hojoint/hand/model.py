"""What a MANO file holds: reading it, joint orders, fingertips, mirroring (Sec. 4.2).

Right hands only; a left hand is a mirrored right one. Not here: opening the file (``mano_file``), posing the hand
(``layer``), which hand the settings name (``factory``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import scipy.sparse

from hojoint.errors import InputError
from hojoint.hand import handedness, mano_file

if TYPE_CHECKING:
    from torch import Tensor

Pose = TypeVar("Pose", np.ndarray, "Tensor")

VERTICES, JOINTS, FINGER_JOINTS = 778, 16, 15

# Gather indices, used as simple = mano[MANO_TO_SIMPLE]. Raw MANO (= HO-3D) order: wrist, index, middle, pinky, ring,
# thumb (three each), then the tips of thumb, index, middle, ring, pinky.
MANO_TO_SIMPLE = [0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20]
SIMPLE_TO_MANO = [0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3, 4, 8, 12, 16, 20]

# Vertex that stands for the tip of thumb, index, middle, ring, pinky; every code base has its own.
FINGERTIPS: dict[str, tuple[int, int, int, int, int]] = {
    "ho3d_v2": (728, 353, 442, 576, 694),  # HO-3D July 2020 to March 2022, and the paper's released code
    "ho3d_v3": (744, 333, 444, 555, 672),
    "ho3d_2020": (745, 320, 444, 555, 657),
    "freihand": (744, 320, 443, 555, 672),
    "manopth": (745, 317, 444, 556, 673),  # also manotorch and DexYCB
    "smplx": (744, 320, 443, 554, 671),
}

_SHAPES: dict[str, tuple[int, ...]] = {
    "v_template": (VERTICES, 3),
    "f": (1538, 3),
    "shapedirs": (VERTICES, 3, 10),
    "posedirs": (VERTICES, 3, 9 * FINGER_JOINTS),
    "J_regressor": (JOINTS, VERTICES),
    "weights": (VERTICES, JOINTS),
    "kintree_table": (2, JOINTS),
    "hands_mean": (3 * FINGER_JOINTS,),
    "hands_components": (3 * FINGER_JOINTS, 3 * FINGER_JOINTS),
}


@dataclass(frozen=True, eq=False)
class HandModel:
    """What a MANO file holds, as plain arrays; metres and radians, MANO's joint order."""

    v_template: np.ndarray  # (778, 3) rest pose
    faces: np.ndarray  # (1538, 3) int64; the wrist is open
    shapedirs: np.ndarray  # (778, 3, 10)
    posedirs: np.ndarray  # (778, 3, 135), times vec(R - I) of the 15 finger joints, row-major
    J_regressor: np.ndarray  # (16, 778)
    weights: np.ndarray  # (778, 16) skinning
    parents: np.ndarray  # (16,) int64, -1 for the root
    hands_mean: np.ndarray  # (45,) mean pose, axis-angle
    hands_components: np.ndarray  # (45, 45), rows are principal components


def load_mano(path: str | Path) -> HandModel:
    """Read ``MANO_RIGHT.pkl``, with or without chumpy arrays in it, or ``.npz``; a folder is searched for these names.

    Raises:
        InputError: the file does not exist, is not a MANO file, holds more than arrays, or is a left hand.
    """
    file = mano_file.find(path)
    content = mano_file.read(file, _SHAPES)
    missing = [key for key in _SHAPES if key not in content]
    if missing:
        raise InputError(f"{file} is not a MANO hand model: it lacks {', '.join(missing)}")
    arrays = {key: _array(file, key, content[key]) for key in _SHAPES}
    faces, kintree = arrays.pop("f"), arrays.pop("kintree_table")
    if handedness.is_left(arrays["J_regressor"] @ arrays["v_template"], arrays["hands_mean"]):
        raise InputError(
            f"{file} is a left hand (its rest pose is the mirror image of MANO_RIGHT's), expected the right one: "
            f"{mano_file.SET} to MANO_RIGHT.pkl, which lies beside MANO_LEFT.pkl in mano_v*.zip. Left hands in images "
            "need no model of their own: they are mirrored"
        )
    return HandModel(faces=_indices(file, faces), parents=_parents(file, kintree), **arrays)


def fingertip_ids(name: str) -> tuple[int, int, int, int, int]:
    """Vertex ids of a named fingertip set: thumb, index, middle, ring, pinky.

    Raises:
        InputError: there is no set of that name.
    """
    if name not in FINGERTIPS:
        raise InputError(f"unknown fingertip set {name!r} (mano.fingertips); known: {', '.join(FINGERTIPS)}")
    return FINGERTIPS[name]


def fingertip_errors(joints: np.ndarray, vertices: np.ndarray) -> dict[str, float]:
    """Mean distance in metres between given tips and each named set; the smallest names the set that made the labels.

    Joints are (N, 21, 3) in simple order, vertices (N, 778, 3), in one frame.
    """
    tips = joints[:, [4, 8, 12, 16, 20]]
    return {
        name: float(np.linalg.norm(vertices[:, list(ids)] - tips, axis=-1).mean()) for name, ids in FINGERTIPS.items()
    }


def mirror_points(points: Tensor) -> Tensor:
    """Left hand from right and back: points (..., 3) with x negated."""
    return points * points.new_tensor((-1.0, 1.0, 1.0))


def mirror_pose(pose: Pose) -> Pose:
    """The pose of the mirrored hand, an array or a tensor as ``pose`` is. For callers of ``filter_clip``.

    Args:
        pose: axis-angles (..., 3 n) rad, of which each joint's (x, y, z) becomes (x, -y, -z); or rotation matrices
            (..., 3, 3), of which R becomes M R M with M = diag(-1, 1, 1).

    Raises:
        InputError: the last axis is no multiple of 3, or (..., 3, 3) are no rotations: axis-angles of three joints look
            so, and are given as (..., 9).
    """
    given: Any = pose
    shape = tuple(getattr(given, "shape", ()))
    if not shape or shape[-1] == 0 or shape[-1] % 3:
        raise InputError(
            f"expected axis-angles (..., 3 n) or rotation matrices (..., 3, 3), an array or a tensor; found {shape}"
        )
    matrices = shape[-2:] == (3, 3)
    if matrices and not _are_rotations(given):
        raise InputError(
            f"expected rotation matrices, as the shape {shape} says, and found other numbers; give axis-angles as "
            "(..., 3 n), the joints of a frame side by side"
        )
    vector = np.tile([1.0, -1.0, -1.0], shape[-1] // 3)
    signs = np.outer(vector, vector) if matrices else vector
    mirrored: Pose = given * (signs.astype(given.dtype) if isinstance(given, np.ndarray) else given.new_tensor(signs))
    return mirrored


def _are_rotations(matrices: Any) -> bool:
    """Whether all finite ones of (..., 3, 3) are orthogonal, roughly; predictions may hold others."""
    array = matrices if isinstance(matrices, np.ndarray) else matrices.detach().cpu().double().numpy()
    finite = array[np.isfinite(array).all((-1, -2))]
    return bool((np.abs(finite @ finite.swapaxes(-1, -2) - np.eye(3)) < 0.1).all())


def _array(file: Path, key: str, value: Any) -> np.ndarray:
    shape = _SHAPES[key]
    expected = f"{file}: '{key}' must be finite numbers of shape {shape}"
    if scipy.sparse.issparse(value) and value.shape != shape:  # before it takes the memory of a dense one
        raise InputError(f"{expected}, found a sparse matrix {value.shape}")
    try:
        array = np.asarray(value.toarray() if scipy.sparse.issparse(value) else value)
    except (ValueError, TypeError) as error:  # a ragged list; a sparse matrix of objects
        raise InputError(f"{expected}, found a {type(value).__name__} that is no array ({error})") from None
    if key == "shapedirs" and array.ndim == 3 and array.shape[2] > 10:
        array = array[:, :, :10]  # some releases ship 20 directions; MANO's betas are the first ten
    if array.shape != shape or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise InputError(f"{expected}, found {array.dtype} {array.shape}")
    return array.astype(np.float64)


def _indices(file: Path, faces: np.ndarray) -> np.ndarray:
    if faces.min() < 0 or faces.max() >= VERTICES:
        raise InputError(f"{file}: 'f' names vertices outside 0..{VERTICES - 1}")
    return faces.astype(np.int64)


def _parents(file: Path, kintree: np.ndarray) -> np.ndarray:
    parents = kintree[0].copy()
    parents[0] = -1  # on disk 2**32 - 1 or -1: 'no parent'
    if (parents[1:] < 0).any() or (parents[1:] >= np.arange(1, JOINTS)).any():
        raise InputError(f"{file}: 'kintree_table' must name a parent before every joint, found {kintree[0]}")
    return parents.astype(np.int64)
