"""The hand layer: pose and betas to joints and vertices, MANO's official forward pass in plain torch (Sec. 3, 4.2).

Joints come in the simple order, in metres, relative to the wrist. Not here: reading a MANO file (``model``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from hojoint import geometry
from hojoint.hand.model import FINGER_JOINTS, JOINTS, MANO_TO_SIMPLE, VERTICES, HandModel, fingertip_ids

# Suffixes of locals: B batch, N joints of some levels, 16 joints with a rotation, 21 with the tips, V 778 vertices.


@dataclass(frozen=True, eq=False)
class ManoOutput:
    """A posed hand, in metres."""

    vertices: Tensor  # (B, 778, 3)
    joints: Tensor  # (B, 21, 3) simple order


class HandLayer(Protocol):
    """What both hand layers offer: ``ManoLayer`` and ``manopth.ManopthLayer``."""

    faces: np.ndarray  # (1538, 3) int64
    tips: list[int]  # vertex ids of the fingertips, thumb first

    def __call__(self, pose: Tensor, betas: Tensor) -> ManoOutput:
        """The hand of a pose (B, 48) rad, axis-angle in MANO's joint order, root first, and betas (B, 10)."""

    def from_rotations(self, rotations: Tensor, betas: Tensor) -> ManoOutput:
        """The hand of rotations (B, 16, 3, 3), root first, and betas (B, 10); the mean pose is not added."""

    def to(self, device: torch.device | str) -> Self:
        """The layer on a device."""


