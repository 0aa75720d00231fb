"""The hand: MANO's file, its layer (pose and shape to joints and vertices), joint orders and mirroring (Sec. 3, 4.2).

The layer is MANO's official forward pass in plain torch. MANO's file is read through ``pickles``, so neither chumpy nor
code from the file runs; without a file, a stand-in hand of the same shapes takes its place (``synthetic.hand``). Joints
leave in the simple order, in metres, relative to the wrist. Right hands only; a left hand is a mirrored right one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor, nn

from hojoint import geometry
from hojoint.config import ManoConfig
from hojoint.errors import InputError
from hojoint.pickles import load_restricted

# Suffixes: B batch, 16 joints with a rotation, 21 with the tips, V 778 vertices, 10 shape coefficients.

VERTICES, JOINTS, FINGER_JOINTS = 778, 16, 15

# Gather indices, used as simple = mano[MANO_TO_SIMPLE]. Raw MANO (= HO-3D) order: wrist, index, middle, pinky, ring,
# thumb (three each), then the tips of thumb, index, middle, ring, pinky.
MANO_TO_SIMPLE = [0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20]
SIMPLE_TO_MANO = [0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3, 4, 8, 12, 16, 20]

# Vertex that stands for the tip of thumb, index, middle, ring, pinky; every code base has its own.
FINGERTIPS: dict[str, tuple[int, int, int, int, int]] = {
    "ho3d_v2": (728, 353, 442, 576, 694),  # HO-3D July 2020 to March 2022, and the paper's released code
    "ho3d_v3": (744, 333, 444, 555, 672),
    "ho3d_2020": (745, 320, 444, 555, 657),
    "freihand": (744, 320, 443, 555, 672),
    "manopth": (745, 317, 444, 556, 673),  # also manotorch and DexYCB
    "smplx": (744, 320, 443, 554, 671),
}

_SHAPES: dict[str, tuple[int, ...]] = {
    "v_template": (VERTICES, 3),
    "f": (1538, 3),
    "shapedirs": (VERTICES, 3, 10),
    "posedirs": (VERTICES, 3, 9 * FINGER_JOINTS),
    "J_regressor": (JOINTS, VERTICES),
    "weights": (VERTICES, JOINTS),
    "kintree_table": (2, JOINTS),
    "hands_mean": (3 * FINGER_JOINTS,),
    "hands_components": (3 * FINGER_JOINTS, 3 * FINGER_JOINTS),
}


@dataclass(frozen=True, eq=False)
class HandModel:
    """What a MANO file holds, as plain arrays; metres and radians, MANO's joint order."""

    v_template: np.ndarray  # (778, 3) rest pose
    faces: np.ndarray  # (1538, 3) int64; the wrist is open
    shapedirs: np.ndarray  # (778, 3, 10)
    posedirs: np.ndarray  # (778, 3, 135), times vec(R - I) of the 15 finger joints, row-major
    J_regressor: np.ndarray  # (16, 778)
    weights: np.ndarray  # (778, 16) skinning
    parents: np.ndarray  # (16,) int64, -1 for the root
    hands_mean: np.ndarray  # (45,) mean pose, axis-angle
    hands_components: np.ndarray  # (45, 45), rows are principal components


@dataclass(frozen=True, eq=False)
class ManoOutput:
    """A posed hand, in metres."""

    vertices: Tensor  # (B, 778, 3)
    joints: Tensor  # (B, 21, 3) simple order


