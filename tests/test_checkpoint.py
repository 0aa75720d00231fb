"""Checkpoints come back complete, or not at all."""

import io
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from labelled import DEEPER

from hojoint import config as settings
from hojoint.config import AugmentConfig, Config, CropConfig, ManoConfig, ModelConfig, TeacherConfig, TtaConfig
from hojoint.errors import InputError
from hojoint.model import checkpoint, opening
from hojoint.model.network import HOJoint
from hojoint.model.released import layout

PRESETS = Path(__file__).resolve().parents[1] / "configs"
CONFIG = Config(name="first", seed=3, model=DEEPER)


def _saved(config: Config = CONFIG) -> tuple[HOJoint, bytes]:
    torch.manual_seed(0)
    network = HOJoint(config.model).eval()
    return network, checkpoint.save(network, config, progress={"step": 5}, parents={"teacher": "abc"})


def _inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.rand(1, 3, 64, 64), torch.tensor([[5.0, 5, 40, 40]]), torch.tensor([[20.0, 20, 60, 60]])


def _with(data: bytes, change: Callable[[dict], None]) -> bytes:
    content = torch.load(io.BytesIO(data), weights_only=True)
    change(content)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_a_network_returns_with_settings_progress_and_parents(tmp_path: Path) -> None:
    network, data = _saved()
    (tmp_path / "c.pt").write_bytes(data)
    for source in (data, tmp_path / "c.pt", str(tmp_path / "c.pt")):
        loaded = checkpoint.load(source)
        assert loaded.config == CONFIG
        assert loaded.progress == {"step": 5}
        assert loaded.parents == {"teacher": "abc"}
        assert loaded.optimizer is None
        assert loaded.sha256 == checkpoint.weights_sha256(network.state_dict())
    again = checkpoint.network_of(loaded)
    assert not again.training
    inputs = _inputs()
    torch.testing.assert_close(again(*inputs).hand, network(*inputs).hand, rtol=0, atol=0)


def test_a_resumed_training_equals_an_unbroken_one() -> None:
    def start() -> tuple[HOJoint, torch.optim.Adam, torch.optim.lr_scheduler.StepLR]:
        torch.manual_seed(0)
        network = HOJoint(DEEPER).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        return network, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    def step(network: HOJoint, optimizer: torch.optim.Adam, scheduler: torch.optim.lr_scheduler.StepLR) -> None:
        inputs = (
            torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)),
            *(x.repeat(2, 1) for x in _inputs()[1:]),
        )
        out = network(*inputs)
        optimizer.zero_grad()
        (out.hand.joints_box.square().sum() + out.object.control_box.square().mean()).backward()
        optimizer.step()
        scheduler.step()

    network, optimizer, scheduler = start()
    step(network, optimizer, scheduler)
    data = checkpoint.save(network, CONFIG, optimizer=optimizer, scheduler=scheduler, progress={}, parents={})
    step(network, optimizer, scheduler)
    resumed, resumed_optimizer, resumed_scheduler = start()
    loaded = checkpoint.load(data)
    resumed.load_state_dict(loaded.weights)
    resumed_optimizer.load_state_dict(loaded.optimizer)
    resumed_scheduler.load_state_dict(loaded.scheduler)
    step(resumed, resumed_optimizer, resumed_scheduler)
    assert checkpoint.weights_sha256(resumed.state_dict()) == checkpoint.weights_sha256(network.state_dict())
    assert resumed_scheduler.get_last_lr() == scheduler.get_last_lr() == [0.25e-3]


def test_the_checksum_covers_names_shapes_types_and_values() -> None:
    a, b = torch.arange(6.0), torch.ones(2)
    base = checkpoint.weights_sha256({"a": a, "b": b})
    assert base == checkpoint.weights_sha256({"b": b.clone(), "a": a.clone()})
    others = [{"a": a, "c": b}, {"a": a.view(2, 3), "b": b}, {"a": a.int(), "b": b}, {"a": -a, "b": b}]
    assert len({base, *(checkpoint.weights_sha256(other) for other in others)}) == 5
    assert checkpoint.weights_sha256({"t": a.view(2, 3).t()}) == checkpoint.weights_sha256(
        {"t": a.view(2, 3).t().contiguous()}
    )


def test_one_changed_weight_is_noticed() -> None:
    _, data = _saved()

    def change(content: dict) -> None:
        content["weights"]["mesh_decoder.shape.bias"][3] += 1e-4

    with pytest.raises(InputError, match=r"is damaged.*checksum"):
        checkpoint.load(_with(data, change))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_file_cut_short_is_one_clear_error(share: float) -> None:
    _, data = _saved()
    with pytest.raises(InputError, match="is not a complete torch checkpoint"):
        checkpoint.load(data[: int(len(data) * share)])


