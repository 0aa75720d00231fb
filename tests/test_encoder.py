"""The encoder against torchvision's own ResNet, and RoIAlign against coordinates read off a ramp."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torchvision.models import resnet18, resnet50
from torchvision.ops import roi_align

from hojoint.config import ModelConfig
from hojoint.errors import InputError
from hojoint.model.encoder import Encoder, ResNet, intersection, intersection_features, roi_features

RESNET18 = {"block": "basic", "blocks": (2, 2, 2, 2)}


@pytest.fixture(scope="module")
def resnet18_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = resnet18()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(model.state_dict(), path)
    return path


def test_without_a_slope_the_resnet_is_torchvisions(resnet18_file: Path) -> None:
    theirs = resnet18()
    theirs.load_state_dict(torch.load(resnet18_file, weights_only=True))
    ours = Encoder(ModelConfig(**RESNET18, leaky_relu_slope=0.0, pretrained=str(resnet18_file))).resnet
    images = torch.rand(2, 3, 64, 96)
    last = []
    theirs.layer4.register_forward_hook(lambda _module, _inputs, out: last.append(out))
    theirs.eval()(images)
    torch.testing.assert_close(ours.eval()(images)[3], last[0])


def test_every_relu_has_the_slope() -> None:
    resnet = ResNet(ModelConfig(blocks=(1, 1, 1, 1), width=8, leaky_relu_slope=0.01))
    slopes = [m.negative_slope for m in resnet.modules() if isinstance(m, torch.nn.LeakyReLU)]
    assert slopes == [0.01] * 5
    assert not any(isinstance(m, torch.nn.ReLU) for m in resnet.modules())


def test_the_default_resnet_has_torchvisions_parameters() -> None:
    with torch.device("meta"):
        ours = {name: value.shape for name, value in ResNet(ModelConfig()).state_dict().items()}
        theirs = {name: value.shape for name, value in resnet50().state_dict().items() if not name.startswith("fc.")}
    assert ours == theirs


def test_p2_has_a_quarter_of_the_side_and_hears_every_level() -> None:
    encoder = Encoder(ModelConfig(block="basic", blocks=(1, 1, 1, 1), width=8, channels=16))
    p2 = encoder(torch.rand(1, 3, 64, 96))
    assert p2.shape == (1, 16, 16, 24)
    p2.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())


def test_weights_of_another_size_are_refused_by_name(resnet18_file: Path) -> None:
    with pytest.raises(InputError, match=r"block=basic.*width=32.*bn1\.bias.*expected \(32,\), found \(64,\)"):
        Encoder(ModelConfig(**RESNET18, width=32, pretrained=str(resnet18_file)))


def test_a_missing_or_foreign_weight_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        Encoder(ModelConfig(**RESNET18, pretrained=str(tmp_path / "none.pth")))
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    with pytest.raises(InputError, match="not a file of torch weights"):
        Encoder(ModelConfig(**RESNET18, pretrained=str(tmp_path / "page.pth")))


def test_imagenet_weights_need_a_size_they_exist_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="needs width=64"):
        Encoder(ModelConfig(**RESNET18, width=24, pretrained="imagenet"))

    def offline(*_args: object, **_options: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(InputError, match=r"cannot fetch .*resnet18.*set model\.pretrained to its path"):
        Encoder(ModelConfig(**RESNET18, pretrained="imagenet"))


def test_the_intersection_of_boxes_by_hand() -> None:
    hand = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]])
    obj = torch.tensor([[5.0, 4, 20, 8], [12, 0, 20, 10], [10, 0, 20, 10]])
    boxes, overlaps = intersection(hand, obj)
    torch.testing.assert_close(boxes[0], torch.tensor([5.0, 4, 10, 8]))
    assert overlaps.tolist() == [True, False, False]  # apart; sharing an edge, which has no area


def test_a_roi_of_a_ramp_reads_off_the_centres_of_its_cells() -> None:
    ramp_x = torch.arange(32.0).expand(32, 32)
    p2 = torch.stack([ramp_x, ramp_x.t()])[None].repeat(2, 1, 1, 1)
    p2[1] += 100
    box = torch.tensor([[8.0, 16, 40, 80]])  # px; a quarter of it on the map: x 2..10, y 4..20
    features = roi_features(p2, box, torch.tensor([1]), cells=4)
    centres = (torch.arange(4) + 0.5) / 4
    torch.testing.assert_close(features[0, 0], (100 + 2 + 8 * centres).expand(4, 4))
    torch.testing.assert_close(features[0, 1], (100 + 4 + 16 * centres)[:, None].expand(4, 4))


@pytest.mark.parametrize("channels_last", [False, True])
def test_roi_features_and_gradients_are_torchvisions_roi_align(channels_last: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    p2 = torch.randn(3, 5, 20, 28, dtype=torch.float64, generator=generator)
    p2 = p2.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format).requires_grad_()
    boxes = torch.rand(60, 2, 2, dtype=torch.float64, generator=generator) * 200 - 40  # the map ends at 112 and 80 px
    boxes = torch.cat([boxes.amin(1), boxes.amax(1)], dim=1)
    odd = [
        [-60, -50, 300, 200],
        [200, 10, 260, 60],
        [-90, 0, -9, 30],
        [8, 8, 8, 8],
        [30, 40, 20, 10],
        [-4, 76, 112, 84],
    ]
    boxes = torch.cat([boxes, torch.tensor(odd, dtype=torch.float64)])
    rows = torch.randint(3, (len(boxes),), generator=generator)
    weights = torch.randn(len(boxes), 5, 6, 6, dtype=torch.float64, generator=generator)
    ours = roi_features(p2, boxes, rows, cells=6)
    theirs = roi_align(p2, torch.cat([rows[:, None].double(), boxes], 1), 6, spatial_scale=0.25, aligned=False)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        *(torch.autograd.grad((features * weights).sum(), p2)[0] for features in (ours, theirs)),
    )
    by_image = roi_features(p2, boxes[:3], None, cells=6)
    torch.testing.assert_close(by_image, roi_features(p2, boxes[:3], torch.arange(3), cells=6))


def test_no_boxes_have_no_features() -> None:
    features = roi_features(torch.rand(2, 3, 8, 8), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), cells=4)
    assert features.shape == (0, 3, 4, 4)


def test_features_of_an_empty_intersection_are_zero() -> None:
    p2 = torch.rand(2, 3, 16, 16) + 1
    hand = torch.tensor([[0.0, 0, 30, 30], [0, 0, 20, 20]])
    obj = torch.tensor([[10.0, 10, 50, 50], [30, 30, 60, 60]])
    features = intersection_features(p2, hand, obj, torch.arange(2), cells=8)
    assert features[0].min() > 0
    assert features[1].abs().max() == 0


def test_boxes_keep_their_precision_in_bfloat16() -> None:
    p2 = torch.arange(128.0).expand(1, 1, 128, 128)
    box = torch.tensor([[257.0, 0, 321.0, 64]])  # bfloat16 knows 256 and 258
    exact = roi_features(p2, box, torch.tensor([0]), cells=8)
    rounded = roi_features(p2.bfloat16(), box, torch.tensor([0]), cells=8)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded, exact.bfloat16())