class ManoLayer(nn.Module):
    """Pose (B, 48) rad and betas (B, 10) to ``ManoOutput``: vertices (B, 778, 3) and joints (B, 21, 3), metres.

    Blend shapes, kinematic chain, linear blend skinning (Sec. 3). The buffers do not enter checkpoints: MANO's licence
    forbids passing the model on. The layer computes in the precision of its buffers, under autocast too: bfloat16 would
    move a fingertip by a millimetre.

    Args:
        model: from ``load_mano`` or ``stand_in_model``.
        flat_hand_mean: a pose of zeros is the flat hand; False adds the model's mean pose to every pose.
        fingertips: vertices that stand for the tips, a name in ``model.FINGERTIPS``.
        center: subtract the wrist, so that it is the origin.

    Raises:
        InputError: there is no fingertip set of that name.
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
            # Rest joints are linear in the betas: regressing them once spares 778 vertices per hand.
            "joint_template": model.J_regressor @ model.v_template,
            "joint_shapedirs": joint_shapedirs.reshape(-1, 10).T,
            "joint_regressor": model.J_regressor,
            "weights": model.weights,
            "mean_pose": np.zeros(45) if flat_hand_mean else model.hands_mean,
        }
        for name, values in constants.items():
            tensor = torch.tensor(np.ascontiguousarray(values), dtype=torch.get_default_dtype())
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, pose: Tensor, betas: Tensor) -> ManoOutput:
        """The hand of a pose (B, 48) rad, axis-angle in MANO's joint order, root first, and betas (B, 10)."""
        with torch.autocast(pose.device.type, enabled=False):
            pose = pose.to(self.mean_pose.dtype)
            vectors_B48 = torch.cat((pose[:, :3], pose[:, 3:] + self.mean_pose), dim=1)
            rotations_B1633 = geometry.axis_angle_to_matrix(vectors_B48.reshape(-1, JOINTS, 3))
            return self._pose(rotations_B1633, betas.to(self.mean_pose.dtype))

    def from_rotations(self, rotations: Tensor, betas: Tensor) -> ManoOutput:
        """The hand of rotations (B, 16, 3, 3), root first, and betas (B, 10); the mean pose is not added."""
        with torch.autocast(rotations.device.type, enabled=False):
            return self._pose(rotations.to(self.mean_pose.dtype), betas.to(self.mean_pose.dtype))

    def regressed_joints(self, vertices: Tensor) -> Tensor:
        """FreiHAND's key points (B, 21, 3), simple order, of vertices (B, 778, 3): regressed joints, and the tips."""
        joints_B163 = torch.einsum("jv,bvc->bjc", self.joint_regressor, vertices)
        return torch.cat((joints_B163, vertices[:, self.tips]), dim=1)[:, MANO_TO_SIMPLE]

    def _pose(self, rotations: Tensor, betas: Tensor) -> ManoOutput:
        vertices_BV3, rest_B163 = self._rest(rotations, betas)
        world_B1633, joints_B163 = self._chain(rotations, rest_B163)
        # Skinning moves a vertex by what its joints do, not by where they rest.
        shift_B163 = joints_B163 - (world_B1633 @ rest_B163[..., None]).squeeze(-1)
        moves_B1612 = torch.cat((world_B1633.flatten(-2), shift_B163), dim=-1)
        # Vertices last: one product for the batch, and long rows instead of a product of 3 x 3 matrices per vertex.
        moves_B12V = (moves_B1612.transpose(1, 2).reshape(-1, JOINTS) @ self.weights.T).view(-1, 12, VERTICES)
        turn_B33V, move_B3V = moves_B12V[:, :9].view(-1, 3, 3, VERTICES), moves_B12V[:, 9:]
        vertices_B3V = (turn_B33V * vertices_BV3.transpose(1, 2)[:, None]).sum(2) + move_B3V
        vertices_BV3 = vertices_B3V.transpose(1, 2).contiguous()
        return self._output(vertices_BV3, joints_B163)

    def _rest(self, rotations: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """Vertices (B, 778, 3) and joints (B, 16, 3) before skinning."""
        identity_33 = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        features_B135 = (rotations[:, 1:] - identity_33).flatten(1)
        offsets = betas @ self.shapedirs + features_B135 @ self.posedirs
        vertices_BV3 = self.template + offsets.reshape(-1, VERTICES, 3)
        joints_B163 = self.joint_template + (betas @ self.joint_shapedirs).reshape(-1, JOINTS, 3)
        return vertices_BV3, joints_B163

    def _chain(self, rotations: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        """World rotations (B, 16, 3, 3) and positions (B, 16, 3) of the joints, one level of the tree at a time."""
        order = list(self.levels[0])
        world_BN33, joints_BN3 = rotations[:, order], rest[:, order]
        for level in self.levels[1:]:
            parents = [self.parent_of[joint] for joint in level]
            rows = [order.index(parent) for parent in parents]
            bones_BN31 = (rest[:, level] - rest[:, parents])[..., None]
            turn_BN33, base_BN3 = world_BN33[:, rows], joints_BN3[:, rows]
            joints_BN3 = torch.cat((joints_BN3, base_BN3 + (turn_BN33 @ bones_BN31).squeeze(-1)), dim=1)
            world_BN33 = torch.cat((world_BN33, turn_BN33 @ rotations[:, level]), dim=1)
            order += level
        back = [order.index(joint) for joint in range(JOINTS)]
        return world_BN33[:, back], joints_BN3[:, back]

    def _output(self, vertices: Tensor, joints: Tensor) -> ManoOutput:
        joints_B213 = torch.cat((joints, vertices[:, self.tips]), dim=1)[:, MANO_TO_SIMPLE]
        if self.center:
            wrist_B13 = joints_B213[:, :1]
            vertices, joints_B213 = vertices - wrist_B13, joints_B213 - wrist_B13
        return ManoOutput(vertices=vertices, joints=joints_B213)


def _levels(parents: Sequence[int] | np.ndarray) -> list[list[int]]:
    """Joints by their distance from the root."""
    depth: list[int] = []
    for parent in parents:
        depth.append(0 if parent < 0 else depth[parent] + 1)
    return [[joint for joint, d in enumerate(depth) if d == level] for level in range(max(depth) + 1)]
