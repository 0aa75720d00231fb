"""The stand-in right hand: a HandModel of MANO's shapes that the project may give away.

Skinning, shape directions and pose correctives follow from the construction in ``mesh``; the pose space is anatomical:
each joint has a flexion, an abduction and a twist axis with limits. ``save_model`` writes MANO's own file layout, so
that a licensed MANO file replaces the stand-in by a path. It is not MANO: its betas only resemble people.
"""

from __future__ import annotations

import functools
import pickle
from pathlib import Path

import numpy as np
import scipy.sparse
from scipy.optimize import nnls

from hojoint.hand.model import HandModel
from hojoint.hand.stand_in import anatomy
from hojoint.hand.stand_in import mesh as hand_mesh
from hojoint.hand.stand_in.anatomy import BONES, FINGERS
from hojoint.hand.stand_in.angles import draw_angles, pose_from_angles
from hojoint.hand.stand_in.mesh import HandMesh
from hojoint.hand.stand_in.surfaces import normals

PARENTS = np.array([-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14])
NO_PARENT = np.uint32(2**32 - 1)


@functools.cache
def stand_in_model() -> HandModel:
    """The model; built once per process, the same everywhere (its numbers derive from constants alone)."""
    mesh = hand_mesh.build()
    mean, components = _pose_statistics()
    return HandModel(
        v_template=mesh.vertices,
        faces=mesh.faces,
        shapedirs=_shape_directions(mesh),
        posedirs=_pose_directions(mesh),
        J_regressor=_regressor(mesh),
        weights=skinning(mesh),
        parents=PARENTS.copy(),
        hands_mean=mean,
        hands_components=components,
    )


def save_model(model: HandModel, path: str | Path) -> None:
    """Write MANO's pickle layout: Python-2 protocol, float64 arrays, a csc regressor, a sentinel parent."""
    parents = model.parents.astype(np.int64).copy()
    parents[0] = NO_PARENT
    content = {
        "v_template": np.asarray(model.v_template, dtype=np.float64),
        "f": np.asarray(model.faces, dtype=np.uint32),
        "shapedirs": np.asarray(model.shapedirs, dtype=np.float64),
        "posedirs": np.asarray(model.posedirs, dtype=np.float64),
        "J_regressor": scipy.sparse.csc_matrix(np.asarray(model.J_regressor, dtype=np.float64)),
        "J": np.asarray(model.J_regressor @ model.v_template, dtype=np.float64),
        "weights": np.asarray(model.weights, dtype=np.float64),
        "kintree_table": np.stack([parents, np.arange(16)]).astype(np.uint32),
        "hands_mean": np.asarray(model.hands_mean, dtype=np.float64),
        "hands_components": np.asarray(model.hands_components, dtype=np.float64),
        "hands_coeffs": np.zeros((1, 45)),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(pickle.dumps(content, protocol=2))


def skinning(mesh: HandMesh) -> np.ndarray:
    """(778, 16) weights: smooth steps along each finger's chain, the rest of the vertex belongs to the wrist."""
    weights = np.zeros((len(mesh.vertices), 16))
    share_of_thumb = _thumb_share(mesh)
    for index, finger in enumerate(FINGERS):
        bones = BONES[finger]
        share = np.maximum(mesh.chain[:, index], share_of_thumb if finger == "thumb" else 0)
        share = share if finger == "thumb" else share * (1 - share_of_thumb)
        along = mesh.along[:, index]
        first = np.ones_like(along) if finger == "thumb" else _smooth_step(along, 0.004, 0.011)
        steps = [first, _smooth_step(along, bones[0], 0.0065), _smooth_step(along, bones[0] + bones[1], 0.0055)]
        for joint, (before, after) in enumerate(zip(steps, [*steps[1:], np.zeros_like(along)], strict=True)):
            weights[:, 1 + 3 * index + joint] = share * (before - after)
    weights[:, 0] = 1 - weights[:, 1:].sum(1)
    return weights


def _thumb_share(mesh: HandMesh) -> np.ndarray:
    """How much the thumb's first bone carries each vertex: all on the thumb, fading over the ball of the thumb."""
    start, end = (anatomy.to_model(point) for point in anatomy.finger_joints("thumb")[:2])
    axis = end - start
    share = np.clip((mesh.vertices - start) @ axis / (axis @ axis), 0, 1)
    distance = np.linalg.norm(mesh.vertices - start - share[:, None] * axis, axis=1)
    thumb = mesh.chain[:, FINGERS.index("thumb")] > 0
    fade = 1 - _smooth_step(distance, 0.021, 0.009)
    ramp = _smooth_step(mesh.along[:, FINGERS.index("thumb")], 0.014, 0.012)
    return np.where(thumb, np.maximum(ramp, 0.25), fade * ramp * 0.9)


def _smooth_step(value: np.ndarray, centre: float, half: float) -> np.ndarray:
    t = np.clip((value - centre) / (2 * half) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _regressor(mesh: HandMesh) -> np.ndarray:
    """(16, 778): each joint as a convex combination of the vertices around it."""
    result = np.zeros((16, len(mesh.vertices)))
    weights = skinning(mesh)
    for joint, point in enumerate(mesh.joints):
        carried = weights[:, joint] + (weights[:, PARENTS[joint]] if joint else 0)
        distance = np.linalg.norm(mesh.vertices - point, axis=1) + 0.02 * (carried < 0.2)
        near = np.argsort(distance, kind="stable")[:40]
        offsets = (mesh.vertices[near] - point).T / 0.01
        even = 0.02 * np.eye(len(near))  # prefers many small weights to a few large ones
        system = np.concatenate([offsets, 10 * np.ones((1, len(near))), even])
        solution = nnls(system, np.concatenate([np.zeros(3), [10.0], np.zeros(len(near))]))[0]
        result[joint, near] = solution / solution.sum()
    return result


def _shape_directions(mesh: HandMesh) -> np.ndarray:
    """(778, 3, 10): what one unit of each beta does; smooth, a few per cent, wrist kept in place."""
    points = mesh.vertices - mesh.joints[0]
    normal = normals(mesh.vertices, mesh.faces)
    x_axis, z_axis = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])
    out = np.stack([_longer(mesh, finger, 1.0) for finger in FINGERS])  # of each finger by its own length
    fade = _smooth_step(-points[:, 0], 0.03, 0.03)[:, None]  # nothing moves at the wrist
    fingers = np.clip(_smooth_step(mesh.along[:, :4].max(1, where=mesh.chain[:, :4] > 0, initial=-1), 0.02, 0.02), 0, 1)
    directions = [
        0.035 * points,
        0.045 * out[:4].sum(0) + 0.03 * out[4],
        0.0008 * normal * fade,
        0.035 * points[:, 2:] * z_axis * fade,
        0.06 * out[4] + 0.0005 * normal * mesh.chain[:, 4:],
        0.0007 * normal * fingers[:, None] - 0.0004 * normal * fade * (1 - fingers[:, None]),
        0.07 * out[2],
        0.05 * out[0] - 0.05 * out[3],
        0.0010 * normal * fade * (1 - fingers[:, None]),
        0.03 * points[:, :1] * x_axis * fade,
    ]
    return np.stack(directions, axis=-1)


