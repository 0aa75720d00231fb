"""The complete network: what each row may and may not change, and where gradients go."""

from pathlib import Path

import pytest
import torch
from labelled import DEEPER
from pydantic import ValidationError
from torch.nn.parallel import DistributedDataParallel

from hojoint.config import ModelConfig
from hojoint.model.network import HOJoint

HAND = torch.tensor([[10.0, 10, 40, 44], [5, 8, 30, 36], [20, 16, 60, 60]])
THING = torch.tensor([[30.0, 20, 60, 60], [0, 0, 28, 30], [16, 30, 50, 64]])


def _network(**changes: object) -> HOJoint:
    torch.manual_seed(0)
    return HOJoint(DEEPER.model_copy(update=changes))


def _images() -> torch.Tensor:
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def _without(*rows: int) -> torch.Tensor:
    boxes = THING.clone()
    boxes[list(rows)] = torch.nan
    return boxes


def _same(a: object, b: object) -> None:
    torch.testing.assert_close(a, b, equal_nan=True, atol=1e-6, rtol=1e-5)


def test_a_side_head_changes_nothing_else() -> None:
    plain, headed = _network().eval(), _network(side_head=True).eval()
    weights = headed.state_dict()
    assert {name for name in weights if name not in plain.state_dict()} == {
        name for name in weights if name.startswith("side_head.")
    }
    for name, value in plain.state_dict().items():
        assert torch.equal(weights[name], value), name  # the same seed draws the same weights
    one, other = plain(_images(), HAND, THING), headed(_images(), HAND, THING)
    _same(one.hand[:4], other.hand[:4])
    _same(tuple(one.object), tuple(other.object))
    assert one.hand.side is None
    assert other.hand.side.shape == (3,)


@pytest.mark.parametrize("reasoning", ["o+", "h+o+"])
def test_images_for_the_side_head_alone_reach_nothing_else(reasoning: str) -> None:
    network = _network(side_head=True, reasoning=reasoning).eval()
    images, things = _images(), _without(1)
    full = network(images, HAND, things)
    more = network(torch.cat((images, images.flip(3)[:2])), torch.cat((HAND, HAND[:2])), things, side_only=2)
    _same(full.hand[:4], more.hand[:4])
    _same(tuple(full.object), tuple(more.object))
    _same(full.hand.side, more.hand.side[:3])
    assert more.hand.side.shape == (5,)
    seen: list[int] = []  # so the decoders' batch statistics know nothing of them either
    for part in (network.side_head, network.joint_decoder, network.mesh_decoder):
        part.register_forward_hook(lambda _m, given, _o: seen.append(len(given[0])))
    network.train()(torch.cat((images, images[:2])), torch.cat((HAND, HAND[:2])), things, side_only=2)
    assert seen == [5, 3, 3]


def test_images_for_the_side_head_need_one() -> None:
    with pytest.raises(AssertionError, match="side head"):
        _network()(_images(), HAND, THING[:2], side_only=1)


def test_the_released_size_has_the_released_number_of_parameters() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in HOJoint().parameters())
    smoothing = 2 * (256 * 256 * 9 + 256)  # of P3 and P4, in the released file and nowhere in the computation
    assert count == 33_299_859
    assert abs(count + smoothing - 34.5e6) < 0.1e6


def test_outputs_have_the_promised_shapes() -> None:
    out = _network().eval()(_images(), HAND, THING)
    assert out.hand.joints_box.shape == (3, 21, 2)
    assert out.hand.rotations.shape == (3, 16, 3, 3)
    assert out.hand.betas.shape == (3, 10)
    assert out.hand.heatmaps.shape == (3, 21, 8, 8)
    assert out.object.control_box.shape == (3, 8, 8, 21, 2)
    assert out.object.confidence.shape == (3, 8, 8, 21)
    assert out.attention is None


