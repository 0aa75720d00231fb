"""A rasteriser with a depth buffer on plain arrays: triangles to colour, depth and body masks.

Perspective-correct, back faces culled, smooth shading and textures; hand, forearm and object share one depth buffer, so
the nearer body wins. Small and slow next to a GPU, fast enough for a world of a few thousand frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hojoint.hand.stand_in.surfaces import normals

EDGE = 1e-7  # share of a triangle
BACKGROUND, HAND, OBJECT, ARM = 0, 1, 2, 3


@dataclass(frozen=True, eq=False)
class Body:
    """A mesh in the camera frame, ready to be drawn."""

    label: int  # HAND, OBJECT, ARM
    vertices: np.ndarray  # (V, 3) m
    faces: np.ndarray  # (F, 3)
    colours: np.ndarray  # (V, 3) in [0, 1], albedo; multiplies the texture where there is one
    gloss: float  # share of the highlight
    uv: np.ndarray | None = None  # (V, 2)
    texture: np.ndarray | None = None  # (h, w, 3) uint8


@dataclass(frozen=True, eq=False)
class Light:
    """One distant lamp and the light of the room."""

    direction: np.ndarray  # (3,) unit, towards the lamp
    lamp: np.ndarray  # (3,) RGB
    room: np.ndarray  # (3,) RGB
    wrap: float  # 0 hard, 1 soft


@dataclass(frozen=True, eq=False)
class Picture:
    """What the camera sees."""

    rgb: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) float32 m, 0 where only background
    label: np.ndarray  # (H, W) uint8: BACKGROUND, HAND, OBJECT or ARM


@dataclass(frozen=True, eq=False)
class Layer:
    """The drawn bodies before they are laid over a background."""

    rgb: np.ndarray  # (H, W, 3) float32 in [0, 255], 0 on the background
    depth: np.ndarray  # (H, W) float32
    label: np.ndarray  # (H, W) uint8


def project(points: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Camera frame (N, 3) m to pixels (N, 2)."""
    return points[:, :2] / points[:, 2:] * camera[[0, 1], [0, 1]] + camera[:2, 2]


def draw(bodies: list[Body], camera: np.ndarray, size: tuple[int, int], light: Light) -> Layer:
    """Draw the bodies; ``size`` is (width, height), ``camera`` the intrinsics."""
    width, height = size
    vertices = np.concatenate([body.vertices for body in bodies])
    starts = np.cumsum([0] + [len(body.vertices) for body in bodies])
    faces = np.concatenate([body.faces + start for body, start in zip(bodies, starts, strict=False)])
    owner = np.repeat(np.arange(len(bodies)), [len(body.faces) for body in bodies])
    pixel, face, share, depth = _visible(project(vertices, camera), vertices[:, 2], faces, width, height)
    rgb = np.zeros((height * width, 3), dtype=np.float32)
    label = np.zeros(height * width, dtype=np.uint8)
    body_of = owner[face]
    for index, body in enumerate(bodies):
        rows = np.flatnonzero(body_of == index)
        local = faces[face[rows]] - starts[index]
        rgb[pixel[rows]] = _shade(body, light, local, share[rows])
        label[pixel[rows]] = body.label
    buffer = np.zeros(height * width, dtype=np.float32)
    buffer[pixel] = depth
    return Layer(rgb.reshape(height, width, 3), buffer.reshape(height, width), label.reshape(height, width))


