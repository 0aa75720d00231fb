"""The speed of matrix products: operations counted by hand, and the rate of the fastest product."""

from __future__ import annotations

import pytest
import torch

from cluster import matrix_speed


def test_operations_of_a_convolution_and_its_gradients_by_hand() -> None:
    conv = torch.nn.Conv2d(3, 5, kernel_size=3, padding=1)
    images = torch.rand(2, 3, 8, 8)
    forward = 2 * 2 * 64 * 5 * 27  # images without a gradient of their own: only the weights' is as much again
    assert matrix_speed.operations(lambda: conv(images).sum().backward()) == 2 * forward


def test_elementwise_work_counts_as_nothing() -> None:
    assert matrix_speed.operations(lambda: (torch.rand(9) * 2).relu_()) == 0


def test_the_rate_is_that_of_the_fastest_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.001, 0.5, 0.25, 1, 1, 1])
    monkeypatch.setattr(matrix_speed, "_seconds", lambda *_: next(seconds))
    assert matrix_speed.matrix_rate(torch.device("cpu"), torch.float32) == 2 * 1024**3 / 0.25
    assert next(seconds, None) is None
