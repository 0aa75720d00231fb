"""engine: training lowers the loss, a resumed run equals an unbroken one, predictions are in the order of the data."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from labelled import draw_world

from hojoint import crops
from hojoint.datasets.collate import collate
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.hand.factory import hand_layer
from hojoint.model import checkpoint
from hojoint.model.network import HOJoint
from hojoint.training import engine
from hojoint.training.batches import Cached, ConcatSamples, loader
from hojoint.training.schedule import Schedule


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    config = draw_world(tmp_path_factory.mktemp("world"))
    return config.model_copy(update={"train": config.train.model_copy(update={"learning_rate": 2e-3, "epochs": 6})})


@pytest.fixture(scope="module")
def data(world):
    return Cached(HO3D(world.data.ho3d, "train", world.crop, crops.region_side(64)), 2)


def new_training(world, data):
    torch.manual_seed(world.seed)
    schedule = Schedule(world.train, labelled=len(data), pseudo=0, seed=world.seed)
    return engine.Training(world, schedule, HOJoint(world.model), hand_layer(world.mano))


def run(training, data, until=None):
    for batch in loader(ConcatSamples([data]), training.schedule, start=training.steps):
        training.step(batch)
        if training.steps == until:
            break
    return training


def test_training_lowers_the_loss_and_notes_every_epoch(world, data):
    training = run(new_training(world, data), data)
    assert training.steps == training.schedule.steps == 12
    assert [entry["steps"] for entry in training.history] == [2, 4, 6, 8, 10, 12]
    totals = [entry["total"] for entry in training.history]
    assert totals[-1] < 0.95 * totals[0]
    terms = set(training.history[0]) - {"steps", "learning_rate", "total"}
    for entry in training.history:
        assert sum(entry[name] for name in terms) == pytest.approx(entry["total"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [5, 6])
def test_a_resumed_run_ends_with_the_same_weights(world, data, stop):
    unbroken = run(new_training(world, data), data)
    halves = run(new_training(world, data), data, until=stop)
    halves.recent()  # reading the progress must not change the history
    saved = halves.save({"teacher": "x"})
    resumed = new_training(world, data)
    resumed.restore(checkpoint.load(saved))
    assert resumed.steps == stop
    run(resumed, data)
    expected, weights = unbroken.network.state_dict(), resumed.network.state_dict()
    for name in expected:
        torch.testing.assert_close(weights[name], expected[name], atol=0, rtol=0)
    for one, other in zip(unbroken.history, resumed.history, strict=True):
        assert one == pytest.approx(other, rel=1e-6)
    assert checkpoint.load(saved).parents == {"teacher": "x"}


def headed(world, **train):
    return world.model_copy(
        update={
            "model": world.model.model_copy(update={"side_head": True}),
            "train": world.train.model_copy(update=train),
        }
    )


def test_a_side_head_learns_and_the_other_terms_stay(world, data):
    sided = headed(world, mirrored_share=1.0)
    batch = collate([data[row] for row in range(4)])
    plain, with_side = loss_of(world, batch), loss_of(sided, batch)
    for name, value in plain.items():
        extra = with_side["side"] if name == "total" else 0
        assert with_side[name] == pytest.approx(value + extra, rel=1e-4), name
    training = new_training(sided, data)
    for _ in range(20):
        training.step(batch)
    assert training.losses(batch)["side"].item() < 0.8 * with_side["side"]


def test_a_batch_of_pseudo_labels_reaches_the_side_head_with_zeros(world, data):
    training = new_training(headed(world), data)
    batch = collate([replace(data[row], pseudo=True) for row in range(4)])
    losses = training.losses(batch)
    assert losses["side"].item() == 0
    losses["total"].backward()
    gradients = [p.grad for p in training.network.parameters()]
    assert all(gradient is not None for gradient in gradients)
    assert all((p.grad == 0).all() for p in training.network.side_head.parameters())


def loss_of(world, batch):
    """Terms of the loss of a network in eval mode, whose rows do not influence each other."""
    training = new_training(world, range(len(batch)))
    training.network.eval()
    return {name: float(value.detach()) for name, value in training.losses(batch).items()}


def one_worker(rank, workers, world, batches, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=workers)
    (folder / f"{rank}.json").write_text(json.dumps([loss_of(world, batch) for batch in batches]))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_the_mean_loss_of_two_workers_is_that_of_the_batch(world, data, tmp_path):
    keys, expected, shares = [(0, row) for row in range(4)], [], [[], []]
    world = headed(world, mirrored_share=1.0)
    for has_object in ([True, True, True, False], [True, False, True, False], [False] * 4):
        samples = [replace(data[row], has_object=has, pseudo=not has) for row, has in enumerate(has_object)]
        expected.append(loss_of(world, collate(samples, keys)))
        for rank in range(2):
            shares[rank].append(collate(samples[rank::2], keys[rank::2]))
    context = torch.multiprocessing.get_context("spawn")
    workers = [context.Process(target=one_worker, args=(rank, 2, world, shares[rank], tmp_path)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    losses = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    for terms, *parts in zip(expected, *losses, strict=True):
        for name, value in terms.items():
            assert np.mean([part[name] for part in parts]) == pytest.approx(value, rel=1e-4), name


def test_a_loss_that_is_not_finite_is_reported_with_its_step(world, data):
    training = new_training(world, data)
    with torch.no_grad():
        training.network.mesh_decoder.pose.bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match=r"near step [12]; lower train\.learning_rate"):
        run(training, data, until=2)


def test_predictions_are_in_the_order_of_the_data(world):
    reader = HO3D(world.data.ho3d, "evaluation", world.crop)
    network, layer = HOJoint(world.model).eval(), hand_layer(world.mano)
    predictions = engine.predict(network, reader, world, layer, models=reader.models, batch_size=1)
    both = engine.predict(network, reader, world, layer, models=reader.models, batch_size=8)
    part = engine.predict(network, reader, world, layer, rows=range(1, 2))
    assert predictions.names == tuple(reader.names)
    np.testing.assert_allclose(predictions.vertices, both.vertices, atol=1e-5)
    np.testing.assert_allclose(part.joints, both.joints[1:2], atol=1e-5)
    assert np.abs(predictions.joints[:, 0]).max() < 1e-6  # wrist-centred
    assert np.isfinite(predictions.object_pose).all()
    assert np.isnan(part.object_pose).all()
    np.testing.assert_allclose(both.true_object_pose[1], reader[1].object_pose)
    joints, _ = reader.truth()
    px = joints.astype(np.float64) @ both.camera.transpose(0, 2, 1)
    px = px[..., :2] / px[..., 2:]
    assert (px > 0).all()  # the crop holds the hand: the camera is the crop's, at the published 512 px
    assert (px < engine.PUBLISHED_INPUT_PX).all()
    assert px.max() > world.model.input_px


def test_hands_without_objects_are_predicted_too(world):
    reader = FreiHAND(world.data.freihand, "evaluation", world.crop)
    network, layer = HOJoint(world.model).eval(), hand_layer(world.mano)
    predictions = engine.predict(network, reader, world, layer, models={})
    assert predictions.joints.shape == (3, 21, 3)
    assert np.isfinite(predictions.joints_error_px).all()
    assert np.isnan(predictions.object_pose).all()
    assert not predictions.object_solved.any()


def test_mixed_precision_is_for_gpus_alone(world):
    config = world.model_copy(update={"train": world.train.model_copy(update={"mixed_precision": True})})
    with engine.autocast(config, torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