def load_model(path: str | Path) -> HandModel:
    """Read ``MANO_RIGHT.pkl``, with or without chumpy arrays in it; a folder is searched for that name.

    Raises:
        InputError: there is no such file, it is not a MANO file, or it holds more than arrays.
    """
    file = Path(path)
    if file.is_dir():
        places = (file / "MANO_RIGHT.pkl", file / "models" / "MANO_RIGHT.pkl", file / "mano" / "MANO_RIGHT.pkl")
        file = next((place for place in places if place.is_file()), places[0])
    if not file.is_file():
        raise InputError(
            f"no MANO model at {file}. Register at mano.is.tue.mpg.de, unzip mano_v*.zip and set mano.path to its "
            "MANO_RIGHT.pkl; or leave mano.path empty to use the stand-in hand, which needs no download."
        )
    content = load_restricted(file)
    if not isinstance(content, dict):
        raise InputError(f"{file} holds a {type(content).__name__}; a MANO model is a dict of arrays")
    missing = [key for key in _SHAPES if key not in content]
    if missing:
        raise InputError(f"{file} is not a MANO hand model: it lacks {', '.join(missing)}")
    arrays = {key: _array(file, key, content[key]) for key in _SHAPES}
    faces, kintree = arrays.pop("f"), arrays.pop("kintree_table")
    return HandModel(faces=_indices(file, faces), parents=_parents(file, kintree), **arrays)


def hand_model(config: ManoConfig) -> HandModel:
    """The model that the settings name: MANO from its file, or the stand-in hand."""
    if config.path is not None:
        return load_model(config.path)
    # Only here: the stand-in is built with the synthetic world's tools, which real data never need.
    from hojoint.synthetic.hand import stand_in_model

    return stand_in_model()


def hand_layer(config: ManoConfig) -> nn.Module:
    """The layer that the settings name; both kinds are called the same way."""
    model = hand_model(config)
    if config.layer == "builtin":
        return ManoLayer(model, flat_hand_mean=config.flat_hand_mean, fingertips=config.fingertips)
    from hojoint.mano_manopth import ManopthLayer  # only here: manopth is optional

    return ManopthLayer(model, flat_hand_mean=config.flat_hand_mean, fingertips=config.fingertips)


