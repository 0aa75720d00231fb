"""The annotation of one HO-3D frame: which keys it must have, and its numbers in our frame and joint order.

HO-3D uses OpenGL's camera frame (y up, looking along -z) and MANO's joint order. Frames without annotation exist: their
keys are there and their values are None. Other sets of the same authors (H2O-3D, two hands) have other keys.
"""

from __future__ import annotations

import re
from typing import Any

import cv2
import numpy as np

from hojoint.errors import InputError
from hojoint.hand.model import MANO_TO_SIMPLE

GL_TO_CV = np.diag([1.0, -1.0, -1.0])
NEEDED = {
    "train": ("objRot", "handJoints3D", "objTrans", "objName", "camMat", "handPose", "handBeta"),
    "evaluation": ("objRot", "handJoints3D", "objTrans", "objName", "camMat", "handBoundingBox"),
}
TWO_HANDS = ("right", "left")
_NONE = re.compile(  # a key's string, a pickle's note of it (text, or 1, 4, or no bytes), and None
    rb"(?:%s)['\"]?\n?(?:p\d+\n|q.|r.{4}|\x94)?N"
    % b"|".join(key.encode() for key in sorted({key for keys in NEEDED.values() for key in keys})),
    re.DOTALL,
)


def may_lack_values(data: bytes, split: str) -> bool:
    """Whether the bytes of a meta file need a closer look: a key is absent or may be None. Reads no pickle."""
    return any(key.encode() not in data for key in NEEDED[split]) or _NONE.search(data) is not None


def fault_of(meta: object, split: str) -> tuple[str, str] | None:
    """What an annotation lacks, as (kind, words); None where it has all.

    Kinds: 'meta_damaged' (no dict), 'meta_empty' (keys whose value is None), 'meta_keys' (keys that are absent).
    """
    if not isinstance(meta, dict):
        return "meta_damaged", f"holds a {type(meta).__name__}, not a dict of an annotation"
    keys = NEEDED[split]
    if empty := [key for key in keys if key in meta and meta[key] is None]:
        return "meta_empty", f"holds no annotation ({', '.join(empty)} {'is' if len(empty) == 1 else 'are'} None)"
    if absent := [key for key in keys if key not in meta]:
        there = ", ".join(sorted(map(str, meta)))
        return "meta_keys", f"lacks the key{'s'[: len(absent) > 1]} {', '.join(absent)}; it has {there or 'none'}"
    return None


def remedy_of(kind: str, meta: object, split: str) -> str:
    """What to do about a fault of ``fault_of``."""
    if kind == "meta_empty":
        return (
            f"take the {split}.txt of this version of the data, or set data.ho3d.missing=leave_out to drop and count "
            "such frames"
        )
    if kind == "meta_keys":
        if isinstance(meta, dict) and any(str(key).lower().startswith(TWO_HANDS) for key in meta):
            return "this looks like a set with two hands (H2O-3D); only HO-3D v2 and v3, with one right hand, are read"
        if split == "train" and isinstance(meta, dict) and "handBoundingBox" in meta:
            return "this looks like the evaluation split, whose hands have no labels; only 'train' can be trained on"
        return "only HO-3D v2 and v3 are read; fetch HO-3D again"
    return "fetch HO-3D again"


def joints_cv(meta: dict[str, Any], name: str) -> np.ndarray:
    """Joints (21, 3) m, CV frame, our joint order; InputError where the meta lacks them."""
    return (array(meta, "handJoints3D", (21, 3), name) @ GL_TO_CV)[MANO_TO_SIMPLE]


def hand_pose(meta: dict[str, Any], name: str, mean: np.ndarray | None = None) -> np.ndarray:
    """Pose (48,) rad, global orientation in the CV frame; InputError where the meta lacks it.

    ``mean`` (45,) is added to the fingers; None where labels are relative to the flat hand.

    Turning the camera's axes turns the global orientation alone. MANO turns about its wrist, not its origin, so a
    handTrans would change too; it is not needed here, for all targets are wrist-centred.
    """
    pose = array(meta, "handPose", (48,), name).copy()
    root, _ = cv2.Rodrigues(pose[:3])
    pose[:3] = cv2.Rodrigues(GL_TO_CV @ root)[0][:, 0]
    if mean is not None:
        pose[3:] += mean
    return pose


def hand_betas(meta: dict[str, Any], name: str) -> np.ndarray:
    """Betas (10,); InputError where the meta lacks them."""
    return array(meta, "handBeta", (10,), name)


def object_pose(meta: dict[str, Any], name: str) -> np.ndarray:
    """Object model to CV camera, (3, 4) m; InputError where the meta lacks it."""
    rotation, _ = cv2.Rodrigues(array(meta, "objRot", (3,), name))
    return GL_TO_CV @ np.column_stack([rotation, array(meta, "objTrans", (3,), name)])


def array(meta: dict[str, Any], key: str, shape: tuple[int, ...], name: str) -> np.ndarray:
    """One field as float64 of ``shape``; v2 and v3 differ in type and in flat or column form.

    Raises:
        InputError: the field has another size, or numbers that are not finite.
    """
    if key not in meta:
        raise InputError(f"{name}: no '{key}' in its annotation, which has {', '.join(sorted(map(str, meta)))}")
    value = meta[key]
    try:
        numbers = np.asarray([] if value is None else value, dtype=np.float64)
    except (ValueError, TypeError):
        raise InputError(f"{name}: '{key}' must hold {shape} numbers, found others; fetch HO-3D again") from None
    if numbers.size != np.prod(shape):
        raise InputError(
            f"{name}: '{key}' must hold {shape} numbers, found {None if value is None else numbers.shape}; "
            "fetch HO-3D again"
        )
    if not np.isfinite(numbers).all():
        raise InputError(f"{name}: '{key}' holds NaN or infinite numbers; fetch HO-3D again")
    return numbers.reshape(shape)
