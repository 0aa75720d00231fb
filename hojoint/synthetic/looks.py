"""Appearance: skin, sleeves, packages, rooms behind the hand, lamps, and what a camera does to a picture.

Everything is drawn from a generator, with ranges that a ``Domain`` sets. Nothing here knows poses.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from hojoint.hand.stand_in import anatomy
from hojoint.hand.stand_in import mesh as hand_mesh
from hojoint.hand.stand_in import surfaces as meshes
from hojoint.hand.stand_in.anatomy import BONES, FINGERS
from hojoint.synthetic.render import Light

TONES = np.array(  # skin from light to dark, RGB albedo
    [
        (0.96, 0.80, 0.72),
        (0.90, 0.70, 0.58),
        (0.80, 0.59, 0.46),
        (0.62, 0.43, 0.32),
        (0.43, 0.29, 0.22),
        (0.28, 0.19, 0.15),
    ]
)
TEXTURE_PX = 128
BACKGROUNDS = ("gradient", "cloud", "checker", "stripes", "clutter", "desk", "grain")


@dataclass(frozen=True, eq=False)
class Subject:
    """A person: betas, skin and sleeve."""

    betas: np.ndarray  # (10,)
    skin: np.ndarray  # (778, 3) albedo of the hand
    arm: np.ndarray  # (3,) albedo of the forearm
    sleeve: float  # share of the forearm's length, from the wrist, that is bare


@dataclass(frozen=True)
class Finish:
    """What lens and sensor do to a picture."""

    exposure: float
    gamma: float
    balance: tuple[float, float, float]
    noise: float  # sigma, grey levels
    soft: float  # lens blur, sigma in px


def draw_subject(rng: np.random.Generator, tones: tuple[float, float], spread: float) -> Subject:
    """A person with a skin tone inside ``tones`` (0 light, 1 dark) and betas of std ``spread``."""
    betas = np.clip(rng.normal(0, spread, 10), -2.2, 2.2)
    tone = rng.uniform(*tones) * (len(TONES) - 1)
    base = np.array([np.interp(tone, np.arange(len(TONES)), TONES[:, c]) for c in range(3)])
    base = np.clip(base * rng.normal(1, 0.035, 3), 0.08, 1)
    palm, redness, nail, mottle = _skin_masks()
    skin = base * (1 + palm[:, None] * (0.06 + 0.5 * np.clip(0.5 - base.mean(), 0, 0.4)))
    skin = skin * (1 + redness[:, None] * np.array([0.02, -0.09, -0.08]))
    skin = skin * (1 - nail[:, None]) + nail[:, None] * np.clip(base * [1.1, 1.08, 1.1] + 0.04, 0, 1)
    skin = np.clip(skin * (1 + rng.uniform(0.01, 0.05) * mottle[:, None]), 0.05, 1)
    arm = base if rng.random() < 0.5 else rng.uniform(0.08, 0.9, 3)
    return Subject(betas, skin, arm, sleeve=float(rng.uniform(0.0, 0.6)))


@functools.cache
def _skin_masks() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Per vertex: palm side, redness of knuckles and tips, nails, and fixed mottling."""
    mesh = hand_mesh.build()
    normal = meshes.normals(mesh.vertices, mesh.faces)
    palm = np.clip(-normal[:, 1] * 1.5, 0, 1)
    redness, nail = np.zeros(len(normal)), np.zeros(len(normal))
    for index, finger in enumerate(FINGERS):
        along, owner = mesh.along[:, index], mesh.chain[:, index] > 0.9
        bones = np.cumsum(BONES[finger])
        back = normal @ anatomy.directions_to_model(anatomy.finger_frame(finger)[2])
        for joint in (0.0, bones[0], bones[1]):
            redness = np.maximum(redness, owner * np.exp(-(((along - joint) / 0.006) ** 2)) * np.clip(back, 0, 1))
        redness = np.maximum(redness, owner * np.clip((along - bones[2] + 0.015) / 0.015, 0, 1))
        nail = np.maximum(nail, owner * (back > 0.75) * (along > bones[2] - 0.013) * (along < bones[2] - 0.001))
    wave = np.sin(mesh.vertices @ np.array([[310.0, 190, -250], [-170, 260, 330], [90, -400, 210]])).sum(1) / 3
    return palm, redness, nail.astype(float), wave


