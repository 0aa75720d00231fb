"""A label set rewritten by an oracle: the layout of a labelling run, counts that add up, resumed and refused as one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import wild

from cluster.labelling import commits, oracles, totals
from cluster.labelling import run as labelling
from cluster.labelling.job import LabellingJob
from cluster.labelling.oracles import Truth
from cluster.labelling.teacher import Teacher
from cluster.store.local import LocalStore
from cluster.training import data as training_data
from hojoint import config as settings
from hojoint.config import Config
from hojoint.datasets.pseudo import PseudoLabelled
from hojoint.errors import InputError
from hojoint.evaluation import label_quality
from hojoint.evaluation.label_quality import CorrectWhen
from hojoint.hand.factory import hand_layer
from hojoint.labelling import tables
from jobs import label_measures

pytestmark = pytest.mark.slow  # seconds: videos and a network
USUAL = CorrectWhen()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos labelled by random weights, and a truth of the first four: another pose at the labels' place."""
    folder = tmp_path_factory.mktemp("wild")
    wild.write_wild(folder, good=5, frames=4)
    wild.write_teacher(folder / "teacher.pt")
    config = wild.config_of(folder, folder / "labels")
    store = LocalStore(config.output)
    plan = labelling.make_plan(config, store)
    labelling.begin(config, store, plan)
    one = Teacher(LabellingJob(config, store.root, plan.teacher_sha256, "driver"))
    for unit in plan.manifest:
        one.work(unit)
    one.close()
    labelling.finish(store, plan.unit_ids, plan.aside)
    pyarrow.parquet.write_table(_truth(folder / "labels"), folder / "truth.parquet")
    return folder


def _truth(labels: Path) -> pyarrow.Table:
    rows = [row for row in wild.rows_of(labels, "predictions").to_pylist() if row["video_id"] != "104"]
    layer = hand_layer(Config().mano)
    pose = np.random.default_rng(0).normal(0, 0.2, (len(rows), 48))
    joints = label_quality.hand_joints(layer, pose, np.zeros((len(rows), 10)))
    return pyarrow.Table.from_pylist([
        {"video_id": row["video_id"], "frame": row["frame"], "side": "left", "pose": pose[number].tolist(),
         "shape": [0.0] * 10, "joints_px": row["joints_px"], "joints": joints[number].ravel().tolist()}
        for number, row in enumerate(rows)
    ])  # fmt: skip


def rewritten(made: Path, output: Path, which: str = "truth", when: CorrectWhen = USUAL, **groups: dict) -> dict:
    pseudo = {"pseudo": {"labels": str(made / "labels")}}
    config = settings.changed(Config(), output=str(output), data=pseudo, **groups)
    return oracles.rewrite(config, which, Truth.at(str(made / "truth.parquet")), when)


def test_true_labels_are_a_label_set_to_train_on(made: Path, tmp_path: Path) -> None:
    report = rewritten(made, tmp_path / "out")
    before = totals.report_of(commits.read_commits(LocalStore(made / "labels")), ())
    frames, videos = report["frames"], report["videos"]
    assert frames["predicted"] == frames["kept"] + sum(frames["rejected"].values())
    assert 0 < frames["kept"] < before["frames"]["kept"]  # without those of the fifth video
    assert videos["listed"] == 5 == videos["labelled"] + videos["empty"] + videos["quarantined"]
    table = wild.rows_of(tmp_path / "out", "pseudo_labels")
    assert all(table["flipped"].to_pylist())
    config = settings.changed(
        Config(), train={"datasets": ["pseudo"]}, data={"pseudo": {"labels": str(tmp_path / "out")}}
    )
    data = training_data.open_data(config)
    assert len(data) == frames["kept"] == len(table)
    np.testing.assert_allclose(data.sets[0][0].pose, tables.array_of(table, "mano_pose")[0], atol=1e-6)


