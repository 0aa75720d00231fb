"""From an annotated image to a Sample: cut the region around hand and object and bring every pixel number along.

Shared by the readers. Not here: what an annotation says and in which convention, which each reader knows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from hojoint import crops
from hojoint.config import CropConfig
from hojoint.errors import InputError
from hojoint.records import Sample

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
JPEG_TAIL = 64  # bytes at the end of a file, without the zeros it is padded with, among which JPEG_END must be
NO_BOX = np.full(4, np.nan)
NO_CAMERA = np.full((3, 3), np.nan)
NO_POSE = np.full((3, 4), np.nan)
NO_POINTS = np.full((21, 2), np.nan)


def cut_sample(
    name: str,
    image: np.ndarray,
    *,
    crop: CropConfig,
    region_px: int | None,
    factor: float,
    hand_box: np.ndarray,
    joints_px: np.ndarray = NO_POINTS,
    pose: np.ndarray | None = None,
    betas: np.ndarray | None = None,
    camera: np.ndarray = NO_CAMERA,
    object_box: np.ndarray = NO_BOX,
    control_px: np.ndarray = NO_POINTS,
    object_mask: np.ndarray | None = None,
    object_name: str = "",
    object_pose: np.ndarray = NO_POSE,
) -> Sample:
    """The Sample of one annotated image; labels as in ``Sample``, but in px of ``image``, NaN or None where unknown.

    ``region_px`` bounds the region's longer side, ``factor`` is its side in crops: 1 is the crop alone,
    ``crops.region_factor`` leaves room to augment. Without an ``object_name`` the object's box only widens the crop.
    """
    region, mask, affine = _cut(image, object_mask, hand_box, object_box, crop, region_px, factor)
    return Sample(
        name=name,
        image=region,
        hand_box=_real(crops.map_box(affine, hand_box)),
        object_box=_real(crops.map_box(affine, object_box)),
        camera=_real(crops.map_camera(affine, camera)),
        joints_px=_real(crops.map_points(affine, joints_px)),
        pose=_real(np.full(48, np.nan) if pose is None else pose),
        betas=_real(np.full(10, np.nan) if betas is None else betas),
        has_object=object_name != "",
        control_px=_real(crops.map_points(affine, control_px)),
        object_mask=mask,
        object_name=object_name,
        object_pose=_real(object_pose),
    )


def _cut(
    image: np.ndarray,
    mask: np.ndarray | None,
    hand_box: np.ndarray,
    object_box: np.ndarray,
    crop: CropConfig,
    region_px: int | None,
    factor: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The region, its object mask, and the affine (2, 3) from px of the image to px of the region."""
    context = crop.context if np.isfinite(object_box).all() else crop.hand_context
    around = crops.union_box(crops.grow(hand_box, context), crops.grow(object_box, context))
    height, width = image.shape[:2]
    if crop.clip:  # as the crop will be, or part of its square would lie outside the region and turn black
        around = np.clip(around, 0, [width, height, width, height])
    region, affine = crops.cut_region(image, around, factor, region_px)
    if mask is None:
        return region, np.zeros(region.shape[:2], np.uint8), affine
    x0, y0, x1, y1 = crops.whole_pixels(around, factor, width, height)
    region_mask = cv2.resize(mask[y0:y1, x0:x1], region.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return region, np.ascontiguousarray(region_mask), affine


def box_of(px: np.ndarray) -> np.ndarray:
    """Tight box (4,) xyxy px of points (N, 2) px."""
    return np.concatenate([px.min(0), px.max(0)])


def project(points: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Points of the camera frame (N, 3) m to pixels (N, 2), by intrinsics (3, 3) px."""
    homogeneous = points @ camera.T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB.

    Raises:
        InputError: the image is missing or damaged.
    """
    return read_file(path)[1]


def read_file(path: Path) -> tuple[bytes, np.ndarray]:
    """The bytes of an image file, and their picture (H, W, 3) uint8 RGB.

    Raises:
        InputError: the image is missing or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing; fetch the data set again")
    data = path.read_bytes()
    image = decoded(data)
    if image is None:
        raise InputError(f"{path} is not a complete image; fetch the data set again")
    return data, image


def decoded(data: bytes) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB of a file's bytes; None where they are no complete image."""
    # libjpeg fills what is missing of a JPEG with grey and no error, so its end is checked here.
    if data.startswith(JPEG_START) and JPEG_END not in data.rstrip(b"\0")[-JPEG_TAIL:]:
        return None
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def fingerprint(names: Iterable[str], files: Iterable[Path]) -> str:
    """Twelve hex digits of names and the bytes of some files: tells one version of a data set from another.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    digest = hashlib.sha256("\n".join(names).encode())
    for file in files:
        try:
            digest.update(file.read_bytes())
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror}; fetch the data set again") from None
    return digest.hexdigest()[:12]


def _real(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float32)