def draw_light(rng: np.random.Generator, strength: tuple[float, float], colour: float, cone: float) -> Light:
    """A lamp above the hand, on the camera's side; brightness and tint in ranges.

    Its direction is Gaussian around (0, -0.75, -0.65), with a deviation of tan(``cone``) / 2 along each axis.

    Args:
        cone: rad; more than 1.3 counts as 1.3.
    """
    direction = np.array([0.0, -0.75, -0.65]) + rng.normal(0, 1, 3) * np.tan(min(cone, 1.3)) * 0.5
    direction[2] = -abs(direction[2]) - 0.1
    lamp = rng.uniform(*strength) * np.clip(rng.normal(1, colour, 3), 0.5, 1.5)
    room = rng.uniform(0.28, 0.55) * np.clip(rng.normal(1, colour * 0.7, 3), 0.6, 1.4)
    return Light(direction / np.linalg.norm(direction), lamp, room, float(rng.uniform(0.05, 0.5)))


def draw_background(rng: np.random.Generator, size: tuple[int, int], kinds: tuple[str, ...], calm: float) -> np.ndarray:
    """A picture (H, W, 3) uint8 of one of the kinds; ``calm`` 0..1 lowers contrast and saturation."""
    width, height = size
    kind = str(rng.choice(kinds))
    colours = rng.uniform(15, 245, (6, 3))
    grey = colours.mean(1, keepdims=True)
    colours = (1 - calm) * colours + calm * (0.35 * colours + 0.65 * (0.4 * grey + 90))
    image = _PAINTERS[kind](rng, width, height, colours)
    if kind in ("gradient", "cloud") or rng.random() < 0.4:
        image = _table(rng, image, colours[4:6])
    if rng.random() < 0.7 * (1 - calm) + 0.2:
        image = _clutter(rng, image, colours, int(rng.integers(2, 9)))
    image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.6, 2.2)) * height / 240)
    return np.clip(image, 0, 255).astype(np.uint8)


def _gradient(rng: np.random.Generator, width: int, height: int, colours: np.ndarray) -> np.ndarray:
    turn = rng.uniform(0, 2 * np.pi)
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, width), np.linspace(-0.5, 0.5, height))
    share = np.clip(0.5 + x * np.cos(turn) + y * np.sin(turn), 0, 1)[..., None]
    return np.asarray(colours[0] * share + colours[1] * (1 - share), dtype=np.float32)


