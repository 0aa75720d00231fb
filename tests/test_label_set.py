"""cluster.labels: what a user's program reads of a label set, held against the files and the camera of each row."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import wild

from cluster.labelling import refiltering
from cluster.labelling.run import label
from cluster.labels import LabelSet
from cluster.store import open_store
from cluster.training import data as training_data
from hojoint import config as settings
from hojoint.errors import InputError
from hojoint.hand.layer import ManoLayer
from hojoint.hand.stand_in.model import save_model, stand_in_model
from hojoint.labelling import posing, tables

pytestmark = pytest.mark.slow  # seconds each: videos are labelled

NAMES = ["clip_id", "frame", "flipped", "joints_px", "mano_pose", "mano_shape", "camera"]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    wild.write_faulty(folder)
    with pytest.MonkeyPatch.context() as patch:
        wild.without_ray(patch)
        label(wild.config_of(folder, folder / "labels", labelling={"unit_videos": 4}))
    return folder / "labels"


def test_the_tables_are_those_that_commits_name(output: Path) -> None:
    stray = pq.read_table(next((output / "predictions").glob("*.parquet")))
    pq.write_table(stray, output / "predictions" / "u000000-killed.parquet")
    labels = LabelSet(output)
    for table in ("predictions", "pseudo_labels"):
        wild.assert_same_rows(labels.table(table), wild.rows_of(output, table))
    assert sum(len(part) for part in labels.parts("quarantine")) == 7
    assert labels.table(columns=["frame", "clip_id"]).column_names == ["frame", "clip_id"]


def test_posed_hands_project_onto_what_a_row_says(output: Path) -> None:
    """The camera was fitted by least squares to the stored joints: no other scale or shift lies nearer."""
    labels = LabelSet(output)
    rows = labels.table("predictions", NAMES)
    assert {True, False} == set(rows["flipped"].to_pylist())
    hands = labels.posed(rows)
    assert tuple(hands.vertices.shape) == (len(rows), 778, 3)
    assert hands.joints[:, 0].abs().max() == 0
    joints_px = tables.array_of(rows, "joints_px").reshape(-1, 21, 2)
    camera = tables.array_of(rows, "camera")
    assert (camera[:, 0] > 0).sum() > 5
    for row, (joints, seen, fitted) in enumerate(zip(hands.joints.numpy(), joints_px, camera, strict=True)):
        matrix = np.concatenate([np.stack([joints[:, 0], np.ones(21), np.zeros(21)], 1),
                                 np.stack([joints[:, 1], np.zeros(21), np.ones(21)], 1)])  # fmt: skip
        best = np.linalg.lstsq(matrix, np.concatenate([seen[:, 0], seen[:, 1]]), rcond=None)[0]
        if fitted[0] > 0:  # else the fit has failed, and nothing is drawn by it
            np.testing.assert_allclose(fitted, best, rtol=2e-3, atol=0.05, err_msg=str(row))


def test_a_left_hand_is_the_mirror_of_its_row() -> None:
    pose, betas = np.random.default_rng(0).normal(0, 0.3, (3, 48)), np.zeros((3, 10))
    columns = {"mano_pose": tables._lists(pose, 48), "mano_shape": tables._lists(betas, 10)}
    layer = ManoLayer(stand_in_model())
    right, left = (posing.posed(pa.table(columns | {"flipped": [side] * 3}), layer) for side in (False, True))
    for one, other in ((right.joints, left.joints), (right.vertices, left.vertices)):
        torch.testing.assert_close(one * torch.tensor([-1.0, 1.0, 1.0]), other, rtol=0, atol=0)


def test_rows_that_were_a_data_frame_are_posed_alike() -> None:
    """pandas gives lists back whose length no type tells."""
    pose, betas = np.random.default_rng(0).normal(0, 0.3, (3, 48)), np.zeros((3, 10))
    stored = pa.table({
        "mano_pose": tables._lists(pose, 48), "mano_shape": tables._lists(betas, 10), "flipped": [True, False, True],
    })  # fmt: skip
    lists = {"mano_pose": pa.list_(pa.float32()), "mano_shape": pa.list_(pa.float64()), "flipped": pa.bool_()}
    rows, layer = stored.cast(pa.schema(lists.items())), ManoLayer(stand_in_model())
    assert torch.equal(posing.posed(rows, layer).vertices, posing.posed(stored, layer).vertices)
    for wrong in ([[0.0] * 45] * 3, ["words"] * 3):
        with pytest.raises(InputError, match=r"expected rows as a label set has them .*Give rows of LabelSet\.parts"):
            posing.posed(rows.set_column(0, "mano_pose", pa.array(wrong)), layer)


def test_no_rows_are_posed_as_no_hands(output: Path) -> None:
    hands = LabelSet(output).posed(LabelSet(output).table(columns=NAMES).slice(0, 0))
    assert tuple(hands.joints.shape) == (0, 21, 3)


def test_another_hand_and_a_wrong_name_are_refused(output: Path, tmp_path: Path) -> None:
    model = stand_in_model()
    save_model(dataclasses.replace(model, shapedirs=1.1 * model.shapedirs), tmp_path / "MANO_RIGHT.pkl")
    labels = LabelSet(output, mano=tmp_path / "MANO_RIGHT.pkl")
    rows = labels.table(columns=NAMES)
    with pytest.raises(InputError, match=r"another hand model.*set mano\.path \(in Python mano=\)"):
        labels.posed(rows)
    with pytest.raises(InputError, match="lack the columns flipped"):
        LabelSet(output).posed(rows.drop_columns(["flipped"]))
    with pytest.raises(InputError, match="has no column jonts"):
        labels.parts(columns=["jonts"])
    with pytest.raises(InputError, match="has the tables"):
        labels.parts("labels")  # type: ignore[arg-type]


@pytest.mark.parametrize("columns", [[], ["frame", "frame"]])
def test_no_column_and_one_named_twice_are_refused(output: Path, columns: list[str]) -> None:
    with pytest.raises(InputError, match=r"each once; found .* at least one"):
        LabelSet(output).table(columns=columns)


@pytest.mark.parametrize("table", ["pseudo_labels", "predictions", "quarantine"])
@pytest.mark.parametrize("content", [None, b"", b"PAR1 no table PAR1"])
def test_a_file_that_is_gone_or_damaged_is_told(
    output: Path, tmp_path: Path, table: str, content: bytes | None
) -> None:
    copy = shutil.copytree(output, tmp_path / "copy")
    for path in (copy / table).glob("*.parquet"):
        path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=rf"cannot read the table .*/{table}/.*\.parquet: "):
        LabelSet(copy).table(table)  # type: ignore[arg-type]


def test_a_run_that_is_not_complete_is_refused(output: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "cut"))
    for key in ("run.json", "commits/u000000.json"):
        store.put(key, (output / key).read_bytes())
    with pytest.raises(InputError, match="not complete: 1 of"):
        LabelSet(tmp_path / "cut")


@pytest.mark.parametrize(("name", "job"), [("samples_version", "jobs.ingest"), ("boxes_version", "jobs.detect")])
def test_the_output_of_another_job_is_told_and_not_damaged(tmp_path: Path, name: str, job: str) -> None:
    """Its commits are sound, so nobody may be told to remove them."""
    store = open_store(str(tmp_path / "other"))
    store.put("run.json", json.dumps({"fingerprint": {name: 1}, "units": 1}).encode())
    store.put("commits/u000000.json", b'{"unit": "u000000", "counts": {"images": 3}}')
    config = settings.changed(settings.Config(), data={"pseudo": {"labels": store.root}}, output=str(tmp_path / "out"))
    message = f"is the output of {job} and holds no labels"
    for opens in (LabelSet, lambda _: refiltering.open_source(config), lambda _: training_data.labels_of(config)):
        with pytest.raises(InputError, match=message):
            opens(store.root)


def test_a_retried_video_leaves_the_quarantine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wild.write_wild(tmp_path, good=3)
    wild.write_teacher(tmp_path / "teacher.pt")
    wild.without_ray(monkeypatch)
    video = tmp_path / "videos" / "101.webm"
    sound = video.read_bytes()
    video.write_bytes(sound[:200])
    config = wild.config_of(tmp_path, tmp_path / "out", labelling={"unit_videos": 2})
    label(config)
    assert LabelSet(tmp_path / "out").table("quarantine", ["video_id"]).to_pylist() == [{"video_id": "101"}]
    video.write_bytes(sound)
    label(settings.changed(config, labelling={"extend": True, "retry": "quarantined"}))
    assert len(LabelSet(tmp_path / "out").table("quarantine")) == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["videos"]["quarantined"] == 0
