"""Pictures of hands and objects over images (the paper's Figs. 4 and 6): meshes, boxes, axes, sheets.

Every function takes an RGB uint8 image (H, W, 3) and returns a new one. Points are pixels of that image, (0, 0) is the
centre of its top-left pixel; depth grows away from the camera. Nothing here knows a network, a data set or a report;
curves and figures with axes are in ``figures``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cv2
import numpy as np

from hojoint.errors import InputError

MESH = (150, 196, 240)
"""Colour of a hand mesh, RGB: no skin and few objects have it."""
KEPT, REJECTED, NEUTRAL = (40, 140, 80), (196, 62, 48), (70, 78, 90)
"""Colours of verdicts, and of a frame without one."""
HAND, OBJECT, SHARED = (46, 134, 222), (240, 140, 30), (150, 80, 200)
"""Colours of the hand box, the object box and their intersection, as in all pictures."""
AXES = ((214, 48, 49), (38, 160, 78), (36, 98, 214))
FINGERS = ((230, 60, 60), (240, 170, 30), (70, 180, 75), (60, 130, 230), (160, 80, 200))
"""Colours of thumb, index, middle, ring, pinky."""
BOX_EDGES = ((0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7))
"""Edges between the corners, the first eight control points; the bits of a corner's number are (x, y, z)."""

_SUBPIXEL = 4  # bits of fraction that OpenCV's drawing functions take

Colour = tuple[int, int, int]


def closeup(image: np.ndarray, box: np.ndarray, size: int, context: float) -> tuple[np.ndarray, np.ndarray]:
    """A square of ``size`` px around a box (4,) xyxy px, and the affine (2, 3) that maps pixels of ``image`` into it.

    The square's side is the box's longer side times ``context``; beyond the image it is grey.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    side = max(x1 - x0, y1 - y0, 1.0) * context
    scale = size / side
    middle = (size - 1) / 2
    affine = np.array(
        [[scale, 0, middle - scale * (x0 + x1) / 2], [0, scale, middle - scale * (y0 + y1) / 2]], dtype=np.float64
    )
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    tile = cv2.warpAffine(image, affine, (size, size), flags=how, borderValue=(228, 230, 233))
    return tile, affine


def mapped(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 2) through an affine (2, 3)."""
    return np.asarray(points) @ affine[:, :2].T + affine[:, 2]


def mesh(
    image: np.ndarray,
    points_px: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    *,
    colours: np.ndarray | Colour = MESH,
    alpha: float = 0.85,
) -> np.ndarray:
    """A shaded mesh over an image: far faces first, each lit by how squarely it faces the camera.

    Args:
        points_px: (V, 2) px of the projected vertices.
        vertices: (V, 3) camera frame, any unit and offset; for depth and light.
        faces: (F, 3) vertex indices.
        colours: one RGB, or one per vertex (V, 3).
        alpha: share of the mesh in the blend.

    Raises:
        InputError: a pixel is not finite, or there is not one per vertex.
    """
    if len(points_px) != len(vertices) or not np.isfinite(points_px).all():
        finite = int(np.isfinite(points_px).all(axis=-1).sum())
        raise InputError(f"a mesh needs a finite pixel per vertex; found {finite} for {len(vertices)} vertices")
    shade = _light(vertices, faces)
    paint = np.broadcast_to(np.asarray(colours, dtype=np.float64), (len(vertices), 3))[faces].mean(axis=1)
    paint = np.clip(paint * shade[:, None], 0, 255)
    corners = np.round(points_px[faces] * (1 << _SUBPIXEL)).astype(np.int32)
    layer, cover = image.copy(), np.zeros(image.shape[:2], np.uint8)
    for face in np.argsort(-vertices[faces, 2].mean(axis=1), kind="stable"):
        cv2.fillConvexPoly(layer, corners[face], paint[face].tolist(), cv2.LINE_AA, _SUBPIXEL)
        cv2.fillConvexPoly(cover, corners[face], 255, cv2.LINE_8, _SUBPIXEL)
    weight = (cover[..., None] / 255.0) * alpha
    return np.round(image * (1 - weight) + layer * weight).astype(np.uint8)


