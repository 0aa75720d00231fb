"""Measures of the stand-in hand: where its joints are, which way its fingers point, how thick they are.

Published anthropometry of an adult hand, rounded; the axes are MANO's (fingers along -x, palm towards -y, thumb towards
+z). The surface over these bones is built in ``mesh``.
"""

from __future__ import annotations

import functools

import numpy as np

FINGERS = ("index", "middle", "pinky", "ring", "thumb")  # order of the chains in MANO
# Design frame: u towards the finger tips, w towards the thumb, n out of the back of the hand; metres, wrist at zero.
WRIST = np.array([0.0957, 0.0064, 0.0062])  # where MANO's own wrist rests
KNUCKLES = {
    "index": (0.0880, 0.0255, 0.0020),
    "middle": (0.0910, 0.0045, 0.0040),
    "ring": (0.0850, -0.0150, 0.0025),
    "pinky": (0.0775, -0.0325, -0.0020),
    "thumb": (0.0230, 0.0210, -0.0100),
}
BONES = {  # lengths of the three bones after each first joint
    "index": (0.0400, 0.0235, 0.0220),
    "middle": (0.0440, 0.0270, 0.0230),
    "ring": (0.0400, 0.0260, 0.0225),
    "pinky": (0.0320, 0.0190, 0.0205),
    "thumb": (0.0430, 0.0315, 0.0275),
}
DIRECTIONS = {
    "index": (0.997, 0.075, 0.0),
    "middle": (1.0, 0.0, 0.0),
    "ring": (0.996, -0.085, 0.0),
    "pinky": (0.984, -0.175, 0.0),
    "thumb": (0.745, 0.610, -0.270),
}
PADS = {"thumb": (0.10, -0.60, -0.80)}  # where the pulp of the finger looks; the others look out of the palm
RADII = {  # half width at the base, at the middle joint and near the tip
    "index": (0.0102, 0.0088, 0.0076),
    "middle": (0.0106, 0.0091, 0.0079),
    "ring": (0.0100, 0.0086, 0.0074),
    "pinky": (0.0090, 0.0074, 0.0064),
    "thumb": (0.0150, 0.0112, 0.0095),
}


def to_model(points: np.ndarray) -> np.ndarray:
    """Design frame (u, w, n) to the model's axes (x, y, z)."""
    return directions_to_model(points) + WRIST


def directions_to_model(vectors: np.ndarray) -> np.ndarray:
    """The same for directions."""
    vectors = np.asarray(vectors, dtype=float)
    return np.stack([-vectors[..., 0], vectors[..., 2], vectors[..., 1]], axis=-1)


@functools.cache
def finger_frame(finger: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bone direction, radial side and back of a finger, orthonormal, design frame."""
    along = np.array(DIRECTIONS[finger]) / np.linalg.norm(DIRECTIONS[finger])
    pad = np.array(PADS.get(finger, (0.0, 0.0, -1.0)))
    back = -(pad - along * (pad @ along))
    back /= np.linalg.norm(back)
    return along, np.cross(back, along), back


@functools.cache
def finger_joints(finger: str) -> np.ndarray:
    """(4, 3): the three joints and the tip, design frame."""
    along = finger_frame(finger)[0]
    steps = np.concatenate([[0.0], np.cumsum(BONES[finger])])
    return np.array(KNUCKLES[finger]) + steps[:, None] * along


def cross_section(finger: str, position: float, angles: np.ndarray, swell: float) -> np.ndarray:
    """Points (N, 3) around a finger ``position`` metres after its first joint; angle 0 radial, 90 degrees the back."""
    along, radial, back = finger_frame(finger)
    bones = BONES[finger]
    length = sum(bones) + 0.002
    width = float(np.interp(position, [0.0, bones[0], bones[0] + bones[1], length], [*RADII[finger], RADII[finger][2]]))
    for joint in (bones[0], bones[0] + bones[1]):
        width *= 1 + 0.05 * np.exp(-(((position - joint) / 0.005) ** 2))  # knobs at the joints
    tip = 0.012
    left = max(0.0, min(1.0, (length - position) / tip))
    width *= np.sqrt(1 - (1 - left) ** 2.3) if left < 1 else 1.0
    width *= swell
    pulp = 0.0012 * np.exp(-(((position - (length - 0.011)) / 0.008) ** 2))  # the pad of the last bone
    sine = np.sin(angles)
    thick = width * 0.93 * sine - pulp * (sine < -0.3) + (0.18 * width * (sine > 0.3) * -max(0.0, 1 - left))
    centre = np.array(KNUCKLES[finger]) + along * position
    return centre + np.outer(width * np.cos(angles), radial) + np.outer(thick, back)
