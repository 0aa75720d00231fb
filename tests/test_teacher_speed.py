"""What the teacher's speed stands beside: counted views and operations, and the time in which a device is busy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_plain_way import CLIPS, NUMBERS, predictor_of

from cluster import matrix_speed, teacher_speed
from hojoint.records import Clip

VIEWS = 8 * 24  # of two clips of twelve frames


def references(views: int) -> teacher_speed.References:
    clips = [
        Clip(frames.clip_id, frames.clip_id, "", numbers.astype(np.int32), frames.hand_boxes, frames.object_boxes, 1)
        for frames, numbers in zip(CLIPS, NUMBERS, strict=True)
    ]
    return teacher_speed.References(predictor_of(), clips, CLIPS, views, plain_frames=2)


def test_overlapping_spans_of_work_count_once() -> None:
    spans = [(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 2.5)]
    assert teacher_speed.busy_time(spans) == pytest.approx(4.0)
    assert teacher_speed.busy_time([]) == 0.0


def test_a_cpu_has_no_idle_share() -> None:
    assert teacher_speed.idle_share(lambda: 1 / 0, torch.device("cpu")) is None


def test_speeds_are_frames_of_as_many_views_as_were_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    once, twice = references(VIEWS), references(2 * VIEWS)
    assert (once.views_per_frame, twice.views_per_frame) == (8, 16)
    clock = iter(range(100))
    monkeypatch.setattr(teacher_speed.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(matrix_speed, "matrix_rate", lambda device, dtype: 1e9)
    assert once.network_alone() == 2 * 24 / 8  # in one second
    assert twice.network_alone() == 4 * 24 / 16  # a quarter of its batches
    assert once.plain_way() == 2
    assert twice.plain_way() == 1
    assert once.at_matrix_speed() == pytest.approx(2 * twice.at_matrix_speed())


def test_operations_are_those_of_one_view() -> None:
    predictor, one = predictor_of(), references(VIEWS)
    images, boxes = torch.rand(1, 3, 64, 64), torch.tensor([[20.0, 20, 44, 44]])
    with torch.inference_mode():
        alone = matrix_speed.operations(
            lambda: predictor.network(images, boxes, boxes, with_object=False, roi_samples=2) and None
        )
    assert one.operations_per_view == pytest.approx(alone, rel=1e-3)
