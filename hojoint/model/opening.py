"""Networks out of checkpoint files, our own or the authors' released one, with the settings they were trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hojoint import config as settings
from hojoint.config import Config, CropConfig, ManoConfig
from hojoint.errors import InputError
from hojoint.hand import identity
from hojoint.hand.chosen import hand_model
from hojoint.model import checkpoint, released
from hojoint.model.network import HOJoint
from hojoint.settings_file import shown

OURS = ("unlabelled_region",)
"""Settings of the crop that the authors' code knows nothing of: their images all have a labelled object."""


def load_network(data: bytes | str | Path) -> HOJoint:
    """A network in evaluation mode, on the CPU, from our own checkpoint or the authors' released ``.pth.tar``.

    Its settings are in ``.config``. To predict images, open the same file with ``HandPredictor.from_checkpoint``, which
    also takes the crop and the hand model that the network was trained with.

    Raises:
        InputError: the file cannot be read, is damaged, or holds another network; the message names what differs.
    """
    return _opened(data)[0]


def open_network(
    data: bytes | str | Path, mano_path: str | Path | None = None, *, check_hand: bool = True
) -> tuple[HOJoint, Config]:
    """As ``load_network``, with the settings that the network was trained with: ``.crop``, ``.mano``, ``.tta``.

    Args:
        data: our own checkpoint or the authors' released file.
        mano_path: MANO_RIGHT.pkl or its folder; None means the path that the checkpoint names. A network that was
            trained on the stand-in hand keeps that hand.
        check_hand: compare the MANO file with that of the training; False leaves it unread.

    Raises:
        InputError: as ``load_network``; the MANO file cannot be read or is another one than in the training; or the
            released network, which holds no hand, comes without ``mano_path``.
    """
    network, own, parents = _opened(data)
    if own is None and mano_path is None:
        raise InputError(
            f"{released.name_of(data)} is the authors' released network, made for MANO's hand; give the path of "
            "MANO_RIGHT.pkl (from mano.is.tue.mpg.de) as mano"
        )
    config = own or Config(model=network.config, crop=released.CROP)
    if mano_path is not None and (own is None or own.mano.path is not None):
        config = settings.changed(config, mano={"path": str(mano_path)})
    if check_hand:
        _refuse_other_hand(parents, config.mano, config.mano, released.name_of(data))
    return network, config


def _opened(data: bytes | str | Path) -> tuple[HOJoint, Config | None, Mapping[str, Any]]:
    """A network, its settings and its parents; None and nothing for the released file, which holds none."""
    content, name = released.read(data), released.name_of(data)
    if not checkpoint.is_ours(content):
        return released.network_of(content, name), None, {}
    saved = checkpoint.of_content(content, name)
    return checkpoint.network_of(saved), saved.config, saved.parents


def open_teacher(
    data: bytes | str | Path,
    base: Config,
    name: str | None = None,
    near: Callable[[Config], Config] | None = None,
    *,
    check_hand: bool = True,
) -> tuple[HOJoint, Config, str]:
    """A teacher from our own checkpoint or the authors' released file: network, its settings, checksum of the weights.

    What the weights were trained with (model, hand model, crop, augmentation) comes from the checkpoint, everything
    else from ``base``; a released file holds no settings, so it gets the released network and ``base``'s hand model and
    crop, which must be the released one. Only the path of a MANO file is taken from ``base`` if given there, for it may
    lie elsewhere on this machine; its content must be that of the training, where the checkpoint names it.
    ``name``: how an error calls the checkpoint; None means ``base.teacher.checkpoint`` where ``data`` is bytes.
    ``near``: the settings with the paths by which this process reads files; None means that they are as given.
    ``check_hand``: False where the caller compares this process's hand with that of another, which has opened the file.

    Raises:
        InputError: the file cannot be read, or is the released one and ``base`` is not as it was trained; or the MANO
            file cannot be read or is another one than in the training.
    """
    name = name or (base.teacher.checkpoint if isinstance(data, bytes) else None)
    content = released.read(data, name)
    name = name or released.name_of(data)
    if not checkpoint.is_ours(content):
        network = released.network_of(content, name)
        _refuse_other_inputs(base, name)
        sha256 = checkpoint.weights_sha256(network.state_dict())
        return network, base.model_copy(update={"model": network.config}), sha256
    saved = checkpoint.of_content(content, name)
    trained = saved.config
    mano = trained.mano
    if mano.path is not None and base.mano.path is not None:
        mano = mano.model_copy(update={"path": base.mano.path, "layer": base.mano.layer})
    own = {"model": trained.model, "mano": mano, "crop": trained.crop, "augment": trained.augment}
    config = base.model_copy(update=own)
    if check_hand:
        _refuse_other_hand(saved.parents, mano, mano if near is None else near(config).mano, name)
    return checkpoint.network_of(saved), config, saved.sha256


