"""What jobs.evaluate leaves of a network: pictures with its own hand, and nothing of another network."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from labelled import draw_world, write_teacher

from cluster import scoring
from cluster.store import open_store
from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError
from hojoint.hand.model import load_mano
from hojoint.hand.stand_in.model import save_model, stand_in_model
from jobs import evaluate, report
from jobs.results import HAND_PATH

pytestmark = pytest.mark.slow  # seconds each: files and networks


class Pool:
    """A GrowingPool of one actor in this process."""

    def __init__(self, actors: Any) -> None:
        self._actor = SimpleNamespace(examine=SimpleNamespace(remote=actors[0].examine))

    def map(self, send: Any, tasks: Any) -> Any:
        return [send(self._actor, task) for task in tasks]


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    def remote(**_: Any) -> Any:
        return lambda kind: SimpleNamespace(options=lambda **_: SimpleNamespace(remote=kind))

    ray = SimpleNamespace(remote=remote, put=lambda value: value, kill=lambda actor: None)
    monkeypatch.setattr(scoring, "ray", ray)
    monkeypatch.setattr(scoring, "GrowingPool", Pool)
    monkeypatch.setattr(scoring, "Bar", lambda *args, **_: contextlib.nullcontext(SimpleNamespace(move=lambda n: None)))
    monkeypatch.setattr(scoring.session, "start", lambda config: contextlib.nullcontext())
    monkeypatch.setattr(scoring.capacity, "feasibility", lambda *_: "")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    torch.manual_seed(0)
    config = draw_world(tmp_path_factory.mktemp("evaluate"), frames=2)
    return settings.changed(config, name="net", evaluate={"examples": 2})


def write_manos_kind(folder: Path) -> Path:
    """A hand model with a vertex order of its own, as MANO has one."""
    model, order = stand_in_model(), np.random.default_rng(1).permutation(778)
    parts = {name: getattr(model, name)[order] for name in ("v_template", "shapedirs", "posedirs", "weights")}
    model = dataclasses.replace(
        model, **parts, J_regressor=model.J_regressor[:, order], faces=np.argsort(order)[model.faces]
    )
    save_model(model, folder / "MANO_RIGHT.pkl")
    return folder / "MANO_RIGHT.pkl"


def measured(config: Config, output: Path, checkpoint: str, **changes: Any) -> dict[str, Any]:
    """What ``jobs.evaluate`` notes of a network."""
    asked = settings.changed(config, output=str(output), evaluate={"checkpoint": checkpoint})
    asked = settings.changed(asked, **changes)
    evaluate.measure([asked])
    facts: dict[str, Any] = json.loads((output / f"{config.name}.json").read_text())
    return facts


@pytest.fixture
def drawn(monkeypatch):
    """The faces of every mesh that is drawn."""
    faces: list[np.ndarray] = []
    picture = SimpleNamespace(data=b"\x89PNG")
    monkeypatch.setattr(evaluate.album, "space_picture", lambda example, mesh: faces.append(mesh) or picture)
    for name in ("example_picture", "error_picture"):
        monkeypatch.setattr(report, name, lambda example, mesh: faces.append(mesh) or picture)
    return faces


def test_meshes_are_drawn_with_the_faces_of_the_networks_hand(world, tmp_path, drawn):
    mano = write_manos_kind(tmp_path)
    own = settings.changed(world, mano={"path": str(mano)}, data={"ho3d": {"root": None}})
    network = write_teacher(own, tmp_path / "net.pt")
    config = settings.changed(own, mano={"path": None}, name="student")  # the path is in the checkpoint
    facts = measured(config, tmp_path / "out" / "evaluation", network)
    assert facts[HAND_PATH] == str(mano)
    outputs = report.gather(open_store(str(tmp_path / "out")))
    assert len(report.example_galleries(config, outputs)[0].pictures) == 4
    assert len(drawn) == 2 + 4
    for faces in drawn:
        np.testing.assert_array_equal(faces, load_mano(mano).faces)


def test_a_slip_in_a_path_that_is_not_read_costs_no_result(world, tmp_path, drawn):
    network = write_teacher(world, tmp_path / "net.pt")
    config = settings.changed(world, mano={"path": "/nowhere/MANO_RIGHT.pkl"}, data={"ho3d": {"root": None}})
    facts = measured(config, tmp_path / "out", network)
    assert facts[HAND_PATH] is None
    assert set(facts["domains"]) == {"freihand"}
    for faces in drawn:
        np.testing.assert_array_equal(faces, stand_in_model().faces)


def test_another_network_of_that_name_leaves_no_former_file(world, tmp_path):
    out = tmp_path / "out"
    first, second = (write_teacher(world, tmp_path / f"{name}.pt") for name in ("one", "two"))
    measured(world, out, first)
    (out / "net_ho3d_notes.txt").write_text("mine")
    former = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert {"net_ho3d_pred.json", "net_freihand_3d_1.png", "net_ho3d_pck.png"} <= former.keys()
    shown = {"write_predictions": False, "examples": 1}
    measured(world, out, second, evaluate=shown, data={"ho3d": {"root": None}})
    kept = {"net.json", *(f"net_freihand_{name}" for name in ("3d_0.png", "examples.npz", "pck.png"))}
    assert {path.name for path in out.iterdir() if path.is_file()} == {*kept, "net_ho3d_notes.txt"}


def test_the_same_network_on_another_set_keeps_its_files(world, tmp_path):
    network = write_teacher(world, tmp_path / "net.pt")
    measured(world, tmp_path / "out", network, data={"freihand": {"root": None}})
    measured(world, tmp_path / "out", network, data={"ho3d": {"root": None}})
    assert {"net_ho3d_pred.json", "net_freihand_pred.json"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_the_facts_go_first_and_come_last(world, tmp_path, monkeypatch):
    network = write_teacher(world, tmp_path / "net.pt")
    measured(world, tmp_path / "out", network)

    def fails(_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(evaluate, "pack_examples", fails)
    with pytest.raises(OSError, match="full"):
        measured(world, tmp_path / "out", network)
    assert not (tmp_path / "out" / "net.json").exists()


@pytest.mark.parametrize("pattern", ["HO3D_v2/evaluation/*/rgb/*", "object_models/*/points.xyz", "Frei*/*/rgb/*"])
def test_a_node_with_other_data_is_refused_by_name(world, tmp_path, monkeypatch, pattern):
    """Without one image each later row would be judged by the truth of another one."""
    folder = shutil.copytree(world.world, tmp_path / "world")
    sets = {"root": str(folder / "HO3D_v2"), "object_models": str(folder / "object_models"), "missing": "leave_out"}
    images = {"root": str(folder / "FreiHAND_pub_v2_eval"), "missing": "leave_out"}
    config = settings.changed(world, data={"ho3d": sets, "freihand": images})
    teacher = write_teacher(world, tmp_path / "teacher.pt")

    class Losing(Pool):
        """A node that lacks a file of the driver's, or has another one."""

        def map(self, send: Any, tasks: Any) -> Any:
            path = min(folder.glob(pattern))
            if path.suffix == ".xyz":
                path.write_text(path.read_text() + "0.01 0.01 0.01\n")
            else:
                path.unlink()
            return super().map(send, tasks)

    monkeypatch.setattr(scoring, "GrowingPool", Losing)
    with pytest.raises(InputError, match=r"the (list of images|object models).* of .* is not the same on the node"):
        measured(config, tmp_path / "out", teacher)
    assert not (tmp_path / "out" / "net.json").exists()


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_labels_and_shards_keep_their_record(world, tmp_path, capsys, words):
    """A network without a name is called 'run', and the files of a former one of that name are removed."""
    (tmp_path / "config.yaml").write_text("{}\n")
    record = tmp_path / "labels" / "run.json"
    record.parent.mkdir()
    record.write_text('{"fingerprint": {}, "units": 1}')
    asked = [f"evaluate.checkpoint={write_teacher(world, tmp_path / 'net.pt')}", f"output={record.parent}"]
    asked += [f"data.ho3d.root={world.data.ho3d.root}", "--config", str(tmp_path / "config.yaml"), *words]
    assert evaluate.main(asked) == 2
    assert "holds labels or shards (run.json)" in capsys.readouterr().err
    assert record.read_text() == '{"fingerprint": {}, "units": 1}'
    record.write_text('{"domains": {}}')  # of such a network, which is measured again
    assert evaluate.main(asked) == 0, capsys.readouterr().err