def _longer(mesh: HandMesh, finger: str, share: float) -> np.ndarray:
    """Displacement that stretches one finger by ``share`` of its length, along its bones."""
    index = FINGERS.index(finger)
    direction = anatomy.directions_to_model(anatomy.finger_frame(finger)[0])
    stretch = np.clip(mesh.along[:, index], 0, None) * mesh.chain[:, index] * share
    return stretch[:, None] * direction


def _pose_directions(mesh: HandMesh) -> np.ndarray:
    """(778, 3, 135): a bent joint bulges, which makes up for the volume that linear skinning loses.

    The trace of R - I is 2 (cos - 1), whatever the axis, so the three diagonal entries share the bulge.
    """
    weights = skinning(mesh)
    normal = normals(mesh.vertices, mesh.faces)
    result = np.zeros((len(mesh.vertices), 3, 135))
    for joint in range(1, 16):
        crease = 4 * weights[:, joint] * weights[:, PARENTS[joint]]
        for entry in (0, 4, 8):
            result[:, :, 9 * (joint - 1) + entry] = -0.0009 * crease[:, None] * normal
    return result


@functools.cache
def _pose_statistics() -> tuple[np.ndarray, np.ndarray]:
    """hands_mean (45,), a loosely curled hand, and hands_components (45, 45), principal axes of drawn grasps."""
    rng = np.random.default_rng(20210620)
    poses = np.array([pose_from_angles(draw_angles(rng)) for _ in range(1000)])
    mean = poses.mean(0)
    _, _, components = np.linalg.svd(poses - mean, full_matrices=True)
    signs = np.sign(components[np.arange(45), np.abs(components).argmax(1)])
    # The last digits depend on the number of threads, and digests on the digits; + 0.0 makes zeros of one sign.
    return mean, (components * signs[:, None]).round(12) + 0.0