def _visible(
    px: np.ndarray, z: np.ndarray, faces: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of every covered pixel: flat index, nearest face, perspective-correct barycentric shares (N, 3), depth."""
    corners = px[faces]
    inverse = 1.0 / np.maximum(z, 1e-3)[faces]
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    doubled = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    low = np.maximum(np.ceil(corners.min(1)), 0).astype(np.int64)
    high = np.minimum(np.floor(corners.max(1)), [width - 1, height - 1]).astype(np.int64)
    counts = np.maximum(high - low + 1, 0)
    # counter-clockwise from outside has a negative area here, because the image's y looks down
    front = (doubled < -1e-9) & (z[faces].min(1) > 0.02)
    number = np.where(front, counts[:, 0] * counts[:, 1], 0)
    keep = np.flatnonzero(number)
    number, low, across = number[keep], low[keep], counts[keep, 0]
    # linear functions of (x, y): two shares, and each divided by depth
    edges = _edges(a[keep], b[keep], c[keep], doubled[keep])
    ids = np.repeat(np.arange(len(keep)), number)
    step = np.arange(len(ids)) - np.repeat(np.cumsum(number) - number, number)
    row = step // across[ids]
    x = low[ids, 0] + step - row * across[ids]
    y = low[ids, 1] + row
    first = edges[ids, 0] * x + edges[ids, 1] * y + edges[ids, 2]
    second = edges[ids, 3] * x + edges[ids, 4] * y + edges[ids, 5]
    # a little beyond the edge: pixels on an edge that two faces share must not fall between them
    inside = np.flatnonzero((first >= -EDGE) & (second >= -EDGE) & (first + second <= 1 + EDGE))
    ids, first, second = ids[inside], first[inside], second[inside]
    flat = y[inside] * width + x[inside]
    near = inverse[keep]
    first, second, third = first * near[ids, 1], second * near[ids, 2], (1 - first - second) * near[ids, 0]
    closeness = first + second + third
    best = np.zeros(width * height)
    np.maximum.at(best, flat, closeness)
    won = np.flatnonzero(closeness >= best[flat])
    share = np.stack([third[won], first[won], second[won]], axis=1) / closeness[won, None]
    return flat[won], keep[ids[won]], share, (1.0 / closeness[won]).astype(np.float32)


def _edges(a: np.ndarray, b: np.ndarray, c: np.ndarray, doubled: np.ndarray) -> np.ndarray:
    """(F, 6): coefficients of the barycentric shares of corners b and c as functions of x, y."""
    second = np.stack([c[:, 1] - a[:, 1], a[:, 0] - c[:, 0]], axis=1)
    third = np.stack([a[:, 1] - b[:, 1], b[:, 0] - a[:, 0]], axis=1)
    columns = []
    for normal in (second, third):
        columns += [normal[:, 0], normal[:, 1], -(normal * a).sum(1)]
    return np.stack(columns, axis=1) / doubled[:, None]


def _shade(body: Body, light: Light, corners: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(N, 3) colours in [0, 255] of the pixels of one body: light per vertex, texture per pixel."""
    normal = normals(body.vertices, body.faces)
    view = -body.vertices / np.linalg.norm(body.vertices, axis=1, keepdims=True)
    facing = (normal @ light.direction + light.wrap) / (1 + light.wrap)
    half = light.direction + view
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    shine = body.gloss * np.clip(np.einsum("vi,vi->v", normal, half), 0, 1) ** 24
    ambient = light.room * (0.75 + 0.25 * -normal[:, 1:2])
    lit = ambient + light.lamp * np.clip(facing, 0, 1)[:, None]
    colour = 255 * body.colours * lit
    values = np.concatenate([colour, 255 * shine[:, None] * light.lamp], axis=1)
    if body.uv is not None:
        values = np.concatenate([values, body.uv], axis=1)
    values = values.astype(np.float32)
    share = share.astype(np.float32)
    mixed = sum(values[corners[:, k]] * share[:, k : k + 1] for k in range(3))
    assert isinstance(mixed, np.ndarray)
    if body.texture is None:
        return mixed[:, :3] + mixed[:, 3:6]
    h, w = body.texture.shape[:2]
    column = np.clip((mixed[:, 6] * w).astype(np.int64), 0, w - 1)
    row = np.clip((mixed[:, 7] * h).astype(np.int64), 0, h - 1)
    return mixed[:, :3] * (body.texture[row, column] / np.float32(255)) + mixed[:, 3:6]


def compose(
    layer: Layer, background: np.ndarray, motion: tuple[float, float], soft: float, still: tuple[int, ...] = ()
) -> Picture:
    """Lay the bodies over a background (H, W, 3) uint8, with soft edges and, if they move, the streak of the motion.

    ``motion`` is the path in pixels during the exposure, ``soft`` the lens's blur as a Gaussian sigma in pixels,
    ``still`` the labels of bodies that do not take part in the motion.
    """
    rows, columns = np.flatnonzero(layer.label.any(1)), np.flatnonzero(layer.label.any(0))
    result = background.copy()
    if len(rows):
        reach = int(np.ceil(max(abs(motion[0]), abs(motion[1])) / 2)) + 3
        height, width = layer.label.shape
        part = np.s_[
            max(0, rows[0] - reach) : min(height, rows[-1] + reach + 1),
            max(0, columns[0] - reach) : min(width, columns[-1] + reach + 1),
        ]
        label, mixed = layer.label[part], background[part]
        resting = np.isin(label, still) if still and np.hypot(*motion) >= 2 else np.zeros_like(label, dtype=bool)
        if resting.any():
            mixed = _over(mixed, layer.rgb[part], resting, (0.0, 0.0), soft)
        mixed = _over(mixed, layer.rgb[part], (label > 0) & ~resting, motion, soft)
        result[part] = np.clip(mixed, 0, 255).astype(np.uint8)
    return Picture(result, layer.depth, layer.label)


def _over(below: np.ndarray, rgb: np.ndarray, mask: np.ndarray, motion: tuple[float, float], soft: float) -> np.ndarray:
    cover = np.dstack([rgb * mask[..., None], mask.astype(np.float32)])
    cover = _streak(cover, motion)
    if soft > 0:
        cover = cv2.GaussianBlur(cover, (0, 0), soft)
    return np.asarray(cover[..., :3] + below * (1 - cover[..., 3:]))


def _streak(cover: np.ndarray, motion: tuple[float, float]) -> np.ndarray:
    length = round(float(np.hypot(*motion)))
    if length < 2:
        return cover
    size = length + 1 - length % 2
    kernel = np.zeros((size, size), dtype=np.float32)
    middle = size // 2
    dx, dy = motion[0] / 2, motion[1] / 2
    cv2.line(
        kernel,
        (round(middle - dx), round(middle - dy)),
        (round(middle + dx), round(middle + dy)),
        1.0,
    )
    kernel[middle, middle] = 1.0
    return cv2.filter2D(cover, -1, kernel / kernel.sum(), borderType=cv2.BORDER_CONSTANT)
