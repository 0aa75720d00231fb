"""Rotations, cameras, boxes and affine maps of the plane: the arithmetic shared by every stage.

Batched torch, differentiable, no state. A pixel coordinate is continuous, the centre of the top-left pixel is (0, 0); a
box is xyxy in px; an affine is (B, 2, 3) and maps source px to destination px. The camera looks along +z, x right, y
down. The paper parts that live here: the closed form of Eq. 7 (reading A11), the 21 control points of Sec. 4.3 and the
6D rotations of Zhou et al. (reading A4). Not here: how a crop is chosen or an image warped (``crops``).

No matrix products in single precision: autocast would take them in bfloat16, which counts pixels in steps of two.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Suffixes of locals: B batch, T frames, N points, J joints, X any leading dimensions; digits are literal sizes.

_SMALL_SQUARE = 1e-4  # below this squared angle the series are exact to double precision

# Corners of the unit box in the order of the authors' labels: bits x, y, z; 0 min, 1 max, 1/2 middle.
_UNIT_CONTROL_POINTS = (
    (0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1), (1, 1, 1),
    (0, 0.5, 0), (1, 0.5, 0), (0.5, 1, 0), (0.5, 0, 0), (0, 0.5, 1), (1, 0.5, 1), (0.5, 1, 1), (0.5, 0, 1),
    (0, 1, 0.5), (0, 0, 0.5), (1, 1, 0.5), (1, 0, 0.5), (0.5, 0.5, 0.5),
)  # fmt: skip


# ---------------------------------------------------------------------------------------------------- rotations


def axis_angle_to_matrix(vector: Tensor) -> Tensor:
    """Rodrigues, (..., 3) rad -> (..., 3, 3); value and gradient are finite at zero."""
    square_X11 = (vector * vector).sum(-1)[..., None, None]
    small_X11 = square_X11 < _SMALL_SQUARE
    # The branch not taken must stay finite too, or its gradient is NaN times zero.
    angle_X11 = torch.where(small_X11, torch.ones_like(square_X11), square_X11).sqrt()
    series_sin = 1 - square_X11 / 6 + square_X11**2 / 120
    series_cos = 0.5 - square_X11 / 24 + square_X11**2 / 720
    sin_term = torch.where(small_X11, series_sin, angle_X11.sin() / angle_X11)
    # 2 sin^2(a/2) instead of 1 - cos(a): no cancellation in float32.
    cos_term = torch.where(small_X11, series_cos, 2 * ((angle_X11 / 2).sin() / angle_X11) ** 2)
    identity_33 = torch.eye(3, dtype=vector.dtype, device=vector.device)
    # The square of the cross-product matrix, without a matrix product.
    cross_square_X33 = vector[..., :, None] * vector[..., None, :] - square_X11 * identity_33
    return identity_33 + sin_term * _cross_matrix(vector) + cos_term * cross_square_X33


def matrix_to_axis_angle(rotation: Tensor) -> Tensor:
    """(..., 3, 3) -> (..., 3) rad with an angle in [0, pi]; stable near 0 and near pi, gradient finite at the identity.

    At exactly pi both axes are right; one of them is returned.
    """
    quaternion_X4 = _quaternion(rotation)
    real_X1, imaginary_X3 = quaternion_X4[..., :1], quaternion_X4[..., 1:]
    square_X1 = (imaginary_X3 * imaginary_X3).sum(-1, keepdim=True)
    small_X1 = square_X1 < _SMALL_SQUARE
    length_X1 = torch.where(small_X1, torch.ones_like(square_X1), square_X1).sqrt()
    ratio_X1 = square_X1 / (real_X1 * real_X1).clamp(min=0.5)  # tan^2 of the half angle where it is small
    series_X1 = 2 * (1 - ratio_X1 / 3 + ratio_X1**2 / 5) / real_X1.clamp(min=0.5)
    factor_X1 = torch.where(small_X1, series_X1, 2 * torch.atan2(length_X1, real_X1) / length_X1)
    return factor_X1 * imaginary_X3


def rotation_6d_to_matrix(raw: Tensor) -> Tensor:
    """Gram-Schmidt of two raw columns (Zhou et al. 2019), (..., 6) -> (..., 3, 3): entries 0:3 are the first column."""
    first_X3 = torch.nn.functional.normalize(raw[..., :3], dim=-1, eps=1e-8)
    second_raw_X3 = raw[..., 3:]
    along_X1 = (first_X3 * second_raw_X3).sum(-1, keepdim=True)
    second_X3 = torch.nn.functional.normalize(second_raw_X3 - along_X1 * first_X3, dim=-1, eps=1e-8)
    return torch.stack((first_X3, second_X3, torch.linalg.cross(first_X3, second_X3, dim=-1)), dim=-1)


def geodesic(first: Tensor, second: Tensor) -> Tensor:
    """Angle between two rotations (..., 3, 3), (...) rad in [0, pi]; the gradient is zero where they are equal."""
    relative_X33 = (first[..., :, :, None] * second[..., :, None, :]).sum(-3)
    twice_sine_X = _axis_times_twice_sine(relative_X33).square().sum(-1)
    equal_X = twice_sine_X == 0
    sine_X = torch.where(equal_X, torch.ones_like(twice_sine_X), twice_sine_X).sqrt() / 2
    cosine_X = (relative_X33.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    # atan2 and not acos: acos loses half the digits near 0 and near pi.
    return torch.atan2(torch.where(equal_X, torch.zeros_like(sine_X), sine_X), cosine_X)


def mean_rotation(rotations: Tensor, dim: int = -3) -> Tensor:
    """Chordal mean of rotations (..., 3, 3) over ``dim``: the rotation nearest to their arithmetic mean.

    Nearest in the Frobenius norm. Summed in double, so the order of the rotations does not show in a float32 result.
    """
    mean_X33 = rotations.double().mean(dim)
    with torch.autocast(rotations.device.type, enabled=False):
        left_X33, _, right_X33 = torch.linalg.svd(mean_X33)
        sign_X = torch.linalg.det(left_X33 @ right_X33).sign()
        # Turning the last singular direction makes the nearest orthogonal matrix a rotation.
        signs_X3 = torch.stack((torch.ones_like(sign_X), torch.ones_like(sign_X), sign_X), dim=-1)
        return (left_X33 * signs_X3[..., None, :] @ right_X33).to(rotations.dtype)


def rotation_z(angle: Tensor) -> Tensor:
    """In-plane rotation, (...) rad -> (..., 3, 3); with x right and y down a positive angle turns x towards y."""
    cos_X, sin_X = angle.cos(), angle.sin()
    zero_X, one_X = torch.zeros_like(cos_X), torch.ones_like(cos_X)
    entries = (cos_X, -sin_X, zero_X, sin_X, cos_X, zero_X, zero_X, zero_X, one_X)
    return torch.stack(entries, dim=-1).reshape(*angle.shape, 3, 3)


def _cross_matrix(vector: Tensor) -> Tensor:
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).reshape(*vector.shape, 3)


def _axis_times_twice_sine(rotation: Tensor) -> Tensor:
    m = rotation
    return torch.stack((m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]), dim=-1)


def _quaternion(rotation: Tensor) -> Tensor:
    """Unit quaternion (w, x, y, z) with w >= 0, from the candidate whose divisor is largest (Shepperd)."""
    m = rotation
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = _axis_times_twice_sine(m).unbind(-1)
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    squares = (1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz)
    rows = (
        (squares[0], wx, wy, wz), (wx, squares[1], xy, xz), (wy, xy, squares[2], yz), (wz, xz, yz, squares[3]),
    )  # fmt: skip
    candidates_X44 = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    best_X = torch.stack(squares, dim=-1).argmax(-1)
    index_X14 = best_X[..., None, None].expand(*best_X.shape, 1, 4)
    picked_X4 = torch.nn.functional.normalize(candidates_X44.gather(-2, index_X14).squeeze(-2), dim=-1)
    return torch.where(picked_X4[..., :1] < 0, -picked_X4, picked_X4)


# ------------------------------------------------------------------------------------------------------ cameras


def weak_perspective(xyz: Tensor, px: Tensor) -> Tensor:
    """Least-squares camera of ``px = s * xy + t`` (Eq. 7, reading A11): closed form, per frame.

    Args:
        xyz: (T, J, 3) m.
        px: (T, J, 2) px.

    Returns:
        (T, 3): s px per metre, tx and ty px. s <= 0 means that the joints are mirrored or collapsed; a rule rejects it.
    """
    xy_TJ2 = xyz[..., :2]
    xy_mean_T12, px_mean_T12 = xy_TJ2.mean(-2, keepdim=True), px.mean(-2, keepdim=True)
    xy_TJ2 = xy_TJ2 - xy_mean_T12
    agreement_T = (xy_TJ2 * (px - px_mean_T12)).sum((-2, -1))
    spread_T = xy_TJ2.square().sum((-2, -1)).clamp(min=torch.finfo(xy_TJ2.dtype).tiny)
    scale_T1 = (agreement_T / spread_T)[..., None]
    return torch.cat((scale_T1, px_mean_T12.squeeze(-2) - scale_T1 * xy_mean_T12.squeeze(-2)), dim=-1)


def project_weak(xyz: Tensor, camera: Tensor) -> Tensor:
    """Weak perspective ``s * xy + t`` of points (T, J, 3) m by a camera (T, 3), (T, J, 2) px."""
    return camera[..., None, :1] * xyz[..., :2] + camera[..., None, 1:]


def control_points(low: Tensor, high: Tensor) -> Tensor:
    """The 21 control points (..., 21, 3) of the box from ``low`` to ``high`` (..., 3) (Sec. 4.3).

    8 corners, 12 edge middles, the centre, in the authors' order.
    """
    unit_213 = torch.tensor(_UNIT_CONTROL_POINTS, dtype=low.dtype, device=low.device)
    return low[..., None, :] + unit_213 * (high - low)[..., None, :]


# -------------------------------------------------------------------------------------------- boxes and affines


def box_of_points(px: Tensor) -> Tensor:
    """Tight box (B, 4) of points (B, N, 2); NaN if any point is NaN."""
    return torch.cat((px.amin(-2), px.amax(-2)), dim=-1)


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes (B, 4), row by row, (B,); 0 where both are empty, NaN where one is NaN."""
    low_B2 = torch.maximum(first[..., :2], second[..., :2])
    high_B2 = torch.minimum(first[..., 2:], second[..., 2:])
    shared_B = (high_B2 - low_B2).clamp(min=0).prod(-1)
    union_B = _area(first) + _area(second) - shared_B
    return torch.where(union_B == 0, torch.zeros_like(union_B), shared_B / union_B)


