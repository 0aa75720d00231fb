"""engine: training lowers the loss, a resumed run equals an unbroken one, a plateau ends it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from labelled import draw_world

from hojoint import config as settings
from hojoint import crops
from hojoint.config import AugmentConfig
from hojoint.datasets.collate import collate
from hojoint.datasets.ho3d import HO3D
from hojoint.hand.factory import hand_layer
from hojoint.model import checkpoint
from hojoint.model.network import HOJoint
from hojoint.training import engine, prediction
from hojoint.training.batches import Cached, ConcatSamples, loader
from hojoint.training.schedule import Schedule

PARTS = ("train", "held_out")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    config = draw_world(tmp_path_factory.mktemp("world"))
    return config.model_copy(update={"train": config.train.model_copy(update={"learning_rate": 2e-3, "epochs": 6})})


@pytest.fixture(scope="module")
def data(world):
    return Cached(HO3D(world.data.ho3d, "train", world.crop, crops.region_side(64)), 2)


@pytest.fixture(scope="module")
def apart(world):
    """Settings with a plateau on a held-out recording and an average, the data without it, and it."""
    train = {"held_out": 1, "plateau_epochs": 1, "plateau_decays": 2, "ema": 0.8, "epochs": 30, "learning_rate": 5e-3}
    config = settings.changed(world, train=train)
    readers = (HO3D(config.data.ho3d, part, config.crop, crops.region_side(64), held_out=1) for part in PARTS)
    return (config, *(Cached(reader, 2) for reader in readers))


def new_training(world, data, held_out=None):
    torch.manual_seed(world.seed)
    schedule = Schedule(world.train, labelled=len(data), pseudo=0, seed=world.seed)
    return engine.Training(world, schedule, HOJoint(world.model), hand_layer(world.mano), held_out=held_out)


def run(training, data, until=None):
    for batch in loader(ConcatSamples([data]), training.schedule, start=training.steps):
        training.step(batch)
        if training.steps == until or training.ended:
            break
    return training


@pytest.fixture(scope="module")
def unbroken(world, data):
    """A training to its end, for tests that only read it."""
    return run(new_training(world, data), data)


@pytest.fixture(scope="module")
def ended(apart):
    """A training to its plateau, for tests that only read it."""
    config, data, held_out = apart
    return run(new_training(config, data, held_out), data)


def test_training_lowers_the_loss_and_notes_every_epoch(unbroken):
    training = unbroken
    assert training.steps == training.schedule.steps == 12
    assert [entry["steps"] for entry in training.history] == [2, 4, 6, 8, 10, 12]
    totals = [entry["total"] for entry in training.history]
    assert totals[-1] < 0.95 * totals[0]
    terms = set(training.history[0]) - {"steps", "learning_rate", "total"}
    for entry in training.history:
        assert sum(entry[name] for name in terms) == pytest.approx(entry["total"], rel=1e-4)


def test_the_history_notes_the_rate_of_each_epoch(world, data):
    config = settings.changed(world, train={"epochs": 3, "lr_decay": 0.5, "lr_decay_every_epochs": 1})
    training = run(new_training(config, data), data)
    rates = [entry["learning_rate"] for entry in training.history]
    assert rates == pytest.approx([2e-3, 1e-3, 5e-4])  # that after the last epoch, 2.5e-4, is of no step


@pytest.mark.slow
@pytest.mark.parametrize("stop", [5, 6])
def test_a_resumed_run_ends_with_the_same_weights(world, data, unbroken, stop):
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


def test_a_plateau_ends_training_with_the_averaged_weights(apart, ended):
    (config, _, held_out), training = apart, ended
    assert training.ended.startswith("plateau")
    assert training.steps < training.schedule.steps
    assert len(training.validation) == len(training.history) == training.steps  # an epoch is one step
    rates = [row["learning_rate"] for row in training.validation]
    decayed = [config.train.learning_rate * config.train.lr_decay**decays for decays in (0, 1, 2)]
    assert sorted(set(rates), reverse=True) == pytest.approx(decayed)
    assert rates == sorted(rates, reverse=True)
    saved = checkpoint.load(checkpoint.final(checkpoint.load(training.save({}))))
    assert saved.last_weights is None
    measured = prediction.predict(checkpoint.network_of(saved), held_out, config, hand_layer(config.mano))
    truth = [hand_layer(config.mano)(*map(torch.from_numpy, (s.pose[None], s.betas[None]))) for s in held_out]
    joints = torch.cat([hand.joints for hand in truth]).numpy()
    mpjpe = 1000 * np.linalg.norm(measured.joints - joints, axis=-1).mean()
    assert training.validation[-1]["mpjpe_mm"] == pytest.approx(mpjpe, rel=1e-4)


@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_has_the_same_average_and_plateau(apart, ended, stop):
    config, data, held_out = apart
    first = run(new_training(config, data, held_out), data, until=stop)
    resumed = new_training(config, data, held_out)
    resumed.restore(checkpoint.load(first.save({})))
    run(resumed, data)
    assert resumed.validation == ended.validation
    assert (resumed.ended, resumed.plateau) == (ended.ended, ended.plateau)
    one, other = (checkpoint.load(training.save({})) for training in (ended, resumed))
    assert one.sha256 == other.sha256
    for name, value in one.last_weights.items():
        torch.testing.assert_close(other.last_weights[name], value, atol=0, rtol=0)
    assert any(not torch.equal(value, one.weights[name]) for name, value in one.last_weights.items())


def test_measuring_held_out_images_changes_no_weight(apart):
    config, data, held_out = apart
    config = settings.changed(config, train={"steps": 3, "ema": 0.0})
    networks = [run(new_training(config, data, given), data).network.state_dict() for given in (held_out, None)]
    assert all(torch.equal(value, networks[1][name]) for name, value in networks[0].items())
    training = new_training(config, data, held_out)
    assert training.plateau is None  # steps give the length: the fixed schedule
    assert run(training, data).ended == "all 3 steps"


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


def test_pseudo_labels_alone_reach_the_side_head_with_zeros(world, data):
    training = new_training(headed(world), data)
    batch = collate([replace(data[row], pseudo=True) for row in range(4)])
    losses = training.losses(batch)
    assert losses["side"].item() == 0
    losses["total"].backward()
    gradients = [p.grad for p in training.network.parameters()]
    assert all(gradient is not None for gradient in gradients)
    assert all((p.grad == 0).all() for p in training.network.side_head.parameters())
    believed = headed(world)
    believed = believed.model_copy(update={"loss": believed.loss.model_copy(update={"pseudo_side": 0.5})})
    assert new_training(believed, data).losses(batch)["side"].item() > 0.1


def loss_of(world, batch):
    """Terms of the loss of a network in eval mode, whose rows do not influence each other."""
    training = new_training(world, range(len(batch)))
    training.network.eval()
    return {name: float(value.detach()) for name, value in training.losses(batch).items()}


def one_worker(rank, workers, batches, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=workers)
    (folder / f"{rank}.json").write_text(json.dumps([loss_of(config, batch) for config, batch in batches]))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_the_mean_loss_of_all_workers_is_that_of_the_batch(world, data, tmp_path):
    workers = 2  # of 2 images and 1
    keys, expected, shares = [(0, row) for row in range(3)], [], [[] for _ in range(workers)]
    one = headed(world, mirrored_share=1.0)
    weighted = settings.changed(
        one, loss={"pseudo_2d": 2.0, "pseudo_3d": 0.3, "pseudo_root": 0.4, "quality_power": 1.0}
    )
    for config, has_object in (
        (world, [True, False, True]),
        (one, [True, True, False]),
        (one, [False] * 3),
        (weighted, [True, False, False]),
    ):
        labels = [{"has_object": has, "pseudo": not has, "quality": 0.3 * row} for row, has in enumerate(has_object)]
        samples = [replace(data[row], **label) for row, label in enumerate(labels)]
        expected.append(loss_of(config, collate(samples, keys)))
        for rank in range(workers):
            shares[rank].append((config, collate(samples[rank::workers], keys[rank::workers])))
    context = torch.multiprocessing.get_context("spawn")
    running = [
        context.Process(target=one_worker, args=(rank, workers, shares[rank], tmp_path)) for rank in range(workers)
    ]
    for worker in running:
        worker.start()
    for worker in running:
        worker.join()
    losses = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(workers)]
    for terms, *parts in zip(expected, *losses, strict=True):
        for name, value in terms.items():
            assert np.mean([part[name] for part in parts]) == pytest.approx(value, rel=1e-4), name


def test_mixed_precision_is_for_gpus_alone(world):
    config = world.model_copy(update={"train": world.train.model_copy(update={"mixed_precision": True})})
    with engine.autocast(config, torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_a_loss_that_is_not_finite_is_reported_with_its_step(world, data):
    training = new_training(world, data)
    with torch.no_grad():
        training.network.mesh_decoder.pose.bias.fill_(torch.nan)
    advice = (
        r"near step [12]: training diverges\. Lower train\.learning_rate \(now 0\.002; student\.learning_rate for the "
        r"student and the control of a pipeline\), or set train\.max_grad_norm$"
    )
    with pytest.raises(FloatingPointError, match=advice):
        run(training, data, until=2)


def test_noisy_images_of_the_side_head_change_no_other_term(world, data):
    batch = collate([data[row] for row in range(4)])
    sided = headed(world, mirrored_share=0.5)
    noisy = headed(world, mirrored_share=0.5, side_augment=AugmentConfig(brightness=0.9, contrast=0.9, hue=0.4))
    plain, other = loss_of(sided, batch), loss_of(noisy, batch)
    assert plain.pop("side") != pytest.approx(other.pop("side"), rel=1e-6)
    plain.pop("total"), other.pop("total")
    assert plain == pytest.approx(other, rel=1e-4)
