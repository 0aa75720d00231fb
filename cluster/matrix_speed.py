"""How fast a training step would be at the speed of plain matrix products on the same device.

An estimate of its upper bound. Operations are those of direct convolutions; a library that needs fewer (Winograd) can
pass it. Not here: the step (``benchmarks``).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

SIDE = {"cpu": 1024, "cuda": 8192}  # of the square matrices: fits a CPU's cache; fills a GPU
PRODUCTS = 5


def operations(step: Callable[[], None]) -> int:
    """Floating-point operations of the matrix products and convolutions of one call of ``step``, its gradients too.

    A multiplication and its addition are two. Elementwise work, pooling and sampling count as nothing.
    """
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of square matrix products on ``device``, the fastest of a few, with torch's threads."""
    side = SIDE.get(device.type, SIDE["cpu"])
    left, right = (torch.rand(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = [_seconds(left, right) for _ in range(1 + PRODUCTS)]
    return 2 * side**3 / min(seconds[1:])  # the first one wakes the threads


def _seconds(left: torch.Tensor, right: torch.Tensor) -> float:
    if left.is_cuda:
        torch.cuda.synchronize(left.device)
    started = time.perf_counter()
    left @ right
    if left.is_cuda:
        torch.cuda.synchronize(left.device)
    return time.perf_counter() - started
