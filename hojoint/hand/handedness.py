"""Which hand the arrays of a MANO file belong to: a left one given as right poses every label as its mirror image.

Three signs are read: where the fingers point in MANO's rest frame, to which side of the palm the thumb lies, and to
which side the mean pose bends the fingers. Two of them must say 'left', so that no right hand is refused because it is
scaled, moved or turned, or because its mean pose is flat.
"""

from __future__ import annotations

import numpy as np

_MIDDLE, _INDEX, _PINKY, _THUMB = 4, 1, 7, 13  # first joint of each finger, MANO's order
_CHAINS = (1, 4, 7, 10)  # of the four fingers
_ALONG = 0.7  # cosine: a finger's bones and the palm point the same way in the rest pose
_CLEAR = 0.05  # of the palm's length; a thumb nearer to the palm's plane says nothing


def is_left(rest_joints: np.ndarray, mean_pose: np.ndarray) -> bool:
    """Whether joints (16, 3) m of the rest pose, MANO's order, and a mean pose (45,) rad are those of a left hand.

    False where they are a right hand's, or no hand's at all.
    """
    votes = _votes(np.asarray(rest_joints, dtype=np.float64), np.asarray(mean_pose, dtype=np.float64))
    return sum(vote < 0 for vote in votes) >= 2


def _votes(joints: np.ndarray, mean_pose: np.ndarray) -> tuple[float, ...]:
    """Signs: 1 right, -1 left, 0 not clear. None of them counts where the joints do not look like a hand."""
    palm = joints[_MIDDLE] - joints[0]
    length = float(np.linalg.norm(palm))
    across = joints[_INDEX] - joints[_PINKY]  # towards the thumb's side
    normal = np.cross(palm, across)
    if length < 1e-9 or np.linalg.norm(normal) < 1e-3 * length**2 or not _is_hand(joints, palm / length):
        return (0.0,)
    along = palm[0] / length
    pointing = -np.sign(along) if abs(along) > _ALONG else 0.0  # MANO's right fingers point along -x
    normal = normal / np.linalg.norm(normal)  # out of the palm of a left hand, out of the back of a right one
    depth = float((joints[_THUMB : _THUMB + 3].mean(axis=0) - joints[0]) @ normal) / length
    thumb = -np.sign(depth) if abs(depth) > _CLEAR else 0.0
    return float(pointing), float(thumb), _bending(mean_pose.reshape(15, 3), palm / length, normal)


def _bending(mean_pose: np.ndarray, palm: np.ndarray, normal: np.ndarray) -> float:
    """The sign of the mean pose: fingers bend towards the palm's side."""
    rotation = mean_pose[:12].mean(axis=0)  # of the four fingers; the thumb turns another way
    towards = float(np.cross(rotation, palm) @ normal)
    return -float(np.sign(towards)) if abs(towards) > _CLEAR else 0.0


def _is_hand(joints: np.ndarray, palm: np.ndarray) -> bool:
    """Whether all bones of the four fingers point away from the wrist, as in a rest pose."""
    bones = np.concatenate([np.diff(joints[first : first + 3], axis=0) for first in _CHAINS])
    lengths = np.linalg.norm(bones, axis=1)
    return bool((lengths > 0).all() and (bones @ palm > _ALONG * lengths).all())
