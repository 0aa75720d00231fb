"""The floor of a step: operations counted by hand, and a speed that a matrix product has."""

from __future__ import annotations

import time

import torch

from cluster import floor


def test_operations_of_a_convolution_and_its_gradients_by_hand() -> None:
    conv = torch.nn.Conv2d(3, 5, kernel_size=3, padding=1)
    images = torch.rand(2, 3, 8, 8)
    forward = 2 * 2 * 64 * 5 * 27  # images without a gradient of their own: only the weights' is as much again
    assert floor.operations(lambda: conv(images).sum().backward()) == 2 * forward


def test_elementwise_work_counts_as_nothing() -> None:
    assert floor.operations(lambda: (torch.rand(9) * 2).relu_()) == 0


def test_the_rate_is_that_of_a_product_made_here() -> None:
    rate = floor.matrix_rate(torch.device("cpu"), torch.float32)
    square = torch.rand(512, 512)
    square @ square
    started = time.perf_counter()
    square @ square
    seconds = time.perf_counter() - started
    assert 0.02 < rate * seconds / (2 * 512**3) < 200  # the machine may be busy with other work
