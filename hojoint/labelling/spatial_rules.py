"""Spatial rules: how well one frame's prediction agrees with itself, its box and a living hand (Sec. 5.1.1).

Pure functions over the T frames of a clip, one score per frame; NaN where a frame cannot be judged. Thresholds and
verdicts live in ``filters``; rules that compare frames in ``temporal_rules``. A box smaller than ``SMALLEST_BOX_PX``
judges nothing: its frame scores NaN in every rule that is measured by it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hojoint import geometry

# Suffixes: T frames, J 21 joints, V vertices, F 15 finger joints (in the model's order), P 20 bones.

SMALLEST_BOX_PX = 2.0

# Finger joints in the hand model's rotation order (index, middle, pinky, ring, thumb), as indices of the 21 joints.
FINGER_JOINTS = (5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3)
THUMB = slice(12, 15)  # of FINGER_JOINTS
PARENTS = (0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19)  # of joints 1 to 20
WRIST, THUMB_MCP, INDEX_MCP, MIDDLE_MCP, MIDDLE_TIP, PINKY_MCP = 0, 2, 5, 9, 12, 17


def larger_side(boxes_T4: Tensor) -> Tensor:
    """(T,) px; NaN for a degenerate box."""
    sides_T2 = boxes_T4[:, 2:] - boxes_T4[:, :2]
    return torch.where((sides_T2 >= SMALLEST_BOX_PX).all(-1), sides_T2.amax(-1), torch.nan)


def box_iou(vertices_px_TV2: Tensor, boxes_T4: Tensor, size: tuple[int, int]) -> Tensor:
    """IoU of the projected mesh's box with the given hand box, (T,) in [0, 1] (reading A14).

    All vertices count, and their box is clipped to the image as the given one is: most hands are cut by a border, and
    there the mesh goes on where the annotation cannot.

    Args:
        vertices_px_TV2: px of the true image.
        boxes_T4: hand boxes, already clipped.
        size: width and height of the image.
    """
    mesh_boxes_T4 = geometry.clip_box(geometry.box_of_points(vertices_px_TV2), *size)
    iou_T = geometry.box_iou(mesh_boxes_T4, boxes_T4)
    return torch.where(larger_side(boxes_T4).isnan(), torch.nan, iou_T)


def reprojection(
    joints_px_TJ2: Tensor,
    projected_TJ2: Tensor,
    scale_T: Tensor,
    boxes_T4: Tensor,
    *,
    norm: Literal["stacked", "mean"],
) -> Tensor:  # fmt: skip
    """Distance of the 2D joints from the projected 3D joints, (T,) in units of the box's larger side (reading A12).

    ``stacked`` is the norm of all 42 numbers, as printed; ``mean`` the mean distance per joint, which cannot exceed the
    joints' own spread and so hardly ever rejects. A camera with s <= 0 did not fit: the score is infinite.
    """
    distance_TJ = torch.linalg.vector_norm(joints_px_TJ2 - projected_TJ2, dim=-1)
    size_T = torch.linalg.vector_norm(distance_TJ, dim=-1) if norm == "stacked" else distance_TJ.mean(-1)
    return torch.where(scale_T > 0, size_T / larger_side(boxes_T4), torch.inf)


def bone_length(joints_TJ3: Tensor, *, reference: Literal["palm", "span"]) -> Tensor:
    """Shortest of the 20 bones in units of a reference length, (T,) (reading A15).

    ``palm``: wrist to the base of the middle finger. ``span``: the chain of bones from the wrist to the middle
    fingertip, the same in every pose.
    """
    bones_TP = torch.linalg.vector_norm(joints_TJ3[:, 1:] - joints_TJ3[:, PARENTS], dim=-1)
    palm_T = bones_TP[:, MIDDLE_MCP - 1]
    reference_T = palm_T if reference == "palm" else bones_TP[:, MIDDLE_MCP - 1 : MIDDLE_TIP].sum(-1)
    return torch.where(reference_T > 0, bones_TP.amin(-1) / reference_T, torch.nan)


def finger_axes(rest_joints_J3: Tensor) -> Tensor:
    """Anatomical axes of the 15 finger joints, (F, 3, 3), from the skeleton of the flat right hand (reading A16).

    Columns: twist, along the bone; palmar, where flexion carries the bone; bend, about which it turns. A finger flexes
    towards the palm's front. The thumb is pronated against the fingers, it flexes half towards the palm's front and
    half across it, to the base of the little finger.
    """
    joints = list(FINGER_JOINTS)
    forward_3 = rest_joints_J3[MIDDLE_MCP] - rest_joints_J3[WRIST]
    across_3 = rest_joints_J3[INDEX_MCP] - rest_joints_J3[PINKY_MCP]
    front_3 = _unit(torch.linalg.cross(across_3, forward_3))  # out of the palm of a right hand
    opposed_3 = _unit(rest_joints_J3[PINKY_MCP] - rest_joints_J3[THUMB_MCP])
    towards_F3 = front_3.repeat(len(joints), 1)
    towards_F3[THUMB] = front_3 + opposed_3
    twist_F3 = _unit(rest_joints_J3[[joint + 1 for joint in joints]] - rest_joints_J3[joints])
    bend_F3 = _unit(torch.linalg.cross(twist_F3, towards_F3))
    palmar_F3 = torch.linalg.cross(bend_F3, twist_F3)
    return torch.stack((twist_F3, palmar_F3, bend_F3), dim=-1)


def flexion_deg(rotations_T1633: Tensor, axes_F33: Tensor) -> Tensor:
    """Bend of each finger joint against its parent, (T, F) degrees; positive closes the fist, negative over-extends.

    The local rotation is read as bend * spread * twist; the bend is the angle of the turned bone in the plane that
    flexion sweeps, so neither twist nor spread leaks into it.
    """
    turned_TF3 = (rotations_T1633[:, 1:] @ axes_F33[..., :1]).squeeze(-1)
    along_TF = (turned_TF3 * axes_F33[..., 0]).sum(-1)
    palmar_TF = (turned_TF3 * axes_F33[..., 1]).sum(-1)
    return torch.rad2deg(torch.atan2(palmar_TF, along_TF))


def bone_angle_deg(joints_TJ3: Tensor) -> Tensor:
    """Unsigned angle between the bones that meet in each finger joint, (T, F) degrees: the cheap literal reading."""
    joints = torch.tensor(FINGER_JOINTS, device=joints_TJ3.device)
    parents = torch.tensor(PARENTS, device=joints_TJ3.device)[joints - 1]
    inner_TF3 = joints_TJ3[:, joints] - joints_TJ3[:, parents]
    outer_TF3 = joints_TJ3[:, joints + 1] - joints_TJ3[:, joints]
    sine_TF = torch.linalg.vector_norm(torch.linalg.cross(inner_TF3, outer_TF3), dim=-1)
    return torch.rad2deg(torch.atan2(sine_TF, (inner_TF3 * outer_TF3).sum(-1)))


def angle_excess_deg(angles_TF: Tensor, low_deg: float, high_deg: float) -> Tensor:
    """How far the worst joint lies outside [low, high], (T,) degrees; negative when all lie inside."""
    return torch.maximum(low_deg - angles_TF, angles_TF - high_deg).amax(-1)


def _unit(vector_X3: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vector_X3, dim=-1)
