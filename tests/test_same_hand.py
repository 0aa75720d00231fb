"""A network, its labels and the nodes that make them have one hand model, whatever its path."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from labelled import SMALL

from cluster import scoring
from cluster.labelling import checkpoint_facts, units
from cluster.labelling.job import LabellingJob
from cluster.labelling.teacher import Teacher
from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError
from hojoint.hand import identity
from hojoint.hand.model import load_mano
from hojoint.hand.stand_in.model import save_model, stand_in_model
from hojoint.labelling.tta import HandPredictor
from hojoint.model import checkpoint, opening
from hojoint.model.network import HOJoint

OTHER = "was trained with another hand model than .*MANO_RIGHT.pkl: expected the digest .*, found .* Set mano.path"


def write_hand(folder: Path, grown: float = 1.0) -> str:
    """A MANO file of a hand that is so much larger than the stand-in."""
    model = stand_in_model()
    folder.mkdir(exist_ok=True)
    save_model(dataclasses.replace(model, v_template=model.v_template * grown), folder / "MANO_RIGHT.pkl")
    return str(folder / "MANO_RIGHT.pkl")


@pytest.fixture
def hands(tmp_path: Path) -> tuple[str, str]:
    return write_hand(tmp_path / "one"), write_hand(tmp_path / "other", 1.1)


def write_checkpoint(path: Path, mano: str | None, hand: str | None) -> str:
    """A checkpoint that was trained with a MANO file, and whose parents hold a digest of it."""
    config = settings.changed(Config(), model=SMALL, mano={"path": mano})
    parents = {} if hand is None else {"data": {identity.HAND: hand, "ho3d": "4 samples abc"}}
    path.write_bytes(checkpoint.save(HOJoint(config.model), config, progress={}, parents=parents))
    return str(path)


def asked(path: str, mano: str | None) -> Config:
    return settings.changed(
        Config(), mano={"path": mano}, evaluate={"checkpoint": path}, teacher={"checkpoint": path}
    )  # fmt: skip


WAYS = {
    "teacher": lambda path, mano: opening.open_teacher(path, asked(path, mano)),
    "network": opening.open_network,
    "predictor": lambda path, mano: HandPredictor.from_checkpoint(path, mano=mano),
    "measured": lambda path, mano: scoring.open_measured(asked(path, mano)),
    "facts": lambda path, mano: checkpoint_facts.read(asked(path, mano)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_network_opens_with_the_hand_of_its_training_alone(way, hands, tmp_path):
    path = write_checkpoint(tmp_path / "a.pt", hands[0], identity.digests(load_mano(hands[0]))[0])
    moved = write_hand(tmp_path / "moved")
    for mano in (hands[0], moved, None):
        WAYS[way](path, mano)
    with pytest.raises(InputError, match=OTHER):
        WAYS[way](path, hands[1])
    write_hand(tmp_path / "one", 1.2)
    with pytest.raises(InputError, match=OTHER):
        WAYS[way](path, None)  # another file at the path of the training


@pytest.mark.parametrize("way", WAYS)
def test_networks_without_a_digest_or_an_earlier_one_open(way, hands, tmp_path):
    WAYS[way](write_checkpoint(tmp_path / "none.pt", hands[0], None), hands[1])
    WAYS[way](write_checkpoint(tmp_path / "before.pt", hands[0], identity.digests(load_mano(hands[0]))[1]), hands[0])


def test_a_network_of_the_stand_in_hand_reads_no_file(tmp_path):
    path = write_checkpoint(tmp_path / "a.pt", None, "of a machine that rounds in another way")
    for way in WAYS.values():
        way(path, "/nowhere/MANO_RIGHT.pkl")


def test_a_checkpoint_is_counted_without_its_hand(hands, tmp_path):
    path = write_checkpoint(tmp_path / "a.pt", hands[0], "another")
    network, config = opening.open_network(path, "/nowhere", check_hand=False)
    assert config.mano.path == "/nowhere"
    assert sum(value.numel() for value in network.state_dict().values()) > 0
    assert torch.isfinite(next(network.parameters())).all()


@pytest.mark.parametrize("noted", [False, True])
def test_a_teacher_on_a_node_with_another_hand_is_refused(noted, hands, tmp_path):
    digest = identity.digests(load_mano(hands[0]))[0] if noted else None
    path = write_checkpoint(tmp_path / "a.pt", hands[0], digest)
    config = settings.changed(asked(path, hands[0]), output=str(tmp_path / "out"))
    facts = checkpoint_facts.read(config)
    job = LabellingJob(config, str(tmp_path / "out"), facts.weights_sha256, "driver", hand_sha256=facts.hand_sha256)
    Teacher(job).close()
    write_hand(tmp_path / "one", 1.1)
    found = units.hand_digest(config)[:12]
    said = f"is not the same on the node {socket.gethostname()} .* {facts.hand_sha256[:12]}, found {found}. Give every"
    with pytest.raises(InputError, match=said):
        Teacher(job)


def test_an_examiner_with_other_weights_or_hand_is_refused(hands, tmp_path):
    path = write_checkpoint(tmp_path / "a.pt", hands[0], None)
    _, config, sha256 = scoring.open_measured(asked(path, hands[0]))
    hand = units.hand_digest(config)
    none: Any = None

    def examined(*expected: str) -> None:
        examiner = scoring.Examiner(config.cluster)
        examiner._dataset = none  # so that what comes after the opening fails
        examiner.examine(config, "ho3d", range(1), none, none, none, scoring.Expected(*expected, {}))

    with pytest.raises(TypeError):
        examined(sha256, hand)
    with pytest.raises(InputError, match=r"the weights of evaluate.checkpoint=.*a\.pt is not the same on the node"):
        examined("0" * 64, hand)
    with pytest.raises(InputError, match=r"mano\.path=.* is not the same on the node .* found "):
        examined(sha256, "0" * 64)
    write_checkpoint(tmp_path / "a.pt", hands[0], hand)  # which names its hand
    sha256 = scoring.open_measured(asked(path, hands[0]))[2]
    write_hand(tmp_path / "one", 1.1)
    with pytest.raises(InputError, match=r"mano\.path=.* is not the same on the node .* found "):
        examined(sha256, hand)