def _refuse_other_hand(parents: Mapping[str, Any], given: ManoConfig, read: ManoConfig, name: str) -> None:
    """InputError where a MANO file is another one than that of the training; ``read`` is ``given`` with a local path.

    Checkpoints of early versions do not name their hand. The stand-in hand is drawn by the program: it has no file, and
    another machine may round it in another way.
    """
    data = parents.get("data")
    trained = data.get(identity.HAND) if isinstance(data, Mapping) else None
    if trained is None or given.path is None:
        return
    found = identity.digests(hand_model(read))
    if trained not in found:
        raise InputError(
            f"{name} was trained with another hand model than {given.path}: expected the digest {str(trained)[:12]}, "
            f"found {found[0][:12]}. Set mano.path to the MANO file of its training"
        )


def overridden(
    base: Config, merged: Config, groups: Sequence[str] = ("model", "mano", "crop"), owner: str = "the checkpoint"
) -> str | None:
    """A note that names each setting given in ``base`` that the checkpoint replaced, with both values.

    ``merged`` is what ``open_teacher`` made of ``base``. None where they agree. ``model.pretrained`` is left out,
    because the checkpoint's weights replace any others. ``owner``: what else brought its settings.
    """
    replaced = []
    for group in groups:
        given, used = getattr(base, group), getattr(merged, group)
        for name in sorted(given.model_fields_set - {"pretrained"}):
            before, after = getattr(given, name), getattr(used, name)
            if before != after and (group, name, before) != ("mano", "path", None):
                replaced.append(f"{group}.{name}={shown(before)} ({owner} has {shown(after)})")
    return (
        f"settings of {owner} replace those of the command line and the config file: {', '.join(replaced)}"
        if replaced
        else None
    )


def untrained_views(config: Config) -> str | None:
    """A sentence where test-time views turn further than training turned images; None where they do not."""
    turned = config.augment.rotation_deg if config.augment.enabled else 0.0
    if config.tta.rotation_deg <= turned:
        return None
    return (
        f"tta.rotation_deg={config.tta.rotation_deg:g} turns views further than training turns images "
        f"(augment.rotation_deg={turned:g}), and the network has not seen such hands; give at most {turned:g}"
    )


def _refuse_other_inputs(base: Config, name: str) -> None:
    """The released weights need MANO's hand and the released crop, and their file does not say so."""
    faults = []
    if base.mano.path is None:
        faults.append("mano.path is not given, and the stand-in hand is another one")
    for setting in CropConfig.model_fields:
        expected, value = getattr(released.CROP, setting), getattr(base.crop, setting)
        if value != expected and setting not in OURS:
            faults.append(f"crop.{setting} is {shown(value)} instead of {shown(expected)}")
    if faults:
        raise InputError(
            f"{name} is the authors' released network, made for MANO's hand and the released crop, and "
            f"{'; '.join(faults)}. Give mano.path=MANO_RIGHT.pkl and --config configs/released.yaml"
        )
