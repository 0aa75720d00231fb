"""How a hand closes on an object until it touches.

Contact is found by closing each finger in small steps against the object's signed distance. Not physics: no forces, no
friction. Random poses of a free hand are in ``hojoint.hand.stand_in.angles``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from hojoint.hand.stand_in import anatomy
from hojoint.hand.stand_in.anatomy import FINGERS
from hojoint.hand.stand_in.angles import (
    clip_angles,
    curled,
    joint_axes,
    joint_limits,
    spread_fingers,
)
from hojoint.synthetic.objects import Shape

STEPS = 17  # of closing a finger
TRIES, GOOD = 3, 5  # at most this many tries, until this many fingers touch
OPPOSITIONS = np.deg2rad(  # turns of the thumb's first joint from which it closes
    [(flexion, abduction, twist) for flexion in (0, 18, 34) for abduction in (-8, 8, 24) for twist in (-14, 10)]
)
THUMB_STEPS = 9
CLEARANCE = 0.0015  # how far skin may sink into an object, metres


@dataclass(frozen=True, eq=False)
class Grasp:
    """A hand on an object: finger angles when open and closed, and the object in the wrist's frame."""

    family: str
    opened: np.ndarray  # (15, 3) rad
    closed: np.ndarray  # (15, 3) rad
    rotation: np.ndarray  # (3, 3) object model to the hand's rest frame
    translation: np.ndarray  # (3,) m, object origin in the hand's rest frame
    touching: int  # fingers in contact; two are taken off for each finger that the object is in the way of


def finger_samples(angles: np.ndarray, finger: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, S, 3) on a finger's bones and the radii (S,) of flesh around them, hand's rest frame.

    ``angles`` (N, 3, 3) of the finger's joints. Betas are left out: contact needs a few millimetres only.
    """
    name = FINGERS[finger]
    direction = anatomy.directions_to_model(anatomy.finger_frame(name)[0])
    axes = joint_axes()[3 * finger : 3 * finger + 3]
    vectors = np.einsum("nja,jac->njc", angles, axes)
    local = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(-1, 3, 3, 3)
    widths = np.interp(np.linspace(0, 2.7, 9), [0, 1, 2, 3], [*anatomy.RADII[name], anatomy.RADII[name][2]])
    position = np.repeat(anatomy.to_model(anatomy.finger_joints(name)[:1]), len(angles), axis=0)
    rotation, points = np.eye(3), []
    for bone, length in enumerate(anatomy.BONES[name]):
        rotation = rotation @ local[:, bone]
        along = rotation @ direction * length
        points += [position + share * along for share in ((0.1, 0.5, 0.9) if bone < 2 else (0.1, 0.45, 0.72))]
        position = position + along
    return np.stack(points, axis=1), widths


def grasp_object(rng: np.random.Generator, shape: Shape) -> Grasp:
    """Place an object at a palm and close the fingers until they touch; the best of a few tries."""
    tries: list[Grasp] = []
    while len(tries) < TRIES and not any(grasp.touching >= GOOD for grasp in tries):
        tries.append(_try_grasp(rng, shape))
    return max(tries, key=lambda grasp: grasp.touching)


def _try_grasp(rng: np.random.Generator, shape: Shape) -> Grasp:
    family = str(rng.choice(("power", "precision", "pinch"), p=(0.5, 0.35, 0.15)))
    rotation = _object_rotation(rng, shape)
    centre, start = _object_centre(rng, family)
    opened = clip_angles(_open_hand(rng, family))
    translation = _against_palm(rng, shape, rotation, centre, start)
    closed, touching = _close(rng, shape, rotation, translation, opened, family)
    return Grasp(family, opened, closed, rotation, translation, touching)


def _object_rotation(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Longest axis across the palm (z), thinnest towards it (y), then a random tilt and maybe upside down."""
    order = np.argsort(np.ptp(shape.vertices, axis=0))
    if np.ptp(shape.vertices, axis=0)[order[1]] < 0.085 and rng.random() < 0.5:
        order = order[[1, 0, 2]]
    columns = np.zeros((3, 3))
    for model_axis, hand_axis in zip(order, (0, 1, 2), strict=True):
        columns[hand_axis, model_axis] = 1.0
    if np.linalg.det(columns) < 0:
        columns[0] *= -1
    if rng.random() < 0.5:
        columns = np.diag([-1.0, 1.0, -1.0]) @ columns
    return Rotation.from_rotvec(rng.normal(0, [0.12, 0.3, 0.15])).as_matrix() @ columns


def _object_centre(rng: np.random.Generator, family: str) -> tuple[np.ndarray, float]:
    """Where the object's centre goes, rest frame, and how near its surface may come to the palm."""
    wrist = anatomy.WRIST
    if family == "power":
        offset, clearance = (-rng.uniform(0.075, 0.095), 0.0, rng.uniform(-0.012, 0.02)), 0.015
    elif family == "precision":
        offset, clearance = (-rng.uniform(0.11, 0.135), 0.0, rng.uniform(-0.005, 0.02)), rng.uniform(0.028, 0.045)
    else:
        offset, clearance = (-rng.uniform(0.125, 0.145), 0.0, rng.uniform(0.015, 0.035)), rng.uniform(0.035, 0.055)
    return wrist + np.array(offset), clearance


