"""Objects: procedural meshes with textures, sized like the YCB objects of HO-3D, and shapes that HO-3D lacks.

Every object is a loft (superellipse sections along an axis), some with a handle. The YCB names say what each stands in
for: sizes, orientation of the axes and file layout agree, the surfaces are the project's own.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import cKDTree

from hojoint.hand.stand_in.surfaces import normals as normals_of
from hojoint.synthetic.looks import label_texture

YCB_LABELS = {
    "003_cracker_box": 2,
    "004_sugar_box": 3,
    "006_mustard_bottle": 5,
    "010_potted_meat_can": 9,
    "011_banana": 10,
    "019_pitcher_base": 11,
    "021_bleach_cleanser": 12,
    "025_mug": 14,
    "035_power_drill": 15,
}
SURFACE_POINTS = 2620  # as many as YCB-Video's points.xyz hold


@dataclass(frozen=True, eq=False)
class Shape:
    """A closed mesh in its own frame, metres, with texture coordinates and a signed distance."""

    name: str
    vertices: np.ndarray  # (V, 3)
    faces: np.ndarray  # (F, 3) counter-clockwise from outside
    uv: np.ndarray  # (V, 2) in [0, 1]
    texture: np.ndarray  # (128, 128, 3) uint8 RGB
    points: np.ndarray  # (2620, 3) on the surface
    normals: np.ndarray  # (2620, 3) outward, of those points
    tree: cKDTree = field(repr=False)

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Signed distance (N,) in metres, negative inside; exact to the spacing of the surface points.

        Inside is what lies behind all of the nearest surface points: one alone errs beside an edge.
        """
        apart, nearest = self.tree.query(points, k=4)
        offset = points[:, None] - self.points[nearest]
        inside = (np.einsum("nki,nki->nk", offset, self.normals[nearest]) < 0).all(1)
        return np.where(inside, -apart[:, 0], apart[:, 0])


@dataclass(frozen=True, eq=False)
class _Part:
    """A piece of a mesh before texture and sampling."""

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray


@functools.cache
def ycb_shape(name: str) -> Shape:
    """One of the stand-ins for the YCB objects of HO-3D."""
    index = YCB_LABELS[name]
    texture = label_texture(np.random.default_rng([index, 77]), np.array(_YCB_COLOURS[name], dtype=float))
    return make_shape(name, _YCB_PARTS[name](), texture, seed=index)


def wild_shape(rng: np.random.Generator) -> Shape:
    """A shape of the wild domain, with random size, proportions, profile and texture."""
    kind = str(rng.choice(("box", "can", "bottle", "ball", "stick", "plate", "cup", "tube")))
    long = rng.uniform(0.06, 0.2)
    if kind == "box":
        parts = [_box(*(rng.uniform((0.025, 0.04, 0.06), (0.06, 0.09, 0.2))))]
    elif kind == "can":
        parts = [_turned([(-0.5, 0.95), (-0.47, 1), (0.47, 1), (0.5, 0.93)], rng.uniform(0.02, 0.038), long)]
    elif kind == "bottle":
        neck = rng.uniform(0.3, 0.6)
        profile = [(-0.5, 0.9), (-0.47, 1), (0.1, 1), (0.25, 0.85), (0.36, neck), (0.5, neck * 0.95)]
        parts = [_turned(profile, rng.uniform(0.022, 0.04), rng.uniform(0.12, 0.24))]
    elif kind == "ball":
        angles = np.linspace(-1.45, 1.45, 11)
        parts = [_turned([(np.sin(a) / 2, np.cos(a)) for a in angles], rng.uniform(0.025, 0.042), None)]
    elif kind == "stick":
        parts = [_turned([(-0.5, 0.5), (-0.46, 1), (0.4, 1), (0.5, 0.25)], rng.uniform(0.005, 0.014), long)]
    elif kind == "plate":
        parts = [_box(rng.uniform(0.008, 0.018), rng.uniform(0.05, 0.08), rng.uniform(0.09, 0.17))]
    elif kind == "cup":
        parts = [_turned([(-0.5, 0.72), (-0.47, 0.76), (0.5, 1.0)], rng.uniform(0.03, 0.042), rng.uniform(0.07, 0.12))]
    else:
        bend = rng.uniform(0, 0.9)
        parts = [_bent(rng.uniform(0.09, 0.2), rng.uniform(0.009, 0.02), bend)]
    colours = rng.uniform(10, 250, (3, 3))
    return make_shape(f"wild_{kind}", parts, label_texture(rng, colours), seed=int(rng.integers(2**31)))


