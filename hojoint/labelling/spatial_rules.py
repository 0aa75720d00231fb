"""Spatial rules: is a frame's prediction consistent with its 2D joints, its box and human anatomy? (Sec. 5.1.1)

Pure functions over the T frames of a clip, one score per frame; NaN where a frame cannot be judged. Thresholds and
verdicts live in ``filters``; rules that compare frames in ``temporal_rules``. A box smaller than ``SMALLEST_BOX_PX``
cannot judge: its frame scores NaN in every rule that is measured by it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hojoint import geometry

# Suffixes of locals: T frames, J 21 joints, F 15 finger joints (in the model's order), P 20 bones; numbers are sizes.

SMALLEST_BOX_PX = 2.0

# Finger joints in the hand model's rotation order (index, middle, pinky, ring, thumb), as indices of the 21 joints.
FINGER_JOINTS = (5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3)
THUMB = slice(12, 15)  # of FINGER_JOINTS
PARENTS = (0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19)  # of joints 1 to 20
WRIST, THUMB_MCP, INDEX_MCP, MIDDLE_MCP, MIDDLE_TIP, PINKY_MCP = 0, 2, 5, 9, 12, 17


def larger_side(boxes: Tensor) -> Tensor:
    """Larger side of boxes (T, 4) xyxy px, (T,) px; NaN for a degenerate box."""
    sides_T2 = boxes[:, 2:] - boxes[:, :2]
    return torch.where((sides_T2 >= SMALLEST_BOX_PX).all(-1), sides_T2.amax(-1), torch.nan)


def box_iou(vertices_px: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """IoU of the projected mesh's box with the given hand box, (T,) in [0, 1] (Sec. 5.1.1, reading A14).

    All vertices count, and their box is clipped to the image as the given one is: most hands are cut by a border, and
    the mesh continues beyond it where the annotation cannot.

    Args:
        vertices_px: (T, 778, 2) px of the true image.
        boxes: (T, 4) hand boxes, xyxy px, already clipped to the image.
        size: width and height of the image, px.
    """
    mesh_boxes_T4 = geometry.clip_box(geometry.box_of_points(vertices_px), *size)
    iou_T = geometry.box_iou(mesh_boxes_T4, boxes)
    return torch.where(larger_side(boxes).isnan(), torch.nan, iou_T)


def reprojection(
    joints_px: Tensor,
    projected: Tensor,
    scale: Tensor,
    boxes: Tensor,
    *,
    norm: Literal["stacked", "mean"],
) -> Tensor:  # fmt: skip
    """Distance of the 2D joints from the projected 3D joints, (T,) box sides (Sec. 5.1.1, Eq. 7, reading A12).

    Args:
        joints_px: (T, 21, 2) predicted 2D joints, px of the true image.
        projected: (T, 21, 2) 3D joints through the fitted camera, px of the true image.
        scale: (T,) s of that camera, px per metre; the score is infinite where s <= 0, because the camera did not fit.
        boxes: (T, 4) hand boxes, xyxy px; the unit is their larger side.
        norm: ``stacked`` is the norm of all 42 numbers, as printed; ``mean`` is the mean distance per joint, which
            cannot exceed the spread of the joints and so hardly ever rejects.
    """
    distance_TJ = torch.linalg.vector_norm(joints_px - projected, dim=-1)
    size_T = torch.linalg.vector_norm(distance_TJ, dim=-1) if norm == "stacked" else distance_TJ.mean(-1)
    return torch.where(scale > 0, size_T / larger_side(boxes), torch.inf)


def bone_length(joints: Tensor, *, reference: Literal["palm", "span"]) -> Tensor:
    """Shortest of the 20 bones in units of a reference length, (T,) (Sec. 5.1.1, reading A15).

    Args:
        joints: (T, 21, 3) m.
        reference: ``palm`` is wrist to base of the middle finger; ``span`` is the chain of bones from the wrist to the
            middle fingertip, the same in every pose.
    """
    bones_TP = torch.linalg.vector_norm(joints[:, 1:] - joints[:, PARENTS], dim=-1)
    palm_T = bones_TP[:, MIDDLE_MCP - 1]
    reference_T = palm_T if reference == "palm" else bones_TP[:, MIDDLE_MCP - 1 : MIDDLE_TIP].sum(-1)
    return torch.where(reference_T > 0, bones_TP.amin(-1) / reference_T, torch.nan)


def finger_axes(rest_joints: Tensor) -> Tensor:
    """Anatomical axes of the 15 finger joints, (15, 3, 3), from the flat right hand's joints (21, 3) (reading A16).

    Columns: twist, along the bone; palmar, where flexion carries the bone; bend, about which it turns. A finger flexes
    towards the palm's front. The thumb is pronated against the fingers, it flexes half towards the palm's front and
    half across it, to the base of the little finger.
    """
    joints = list(FINGER_JOINTS)
    forward_3 = rest_joints[MIDDLE_MCP] - rest_joints[WRIST]
    across_3 = rest_joints[INDEX_MCP] - rest_joints[PINKY_MCP]
    front_3 = _unit(torch.linalg.cross(across_3, forward_3))  # out of the palm of a right hand
    opposed_3 = _unit(rest_joints[PINKY_MCP] - rest_joints[THUMB_MCP])
    towards_F3 = front_3.repeat(len(joints), 1)
    towards_F3[THUMB] = front_3 + opposed_3
    twist_F3 = _unit(rest_joints[[joint + 1 for joint in joints]] - rest_joints[joints])
    bend_F3 = _unit(torch.linalg.cross(twist_F3, towards_F3))
    palmar_F3 = torch.linalg.cross(bend_F3, twist_F3)
    return torch.stack((twist_F3, palmar_F3, bend_F3), dim=-1)


def flexion_deg(rotations: Tensor, axes: Tensor) -> Tensor:
    """Bend of each finger joint against its parent, (T, 15) degrees (Sec. 5.1.1, reading A16).

    Positive closes the fist, negative over-extends. The local rotation is read as bend * spread * twist; the bend is
    the angle of the turned bone in the plane that flexion sweeps, so neither twist nor spread leaks into it.

    Args:
        rotations: (T, 16, 3, 3) joint rotations of the right-hand model, root first.
        axes: (15, 3, 3) from ``finger_axes``.
    """
    turned_TF3 = (rotations[:, 1:] @ axes[..., :1]).squeeze(-1)
    along_TF = (turned_TF3 * axes[..., 0]).sum(-1)
    palmar_TF = (turned_TF3 * axes[..., 1]).sum(-1)
    return torch.rad2deg(torch.atan2(palmar_TF, along_TF))


def bone_angle_deg(joints: Tensor) -> Tensor:
    """Unsigned angle between the bones that meet in each finger joint, (T, 15) degrees: the literal reading (A16).

    ``joints`` (T, 21, 3) m.
    """
    fingers_F = torch.tensor(FINGER_JOINTS, device=joints.device)
    parents_F = torch.tensor(PARENTS, device=joints.device)[fingers_F - 1]
    inner_TF3 = joints[:, fingers_F] - joints[:, parents_F]
    outer_TF3 = joints[:, fingers_F + 1] - joints[:, fingers_F]
    sine_TF = torch.linalg.vector_norm(torch.linalg.cross(inner_TF3, outer_TF3), dim=-1)
    return torch.rad2deg(torch.atan2(sine_TF, (inner_TF3 * outer_TF3).sum(-1)))


def angle_excess_deg(angles: Tensor, low_deg: float, high_deg: float) -> Tensor:
    """How far the worst of the angles (T, 15) lies outside [low, high], (T,) degrees; negative when all lie inside."""
    return torch.maximum(low_deg - angles, angles - high_deg).amax(-1)


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)
