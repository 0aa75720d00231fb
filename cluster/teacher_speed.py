"""What the teacher's speed stands beside: its network alone, the device's matrix rate, the plain way, an idle GPU.

All speeds are in frames per second at the number of views that the teacher asks its network for: a frame's test-time
views and its share of the views that decide which hand a clip shows. Not here: the teacher, the turns that the
measurements take (``benchmarks``), the plain way itself (``plain_way``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from cluster import matrix_speed
from cluster.plain_way import PlainPredictor
from hojoint.labelling.tta import HandPredictor
from hojoint.records import Clip, Frames

NETWORK_ALONE, PLAIN_WAY = "network alone", "plain way"
SHARE_OF_VIEWS = 4  # the network alone runs a quarter of the teacher's batches


class References:
    """The parts that a teacher's speed is compared with, on its network and its device."""

    def __init__(
        self, predictor: HandPredictor, clips: Sequence[Clip], frames: Sequence[Frames], views: int, plain_frames: int
    ) -> None:
        """Prepare and warm up.

        Args:
            predictor: of the teacher, which has already predicted.
            clips, frames: what the teacher labels.
            views: that the teacher asks for in all, to label them.
            plain_frames: of the first clip, for the plain way.
        """
        self._predictor, self._plain = predictor, PlainPredictor(predictor)
        self._clip, self._pixels = clips[0], frames[0]
        self._plain_rows = np.arange(min(plain_frames, len(clips[0].frames)))
        self.views_per_frame = views / sum(len(clip.frames) for clip in clips)
        self._batches = max(2, views // (SHARE_OF_VIEWS * predictor.batch_size))
        self._inputs = _inputs(predictor)
        self.network_alone()
        self._plain_seconds(self._plain_rows[:1])
        self.operations_per_view = matrix_speed.operations(self._once) / predictor.batch_size

    @torch.inference_mode()
    def _once(self) -> None:
        *inputs, samples = self._inputs
        self._predictor.network(*inputs, with_object=False, roi_samples=samples)

    def network_alone(self) -> float:
        """The network on full batches that already lie on the device."""
        with torch.inference_mode():
            _wait(self._predictor.device)
            started = time.perf_counter()
            for _ in range(self._batches):
                self._predictor.ask(*self._inputs)
            _wait(self._predictor.device)
        views = self._batches * self._predictor.batch_size
        return views / (time.perf_counter() - started) / self.views_per_frame

    def plain_way(self) -> float:
        """One view at a time, cut by OpenCV, in float32; without the rules and the guess of the side."""
        views = len(self._plain_rows) * self._predictor.tta.views
        return views / self._plain_seconds(self._plain_rows) / self.views_per_frame

    def at_matrix_speed(self) -> float:
        """As fast as the network would be at this device's rate of large matrix products in its precision."""
        dtype = torch.bfloat16 if self._predictor.precision == "bfloat16" else torch.float32
        rate = matrix_speed.matrix_rate(self._predictor.device, dtype)
        return rate / (self.operations_per_view * self.views_per_frame)

    def _plain_seconds(self, rows: np.ndarray) -> float:
        started = time.perf_counter()
        self._plain.predict([self._pixels], [False], numbers=[self._clip.frames], rows=[rows])
        return time.perf_counter() - started


def idle_share(work: Callable[[], object], device: torch.device) -> float | None:
    """Share of the time of ``work`` in which the GPU runs nothing; None on a CPU."""
    if device.type != "cuda":
        return None
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        seconds = time.perf_counter() - started
    on_gpu = (event for event in profile.events() if event.device_type.name == "CUDA")
    busy = busy_time((event.time_range.start, event.time_range.end) for event in on_gpu)
    return 1 - busy / 1e6 / seconds  # the profiler counts in microseconds


def busy_time(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of (start, end) spans, in their unit."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _inputs(predictor: HandPredictor) -> tuple[Tensor, Tensor, Tensor, int]:
    """A full batch on the device: noise, a hand box in its middle, an object box beside it, samples per RoI cell."""
    config, count = predictor.network.config, predictor.batch_size
    hand_B4 = (torch.tensor([0.3, 0.3, 0.7, 0.7]) * config.input_px).expand(count, 4).contiguous()
    images = torch.rand(count, 3, config.input_px, config.input_px)
    on_device = (part.to(predictor.device) for part in (images, hand_B4, hand_B4 + 0.1 * config.input_px))
    images, hand, thing = on_device
    return images, hand, thing, predictor.roi_samples(hand_B4)


def _wait(device: torch.device) -> None:
    """Until the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
