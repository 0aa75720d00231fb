"""The authors' released checkpoint: its tensors under our names.

Their file is a ``torch.save`` of ``{'state_dict': ..., 'epoch': ..., 'network': ...}`` whose names start with
``honet.module.`` (Semi-Hand-Object, 875 tensors). It must hold every one in its shape, and no other, with two
exceptions: a MANO layer's arrays, which their training loop adds, are ignored, and the sign change to OpenGL, a
constant that they register only when it is given, may be absent. Our network has no use for that sign change and for
the smoothing convolutions of P3 and P4, whose output no layer reads; they are checked and dropped. Training uses none
of this.
"""

from __future__ import annotations

import io
import re
import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hojoint.config import CropConfig, ModelConfig
from hojoint.errors import InputError
from hojoint.model.network import HOJoint

MANO_LAYER = "mano_branch.mano_layer."
SIGN_CHANGE = "mano_branch.coord_change_mat"
MODULES = {
    "encoder.resnet.conv1": "base_net.layer0.0",
    "encoder.resnet.bn1": "base_net.layer0.1",
    "encoder.resnet.layer1": "base_net.layer1.0",
    "encoder.resnet.layer2": "base_net.layer2.0",
    "encoder.resnet.layer3": "base_net.layer3.0",
    "encoder.resnet.layer4": "base_net.layer4.0",
    "encoder.laterals.0": "base_net.latlayer3",
    "encoder.laterals.1": "base_net.latlayer2",
    "encoder.laterals.2": "base_net.latlayer1",
    "encoder.laterals.3": "base_net.toplayer",
    "encoder.smooth": "base_net.smooth3",
    "joint_decoder.residual": "hand_head.res.0.0",
    "joint_decoder.conv": "hand_head.fc.0.block.0",
    "joint_decoder.bn": "hand_head.fc.0.block.1",
    "joint_decoder.score": "hand_head.score.0",
    "joint_decoder.inverse_temperature": "hand_head.betas",
    "joint_decoder.cells_x": "hand_head.uu",
    "joint_decoder.cells_y": "hand_head.vv",
    "mesh_decoder.heatmap_conv": "hand_encoder.heatmap_conv",
    "mesh_decoder.feature_conv": "hand_encoder.encoding_conv",
    "mesh_decoder.hidden": "mano_branch.mano_base_layer",
    "mesh_decoder.pose": "mano_branch.pose_reg",
    "mesh_decoder.shape": "mano_branch.shape_reg",
    "object_decoder.out": "obj_head.out_conv",
    "object_reasoning.query": "transformer.layers.0.encode_query",
    "object_reasoning.key": "transformer.layers.0.encode_key",
    "object_reasoning.value": "transformer.layers.0.encode_value",
    "object_reasoning.norm": "transformer.layers.0.norm2",
    "object_reasoning.mlp.0": "transformer.layers.0.mlp.fc1",
    "object_reasoning.mlp.2": "transformer.layers.0.mlp.fc2",
}
OUR_FORMAT = "hojoint-checkpoint"
"""In the entry 'format' of this program's own checkpoints (``checkpoint``), which are no released file."""
HOURGLASS_PARTS = {"skip": 0, "down": 1, "up": 2}
CROP = CropConfig(hand_context=1.5, resample="nearest", clip=True)
"""How the released network's inputs are cut; the same as in configs/released.yaml."""
ENCODER_NORMS = {"bn1": "bn", "bn2": "bn1", "bn3": "bn2"}  # the norms of their encoder's blocks are bn, bn1, bn2


def load_released(path: str | Path) -> HOJoint:
    """The released network, in evaluation mode.

    Raises:
        InputError: the file cannot be read, or a tensor is missing, extra or of another shape; the message names them.
    """
    content = read(path)
    if isinstance(content, Mapping) and isinstance(content.get("format"), str) and content["format"] == OUR_FORMAT:
        raise InputError(
            f"{path} is a checkpoint of this program, expected the authors' released file: open it with load_network, "
            "or with HandPredictor.from_checkpoint to predict images"
        )
    return network_of(content, name_of(path))


def network_of(content: Any, name: str) -> HOJoint:
    """The network from what ``read`` returned."""
    tensors = _tensors(content, name)
    expected = layout()
    if SIGN_CHANGE not in tensors:
        del expected[SIGN_CHANGE]
    _check(tensors, expected, name)
    network = HOJoint(ModelConfig())
    network.load_state_dict({ours: tensors[their_name(ours)] for ours in network.state_dict()})
    return network.eval()


def layout() -> dict[str, tuple[int, ...]]:
    """Names, without the prefix, and shapes of the released checkpoint's tensors."""
    with torch.device("meta"):
        ours = HOJoint(ModelConfig()).state_dict()
    return {
        **{their_name(name): tuple(value.shape) for name, value in ours.items()},
        **_unused(),
    }


def their_name(name: str) -> str:
    """The released name of one of our tensors."""
    if match := re.fullmatch(r"joint_decoder\.hourglass\.((?:inner\.)*)(skip|down|up|inner)\.(\w+\.\w+)", name):
        levels, part, rest = match.groups()
        level = ModelConfig().hourglass_depth - 1 - levels.count("inner.")
        return f"hand_head.hg.0.hg.{level}.{HOURGLASS_PARTS.get(part, 3)}.0.{rest}"
    if match := re.fullmatch(r"mesh_decoder\.stages\.(\d+)\.(\d+)\.(\w+)\.(\w+)", name):
        stage, block, layer, rest = match.groups()
        return f"hand_encoder.reg.{2 * int(stage) + int(block)}.{ENCODER_NORMS.get(layer, layer)}.{rest}"
    if match := re.fullmatch(r"object_decoder\.trunk\.(\d+)\.(\w+)", name):
        number, rest = int(match[1]), match[2]
        pair, half, kind = number // 6 + 1, number // 3 % 2 + 1, ("conv", "bn")[number % 3]
        return f"obj_head.{kind}{pair}_{half}.{rest}"
    for ours, theirs in MODULES.items():
        if name == ours or name.startswith(ours + "."):
            return theirs + name[len(ours) :]
    return name  # a part that the released network lacks


