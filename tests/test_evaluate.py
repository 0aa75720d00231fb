"""Evaluation: submission files through the job, a network on a small drawn world, shards that change nothing."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import metas
from labelled import SMALL, TINY_WORDS, write_teacher

from cluster import scoring
from cluster.scoring import Examiner
from hojoint import config as settings
from hojoint import geometry
from hojoint.errors import InputError
from hojoint.evaluation import examples, metrics, submission_files
from hojoint.evaluation import scores as evaluation
from hojoint.hand.chosen import hand_model
from hojoint.hand.factory import hand_layer
from hojoint.hand.model import SIMPLE_TO_MANO
from hojoint.model import checkpoint, opening
from hojoint.model.network import HOJoint, ObjectOutput
from hojoint.report import album
from hojoint.synthetic import write
from hojoint.training import prediction
from jobs import command, evaluate

pytestmark = pytest.mark.slow  # seconds each: files, videos or processes

KEYS = [
    *("xyz_mean3d", "xyz_auc3d", "xyz_procrustes_al_mean3d", "xyz_procrustes_al_auc3d"),
    *("xyz_scale_trans_al_mean3d", "xyz_scale_trans_al_auc3d"),
    *("mesh_mean3d", "mesh_auc3d", "mesh_al_mean3d", "mesh_al_auc3d"),
    *("f_score_5", "f_al_score_5", "f_score_15", "f_al_score_15"),
]
TINY = [*TINY_WORDS]
TINY += ["synthetic.evaluation_sequences=1", "synthetic.evaluation_frames=3", "synthetic.test_images=3"]
TINY += ["synthetic.train_sequences=1", "synthetic.train_frames=1", "synthetic.wild_videos=1"]
TINY += ["synthetic.broken_videos=0", "synthetic.wild_frames=4", "cluster.threads=1"]


def hands(count, seed=0):
    rng = np.random.default_rng(seed)
    at = np.array([0.0, 0.0, 0.6])
    return rng.normal(size=(count, 21, 3)) * 0.03 + at, rng.normal(size=(count, 778, 3)) * 0.03 + at


def write_truth(folder, joints, vertices):
    folder.mkdir(exist_ok=True)
    for key, values in (("xyz", joints), ("verts", vertices)):
        (folder / f"evaluation_{key}.json").write_text(json.dumps(values.tolist()))


def test_a_submission_equal_to_the_truth_scores_zero(tmp_path, capsys):
    joints, vertices = hands(3)
    write_truth(tmp_path / "truth", joints, vertices)
    (tmp_path / "pred.json").write_text(json.dumps([joints.tolist(), vertices.tolist()]))
    arguments = [f"score.predictions={tmp_path}/pred.json", f"score.truth={tmp_path}/truth", "score.layout=ho3d"]
    assert evaluate.main([*arguments, f"output={tmp_path}/out"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == KEYS
    assert lines[0] == "xyz_mean3d: 0.000000"
    assert lines[1] == "xyz_auc3d: 1.000000"
    assert (tmp_path / "out" / "scores.txt").read_text().splitlines() == lines
    assert set(json.loads((tmp_path / "out" / "scores.json").read_text())) == set(KEYS)


def test_a_shift_of_a_centimetre_is_one_and_none_when_aligned(tmp_path, capsys):
    joints, vertices = hands(2)
    write_truth(tmp_path, joints, vertices)
    moved = [(values + np.array([0.01, 0, 0])).tolist() for values in (joints, vertices)]
    (tmp_path / "pred.json").write_text(json.dumps(moved))
    assert (
        evaluate.main([f"score.predictions={tmp_path}/pred.json", f"score.truth={tmp_path}", "score.layout=freihand"])
        == 0
    )
    said = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert float(said["xyz_mean3d"]) == pytest.approx(1.0, abs=1e-6)
    assert float(said["xyz_al_mean3d"]) == pytest.approx(0.0, abs=1e-6)
    assert "xyz_scale_trans_al_mean3d" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["score.predictions=none.json", "score.truth={0}"], "none.json"),
        (["score.predictions={0}/pred.json"], "score.truth=DIR"),
        ([], "evaluate.checkpoint="),
        (["evaluate.checkpoint=x.pt"], "cannot read x.pt"),
        (["evaluate.checkpoint={0}/c.pt"], "nothing to measure on"),
        (["teacher.checkpoint=x.pt"], "give evaluate.checkpoint=x.pt"),
        (["score.truth={0}"], "score.predictions=pred.json"),
        (
            ["evaluate.checkpoint=x.pt", "score.predictions={0}/pred.json", "score.truth={0}"],
            "found evaluate.checkpoint=x.pt and score.predictions and score.truth; leave one of the two out",
        ),
    ],
)
def test_what_is_missing_is_asked_for(arguments, said, tmp_path, capsys):
    write_truth(tmp_path, *hands(1))
    (tmp_path / "pred.json").write_text("[[], []]")
    write_teacher(settings.from_tree({"model": SMALL}), tmp_path / "c.pt")
    assert evaluate.main([argument.format(tmp_path) for argument in arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_a_dry_run_compares_the_counts_as_the_run_does(words, tmp_path, capsys):
    write_truth(tmp_path / "truth", *hands(6))
    (tmp_path / "pred.json").write_text(json.dumps([part.tolist() for part in hands(4)]))
    asked = [f"score.predictions={tmp_path}/pred.json", f"score.truth={tmp_path}/truth", *words]
    assert evaluate.main(asked) == 2
    assert "holds 4 samples for 6 samples under" in capsys.readouterr().err


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A drawn world of three evaluation frames and three test images, and a network of random weights."""
    folder = tmp_path_factory.mktemp("evaluate")
    config = settings.load(command.DEFAULT_CONFIG, [*TINY, f"world={folder}"])
    for piece in write.pieces(config):
        write.write_piece(piece, config)
    write.finish(config)
    torch.manual_seed(0)
    path = folder / "teacher.pt"
    path.write_bytes(checkpoint.save(HOJoint(config.model), config, progress={}, parents={}))
    return settings.changed(write.with_world(config), evaluate={"checkpoint": str(path)}, world=None)