def make_shape(name: str, parts: list[_Part], texture: np.ndarray, seed: int) -> Shape:
    """Join parts into one mesh and sample its surface."""
    offset, vertices, faces, uv = 0, [], [], []
    for part in parts:
        vertices.append(part.vertices)
        faces.append(part.faces + offset)
        uv.append(part.uv)
        offset += len(part.vertices)
    all_vertices, all_faces = np.concatenate(vertices), np.concatenate(faces)
    points, normals = _sample(all_vertices, _outer(parts, all_faces), np.random.default_rng(seed))
    return Shape(name, all_vertices, all_faces, np.concatenate(uv), texture, points, normals, cKDTree(points))


def _outer(parts: list[_Part], faces: np.ndarray) -> np.ndarray:
    """The faces that do not lie inside another part, by the sign of the nearest vertex's normal."""
    if len(parts) == 1:
        return faces
    keep, offset = [], 0
    for part in parts:
        inside = np.zeros(len(part.faces), dtype=bool)
        middles = part.vertices[part.faces].mean(1)
        for other in parts:
            if other is not part:
                normal = normals_of(other.vertices, other.faces)
                nearest = cKDTree(other.vertices).query(middles)[1]
                inside |= np.einsum("ni,ni->n", middles - other.vertices[nearest], normal[nearest]) < -0.001
        keep.append(part.faces[~inside] + offset)
        offset += len(part.vertices)
    return np.concatenate(keep)


def _sample(vertices: np.ndarray, faces: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points spread evenly over the surface, with face normals; the extreme vertices are among them."""
    corners = vertices[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1)
    ends = np.concatenate([vertices.argmin(0), vertices.argmax(0)])
    chosen = rng.choice(len(faces), SURFACE_POINTS - len(ends), p=area / area.sum())
    a, b = rng.uniform(size=(2, len(chosen), 1))
    a, b = np.where(a + b > 1, 1 - a, a), np.where(a + b > 1, 1 - b, b)
    points = (
        corners[chosen, 0]
        + a * (corners[chosen, 1] - corners[chosen, 0])
        + b * (corners[chosen, 2] - corners[chosen, 0])
    )
    of_end = [int(np.argmax((faces == vertex).any(1))) for vertex in ends]
    unit = cross / (area[:, None] + 1e-15)
    return np.concatenate([points, vertices[ends]]), np.concatenate([unit[chosen], unit[of_end]])


def _loft(centres: np.ndarray, halves: np.ndarray, power: float, across: np.ndarray, columns: int = 24) -> _Part:
    """A tube of superellipse sections (S, 3), (S, 2), capped; ``across`` (S, 2, 3) are the section's two axes."""
    angles = np.linspace(0, 2 * np.pi, columns + 1)
    cosine, sine = np.cos(angles), np.sin(angles)
    radius = (np.abs(cosine) ** power + np.abs(sine) ** power) ** (-1 / power)
    x, y = radius * cosine, radius * sine  # even along the sides: neither texture nor triangles are stretched
    ring = np.einsum("s,m,sc->smc", halves[:, 0], x, across[:, 0]) + np.einsum(
        "s,m,sc->smc", halves[:, 1], y, across[:, 1]
    )
    points = (centres[:, None] + ring).reshape(-1, 3)
    sections, width = len(centres), columns + 1
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(centres, axis=0), axis=1))])
    v = np.repeat(length / length[-1], width)
    uv = np.stack([np.tile(np.linspace(0, 1, width), sections), 0.08 + 0.84 * v], axis=1)
    a = (np.arange(sections - 1)[:, None] * width + np.arange(columns)).ravel()
    faces = np.concatenate(
        [np.stack([a, a + 1, a + width + 1], axis=1), np.stack([a, a + width + 1, a + width], axis=1)]
    )
    caps, cap_uv = np.stack([centres[0], centres[-1]]), np.array([[0.5, 0.0], [0.5, 1.0]])
    first, last, m = len(points), len(points) + 1, np.arange(columns)
    top = (sections - 1) * width
    faces = np.concatenate(
        [
            faces,
            np.stack([np.full(columns, first), m + 1, m], axis=1),
            np.stack([np.full(columns, last), top + m, top + m + 1], axis=1),
        ]
    )
    return _Part(np.concatenate([points, caps]), faces, np.concatenate([uv, cap_uv]))