def scale_box(box: Tensor, factor: float | Tensor) -> Tensor:
    """Boxes (B, 4) with both sides multiplied by ``factor`` about their centre."""
    centre_B2, half_B2 = _centre_and_half(box)
    return torch.cat((centre_B2 - half_B2 * factor, centre_B2 + half_B2 * factor), dim=-1)


def clip_box(box: Tensor, width: float | Tensor, height: float | Tensor) -> Tensor:
    """The part of boxes (B, 4) inside [0, width] x [0, height]: labels write a picture's right edge as its width."""
    limits = [torch.as_tensor(v, dtype=box.dtype, device=box.device) for v in (width, height)]
    limit_B2 = torch.stack([limit.expand(box.shape[:-1]) for limit in limits], dim=-1)
    low_B2 = torch.minimum(box[..., :2].clamp(min=0), limit_B2)
    high_B2 = torch.minimum(box[..., 2:].clamp(min=0), limit_B2)
    return torch.cat((low_B2, high_B2), dim=-1)


def apply_affine(affine: Tensor, px: Tensor) -> Tensor:
    """Points (B, N, 2) mapped by their row's affine (B, 2, 3)."""
    x_BN1, y_BN1 = px[..., :1], px[..., 1:]
    return x_BN1 * affine[..., None, :, 0] + y_BN1 * affine[..., None, :, 1] + affine[..., None, :, 2]