@pytest.fixture(scope="module")
def predictions(world):
    """What the random network says of the evaluation frames."""
    network, own, _ = opening.open_teacher(world.evaluate.checkpoint, world)
    dataset = evaluation.open_domain("ho3d", own)
    found = prediction.predict(network, dataset, own, hand_layer(own.mano), models=dataset.models, batch_size=3)
    return dataset, found


def test_predictions_are_put_at_the_true_wrist(world, predictions):
    dataset, found = predictions
    placed = evaluation.placed(found, dataset.roots(), "ho3d", world)
    np.testing.assert_allclose(placed.joints[:, 0], dataset.truth()[0][:, 0], atol=1e-5)
    np.testing.assert_allclose(
        placed.vertices - placed.joints[:, :1], found.vertices - found.joints[:, :1], atol=1e-6
    )  # moved and nothing else


def test_the_truth_as_prediction_scores_perfectly(world, predictions):
    dataset, found = predictions
    joints, vertices = dataset.truth()
    perfect = dataclasses.replace(
        found,
        joints=joints,
        vertices=vertices,
        object_pose=found.true_object_pose.astype(np.float64),
        object_solved=np.ones(3, dtype=bool),
    )
    out = evaluation.scores(perfect, metrics.hand_errors(joints, vertices, joints, vertices), dataset.models, "ho3d")
    assert out["images"] == 3
    assert out["hand"]["joints_mm"] == pytest.approx(0, abs=1e-3)
    assert out["hand"]["f5"] == 1.0
    assert out["object"]["add_0.1d"] == 1.0
    assert out["object"]["rep_5"] == 1.0
    assert out["pck"]["share"][-1] == 1.0
    assert out["pck"]["mesh_share"][-1] == 1.0


def test_a_refined_object_pose_is_scored_beside_the_plain_one(world, predictions):
    dataset, found = predictions
    assert np.isfinite(found.object_pose_refined).all()
    joints, vertices = dataset.truth()
    errors = metrics.hand_errors(joints, vertices, joints, vertices)
    true = found.true_object_pose.astype(np.float64)
    moved = true + np.array([[0, 0, 0, 0.5], [0, 0, 0, 0], [0, 0, 0, 0]])  # half a metre aside: no object is as large
    solved = np.ones(3, dtype=bool)
    made = dataclasses.replace(found, object_pose=moved, object_pose_refined=true, object_solved=solved)
    out = evaluation.scores(made, errors, dataset.models, "ho3d")["object"]
    for scores in (out, *out["by_object"].values()):
        assert (scores["add_0.1d"], scores["add_0.1d_refined"]) == (0.0, 1.0)
        assert scores["add_median_mm"] == pytest.approx(500)
        assert scores["add_median_mm_refined"] == pytest.approx(0, abs=1e-3)
    plain = dataclasses.replace(made, object_pose_refined=np.full_like(true, np.nan))
    assert not [key for key in evaluation.scores(plain, errors, dataset.models, "ho3d")["object"] if "refined" in key]