def _light(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Brightness per face (F,): a lamp above and to the left of the camera, and ambient light.

    Normals are averaged over neighbouring faces, so that a coarse mesh looks round.
    """
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    flat = np.cross(b - a, c - a)  # its length is twice the area: large faces weigh more
    # A mirrored hand keeps its faces' winding, so all normals point inwards; the complete mesh shows it.
    outwards = np.sum(flat * ((a + b + c) / 3 - vertices.mean(axis=0)))
    flat = flat if outwards >= 0 else -flat
    smooth = np.zeros_like(vertices, dtype=np.float64)
    for corner in range(3):
        np.add.at(smooth, faces[:, corner], flat)
    normals = smooth[faces].sum(axis=1)
    normals = np.where(flat[:, 2:] > 0, -normals, normals)  # seen from behind: the inside of the wrist
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    lamp = np.array([-0.42, -0.58, -0.7])
    return 0.42 + 0.72 * np.clip(normals @ lamp, 0, 1)


def skeleton(image: np.ndarray, joints_px: np.ndarray, *, thickness: int = 2) -> np.ndarray:
    """The bones between 21 joints (21, 2) px, our order; a colour per finger, the wrist white. Not finite: left out."""
    out = image.copy()
    for finger, colour in enumerate(FINGERS):
        chain = [0, *range(4 * finger + 1, 4 * finger + 5)]
        for start, end in itertools.pairwise(chain):
            _line(out, joints_px[start], joints_px[end], colour, thickness)
    for joint, colour in zip(range(21), [(255, 255, 255), *(c for c in FINGERS for _ in range(4))], strict=True):
        _line(out, joints_px[joint], joints_px[joint], colour, 2 * thickness + 1)
    return out


def wireframe(image: np.ndarray, corners_px: np.ndarray, colour: Colour = OBJECT, *, thickness: int = 2) -> np.ndarray:
    """The edges of an object's 3D box (8, 2) px; the corners are the first eight of its control points."""
    out = image.copy()
    for start, end in BOX_EDGES:
        _line(out, corners_px[start], corners_px[end], colour, thickness)
    return out


def axes(image: np.ndarray, pose: np.ndarray, camera: np.ndarray, length: float, *, thickness: int = 3) -> np.ndarray:
    """An object's axes, x red, y green, z blue.

    Args:
        pose: (3, 4) model to camera, metres.
        camera: (3, 3) intrinsics of the image, px.
        length: metres.
    """
    tips = np.concatenate([np.zeros((1, 3)), np.eye(3) * length])
    cam = tips @ pose[:, :3].T + pose[:, 3]
    out = image.copy()
    if (cam[:, 2] <= 0).any():  # behind the camera
        return out
    px = (cam @ camera.T)[:, :2] / cam[:, 2:]
    for axis, colour in enumerate(AXES):
        _line(out, px[0], px[1 + axis], colour, thickness)
    return out


def box(image: np.ndarray, xyxy: np.ndarray, colour: Colour = HAND, *, thickness: int = 2) -> np.ndarray:
    """A box (4,) xyxy px; one that is not finite is left out."""
    out = image.copy()
    if np.isfinite(xyxy).all():
        x0, y0, x1, y1 = (float(value) for value in xyxy)
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            _line(out, start, end, colour, thickness)
    return out


def heat(
    image: np.ndarray, values: np.ndarray, xyxy: np.ndarray, *, colour: Colour = (255, 60, 0), alpha: float = 0.75
) -> np.ndarray:
    """A grid of weights (R, R) over a box (4,) xyxy px of the image; the strongest cell is the most opaque."""
    out = image.astype(np.float64)
    x0, y0, x1, y1 = np.round(xyxy).astype(int)
    if x1 <= x0 or y1 <= y0:
        return image.copy()
    peak = float(values.max())
    grid = cv2.resize((values / peak if peak > 0 else values).astype(np.float32), (x1 - x0, y1 - y0))
    height, width = image.shape[:2]
    top, left, bottom, right = max(y0, 0), max(x0, 0), min(y1, height), min(x1, width)
    if bottom <= top or right <= left:
        return image.copy()
    weight = np.clip(grid[top - y0 : bottom - y0, left - x0 : right - x0, None], 0, 1) * alpha
    out[top:bottom, left:right] = out[top:bottom, left:right] * (1 - weight) + np.asarray(colour) * weight
    return np.round(out).astype(np.uint8)


def error_colours(errors: np.ndarray, worst: float) -> np.ndarray:
    """(V,) errors to RGB (V, 3): blue at zero, through white, red at ``worst`` and beyond."""
    share = np.clip(np.asarray(errors) / worst, 0, 1)[:, None]
    cold, middle, hot = np.array([58, 110, 200.0]), np.array([240, 240, 240.0]), np.array([205, 45, 35.0])
    return np.where(share < 0.5, cold + (middle - cold) * 2 * share, middle + (hot - middle) * (2 * share - 1))


def captioned(image: np.ndarray, lines: Sequence[str], colour: Colour = NEUTRAL, *, scale: float = 0.42) -> np.ndarray:
    """The image with a strip of text under it, the first line in a stripe of ``colour``."""
    line_px = round(scale * 46)
    strip = np.full((line_px * len(lines) + 6, image.shape[1], 3), 250, np.uint8)
    strip[: line_px + 3] = colour
    for number, text in enumerate(lines):
        ink = (255, 255, 255) if number == 0 else (40, 44, 52)
        at = (6, line_px * (number + 1) - round(line_px * 0.22))
        cv2.putText(strip, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1, cv2.LINE_AA)
    return np.concatenate([image, strip])


def sheet(tiles: Sequence[np.ndarray], columns: int, gap: int = 8) -> np.ndarray:
    """Tiles (H, W, 3) of one size in rows of ``columns``, ``gap`` px apart, on white."""
    if not tiles:
        raise InputError("a sheet needs at least one tile; found none")
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    out = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        out[top : top + height, left : left + width] = tile
    return out


def jpeg(image: np.ndarray, quality: int = 88) -> bytes:
    """RGB to JPEG bytes."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def open_jpeg(data: bytes) -> np.ndarray:
    """JPEG or PNG bytes to RGB (H, W, 3).

    Raises:
        InputError: they are neither.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise InputError(f"expected a JPEG or PNG image, found {len(data)} bytes that are neither")
    return np.ascontiguousarray(image[..., ::-1])


def _line(image: np.ndarray, start: np.ndarray, end: np.ndarray, colour: Colour, thickness: int) -> None:
    if np.isfinite(start).all() and np.isfinite(end).all():
        a, b = (tuple(np.round(np.clip(p, -1e5, 1e5) * (1 << _SUBPIXEL)).astype(int).tolist()) for p in (start, end))
        cv2.line(image, a, b, colour, thickness, cv2.LINE_AA, _SUBPIXEL)