class ManoLayer(nn.Module):
    """Pose and shape to vertices and joints: blend shapes, kinematic chain, linear blend skinning.

    Its buffers do not enter checkpoints: MANO's licence forbids passing the model on. It computes in the precision of
    its buffers, under autocast too: bfloat16 would move a fingertip by a millimetre.
    """

    template: Tensor  # (V, 3)
    shapedirs: Tensor  # (10, 3 V)
    posedirs: Tensor  # (135, 3 V)
    joint_template: Tensor  # (16, 3)
    joint_shapedirs: Tensor  # (10, 48)
    joint_regressor: Tensor  # (16, V)
    weights: Tensor  # (V, 16)
    mean_pose: Tensor  # (45,)

    def __init__(
        self, model: HandModel, *, flat_hand_mean: bool = True, fingertips: str = "ho3d_v2", center: bool = True
    ) -> None:
        super().__init__()
        self.faces = model.faces
        self.tips = list(fingertip_ids(fingertips))
        self.center = center
        self.levels = _levels(model.parents)
        self.parent_of = model.parents.tolist()
        joint_shapedirs = np.einsum("jv,vck->jck", model.J_regressor, model.shapedirs)
        constants = {
            "template": model.v_template,
            "shapedirs": model.shapedirs.reshape(-1, 10).T,
            "posedirs": model.posedirs.reshape(-1, 9 * FINGER_JOINTS).T,
            # Rest joints are linear in the shape: regressing them once spares 778 vertices per hand.
            "joint_template": model.J_regressor @ model.v_template,
            "joint_shapedirs": joint_shapedirs.reshape(-1, 10).T,
            "joint_regressor": model.J_regressor,
            "weights": model.weights,
            "mean_pose": np.zeros(45) if flat_hand_mean else model.hands_mean,
        }
        for name, values in constants.items():
            tensor = torch.tensor(np.ascontiguousarray(values), dtype=torch.get_default_dtype())
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, pose: Tensor, shape: Tensor) -> ManoOutput:
        """From axis-angle, (B, 48) rad in MANO's joint order, root first."""
        with torch.autocast(pose.device.type, enabled=False):
            pose = pose.to(self.mean_pose.dtype)
            vectors_B48 = torch.cat((pose[:, :3], pose[:, 3:] + self.mean_pose), dim=1)
            rotations_B1633 = geometry.axis_angle_to_matrix(vectors_B48.reshape(-1, JOINTS, 3))
            return self._pose(rotations_B1633, shape.to(self.mean_pose.dtype))

    def from_rotations(self, rotations: Tensor, shape: Tensor) -> ManoOutput:
        """From rotations (B, 16, 3, 3); these are taken as they are, the mean pose is not added."""
        with torch.autocast(rotations.device.type, enabled=False):
            return self._pose(rotations.to(self.mean_pose.dtype), shape.to(self.mean_pose.dtype))

    def regressed_joints(self, vertices: Tensor) -> Tensor:
        """FreiHAND's key points, (B, 21, 3) simple order: the joint regressor on posed vertices, and the tips."""
        joints_B163 = torch.einsum("jv,bvc->bjc", self.joint_regressor, vertices)
        return torch.cat((joints_B163, vertices[:, self.tips]), dim=1)[:, MANO_TO_SIMPLE]

    def _pose(self, rotations_B1633: Tensor, shape_B10: Tensor) -> ManoOutput:
        vertices_BV3, rest_B163 = self._rest(rotations_B1633, shape_B10)
        world_B1633, joints_B163 = self._chain(rotations_B1633, rest_B163)
        # Skinning moves a vertex by what its joints do, not by where they rest.
        shift_B163 = joints_B163 - (world_B1633 @ rest_B163[..., None]).squeeze(-1)
        moves_B1612 = torch.cat((world_B1633.flatten(-2), shift_B163), dim=-1)
        moves_BV12 = torch.einsum("vj,bjk->bvk", self.weights, moves_B1612)
        turn_BV33 = moves_BV12[..., :9].reshape(*vertices_BV3.shape, 3)
        vertices_BV3 = (turn_BV33 @ vertices_BV3[..., None]).squeeze(-1) + moves_BV12[..., 9:]
        return self._output(vertices_BV3, joints_B163)

    def _rest(self, rotations_B1633: Tensor, shape_B10: Tensor) -> tuple[Tensor, Tensor]:
        identity_33 = torch.eye(3, dtype=rotations_B1633.dtype, device=rotations_B1633.device)
        features_B135 = (rotations_B1633[:, 1:] - identity_33).flatten(1)
        offsets = shape_B10 @ self.shapedirs + features_B135 @ self.posedirs
        vertices_BV3 = self.template + offsets.reshape(-1, VERTICES, 3)
        joints_B163 = self.joint_template + (shape_B10 @ self.joint_shapedirs).reshape(-1, JOINTS, 3)
        return vertices_BV3, joints_B163

    def _chain(self, rotations_B1633: Tensor, rest_B163: Tensor) -> tuple[Tensor, Tensor]:
        """World rotation and position of every joint, one level of the tree at a time."""
        order = list(self.levels[0])
        world_BN33, joints_BN3 = rotations_B1633[:, order], rest_B163[:, order]
        for level in self.levels[1:]:
            parents = [self.parent_of[joint] for joint in level]
            rows = [order.index(parent) for parent in parents]
            bones_BN31 = (rest_B163[:, level] - rest_B163[:, parents])[..., None]
            turn_BN33, base_BN3 = world_BN33[:, rows], joints_BN3[:, rows]
            joints_BN3 = torch.cat((joints_BN3, base_BN3 + (turn_BN33 @ bones_BN31).squeeze(-1)), dim=1)
            world_BN33 = torch.cat((world_BN33, turn_BN33 @ rotations_B1633[:, level]), dim=1)
            order += level
        back = [order.index(joint) for joint in range(JOINTS)]
        return world_BN33[:, back], joints_BN3[:, back]

    def _output(self, vertices_BV3: Tensor, joints_B163: Tensor) -> ManoOutput:
        joints_B213 = torch.cat((joints_B163, vertices_BV3[:, self.tips]), dim=1)[:, MANO_TO_SIMPLE]
        if self.center:
            wrist_B13 = joints_B213[:, :1]
            vertices_BV3, joints_B213 = vertices_BV3 - wrist_B13, joints_B213 - wrist_B13
        return ManoOutput(vertices=vertices_BV3, joints=joints_B213)