def test_scores_hold_no_infinity_where_no_pose_is_solved(world, predictions):
    dataset, found = predictions
    joints, vertices = dataset.truth()
    errors = metrics.hand_errors(joints, vertices, joints, vertices)
    lost = dataclasses.replace(found, object_pose=np.full_like(found.object_pose, np.nan))
    scores = evaluation.scores(lost, errors, dataset.models, "ho3d")["object"]
    json.dumps(scores, allow_nan=False)
    assert (scores["add_median_mm"], scores["depth_bias_mm"], scores["add_0.1d"]) == (None, None, 0.0)


def test_an_unsolved_object_is_a_miss_and_in_no_median(world, monkeypatch):
    """The network knows the object of the first of three frames, and is sure of no point of the others."""
    network, own, _ = opening.open_teacher(world.evaluate.checkpoint, world)
    prepare, seen = prediction.prepare, []
    monkeypatch.setattr(prediction, "prepare", lambda *given: seen.append((given[0], prepare(*given))) or seen[-1][1])

    def answer(_module, _given, output):
        batch, prepared = seen[-1]
        px = geometry.apply_affine(prepared.affine, batch.control_px.to(prepared.affine))
        low, high = prepared.object_boxes[:, None, :2], prepared.object_boxes[:, None, 2:]
        points = ((px - low) / (high - low))[:, None, None].expand_as(output.object.control_box)
        sure = torch.ones_like(output.object.confidence)
        sure[1:] = 0
        return output._replace(object=ObjectOutput(points, sure))

    network.register_forward_hook(answer)
    dataset = evaluation.open_domain("ho3d", own)
    found = prediction.predict(network, dataset, own, hand_layer(own.mano), models=dataset.models, batch_size=3)
    assert found.object_solved.tolist() == [True, False, False]
    truth = dataset.truth()
    scores = evaluation.scores(found, metrics.hand_errors(*truth, *truth), dataset.models, "ho3d")["object"]
    assert scores["solved"] == scores["add_0.1d"] == scores["rep_5"] == pytest.approx(1 / 3)
    assert (scores["add_0.1d_refined"], scores["add_median_mm_refined"]) == (pytest.approx(1 / 3), None)
    assert scores["add_median_mm"] is None  # of two misses in three
    assert scores["depth_median_mm"] < 5
    assert scores["lateral_median_mm"] < 5
    assert scores["rotation_median_deg"] < 2


def test_without_refinement_only_the_plain_pose_is_made(world, predictions):
    dataset, found = predictions
    network, own, _ = opening.open_teacher(world.evaluate.checkpoint, world)
    off = settings.changed(own, evaluate={"pnp_refine": False})
    plain = prediction.predict(network, dataset, off, hand_layer(own.mano), models=dataset.models, batch_size=3)
    assert np.isnan(plain.object_pose_refined).all()
    np.testing.assert_array_equal(plain.object_pose, found.object_pose)


def test_freihands_key_points_are_regressed_from_its_vertices(world):
    dataset = evaluation.open_domain("freihand", world)
    joints, vertices = dataset.truth()
    wrist = joints[:, :1]
    fake = prediction.Predictions(
        names=tuple(dataset.names), joints=np.zeros((3, 21, 3)), vertices=vertices - wrist, joints_px=np.zeros(()),
        joints_error_px=np.zeros(3), object_names=("",) * 3, object_pose=np.zeros(()), object_pose_refined=np.zeros(()),
        object_solved=np.zeros(3, bool), true_object_pose=np.zeros(()), camera=np.zeros(()),
    )  # fmt: skip
    placed = evaluation.placed(fake, dataset.roots(), "freihand", world)
    np.testing.assert_allclose(placed.joints, joints, atol=2e-6)
    np.testing.assert_allclose(placed.vertices, vertices, atol=2e-6)