@pytest.mark.slow
def test_every_flipped_byte_is_refused_or_harmless() -> None:
    network, data = _saved()
    expected = checkpoint.weights_sha256(network.state_dict())
    for position in torch.randint(0, len(data), (25,), generator=torch.Generator().manual_seed(0)).tolist():
        flipped = data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]
        try:
            assert checkpoint.load(flipped).sha256 == expected
        except InputError:
            continue


class _Harmful:
    def __reduce__(self) -> tuple[object, tuple[list[str]]]:
        return subprocess.check_call, (["false"],)


def test_a_file_that_needs_code_is_refused_without_running_it(tmp_path: Path) -> None:
    torch.save({"format": checkpoint.FORMAT, "weights": _Harmful()}, tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"holds Python objects beside its tensors \(\w+\.check_call\)"):
        checkpoint.load(tmp_path / "x.pt")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_numpy_numbers_are_named_with_the_line_that_helps(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "released.pth.tar"
    content = {"epoch": 3, "best": np.float64(1.5), "state_dict": {"a": torch.arange(3.0)}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        InputError, match=r"holds NumPy numbers or arrays beside its tensors \(numpy\..*scalar"
    ) as error:
        opening.load_network(path)
    line = str(error.value).splitlines()[-1].strip()
    program, flag, code = shlex.split(line)
    assert (program, flag) == ("python", "-c")
    subprocess.run([sys.executable, flag, code], check=True, cwd=tmp_path, timeout=120)
    saved = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert torch.equal(saved["state_dict"]["a"], torch.arange(3.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"progress": 5}, "whose progress is a int, expected a dictionary"),
        ({"parents": None}, "whose parents is a NoneType, expected"),
        ({"optimizer": [1]}, "whose optimizer is a list, expected"),
        ({"version": torch.ones(2)}, "version 'Tensor'"),
        ({"sha256": torch.ones(2)}, "is damaged: .* expected Tensor"),
        ({"weights": {1: torch.ones(2), "a": torch.ones(1)}}, "weight 1 is not a plain array by name"),
        ({"weights": {"a": torch.eye(2).to_sparse()}}, "weight 'a' is not a plain array"),
        ({"config": 5}, "settings of another program"),
        ({"config": {"model": 5}}, "settings of another program"),
        ({"config": {5: {}}}, "settings of another program"),
        ({"format": torch.ones(2)}, "not a checkpoint of this program"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_odd_content_is_one_sentence(change: dict, message: str) -> None:
    data = _with(_saved()[1], lambda content: content.update(change))
    with pytest.raises(InputError, match=message):
        checkpoint.load(data)
    with pytest.raises(InputError):
        opening.load_network(data)


@pytest.mark.parametrize("content", [5, None, {}, {"state_dict": None}, {"state_dict": {1: 2}}, {3: torch.ones(2)}])
def test_a_file_without_weights_says_what_it_holds(content: object) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with pytest.raises(InputError, match=r"holds no weights.*found|not a plain array"):
        opening.load_network(buffer.getvalue())


def test_files_of_other_programs_and_versions_are_refused() -> None:
    _, data = _saved()
    with pytest.raises(InputError, match="not a checkpoint of this program"):
        checkpoint.load(_with(data, lambda content: content.pop("format")))
    with pytest.raises(InputError, match="version 9"):
        checkpoint.load(_with(data, lambda content: content.update(version=9)))
    with pytest.raises(InputError, match="without progress"):
        checkpoint.load(_with(data, lambda content: content.pop("progress")))
    with pytest.raises(InputError, match=r"unknown setting 'model\.widht'; did you mean 'model\.width'"):
        checkpoint.load(_with(data, lambda content: content["config"]["model"].update(widht=3)))
    with pytest.raises(InputError, match=r"do not fit its settings.*first is"):
        checkpoint.network_of(checkpoint.load(_with(data, lambda c: c["config"]["model"].update(channels=32))))


def test_a_value_that_could_not_be_read_back_is_not_written() -> None:
    history = [{"loss": 1.0}, {"loss": np.float64(1.0)}]
    with pytest.raises(TypeError, match=r"progress\.history\.1\.loss .*float64"):
        checkpoint.save(HOJoint(DEEPER), CONFIG, progress={"history": history}, parents={})


def test_a_pretrained_network_is_not_fetched_again_to_be_filled() -> None:
    network = HOJoint(DEEPER)
    config = CONFIG.model_copy(update={"model": DEEPER.model_copy(update={"pretrained": "/nowhere/resnet.pth"})})
    loaded = checkpoint.load(checkpoint.save(network, config, progress={}, parents={}))
    assert loaded.config.model.pretrained == "/nowhere/resnet.pth"
    checkpoint.network_of(loaded)


def test_a_teacher_of_ours_brings_its_model_hand_and_crop() -> None:
    trained = CONFIG.model_copy(
        update={"crop": CropConfig(context=1.8), "mano": ManoConfig(path="/trained/MANO.pkl", flat_hand_mean=False)}
    )
    _, data = _saved(trained)
    base = Config(name="labels", mano=ManoConfig(path="/here/MANO.pkl"))
    network, config, sha256 = opening.open_teacher(data, base)
    assert (config.name, config.model, config.crop.context) == ("labels", DEEPER, 1.8)
    assert config.mano == ManoConfig(path="/here/MANO.pkl", flat_hand_mean=False)
    assert sha256 == checkpoint.weights_sha256(network.state_dict())
    assert opening.open_teacher(data, Config())[1].mano.path == "/trained/MANO.pkl"
    stand_in = opening.open_teacher(_saved()[1], base)[1]
    assert stand_in.mano.path is None  # trained on the stand-in hand, so it speaks of that hand


def test_views_that_training_never_turned_so_far_are_told() -> None:
    trained = CONFIG.model_copy(update={"augment": AugmentConfig(rotation_deg=60)})
    _, data = _saved(trained)

    def note(**views: float) -> str | None:
        return opening.untrained_views(opening.open_teacher(data, Config(tta=TtaConfig(**views)))[1])

    assert note(rotation_deg=60) is None
    told = note(rotation_deg=61)
    assert told is not None
    assert "tta.rotation_deg=61 turns views further than training turns images (augment.rotation_deg=60)" in told
    still = trained.model_copy(update={"augment": AugmentConfig(enabled=False)})
    assert "give at most 0" in (opening.untrained_views(opening.open_teacher(_saved(still)[1], Config())[1]) or "")


@pytest.fixture(scope="module")
def released() -> bytes:
    """A checkpoint in the released layout, with weights of zero."""
    state = {name: torch.zeros(shape) for name, shape in layout().items()}
    buffer = io.BytesIO()
    torch.save({"epoch": 1, "state_dict": state}, buffer)
    return buffer.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("region", ["hand", "union"])  # a choice of ours (A21)
def test_a_released_teacher_gets_our_hand_and_its_crop(region: str, released: bytes) -> None:
    preset = settings.load(PRESETS / "released.yaml")
    changes = {"mano": {"path": "/here/MANO.pkl"}, "crop": {"unlabelled_region": region}}
    base = settings.changed(preset, **changes).model_copy(update={"model": DEEPER})
    network, config, sha256 = opening.open_teacher(released, base)
    assert config.model == network.config == ModelConfig()
    assert (config.crop, config.mano) == (base.crop, base.mano)
    assert len(sha256) == 64
    with pytest.raises(InputError, match="can be given as"):
        checkpoint.load(released)


@pytest.mark.slow
def test_a_released_teacher_with_another_hand_or_crop_is_refused(released: bytes) -> None:
    teacher = TeacherConfig(checkpoint="theirs.pth.tar")
    hand = ManoConfig(path="/here/MANO.pkl")
    with pytest.raises(InputError, match=r"^theirs\.pth\.tar is .*mano\.path is not given.*configs/released\.yaml"):
        opening.open_teacher(released, Config(teacher=teacher))
    with pytest.raises(InputError, match=r"crop\.context is 1\.2 instead of 1\.5.*configs/released\.yaml"):
        opening.open_teacher(released, Config(teacher=teacher, mano=hand, crop=CropConfig(context=1.2)))
    printed = settings.load(PRESETS / "ho3d.yaml")
    words = r"crop\.hand_context is 2\.0 .*; crop\.resample is bilinear instead of nearest; crop\.clip is false"
    with pytest.raises(InputError, match=words):
        opening.open_teacher(released, printed.model_copy(update={"mano": hand}))


def test_a_damaged_checkpoint_is_named_without_torchs_words() -> None:
    for content in (b"nothing of the kind", _saved()[1][:1100]):
        with pytest.raises(InputError) as error:  # and not a warning of torch's, which pytest makes an error here
            opening.open_teacher(content, Config(teacher=TeacherConfig(checkpoint="runs/teacher.pt")))
        assert str(error.value).startswith(f"runs/teacher.pt ({len(content)} bytes) is not a complete torch checkpoint")
        assert not re.search("weights_only|PytorchStreamReader|pickle", str(error.value))