def invert_affine(affine: Tensor) -> Tensor:
    """The affines (B, 2, 3) from destination px back to source px."""
    (a, b, c), (d, e, f) = (row.unbind(-1) for row in affine.unbind(-2))
    determinant = a * e - b * d
    entries = (e, -b, b * f - c * e, -d, a, c * d - a * f)
    return torch.stack([entry / determinant for entry in entries], dim=-1).reshape(affine.shape)


def rotate_box(box: Tensor, affine: Tensor) -> Tensor:
    """Box around the ellipse inside a box (B, 4) after an affine (B, 2, 3); (B, 4).

    Exact at multiples of 90 degrees, and a square box keeps its side at any angle; the box of the four mapped corners
    would grow by up to sqrt(2) although the hand inside does not.
    """
    centre_B2, half_B2 = _centre_and_half(box)
    centre_B2 = apply_affine(affine, centre_B2[..., None, :]).squeeze(-2)
    half_B2 = torch.linalg.vector_norm(affine[..., :2] * half_B2[..., None, :], dim=-1)
    return torch.cat((centre_B2 - half_B2, centre_B2 + half_B2), dim=-1)


def _area(box: Tensor) -> Tensor:
    return (box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1)


def _centre_and_half(box: Tensor) -> tuple[Tensor, Tensor]:
    low_B2, high_B2 = box[..., :2], box[..., 2:]
    return (low_B2 + high_B2) / 2, (high_B2 - low_B2) / 2