def test_an_examiner_says_the_same_in_one_stretch_and_in_two(world):
    _, own, _ = opening.open_teacher(world.evaluate.checkpoint, world)
    dataset = evaluation.open_domain("ho3d", own)
    truth = (dataset.roots(), *dataset.truth())
    examiner = Examiner(world.cluster)
    whole, errors = examiner.examine(own, "ho3d", range(3), *truth)
    parts = [examiner.examine(own, "ho3d", rows, *truth) for rows in (range(2), range(2, 3))]
    joined, merged = prediction.joined([part for part, _ in parts]), metrics.merge([part for _, part in parts])
    assert joined.names == whole.names
    np.testing.assert_allclose(joined.joints, whole.joints, atol=1e-5)
    np.testing.assert_allclose(merged.joints_procrustes, errors.joints_procrustes, atol=1e-5)


def test_examples_survive_their_file_with_mesh_on_the_joints(world, predictions):
    dataset, found = predictions
    placed = evaluation.placed(found, dataset.roots(), "ho3d", world)
    errors = metrics.hand_errors(placed.joints, placed.vertices, *dataset.truth())
    _, own, _ = opening.open_teacher(world.evaluate.checkpoint, world)
    shown = examples.make_examples(dataset, np.array([0, 2]), placed, errors, dataset.models, own)
    again = examples.unpack_examples(examples.pack_examples(shown))
    assert [example.name for example in again] == [dataset.names[0], dataset.names[2]]
    for before, after in zip(shown, again, strict=True):
        np.testing.assert_allclose(after.vertices_px, before.vertices_px, rtol=1e-5)
        assert np.abs(after.image.astype(int) - before.image).mean() < 6
        middle = before.vertices_px.mean(axis=0)
        reach = np.ptp(before.joints_px, axis=0).max() + np.ptp(before.vertices_px, axis=0).max()
        assert np.linalg.norm(middle - before.joints_px.mean(axis=0)) <= reach


def test_an_examples_object_lies_where_its_pose_puts_it(world, predictions):
    dataset, found = predictions
    posed = dataclasses.replace(
        found, object_pose=found.true_object_pose.astype(np.float64), object_solved=np.ones(3, dtype=bool)
    )
    posed = evaluation.placed(posed, dataset.roots(), "ho3d", world)
    errors = metrics.hand_errors(posed.joints, posed.vertices, *dataset.truth())
    _, own, _ = opening.open_teacher(world.evaluate.checkpoint, world)
    (example,) = examples.make_examples(dataset, np.array([1]), posed, errors, dataset.models, own)
    pose, points = dataset[1].object_pose, dataset.models[found.object_names[1]].points
    centre = pose[:, :3] @ points.mean(axis=0) + pose[:, 3] - dataset.truth()[0][1, 0]
    np.testing.assert_allclose(example.object_points.mean(axis=0), centre, atol=0.01)
    assert "left out" not in album.space_picture(example, hand_model(own.mano).faces).caption
    far = dataclasses.replace(example, object_points=example.object_points + 1.0)
    assert "left out" in album.space_picture(far, hand_model(own.mano).faces).caption


def test_attention_is_drawn_for_cells_within_the_grid(world):
    network, own, _ = opening.open_teacher(world.evaluate.checkpoint, world)
    assert examples.attention_cells(own) == [(2, 2), (4, 4), (6, 6)]
    asked = settings.changed(own, evaluate={"attention_cells": [[0, 7]]})
    dataset = evaluation.open_domain("ho3d", own)
    rows = np.arange(3)
    one, three = (examples.attention_tiles(network, dataset, rows, config) for config in (asked, own))
    assert [tile.shape[1] for tile in one] == [examples.ATTENTION_PX] * len(three)
    none = settings.changed(own, evaluate={"attention_cells": []})
    assert examples.attention_tiles(network, dataset, rows, none) == []
    with pytest.raises(InputError, match=r"found \[0, 8\], which is beyond the network's 8 x 8"):
        examples.attention_cells(settings.changed(own, evaluate={"attention_cells": [[0, 8]]}))


def test_examples_are_evenly_spaced_and_never_chosen():
    assert examples.example_rows(10, 4).tolist() == [0, 3, 6, 9]
    assert examples.example_rows(2, 5).tolist() == [0, 1]
    assert examples.example_rows(5, 0).tolist() == []