def test_counts_are_those_of_the_tables(made: Path, tmp_path: Path) -> None:
    """Of a source with a label between kept ones, a kept frame without a picture, and frames without a true hand."""
    folder = tmp_path / "made"
    shutil.copytree(made, folder)
    store = LocalStore(folder / "labels")
    [first, *_] = commits.read_commits(store)
    paths = {name: folder / "labels" / first.files[name] for name in ("predictions", "pseudo_labels")}
    rows = {name: pyarrow.parquet.read_table(path).to_pylist() for name, path in paths.items()}
    rows["predictions"][0]["verdict"], rows["pseudo_labels"][0]["filled"] = "box_iou", True
    del rows["pseudo_labels"][1]
    for name, path in paths.items():
        pyarrow.parquet.write_table(
            pyarrow.Table.from_pylist(rows[name], wild.rows_of(made / "labels", name).schema), path
        )
    frames = rewritten(folder, tmp_path / "out")["frames"]
    kept = [row["verdict"] for row in wild.rows_of(tmp_path / "out", "predictions").to_pylist()].count("kept")
    table = wild.rows_of(tmp_path / "out", "pseudo_labels")
    assert (frames["kept"], frames["filled"], frames["without_image"]) == (kept, 1, 0)
    assert len(table) == kept + 1
    assert sum(table["filled"].to_pylist()) == 1
    assert frames["predicted"] == len(wild.rows_of(tmp_path / "out", "predictions")) < 20
    measured = label_measures.measured(LocalStore(tmp_path / "out"), folder / "truth.parquet", Config())
    assert measured["frames"] == {"predicted": 20, "kept": kept, "labels": kept + 1}  # five videos of four frames
    untold = label_measures.measured(LocalStore(tmp_path / "out"), None, Config())
    assert untold["frames"] == measured["frames"]  # by the counts alone


def test_some_of_the_clips_are_measured_where_some_are_used(made: Path) -> None:
    labels = LocalStore(made / "labels")
    table = wild.rows_of(made / "labels", "pseudo_labels")
    used = {fraction: len(PseudoLabelled(table, fraction=fraction)) for fraction in (1.0, 0.4, 0.01)}
    assert used[1.0] == len(table) > used[0.4] > used[0.01] > 0
    for fraction, rows in used.items():
        config = settings.changed(Config(), train={"pseudo_fraction": fraction})
        found = label_measures.measured(labels, made / "truth.parquet", config)
        assert found["frames"] == {"predicted": 20, "kept": rows, "labels": rows}
        assert found["labels"]["frames"] <= rows  # those with a true hand
        assert found["clips"]["clips"] == 4  # of all clips


def test_the_same_call_resumes_and_another_oracle_is_refused(made: Path, tmp_path: Path) -> None:
    first = rewritten(made, tmp_path / "out")
    (tmp_path / "out" / "commits" / "u000000.json").unlink()
    again = rewritten(made, tmp_path / "out")
    assert again["frames"] == first["frames"]
    assert labels_of(tmp_path / "out") != labels_of(made / "labels")
    with pytest.raises(InputError, match="oracle: truth before, side now"):
        rewritten(made, tmp_path / "out", "side")
    with pytest.raises(InputError, match="right when"):
        rewritten(made, tmp_path / "out", "truth", CorrectWhen(max_aligned_mm=3))


def test_where_every_write_wins_another_oracle_is_refused(made: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(LocalStore, "put_new", lambda self, key, data: self.put(key, data) is None)
    rewritten(made, tmp_path / "out", labelling={"require_conditional_writes": False})
    with pytest.raises(InputError, match="oracle: truth before, side now"):
        rewritten(made, tmp_path / "out", "side", labelling={"require_conditional_writes": False})


def test_an_oracle_asks_for_nothing_that_judges_frames(made: Path, tmp_path: Path) -> None:
    """In a pipeline the quality decides by a model that its calibration makes, which no setting names."""
    usual = rewritten(made, tmp_path / "usual")
    judged = {"filters": {"mode": "quality", "enabled": ["view_spread", "side"]}}
    by_quality = rewritten(made, tmp_path / "by_quality", **judged)
    assert by_quality["frames"] == usual["frames"]
    assert rewritten(made, tmp_path / "usual", **judged)["frames"] == usual["frames"]  # the same labels
    with pytest.raises(InputError, match="bone_reference"):
        rewritten(made, tmp_path / "other", filters={"bone_reference": "span"})


def labels_of(output: Path) -> str:
    return commits.read_run(LocalStore(output))["fingerprint_digest"]


def test_a_truth_that_is_no_table_is_refused(made: Path, tmp_path: Path) -> None:
    (tmp_path / "no.parquet").write_bytes(b"nothing")
    with pytest.raises(InputError, match="is not a parquet file of true poses"):
        Truth.at(str(tmp_path / "no.parquet"))
