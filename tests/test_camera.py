"""The weak-perspective camera: the closed form is the least-squares one, and left hands are un-mirrored."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from exact_hand import hand
from torch import Tensor

from hojoint.labelling import camera, spatial_rules
from hojoint.records import HandPrediction


@pytest.mark.parametrize("flipped", [False, True])
def test_the_closed_form_camera_is_where_an_optimiser_ends(layer: Any, flipped: bool) -> None:
    torch.manual_seed(0)
    prediction, _ = hand(layer, 0.5 * torch.randn(3, 48), flipped=flipped)
    noisy = dataclasses.replace(prediction, joints_px=prediction.joints_px + 5 * torch.randn(3, 21, 2))
    fitted = camera.fit(noisy)
    xy = prediction.joints[..., :2].double().numpy() * ([-1, 1] if flipped else [1, 1])
    for t in range(3):
        px = noisy.joints_px[t].double().numpy()
        best = scipy.optimize.least_squares(lambda c, t=t, px=px: (c[0] * xy[t] + c[1:] - px).ravel(), [500, 0, 0])
        np.testing.assert_allclose(fitted[t].numpy(), best.x, rtol=2e-4)


def test_a_left_hand_read_as_a_right_one_has_a_worse_camera(layer: Any) -> None:
    torch.manual_seed(1)
    prediction, boxes = hand(layer, 0.4 * torch.randn(2, 48), flipped=True)
    wrong = dataclasses.replace(prediction, flipped=False)

    def residual(p: HandPrediction) -> Tensor:
        projected = camera.project(p.joints, camera.fit(p), flipped=p.flipped)
        return spatial_rules.reprojection(p.joints_px, projected, camera.fit(p)[:, 0], boxes, norm="stacked")

    assert (residual(prediction) < 1e-4).all()
    assert (residual(wrong) > 0.3).all()