def test_data_in_object_storage_are_checked_before_the_run(world, tmp_path, capsys, monkeypatch, s3):
    folder = Path(world.data.ho3d.root).parent
    for path in folder.rglob("*"):
        if path.is_file():
            s3.put(f"sets/{path.relative_to(folder)}", path.read_bytes())
    measured = []
    monkeypatch.setattr(evaluate, "measure", lambda configs: measured.append(configs) or {})
    arguments = [*TINY, f"evaluate.checkpoint={world.evaluate.checkpoint}", f"cluster.cache={tmp_path / 'cache'}"]
    arguments += [f"data.ho3d.root=s3://bucket/sets/{Path(world.data.ho3d.root).name}"]
    arguments += ["data.freihand.root=s3://bucket/sets/FreiHAND_pub_v2_eval"]
    assert evaluate.main([*arguments, "--dry-run"]) == 0
    assert evaluate.main(arguments) == 0, capsys.readouterr().err
    assert len(measured) == 1
    [config] = measured[0]
    _, merged, _ = scoring.open_measured(config)  # as the checkpoint would name it that was trained so
    hand = next(folder.rglob("MANO_RIGHT.pkl")).relative_to(folder)
    merged = settings.changed(merged, mano={"path": f"s3://bucket/sets/{hand}"})
    dataset = scoring.open_domain("freihand", merged)
    truth = dataset.truth()
    predictions, _ = scoring.Examiner(config.cluster).examine(merged, "freihand", range(2), dataset.roots(), *truth)
    assert len(predictions.joints) == 2


@pytest.mark.ray
def test_the_job_measures_on_a_cluster_and_writes_its_files(world, ray_session, tmp_path, capsys):
    output = tmp_path / "evaluation"
    arguments = [*TINY, "name=student", f"evaluate.checkpoint={world.evaluate.checkpoint}", f"output={output}"]
    arguments += [f"data.ho3d.root={world.data.ho3d.root}", f"data.freihand.root={world.data.freihand.root}"]
    assert evaluate.main([*arguments, "evaluate.shard_images=2", "evaluate.actors=[1,1]"]) == 0
    assert "PA-MPJPE, joints aligned (mm)" in capsys.readouterr().out
    facts = json.loads((output / "student.json").read_text())
    assert {domain: scores["images"] for domain, scores in facts["domains"].items()} == {"ho3d": 3, "freihand": 3}
    for picture in ("ho3d_pck", "ho3d_3d_0", "freihand_pck", "freihand_3d_2"):
        assert (output / f"student_{picture}.png").read_bytes().startswith(b"\x89PNG")
    # The submission it wrote, scored as a file, says what the network was said to score.
    scored = evaluate.main([
        f"score.predictions={output}/student_ho3d_pred.json", f"score.truth={world.data.ho3d.root}",
        "score.layout=ho3d",
    ])  # fmt: skip
    assert scored == 0
    said = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    official = facts["domains"]["ho3d"]["official"]
    for key, value in said.items():
        assert float(value) == pytest.approx(official[key], abs=3e-3), key


@pytest.mark.ray
def test_an_incomplete_set_is_scored_and_not_submitted(world, ray_session, tmp_path, capsys):
    root = Path(shutil.copytree(world.data.ho3d.root, tmp_path / "HO3D"))
    metas(root, "evaluation")[1].unlink()
    arguments = [*TINY, "name=student", f"evaluate.checkpoint={world.evaluate.checkpoint}", f"output={tmp_path}/out"]
    arguments += [f"data.ho3d.root={root}", f"data.ho3d.object_models={world.data.ho3d.object_models}"]
    assert evaluate.main([*arguments, "--dry-run"]) == 2
    assert "1 of 3 listed frames are without meta file" in capsys.readouterr().err
    assert evaluate.main([*arguments, "data.ho3d.missing=leave_out", "evaluate.actors=[1,1]"]) == 0
    said = capsys.readouterr().out
    assert "note: 1 of the 3 frames of evaluation.txt cannot be used (1 without meta file" in said
    assert "no student_ho3d_pred.json is written: it needs an entry for each of 3 listed images, and 1 are" in said
    scores = json.loads((tmp_path / "out" / "student.json").read_text())["domains"]["ho3d"]
    assert (scores["images"], scores["left_out"]) == (2, 1)
    assert not (tmp_path / "out" / "student_ho3d_pred.json").exists()


def test_the_submission_is_in_the_data_sets_own_order(world, predictions, tmp_path):
    dataset, _ = predictions
    joints, vertices = dataset.truth()
    submission_files.write_submission(tmp_path / "pred.json", joints, vertices, "ho3d")
    raw = np.array(json.loads((tmp_path / "pred.json").read_text())[0])
    np.testing.assert_allclose(raw, joints[:, SIMPLE_TO_MANO] * [1, -1, -1], atol=1e-5)