def _upright(sections: int) -> np.ndarray:
    return np.tile(np.eye(3)[:2], (sections, 1, 1))


def _box(x: float, y: float, z: float, power: float = 9.0) -> _Part:
    """A box with rounded edges, extents in metres."""
    rounding = min(x, y, z) * 0.06
    heights = np.concatenate([[-0.5, -0.5], np.linspace(-0.46, 0.46, 9), [0.5, 0.5]]) * z
    heights[[1, -2]] = [-z / 2 + rounding, z / 2 - rounding]
    heights[0], heights[-1] = -z / 2, z / 2
    inset = np.zeros(len(heights))
    inset[[0, -1]] = rounding
    halves = np.stack([x / 2 - inset, y / 2 - inset], axis=1)
    centres = np.stack([np.zeros_like(heights), np.zeros_like(heights), heights], axis=1)
    return _loft(centres, halves, power, _upright(len(heights)), columns=32)


def _turned(
    profile: list[tuple[float, float]], radius: float, height: float | None, flat: float = 1.0, power: float = 2.0
) -> _Part:
    """A body along z; ``profile`` holds (height share, radius share), ``flat`` squeezes y; no height means 2 radius."""
    height = 2 * radius if height is None else height
    shares = np.array(profile)
    heights = np.unique(np.concatenate([np.linspace(shares[0, 0], shares[-1, 0], 7), shares[:, 0]]))
    widths = np.interp(heights, shares[:, 0], shares[:, 1]) * radius
    centres = np.stack([np.zeros_like(heights), np.zeros_like(heights), heights * height], axis=1)
    return _loft(centres, np.stack([widths, widths * flat], axis=1), power, _upright(len(heights)))


def _bent(length: float, radius: float, bend: float) -> _Part:
    """A tube along y, bent in the x-y plane by ``bend`` radians, thinner at its ends."""
    share = np.linspace(-0.5, 0.5, 11)
    if bend < 1e-3:
        centres = np.stack([np.zeros(11), share * length, np.zeros(11)], axis=1)
        tangent = np.tile([0.0, 1.0, 0.0], (11, 1))
    else:
        turn, arc = share * bend, length / bend
        centres = np.stack([arc * (1 - np.cos(turn)), arc * np.sin(turn), np.zeros(11)], axis=1)
        tangent = np.stack([np.sin(turn), np.cos(turn), np.zeros(11)], axis=1)
    side = np.cross(tangent, [0.0, 0.0, 1.0])
    up = np.tile([0.0, 0.0, 1.0], (11, 1))
    width = radius * np.sqrt(np.clip(1 - (np.abs(share) / 0.54) ** 3, 0.05, 1))
    across = np.stack([up, side], axis=1)
    return _loft(centres, np.stack([width, width], axis=1), 2.2, across, columns=14)