def fingertip_ids(name: str) -> tuple[int, int, int, int, int]:
    """Vertex ids of a named fingertip set."""
    if name not in FINGERTIPS:
        raise InputError(f"unknown fingertip set {name!r} (mano.fingertips); known: {', '.join(FINGERTIPS)}")
    return FINGERTIPS[name]


def fingertip_errors(joints: np.ndarray, vertices: np.ndarray) -> dict[str, float]:
    """Mean distance in metres between given tips and each named set; the smallest says which set made the labels.

    Joints are (N, 21, 3) in simple order, vertices (N, 778, 3), in one frame.
    """
    tips = joints[:, [4, 8, 12, 16, 20]]
    return {
        name: float(np.linalg.norm(vertices[:, list(ids)] - tips, axis=-1).mean()) for name, ids in FINGERTIPS.items()
    }


def pose_from_components(model: HandModel, root: Tensor, coefficients: Tensor) -> Tensor:
    """Pose (B, 48) from the root's axis-angle (B, 3) and the first n principal components (B, n), mean not added."""
    count = coefficients.shape[-1]
    components = torch.as_tensor(model.hands_components[:count], dtype=coefficients.dtype, device=coefficients.device)
    return torch.cat((root, coefficients @ components), dim=-1)


def mirror_points(points: Tensor) -> Tensor:
    """Left hand from right and back: points (..., 3) with x negated."""
    return points * points.new_tensor((-1.0, 1.0, 1.0))


def mirror_pose(pose: Tensor) -> Tensor:
    """Axis-angles (..., 3 n) of the mirrored hand: (x, -y, -z) for each joint."""
    signs = pose.new_tensor((1.0, -1.0, -1.0)).repeat(pose.shape[-1] // 3)
    return pose * signs


def mirror_rotations(rotations: Tensor) -> Tensor:
    """Rotations (..., 3, 3) of the mirrored hand: M R M with M = diag(-1, 1, 1)."""
    signs = rotations.new_tensor((-1.0, 1.0, 1.0))
    return rotations * signs[:, None] * signs


def _levels(parents: Sequence[int] | np.ndarray) -> list[list[int]]:
    """Joints by their distance from the root."""
    depth: list[int] = []
    for parent in parents:
        depth.append(0 if parent < 0 else depth[parent] + 1)
    return [[joint for joint, d in enumerate(depth) if d == level] for level in range(max(depth) + 1)]


def _array(file: Path, key: str, value: Any) -> np.ndarray:
    shape = _SHAPES[key]
    wanted = f"{file}: '{key}' must be finite numbers of shape {shape}"
    if scipy.sparse.issparse(value) and value.shape != shape:  # before it takes the memory of a dense one
        raise InputError(f"{wanted}, found a sparse matrix {value.shape}")
    try:
        array = np.asarray(value.toarray() if scipy.sparse.issparse(value) else value)
    except (ValueError, TypeError) as error:  # a ragged list; a sparse matrix of objects
        raise InputError(f"{wanted}, found a {type(value).__name__} that is no array ({error})") from None
    if key == "shapedirs" and array.ndim == 3 and array.shape[2] > 10:
        array = array[:, :, :10]  # some releases ship 20 directions; MANO's shape uses the first ten
    if array.shape != shape or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise InputError(f"{wanted}, found {array.dtype} {array.shape}")
    return array.astype(np.float64)


def _indices(file: Path, faces: np.ndarray) -> np.ndarray:
    if faces.min() < 0 or faces.max() >= VERTICES:
        raise InputError(f"{file}: 'f' names vertices outside 0..{VERTICES - 1}")
    return faces.astype(np.int64)


def _parents(file: Path, kintree: np.ndarray) -> np.ndarray:
    parents = kintree[0].copy()
    parents[0] = -1  # on disk 2**32 - 1 or -1: 'no parent'
    if (parents[1:] < 0).any() or (parents[1:] >= np.arange(1, JOINTS)).any():
        raise InputError(f"{file}: 'kintree_table' must give every joint a parent before it, found {kintree[0]}")
    return parents.astype(np.int64)