def read(data: bytes | str | Path, name: str | None = None) -> Any:
    """What ``torch.save`` wrote, read without running code. ``name``: how an error calls the file.

    Raises:
        InputError: the file does not exist, is cut short, damaged or of another kind.
    """
    if not isinstance(data, bytes) and not Path(data).is_file():
        raise InputError(f"there is no checkpoint file {data}")
    source, size = (io.BytesIO(data), len(data)) if isinstance(data, bytes) else (data, Path(data).stat().st_size)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch warns of a file that it then refuses
            return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a dozen kinds, whose messages are about its internals
        raise InputError(_refusal(data, name or name_of(data), size, str(error))) from None


def _refusal(data: bytes | str | Path, name: str, size: int, message: str) -> str:
    """Why a file was not read: Python objects beside the tensors, by name, or no torch file at all."""
    named = re.search(r"Unsupported (?:global|class): ?(?:GLOBAL )?([\w.]+)", message)
    found = _objects(data) or ([named[1]] if named else [])
    if not found:
        return (
            f"{name} ({size} bytes) is not a complete torch checkpoint. Expected one written by jobs.train or "
            "jobs.retrain, or the authors' released file: fetch or make it again"
        )
    kind = "NumPy numbers or arrays" if all(entry.startswith("numpy.") for entry in found) else "Python objects"
    return (
        f"{name} holds {kind} beside its tensors ({', '.join(found[:5])}{', ...' if found[5:] else ''}), and opening "
        "them may run code from the file, so it is refused. If you trust the file, save its tensors again with this "
        f"line, and give weights.pt instead:\n{_resaving(name)}"
    )


def _resaving(name: str) -> str:
    """The command line with which a user saves the tensors of a file alone."""
    path = name if Path(name).is_file() else "CHECKPOINT"  # bytes from object storage lie elsewhere
    code = (
        f"import torch; c = torch.load({path!r}, map_location='cpu', weights_only=False); "
        "c = c.state_dict() if hasattr(c, 'state_dict') else c.get('state_dict', c); "
        "torch.save({'state_dict': {k: v for k, v in c.items() if torch.is_tensor(v)}}, 'weights.pt')"
    )
    return f"    python -c {shlex.quote(code)}"


def _objects(data: bytes | str | Path) -> list[str]:
    """Classes and functions that a file of torch.save names and that are not read; empty where that is not known."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(
            io.BytesIO(data) if isinstance(data, bytes) else data
        )
    except Exception:  # not a zip file of torch: an older one, a damaged one, another kind
        return []
    return sorted(names)


def name_of(data: bytes | str | Path) -> str:
    """How an error calls it."""
    return "the checkpoint" if isinstance(data, bytes) else str(data)


def described(content: Any) -> str:
    """What a file holds, in a few words for an error."""
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    if not content:
        return "an empty dictionary"
    parts = [f"{key!r} ({type(value).__name__})" for key, value in content.items() if not isinstance(value, Tensor)]
    return f"among {len(content)} entries {', '.join(parts[:5])}{', ...' if parts[5:] else ''}"


def not_dense(tensors: Mapping[Any, Tensor]) -> str | None:
    """The first name whose tensor is sparse, quantised or without values, or that is no text; None if all are plain."""
    for key, value in tensors.items():
        plain = value.layout == torch.strided and not value.is_quantized and value.device.type == "cpu"
        if not isinstance(key, str) or not plain:
            return repr(key)
    return None


def _unused() -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that our network has no use for."""
    channels = ModelConfig().channels
    shapes: dict[str, tuple[int, ...]] = {"weight": (channels, channels, 3, 3), "bias": (channels,)}
    smooth = {f"base_net.smooth{level}.{part}": shape for level in (1, 2) for part, shape in shapes.items()}
    return {**smooth, SIGN_CHANGE: (3, 3)}


def _tensors(content: Any, name: str) -> dict[str, Tensor]:
    """The state dict, from wherever the file keeps it, without the prefixes of its names."""
    inner = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(inner, Mapping) or not inner or not all(isinstance(value, Tensor) for value in inner.values()):
        raise InputError(
            f"{name} holds no weights: expected the authors' {{'state_dict': ...}} or a checkpoint of this program, "
            f"found {described(content if inner is None else inner)}"
        )
    if (odd := not_dense(inner)) is not None:
        raise InputError(f"{name} does not have the layout of the released network: {odd} is not a plain array")
    bare = {re.sub(r"^(?:(?:module|honet)\.)+", "", str(key)): value for key, value in inner.items()}
    return {key: value for key, value in bare.items() if not key.startswith(MANO_LAYER)}


def _check(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Refuse missing, extra and misshapen tensors, by name."""
    faults = {
        "missing": [key for key in expected if key not in tensors],
        "not of this network": [key for key in tensors if key not in expected],
        "of another shape": [
            f"{key} {list(tensors[key].shape)} instead of {list(shape)}"
            for key, shape in expected.items()
            if key in tensors and tuple(tensors[key].shape) != shape
        ],
    }
    counts = [
        f"{len(keys)} {fault} ({', '.join(keys[:5])}{', ...' if keys[5:] else ''})"
        for fault, keys in faults.items()
        if keys
    ]
    if counts:
        raise InputError(f"{name} does not have the layout of the released network: {'; '.join(counts)}")