def _handle(x: float, low: float, high: float, reach: float, thick: float) -> _Part:
    """A bow in the x-z plane that starts and ends at ``x``."""
    turn = np.linspace(-np.pi / 2, np.pi / 2, 11)
    middle, half = (low + high) / 2, (high - low) / 2
    centres = np.stack([x + reach * np.cos(turn), np.zeros(11), middle + half * np.sin(turn)], axis=1)
    tangent = np.gradient(centres, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.tile([0.0, 1.0, 0.0], (11, 1))
    across = np.stack([np.cross(side, tangent), side], axis=1)
    return _loft(centres, np.full((11, 2), thick), 2.0, across, columns=10)


def _moved(part: _Part, offset: tuple[float, float, float], turn: np.ndarray | None = None) -> _Part:
    vertices = part.vertices if turn is None else part.vertices @ turn.T
    return _Part(vertices + np.array(offset), part.faces, part.uv)


def _mustard() -> list[_Part]:
    body = [(-0.5, 0.9), (-0.46, 1), (0.1, 0.98), (0.24, 0.75), (0.32, 0.38), (0.36, 0.36), (0.4, 0.3), (0.5, 0.15)]
    return [_moved(_turned(body, 0.048, 0.190, flat=0.66, power=2.6), (0, 0, 0.012))]


def _bleach() -> list[_Part]:
    body = [(-0.5, 0.93), (-0.47, 1), (0.12, 1), (0.27, 0.7), (0.36, 0.36), (0.38, 0.42), (0.5, 0.40)]
    return [_moved(_turned(body, 0.051, 0.250, flat=0.66, power=2.6), (0, 0, 0.013))]


def _mug() -> list[_Part]:
    cup = _turned([(-0.5, 0.93), (-0.47, 1), (0.5, 1)], 0.0465, 0.081)
    return [_moved(cup, (-0.005, 0, 0)), _handle(0.038, -0.024, 0.026, 0.026, 0.0055)]


def _pitcher() -> list[_Part]:
    jug = _turned([(-0.5, 0.85), (-0.47, 0.88), (0.3, 0.95), (0.5, 1.0)], 0.070, 0.240)
    return [_moved(jug, (-0.010, 0, -0.026)), _handle(0.050, -0.10, 0.045, 0.036, 0.009)]


def _drill() -> list[_Part]:
    lying = np.array([[0, 0, 1.0], [0, 1.0, 0], [-1.0, 0, 0]])
    standing = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    barrel = _turned([(-0.5, 0.85), (-0.45, 1), (0.2, 1), (0.3, 0.7), (0.42, 0.6), (0.5, 0.2)], 0.028, 0.184)
    grip = _box(0.040, 0.044, 0.12, power=3.0)
    foot = _box(0.085, 0.057, 0.032)
    return [
        _moved(barrel, (0.0, 0.045, 0), lying),
        _moved(grip, (-0.045, -0.02, 0), standing),
        _moved(foot, (-0.035, -0.094, 0), standing),
    ]


_YCB_PARTS = {
    "003_cracker_box": lambda: [_moved(_box(0.072, 0.164, 0.213), (0, 0, -0.005))],
    "004_sugar_box": lambda: [_moved(_box(0.049, 0.094, 0.176), (0, 0, -0.004))],
    "006_mustard_bottle": _mustard,
    "010_potted_meat_can": lambda: [_moved(_box(0.101, 0.059, 0.083, power=4.5), (-0.002, 0, -0.008))],
    "011_banana": lambda: [_bent(0.190, 0.018, 1.3)],
    "019_pitcher_base": _pitcher,
    "021_bleach_cleanser": _bleach,
    "025_mug": _mug,
    "035_power_drill": _drill,
}
_YCB_COLOURS = {
    "003_cracker_box": ((178, 30, 34), (235, 205, 90), (250, 245, 235)),
    "004_sugar_box": ((240, 205, 60), (40, 70, 150), (250, 250, 245)),
    "006_mustard_bottle": ((236, 190, 20), (160, 30, 30), (30, 90, 50)),
    "010_potted_meat_can": ((40, 60, 130), (230, 200, 60), (180, 60, 50)),
    "011_banana": ((235, 205, 70), (225, 195, 60), (110, 80, 30)),
    "019_pitcher_base": ((60, 110, 190), (70, 125, 200), (50, 95, 170)),
    "021_bleach_cleanser": ((235, 235, 232), (30, 70, 160), (200, 40, 40)),
    "025_mug": ((200, 40, 36), (205, 48, 40), (190, 35, 32)),
    "035_power_drill": ((220, 120, 30), (40, 40, 42), (70, 70, 75)),
}