def _open_hand(rng: np.random.Generator, family: str) -> np.ndarray:
    """Fingers ready to close: nearly straight, thumb opposed."""
    angles = curled(np.array([0.02, 0.02, 0.02, 0.02, 0.0]) + rng.normal(0, 0.03, 5), rng)
    angles = spread_fingers(rng, angles, 0.3)
    angles[12] = np.deg2rad([rng.uniform(-5, 10), rng.uniform(-5, 12), rng.normal(0, 5)])
    angles[12, 1] += np.deg2rad(18 if family != "power" else 8)
    angles[13, 0], angles[14, 0] = 0.0, 0.0
    return angles


def _against_palm(
    rng: np.random.Generator, shape: Shape, rotation: np.ndarray, centre: np.ndarray, clearance: float
) -> np.ndarray:
    """Move the object out of the palm along its normal until no point of the palm is nearer than ``clearance``."""
    wrist = anatomy.WRIST
    u, w = np.meshgrid(np.linspace(0.015, 0.10, 6), np.linspace(-0.035, 0.03, 5))
    palm = wrist + np.stack([-u.ravel(), np.full(u.size, 0.0), w.ravel()], axis=1)
    middle = (shape.vertices.max(0) + shape.vertices.min(0)) / 2
    slide = rng.normal(0, 0.15) * np.ptp(shape.vertices, axis=0).max() * (rotation @ _long_axis(shape))
    start = centre + slide - rotation @ middle
    for step in (0.014, 0.002):  # coarse, then from the last place that was too near
        depth = 0.0
        while depth < 0.14:
            translation = start - [0, depth, 0]
            if shape.distance((palm - translation) @ rotation).min() >= clearance:
                break
            depth += step
        start = start - [0, max(0.0, depth - step), 0]
    return translation


def _long_axis(shape: Shape) -> np.ndarray:
    return np.eye(3)[int(np.argmax(np.ptp(shape.vertices, axis=0)))]


def _close(
    rng: np.random.Generator,
    shape: Shape,
    rotation: np.ndarray,
    translation: np.ndarray,
    opened: np.ndarray,
    family: str,
) -> tuple[np.ndarray, int]:
    """Close finger by finger, up to the first step that would sink in; a finger that never touches stays relaxed."""
    closed, touching = opened.copy(), 0
    for finger, name in enumerate(FINGERS):
        joints = slice(3 * finger, 3 * finger + 3)
        if name == "thumb":
            closed[joints], value = _close_thumb(rng, shape, rotation, translation, opened[joints])
        else:
            idle = family == "pinch" and name in ("ring", "pinky")
            closed[joints], value = _close_finger(rng, shape, rotation, translation, opened, finger, idle)
        touching += value
    return clip_angles(closed), touching


def _close_thumb(
    rng: np.random.Generator, shape: Shape, rotation: np.ndarray, translation: np.ndarray, opened: np.ndarray
) -> tuple[np.ndarray, int]:
    """The thumb comes round in several ways at once; the way that ends with its tip nearest to the object is taken."""
    limits = joint_limits()[12:15]
    starts = np.repeat(opened[None], len(OPPOSITIONS), axis=0)
    starts[:, 0] += OPPOSITIONS + rng.normal(0, np.deg2rad(3), OPPOSITIONS.shape)
    target = starts.copy()
    target[:, :, 0] = limits[:, 0, 1] * np.array([0.9, 0.7, 0.7])
    levels = np.linspace(0, 1, THUMB_STEPS)[:, None, None]
    paths = np.clip(starts[:, None] + levels * (target - starts)[:, None], limits[..., 0], limits[..., 1])
    points, radii = finger_samples(paths.reshape(-1, 3, 3), 4)
    gap = shape.distance((points.reshape(-1, 3) - translation) @ rotation).reshape(*paths.shape[:2], -1) - radii
    sunk = (gap.min(2) < -CLEARANCE).argmax(1)  # the first level that sinks in; 0 where none or the very first
    touching = np.flatnonzero((sunk > 0) & (gap[:, 0].min(1) >= -CLEARANCE))
    if not len(touching):
        free = np.flatnonzero(gap[:, 0].min(1) >= -CLEARANCE)
        return (paths[free[0], 2], 0) if len(free) else (opened, -2)
    tips = gap[touching, sunk[touching] - 1][:, -3:].mean(1)
    best = touching[int(np.argmin(tips))]
    return paths[best, sunk[best] - 1], 1


def _close_finger(
    rng: np.random.Generator,
    shape: Shape,
    rotation: np.ndarray,
    translation: np.ndarray,
    opened: np.ndarray,
    finger: int,
    idle: bool,
) -> tuple[np.ndarray, int]:
    """Angles (3, 3) of one finger, and 1 if it touches, 0 if not, -2 if the object is in its way from the start."""
    joints = slice(3 * finger, 3 * finger + 3)
    start, target = opened[joints], opened[joints].copy()
    shares = np.array([0.78, 0.95, 0.8]) * rng.uniform(0.85, 1.1, 3)
    target[:, 0] = np.minimum(shares, 1) * joint_limits()[joints, 0, 1]
    path = start + np.linspace(0, 1, STEPS)[:, None, None] * (target - start)
    points, radii = finger_samples(path, finger)
    gap = shape.distance((points.reshape(-1, 3) - translation) @ rotation).reshape(points.shape[:2]) - radii
    sunk = np.flatnonzero(gap.min(1) < -CLEARANCE)
    if not len(sunk):
        return path[int(rng.integers(4, 9 if idle else 12))], 0
    if sunk[0] == 0:  # in the way already: lift the finger a little
        return start - np.deg2rad(8) * np.outer([1, 0, 0], [1, 0, 0]), -2
    return path[sunk[0] - 1], 1
