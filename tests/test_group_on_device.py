"""A group's views on the device: nothing waits for it, shapes depend on no value, a last batch is filled up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from oracle_network import blank_clip
from test_plain_way import CLIPS, network, predict, predictor_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hojoint import crops
from hojoint.config import CropConfig, ManoConfig, TtaConfig
from hojoint.hand.factory import hand_layer
from hojoint.labelling import views
from hojoint.labelling.tta import HandPredictor
from hojoint.model import encoder

WAITS = ("_local_scalar_dense", "nonzero", "bincount", "lift_fresh", "unique", "equal", "is_nonzero", "masked_select")
"""Operations whose result, or whose input, is on the CPU: on a GPU each waits until all earlier work is done."""


class NoWaiting(TorchDispatchMode):
    """Refuses operations that would wait for a GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").partition(".")[0]
        assert name not in WAITS, f"{name} waits for the device"
        masks = [part for part in args if isinstance(part, list)] if name.startswith("index") else []
        assert not [one for part in masks for one in part if isinstance(one, Tensor) and one.dtype == torch.bool]
        return func(*args, **(kwargs or {}))


def test_the_watch_sees_what_waits() -> None:
    values = torch.arange(3.0)
    for waiting in (lambda: float(values.max()), lambda: values[values > 1], lambda: values.new_tensor([1.0])):
        with pytest.raises(AssertionError), NoWaiting():
            waiting()


def test_nothing_in_a_group_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, answers = predictor_of(), HandPredictor._answers
    # On a CPU its boxes are checked at once; on a GPU the check is a kernel like any other.
    monkeypatch.setattr("hojoint.model.network._refuse_no_hand", lambda boxes: None)
    watched = []

    def watch(self: HandPredictor, *given: Any) -> Any:
        with NoWaiting():
            watched.append(answers(self, *given))
        return watched[-1]

    monkeypatch.setattr(HandPredictor, "_answers", watch)
    predict(predictor)
    assert len(watched) == 1
    assert len(watched[0].betas) == predictor.views_asked == 8 * 24


def test_the_hands_network_is_one_graph() -> None:
    torch._dynamo.reset()
    plain, whole = network(), torch.compile(network(), backend="eager", fullgraph=True, dynamic=False)
    images, hand = torch.rand(3, 3, 64, 64), torch.tensor([[10.0, 12, 40, 45]]).repeat(3, 1)
    thing = torch.stack([hand[0] + 9, torch.full((4,), torch.nan), hand[0] - 5])
    samples = encoder.samples_per_cell(hand, cells=8)
    with torch.no_grad():
        one = whole(images, hand, thing, with_object=False, roi_samples=samples).hand
        other = plain(images, hand, thing).hand
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_compiled_calls_have_one_size_and_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def compiled(model: Any, **options: Any) -> Any:
        assert options == {"dynamic": False}
        return lambda images, *rest, **more: (
            sizes.append((len(images), more["roi_samples"])),
            model(images, *rest, **more),
        )[1]

    plain = predictor_of().predict(CLIPS[:1], [False], rows=[np.arange(5)])[0]
    monkeypatch.setattr(torch, "compile", compiled)
    filled = predictor_of(compiled=True).predict(CLIPS[:1], [False], rows=[np.arange(5)])[0]
    assert sizes == [(24, 4), (24, 4)]  # 40 views in batches of 24
    torch.testing.assert_close(filled.joints_px, plain.joints_px, atol=1e-3, rtol=0)
    torch.testing.assert_close(filled.vertices, plain.vertices, atol=1e-5, rtol=0)


def test_more_samples_than_needed_change_no_feature() -> None:
    boxes = torch.tensor([[3.0, 5, 60, 50], [10, 10, 12, 12], [-20, 0, 90, 64]])
    maps = torch.rand(3, 4, 16, 16)
    needed = encoder.samples_per_cell(boxes, cells=4)
    assert needed == 7  # 110 px are 27.5 cells of the map, 6.9 for each of the 4
    exact, more = (encoder.roi_features(maps, boxes, None, cells=4, samples=count) for count in (needed, needed + 5))
    torch.testing.assert_close(exact, more)
    torch.testing.assert_close(exact, encoder.roi_features(maps, boxes, None, cells=4))


def test_a_view_sees_its_part_as_it_sees_the_frame() -> None:
    """The part is cut off nowhere that a view looks."""
    predictor = predictor_of()
    rows = [np.arange(len(clip.rgb)) for clip in CLIPS]
    table = predictor._views(CLIPS, [False, True], rows, rows)
    seen = views.seen_by(table, CLIPS, rows, input_px=64, count=8)
    areas = np.prod(seen.parts[:, 2:] - seen.parts[:, :2], axis=1)
    assert areas.mean() < 0.8 * 160 * 120
    task = predictor._task(table, CLIPS, rows)
    for batch in (slice(0, 24), slice(84, 108), slice(3, 7)):
        images = predictor._images(task, CLIPS, batch)
        for place, view in enumerate(range(batch.start, batch.stop)):
            clip = view // 8 // 12
            frame = torch.from_numpy(CLIPS[clip].rgb[table.frame_rows[view]][None])
            alone = crops.warp(frame, table.affines[view : view + 1], 64, supersample=2)
            assert (images[place] - alone[0]).abs().max() < 2e-3


def test_a_frame_without_a_finite_hand_box_is_refused() -> None:
    clip = blank_clip("a", [[np.nan, 0, 10, 10]])
    with pytest.raises(AssertionError, match="every frame has a hand box"):
        predictor_of().predict([clip], [False])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = HandPredictor(network(), hand_layer(ManoConfig()), CropConfig(), TtaConfig(), "cuda", 24)
    answers = HandPredictor._answers
    predict(predictor)  # the first call chooses kernels

    def watch(self: HandPredictor, *given: Any) -> Any:
        torch.cuda.set_sync_debug_mode("error")
        try:
            return answers(self, *given)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(HandPredictor, "_answers", watch)
    predict(predictor)
