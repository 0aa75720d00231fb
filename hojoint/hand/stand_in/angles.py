"""The stand-in hand's pose space: axes and limits of each finger joint, and random poses of a free hand.

Each joint has a flexion, an abduction and a twist axis with anatomical limits. Poses are drawn from a few families
(power, precision, pinch, flat, point, open) with a separate curl for each finger, so that the space is low-dimensional
but not a list. Angles are (15, 3) rad, joints in MANO's order.
"""

from __future__ import annotations

import functools

import numpy as np

from hojoint.hand.stand_in import anatomy
from hojoint.hand.stand_in.anatomy import FINGERS

FAMILIES = ("power", "precision", "pinch", "flat", "point", "open")
# Limits in degrees, (flexion, abduction, twist) for the three joints of each finger.
LIMITS_DEG = {
    "index": (((-15, 85), (-14, 14), (-4, 4)), ((-3, 95), (-1, 1), (-1, 1)), ((-5, 65), (-1, 1), (-1, 1))),
    "middle": (((-15, 85), (-9, 9), (-4, 4)), ((-3, 95), (-1, 1), (-1, 1)), ((-5, 65), (-1, 1), (-1, 1))),
    "ring": (((-15, 85), (-12, 9), (-4, 4)), ((-3, 95), (-1, 1), (-1, 1)), ((-5, 65), (-1, 1), (-1, 1))),
    "pinky": (((-15, 85), (-18, 10), (-4, 4)), ((-3, 92), (-1, 1), (-1, 1)), ((-5, 65), (-1, 1), (-1, 1))),
    "thumb": (((-15, 45), (-12, 45), (-25, 25)), ((-5, 55), (-6, 6), (-3, 3)), ((-12, 75), (-1, 1), (-1, 1))),
}


@functools.cache
def joint_axes() -> np.ndarray:
    """(15, 3, 3): flexion, abduction and twist axis of each finger joint in MANO order, unit vectors, model frame.

    Positive flexion closes the hand; positive abduction moves a finger towards the thumb's side (the thumb away from
    the palm's plane).
    """
    axes = []
    for finger in FINGERS:
        along, _, back = (anatomy.directions_to_model(axis) for axis in anatomy.finger_frame(finger))
        axes += [np.stack([np.cross(along, -back), back, along])] * 3
    return np.array(axes)


@functools.cache
def joint_limits() -> np.ndarray:
    """(15, 3, 2) rad: smallest and largest flexion, abduction and twist."""
    return np.deg2rad(np.array([LIMITS_DEG[finger] for finger in FINGERS], dtype=float).reshape(15, 3, 2))


def pose_from_angles(angles: np.ndarray) -> np.ndarray:
    """Angles (..., 15, 3) about ``joint_axes`` to MANO's axis-angle vector (..., 45)."""
    pose = np.einsum("...ja,jac->...jc", angles, joint_axes())
    return pose.reshape(*angles.shape[:-2], 45)


def draw_angles(rng: np.random.Generator, family: str | None = None) -> np.ndarray:
    """(15, 3) rad of a free hand, inside the anatomical limits."""
    family = family or str(rng.choice(FAMILIES))
    curl = family_curls(rng, family)
    return clip_angles(spread_fingers(rng, curled(curl, rng), 0.6 if family == "flat" else 0.4))


def clip_angles(angles: np.ndarray) -> np.ndarray:
    """Bring angles inside the joint limits."""
    limits = joint_limits()
    return np.clip(angles, limits[..., 0], limits[..., 1])


def family_curls(rng: np.random.Generator, family: str) -> np.ndarray:
    """(5,) curl of index, middle, pinky, ring and thumb, 0 straight, 1 closed."""
    together = rng.uniform(0, 1)
    if family == "power":
        base = np.full(5, rng.uniform(0.35, 0.85))
    elif family == "precision":
        base = np.array([0.30, 0.33, 0.42, 0.38, 0.45]) + 0.3 * together
    elif family == "pinch":
        base = np.array([0.45, 0.15 + 0.6 * together, 0.1 + 0.8 * together, 0.1 + 0.75 * together, 0.5])
    elif family == "flat":
        base = np.array([0.03, 0.02, 0.05, 0.03, 0.1 + 0.4 * together])
    elif family == "point":
        base = np.array([0.05, 0.75, 0.85, 0.82, 0.65]) - np.array([0, 0.4, 0.4, 0.4, 0.3]) * together
    else:
        base = np.array([0.15, 0.17, 0.22, 0.2, 0.2]) + 0.15 * together
    return np.clip(base + rng.normal(0, 0.09, 5), -0.1, 1)


def curled(curl: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Angles for curls: each finger's three joints share a curl, in proportions drawn per finger."""
    limits = joint_limits()
    angles = np.zeros((15, 3))
    for index, finger in enumerate(FINGERS):
        share = rng.normal([1.0, 1.0, 0.9], 0.18)
        joints = slice(3 * index, 3 * index + 3)
        angles[joints, 0] = curl[index] * share * limits[joints, 0, 1]
        if finger == "thumb":
            angles[13 - 1, 0] = curl[index] * 0.5 * limits[12, 0, 1] * share[0]
            angles[12, 1] = np.deg2rad(rng.normal(10, 9))
            angles[12, 2] = np.deg2rad(rng.normal(0, 7))
    return angles


def spread_fingers(rng: np.random.Generator, angles: np.ndarray, amount: float) -> np.ndarray:
    """Fan the fingers out or together."""
    fan = rng.normal(0.15, 0.5) * amount
    sides = {"index": 1.0, "middle": 0.1, "ring": -0.7, "pinky": -1.3}
    angles = angles.copy()
    for index, finger in enumerate(FINGERS):
        if finger != "thumb":
            angles[3 * index, 1] += np.deg2rad(14) * (fan * sides[finger] + rng.normal(0, 0.12))
    return angles