@pytest.mark.parametrize("reasoning", ["none", "o+", "h+", "h+o+"])
def test_each_image_is_answered_alone_in_evaluation(reasoning: str) -> None:
    network = _network(reasoning=reasoning, side_head=True).eval()
    images, things = _images(), _without(1)
    together = network(images, HAND, things)
    for row in range(3):
        alone = network(images[row, None], HAND[row, None], things[row, None])
        for part in ("hand", "object"):
            for many, one in zip(getattr(together, part), getattr(alone, part), strict=True):
                torch.testing.assert_close(many[row], one[0], equal_nan=True, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("reasoning", ["none", "o+", "h+", "h+o+"])
def test_a_loss_on_every_output_reaches_every_parameter(reasoning: str) -> None:
    network = _network(reasoning=reasoning, side_head=True).train()
    out = network(_images(), HAND, THING)
    weights = torch.Generator().manual_seed(2)
    loss = sum((x * torch.rand(x.shape, generator=weights)).sum() for part in out[:2] for x in part)
    loss.backward()
    # A bias right before a batch norm, or a key's, has a gradient of zero up to rounding; it must still have one.
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    silent = [name for name, p in network.named_parameters() if p.grad.abs().sum() == 0 and "bias" not in name]
    assert silent == []


def test_an_image_without_an_object_has_no_object_points() -> None:
    out = _network().eval()(_images(), HAND, _without(1)).object
    assert out.control_box[1].isnan().all()
    assert (out.confidence[1] == 0).all()
    assert out.control_box[[0, 2]].isfinite().all()
    assert (out.confidence[[0, 2]] > 0).all()


def test_images_without_an_object_leave_the_object_statistics() -> None:
    def statistics(network: HOJoint) -> dict[str, torch.Tensor]:
        return {k: v.clone() for k, v in network.object_decoder.state_dict().items() if "running" in k or "num" in k}

    network = _network().train()
    before = statistics(network)
    network(_images(), HAND, _without(0, 1, 2))
    torch.testing.assert_close(statistics(network), before, rtol=0, atol=0)
    # With one object among three images they are what one pass of that RoI's features makes them.
    caught: list[torch.Tensor] = []
    network.object_decoder.trunk[0].register_forward_hook(lambda _m, _i, out: caught.append(out.detach()))
    network(_images(), HAND, _without(0, 2))
    assert caught[0].shape[0] == 1
    expected = 0.9 * before["trunk.1.running_mean"] + 0.1 * caught[0].mean(dim=(0, 2, 3))
    torch.testing.assert_close(statistics(network)["trunk.1.running_mean"], expected)


def test_a_batch_without_objects_has_zero_object_gradients() -> None:
    network = _network(reasoning="h+o+", side_head=True).train()
    out = network(_images(), HAND, _without(0, 1, 2))
    (sum(x.square().sum() for x in out.hand) + out.object.confidence.sum()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    assert all(p.grad.abs().sum() == 0 for p in network.object_decoder.parameters())


def test_distributed_training_takes_batches_without_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def two_steps(network: HOJoint) -> None:
        wrapped = DistributedDataParallel(network)
        for _ in range(2):  # the second forward finds out that the first waits for gradients
            out = wrapped(_images(), HAND, _without(0, 1, 2)[:2], side_only=1)
            (sum(x.square().sum() for x in out.hand) + out.object.confidence.sum()).backward()

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        two_steps(_network(side_head=True).train())
        monkeypatch.setattr(HOJoint, "_touch_object_branch", lambda self: torch.zeros(()))
        with pytest.raises(RuntimeError, match="Expected to have finished reduction"):
            two_steps(_network(side_head=True).train())
    finally:
        torch.distributed.destroy_process_group()


def test_under_o_plus_the_hand_does_not_depend_on_the_object_box() -> None:
    network = _network().eval()
    with_boxes, without = network(_images(), HAND, THING).hand, network(_images(), HAND, _without(0, 1, 2)).hand
    hand_only = network(_images(), HAND, THING, with_object=False)
    torch.testing.assert_close(with_boxes, without, rtol=0, atol=0)
    torch.testing.assert_close(with_boxes, hand_only.hand, rtol=0, atol=0)
    assert hand_only.object.control_box.isnan().all()


def test_under_h_plus_the_hand_listens_to_the_intersection() -> None:
    network = _network(reasoning="h+").eval()
    far = torch.tensor([[45.0, 50, 60, 60], [40, 45, 60, 60], [0, 0, 10, 10]])  # no overlap: the same as no object
    near = network(_images(), HAND, THING).hand.joints_box
    torch.testing.assert_close(
        network(_images(), HAND, far).hand.joints_box, network(_images(), HAND, _without(0, 1, 2)).hand.joints_box
    )
    assert not torch.allclose(near, network(_images(), HAND, far).hand.joints_box)


def test_attention_is_handed_out_on_request() -> None:
    network = _network().eval()
    attention = network(_images(), HAND, _without(2), with_attention=True).attention
    assert attention.shape == (3, 64, 64)
    torch.testing.assert_close(attention[:2].sum(dim=2), torch.ones(2, 64))
    assert attention[2].isnan().all()
    assert _network(reasoning="none").eval()(_images(), HAND, THING, with_attention=True).attention is None


def test_mixed_precision_moves_joints_little() -> None:
    network = _network().eval()
    exact = network(_images(), HAND, THING)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network(_images(), HAND, THING)
    assert rough.hand.joints_box.dtype == rough.object.control_box.dtype == rough.hand.rotations.dtype == torch.float32
    torch.testing.assert_close(rough.hand.joints_box, exact.hand.joints_box, atol=0.02, rtol=0)
    torch.testing.assert_close(rough.object.control_box, exact.object.control_box, atol=0.02, rtol=0)


def test_sizes_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ValidationError, match="must be divisible by 2\\*\\*4"):
        ModelConfig(roi_cells=24)
    with pytest.raises(ValidationError, match="attention_heads=3"):
        ModelConfig(attention_heads=3)
