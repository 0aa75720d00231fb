"""A pinhole camera for tests, apart from the one under test."""

from torch import Tensor


def project(points: Tensor, camera: Tensor) -> Tensor:
    """Points (B, N, 3) m of the camera frame to (B, N, 2) px by intrinsics (B, 3, 3)."""
    homogeneous_BN3 = points @ camera.transpose(-1, -2)
    return homogeneous_BN3[..., :2] / homogeneous_BN3[..., 2:]