def _cloud(rng: np.random.Generator, width: int, height: int, colours: np.ndarray) -> np.ndarray:
    total = np.zeros((height, width), dtype=np.float32)
    for octave in (3, 6, 12, 24, 48):
        grid = rng.normal(size=(octave, octave * 4 // 3)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * (3 / octave) ** 0.8
    share = np.clip(0.5 + 0.35 * total, 0, 1)[..., None]
    return np.asarray(colours[0] * share + colours[1] * (1 - share), dtype=np.float32)


def _checker(rng: np.random.Generator, width: int, height: int, colours: np.ndarray) -> np.ndarray:
    turn, pitch = rng.uniform(0, np.pi), rng.uniform(0.06, 0.25) * height
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    a = np.floor((x * np.cos(turn) + y * np.sin(turn)) / pitch)
    b = np.floor((y * np.cos(turn) - x * np.sin(turn)) / pitch * rng.uniform(0.4, 1))
    return np.where(((a + b) % 2 == 0)[..., None], colours[0], colours[1]).astype(np.float32)


def _stripes(rng: np.random.Generator, width: int, height: int, colours: np.ndarray) -> np.ndarray:
    turn, pitch = rng.uniform(0, np.pi), rng.uniform(0.03, 0.2) * height
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    phase = (x * np.cos(turn) + y * np.sin(turn)) / pitch
    return np.asarray(colours[(np.floor(phase) % 3).astype(int)], dtype=np.float32)


def _grain(rng: np.random.Generator, width: int, height: int, colours: np.ndarray) -> np.ndarray:
    """Wood: noise stretched along one direction."""
    fine = rng.normal(size=(height // 2, 12)).astype(np.float32)
    share = cv2.GaussianBlur(cv2.resize(fine, (width, height), interpolation=cv2.INTER_CUBIC), (0, 0), 1.5)
    share = np.clip(0.5 + 0.3 * share, 0, 1)[..., None]
    if rng.random() < 0.5:
        share = cv2.resize(np.ascontiguousarray(share.transpose(1, 0, 2)), (width, height))[..., None]
    return np.asarray(colours[0] * share + (0.55 * colours[0] + 0.1 * colours[1]) * (1 - share), dtype=np.float32)


def _many(rng: np.random.Generator, width: int, height: int, colours: np.ndarray) -> np.ndarray:
    return _clutter(rng, _gradient(rng, width, height, colours), rng.uniform(10, 250, (12, 3)), 40)


def _desk(rng: np.random.Generator, width: int, height: int, colours: np.ndarray) -> np.ndarray:
    wall = _gradient(rng, width, height, np.stack([colours[0] * 0.3 + 150, colours[0] * 0.25 + 120]))
    return _clutter(rng, _table(rng, wall, colours[2:4]), colours, 5)


def _table(rng: np.random.Generator, image: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The lower part becomes a surface with an edge."""
    height, width = image.shape[:2]
    left, right = rng.uniform(0.35, 0.75, 2) * height
    corners = np.array([[0, left], [width, right], [width, height], [0, height]]).astype(np.int32)
    cv2.fillConvexPoly(image, corners, [float(c) for c in colours[0]], cv2.LINE_AA)
    return image


def _clutter(rng: np.random.Generator, image: np.ndarray, colours: np.ndarray, count: int) -> np.ndarray:
    """Polygons, discs and bars lying about."""
    height, width = image.shape[:2]
    for _ in range(count):
        colour = [float(c) for c in colours[int(rng.integers(len(colours)))]]
        centre = rng.uniform(0, 1, 2) * (width, height)
        size = rng.uniform(0.04, 0.22) * height
        if rng.random() < 0.3:
            cv2.circle(image, (int(centre[0]), int(centre[1])), int(size * 0.7), colour, -1, cv2.LINE_AA)
        else:
            turns = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
            stretch = rng.uniform(0.4, 2.0)
            ring = centre + size * np.stack([np.cos(turns) * stretch, np.sin(turns)], axis=1)
            cv2.fillPoly(image, [ring.astype(np.int32)], colour, cv2.LINE_AA)
    return image


_PAINTERS = {
    "gradient": _gradient,
    "cloud": _cloud,
    "checker": _checker,
    "stripes": _stripes,
    "grain": _grain,
    "clutter": _many,
    "desk": _desk,
}


def label_texture(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    """A package: ground colour, bands, panels, marks and some writing; every side different, so a pose has no twin."""
    size = TEXTURE_PX
    image = np.empty((size, size, 3), dtype=np.uint8)
    image[:] = colours[0]
    plain = np.abs(np.asarray(colours[0]) - colours[1]).max() < 25
    for _ in range(1 if plain else 5):
        top = int(rng.integers(0, size))
        colour = [float(c) for c in colours[int(rng.integers(0, 3))]]
        cv2.rectangle(image, (0, top), (size, top + int(rng.integers(3, 22))), colour, -1)
    for _ in range(2 if plain else 9):
        x, y = (int(value) for value in rng.integers(0, size, 2))
        colour = [float(c) for c in colours[int(rng.integers(0, 3))]]
        if rng.random() < 0.5:
            cv2.rectangle(image, (x, y), (x + int(rng.integers(6, 34)), y + int(rng.integers(6, 30))), colour, -1)
        else:
            cv2.circle(image, (x, y), int(rng.integers(3, 13)), colour, -1, cv2.LINE_AA)
    for _ in range(0 if plain else 4):
        text = "".join(chr(int(c)) for c in rng.integers(65, 91, int(rng.integers(3, 7))))
        corner = (int(rng.integers(-10, size - 20)), int(rng.integers(10, size)))
        ink = [float(c) for c in colours[int(rng.integers(0, 3))]]
        cv2.putText(image, text, corner, cv2.FONT_HERSHEY_SIMPLEX, float(rng.uniform(0.4, 0.9)), ink, 2, cv2.LINE_AA)
    return cv2.flip(image, 0)


def finish(rgb: np.ndarray, how: Finish, rng: np.random.Generator) -> np.ndarray:
    """Exposure, white balance, gamma and noise, as one look-up per channel and one noise tile."""
    levels = np.arange(256)[:, None] / 255 * how.exposure * np.array(how.balance)
    curve = (255 * np.clip(levels, 0, 1) ** how.gamma).astype(np.uint8)
    result = cv2.LUT(rgb, curve[None].transpose(1, 0, 2).copy())
    if how.noise > 0:
        height, width = rgb.shape[:2]
        dy, dx = rng.integers(0, 64, 2)
        tile = _noise_tile(height + 64, width + 64, how.noise)[dy : dy + height, dx : dx + width]
        result = cv2.add(result, tile, dtype=cv2.CV_8U)
    return np.asarray(result)


@functools.lru_cache(maxsize=2)
def _noise_tile(height: int, width: int, sigma: float) -> np.ndarray:
    grey = np.random.default_rng(5).normal(0, sigma, size=(height, width, 1))
    return np.repeat(np.round(grey), 3, axis=2).astype(np.int16)
