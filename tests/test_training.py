"""cluster.training: a run on Ray Train leaves its files, does nothing twice, and survives a killed process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
import ray.train
import torch
import training_here
from labelled import draw_world
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)

from cluster import patience, session
from cluster.labelling import presence
from cluster.store import open_store
from cluster.training import data as training_data
from cluster.training import job as training_job
from cluster.training import run as training
from cluster.training import worker as train_worker
from cluster.training.data import open_data
from hojoint import config as settings
from hojoint.config import ClusterConfig, Config, TrainConfig, changed
from hojoint.errors import InputError, NoRoom, Unavailable
from hojoint.model import checkpoint, opening
from hojoint.model.network import HOJoint
from hojoint.training.batches import loader
from jobs import train as train_job

HEAD = {"side_head": True}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    config = draw_world(tmp_path_factory.mktemp("world"), frames=4)
    return changed(config, train={"steps": 80, "epochs": 40, "checkpoint_every_epochs": 10, "learning_rate": 2e-3})


@pytest.fixture(scope="module")
def unbroken(world, ray_session, tmp_path_factory):
    output = tmp_path_factory.mktemp("unbroken")
    return training.fit(world, str(output), progress=False), output


def descendants(pid: int) -> list[int]:
    """All processes below ``pid``; Linux keeps the list."""
    pids = []
    for children in Path(f"/proc/{pid}").glob("task/*/children"):
        for child in children.read_text().split():
            pids += [int(child), *descendants(int(child))]
    return pids


def kill_worker_after_first_checkpoint(output: Path, killed: list[int]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if list(output.glob("runs/*/checkpoint_*/checkpoint.pt")):
            for pid in descendants(os.getpid()):
                if b"RayTrainWorker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            return
        time.sleep(0.05)


def test_a_run_is_named_by_what_makes_its_result(world):
    job = training_job.plan_job(world)
    assert (job.schedule.steps, job.schedule.steps_per_epoch, len(job.data)) == (80, 2, 8)
    how = {"loader_processes": 3, "cache": False, "checkpoint_steps": 5}
    same = changed(world, train=how, cluster={"cpus": 4}, output="/elsewhere")
    assert training_job.plan_job(same).name == job.name
    for other in (changed(world, seed=9), changed(world, loss={"betas": 1.0}), changed(world, train={"epochs": 41})):
        assert training_job.plan_job(other).name != job.name


def test_bfloat16_and_float32_are_two_runs(world, tmp_path):
    def planned(mixed, gpus):
        return training_job.plan_job(changed(world, train={"mixed_precision": mixed}, cluster={"worker_gpus": gpus}))

    half, full, store = planned(True, 1.0), planned(True, 0.0), open_store(str(tmp_path))
    assert half.name != full.name
    assert planned(False, 1.0).name == planned(False, 0.0).name  # float32 wherever
    saved = SimpleNamespace(sha256="x", progress={"steps": 1, "history": [], "validation": [], "ended": "all 1 steps"})
    store.put(train_worker.FILE, b"weights")
    store.put(training_job.FACTS, json.dumps(training._facts(full, saved, 1.0, None)).encode())
    assert training_job.finished(full, store).reused
    with pytest.raises(InputError, match=r"1 differences\):\s+precision: None before, bfloat16 now"):
        training_job.finished(half, store)
    earlier = {name: value for name, value in training._facts(full, saved, 1.0, None).items() if name != "precision"}
    store.put(training_job.FACTS, json.dumps(earlier).encode())
    assert training_job.finished(half, store).reused  # it did not tell, and is not made again


def test_wrong_inputs_are_refused_before_anything_starts(world, tmp_path):
    with pytest.raises(InputError, match=r"no run\.json"):
        open_data(changed(world, train={"datasets": ["ho3d", "pseudo"]}, data={"pseudo": {"labels": str(tmp_path)}}))
    with pytest.raises(InputError, match=r"data\.pseudo\.labels"):
        open_data(changed(world, train={"datasets": ["pseudo"]}))
    with pytest.raises(InputError, match="every worker needs a sample"):
        training_job.plan_job(changed(world, cluster={"workers": [1, 5]}))
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match=r"broken\.pt"):
        training_job.plan_job(changed(world, train={"init_checkpoint": str(broken)}))
    with pytest.raises(InputError, match="cannot hold this job"):
        training.fit(changed(world, cluster={"workers": [3, 3]}), str(tmp_path))


def test_a_single_image_needs_more_than_a_single_cell(world):
    deep = changed(world, model={"hourglass_depth": 3}, train={"batch_size": 3}, cluster={"workers": [1, 2]})
    with pytest.raises(InputError, match=r"halves model\.roi_cells=8 to a single cell: .* or a depth of 2"):
        training_job.plan_job(deep)
    training_job.plan_job(changed(deep, model={"hourglass_depth": 2}))
    training_job.plan_job(changed(deep, train={"batch_size": 4}))


def test_unfinished_runs_of_any_name_are_noted(world, tmp_path, capsys):
    job, store = training_job.plan_job(world), open_store(str(tmp_path))
    for name in (job.name, "other-0123", "run-4567"):
        store.put(f"runs/{name}/checkpoint_1/checkpoint.pt", b"")
    training._note_other_runs(job, store)
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" is ")[0].rpartition("/")[2] for line in said] == ["other-0123", "run-4567"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"loss": dict.fromkeys(training_job.TERMS, 0.0)}, "nothing would be learned"),
        ({"loss": {"pseudo_side": 1.0}}, "loss.pseudo_side is of the head"),
        ({"train": {"side_augment": {"blur_px": 1.0}}}, "train.side_augment is of the head"),
        ({"model": HEAD, "loss": {"side": 0.0}}, r"with loss\.side=0 none does"),
        ({"model": HEAD, "train": {"mirrored_share": 0.0}}, r"with train\.mirrored_share=0 none does"),
        ({"model": HEAD, "train": {"datasets": ["pseudo"]}}, r"loss\.pseudo_side=0 with pseudo-labels alone"),
        ({"model": HEAD, "train": {"datasets": ["ho3d", "pseudo"], "pseudo_share": 1.0}}, "pseudo-labels alone"),
    ],
)
def test_a_training_without_a_purpose_is_refused(world, changes, told):
    with pytest.raises(InputError, match=told):
        training_job.plan_job(changed(world, **changes))


def test_a_side_head_that_is_trained_may_stay_as_it_is(world, tmp_path):
    path = tmp_path / "before.pt"
    begun = changed(world, model=HEAD, loss={"side": 0.0}, train={"init_checkpoint": str(path)})
    for side in (1.0, 0.0):
        before = changed(world, model=HEAD, loss={"side": side})
        path.write_bytes(checkpoint.save(HOJoint(before.model), before, progress={}, parents={}))
        if side:
            training_job.plan_job(begun)
    with pytest.raises(InputError, match=r"before\.pt is not trained either"):
        training_job.plan_job(begun)


def test_the_measure_of_the_plateau_has_settings_of_its_own(world):
    held = changed(world, train={"held_out": 1, "plateau_epochs": 2})
    other = changed(held, evaluate={"pnp_proposals": 1})
    assert training_job.plan_job(held).name == training_job.plan_job(other).name


def test_held_out_recordings_are_digested_and_in_no_set(world):
    job = training_job.plan_job(changed(world, train={"held_out": 1}))
    apart = set(job.data.held_out.names)
    assert apart
    assert not apart & set(job.data.sets[0].names)
    assert job.identity["train.held_out"] == 1
    assert job.identity["data.held out"].startswith(f"{len(apart)} samples ")
    assert job.data.labelled_sets == (*job.data.sets, job.data.held_out)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"held_out": 2}, r"train\.held_out=2 leaves nothing"),
        ({"held_out": 1, "datasets": ["freihand"]}, "trains on freihand without it; add ho3d"),
        ({"plateau_epochs": 3}, "set held_out to 1 or more"),
    ],
)
def test_what_cannot_be_held_out_is_refused(world, train, message):
    with pytest.raises(InputError, match=message):
        training_job.plan_job(changed(world, train=train))


def test_a_setting_new_to_an_output_counts_as_its_default(world, tmp_path):
    job, store = training_job.plan_job(world), open_store(str(tmp_path))
    identity = {name: value for name, value in job.identity.items() if name not in ("train.ema", "loss.pseudo_root")}
    facts = {"identity": identity, "sha256": "x", "steps": 80, "samples": 8, "history": [], "seconds": 1.0}
    store.put(training_job.FACTS, json.dumps(facts).encode())
    store.put(train_worker.FILE, b"weights")
    assert training_job.finished(job, store).ended == "all 80 steps"
    assert training_job.finished(job, store).workers is None  # an earlier version did not tell
    with pytest.raises(InputError, match=r"1 differences\):\s+train\.ema: 0\.0 before, 0\.9 now"):
        training_job.finished(training_job.plan_job(changed(world, train={"ema": 0.9})), store)


def test_pretrained_weights_are_checked_first_and_not_fetched(world, monkeypatch):
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(InputError, match="there is no file /nowhere"):
        training_job.plan_job(changed(world, model={"pretrained": "/nowhere/resnet.pth"}))
    with pytest.raises(InputError, match="needs width=64"):
        training_job.plan_job(changed(world, model={"pretrained": "imagenet"}))
    size = {"pretrained": "imagenet", "width": 64, "blocks": [2, 2, 2, 2]}
    assert training_job.plan_job(changed(world, model=size)).schedule.steps == 80


@pytest.mark.parametrize("filled", ["initial", "resumed"])
def test_pretrained_weights_that_are_replaced_are_not_fetched(world, tmp_path, monkeypatch, filled):
    training_here.one_worker(monkeypatch)
    schedule = training_job.plan_job(world).schedule
    before = train_worker._training(world, schedule)
    (tmp_path / train_worker.FILE).write_bytes(before.save({}))
    away = changed(world, model={"pretrained": "/nowhere/resnet.pth"}, seed=world.seed + 1)
    with pytest.raises(InputError, match="there is no file /nowhere"):
        train_worker._training(away, schedule)
    if filled == "initial":
        away = changed(away, train={"init_checkpoint": str(tmp_path / train_worker.FILE)})
    else:
        last = SimpleNamespace(as_directory=lambda: contextlib.nullcontext(str(tmp_path)))
        monkeypatch.setattr(train_worker.ray.train, "get_checkpoint", lambda: last)
    expected = before.network.state_dict()
    weights = train_worker._training(away, schedule).network.state_dict()
    for name in expected:
        torch.testing.assert_close(weights[name], expected[name], atol=0, rtol=0)


def test_data_that_changed_stop_a_worker_with_what_differs(world, tmp_path, monkeypatch):
    training_here.train_here(monkeypatch)
    copy = tmp_path / "HO3D"
    shutil.copytree(world.data.ho3d.root, copy)
    job = training_job.plan_job(changed(world, data={"ho3d": {**world.data.ho3d.model_dump(), "root": str(copy)}}))
    (copy / "train.txt").write_text("\n".join((copy / "train.txt").read_text().split()[:-1]))
    with pytest.raises(InputError, match=r"changed while training: .* 8 samples .* of 'ho3d', and .* finds 7 samples"):
        training._run(job, open_store(str(tmp_path / "out")), progress=False)


@pytest.mark.parametrize("order", [["ho3d", "freihand"], ["freihand", "ho3d"]])
def test_sets_are_numbered_as_configured(world, monkeypatch, order):
    monkeypatch.setattr(training_data, "_open", lambda name, *_, **__: [name])
    monkeypatch.setattr(training_data._Labels, "open", lambda _: SimpleNamespace(size=1))
    config = changed(world, train={"datasets": ["pseudo", *order]})
    assert open_data(config).names == (*order, "pseudo")


def test_the_dry_run_prints_what_would_run(world, capsys):
    train_job.job(changed(world, output="/nowhere/teacher"), True)
    out = capsys.readouterr().out
    assert "data set ho3d: 8 samples" in out
    assert "80 steps of 4 samples, 2 an epoch" in out
    assert "the cluster has 2 CPU" in out
    assert "would be trained" in out


def test_a_finished_run_has_no_optimiser_and_resuming_has_one(world, tmp_path, monkeypatch):
    training_here.one_worker(monkeypatch)
    job = training_job.plan_job(world)
    trained = train_worker._training(world, job.schedule)
    trained.step(next(iter(loader(job.data.union(cached=True, threads=1), job.schedule, start=0))))
    folder = tmp_path / "last"
    folder.mkdir()
    (folder / "checkpoint.pt").write_bytes(trained.save(job.parents))
    checkpoint_there = SimpleNamespace(as_directory=lambda: contextlib.nullcontext(folder))
    last = SimpleNamespace(checkpoint=checkpoint_there, metrics=None)
    monkeypatch.setattr(training, "_run", lambda *_, **__: last)
    monkeypatch.setattr(session, "start", lambda config: contextlib.nullcontext())
    training.fit(world, str(tmp_path / "out"), progress=False)
    final, resumable = (checkpoint.load(path / "checkpoint.pt") for path in (tmp_path / "out", folder))
    assert (final.optimizer, final.scheduler) == (None, None)
    assert resumable.optimizer["state"]
    assert final.sha256 == resumable.sha256
    for name in ("config", "progress", "parents"):
        assert getattr(final, name) == getattr(resumable, name)
    weights_bytes = sum(value.nbytes for value in final.weights.values())
    assert (tmp_path / "out" / "checkpoint.pt").stat().st_size < 1.1 * weights_bytes + 100_000
    assert opening.open_teacher((folder / "checkpoint.pt").read_bytes(), world)[2] == final.sha256  # the old form


@pytest.mark.ray
def test_a_run_leaves_a_checkpoint_and_its_facts_only(unbroken, world):
    result, output = unbroken
    assert sorted(path.name for path in output.iterdir() if path.is_file()) == ["checkpoint.pt", "training.json"]
    assert not list(output.glob("runs/*"))
    saved = checkpoint.load(output / "checkpoint.pt")
    facts = json.loads((output / "training.json").read_text())
    assert saved.sha256 == facts["sha256"] == result.sha256
    assert saved.parents == facts["parents"] == training_job.plan_job(world).parents
    weights_bytes = sum(value.nbytes for value in saved.weights.values())
    assert (output / "checkpoint.pt").stat().st_size < 1.1 * weights_bytes + 200_000
    assert saved.optimizer is None
    assert saved.config.train == world.train
    assert facts["steps"] == 80
    assert facts["samples"] == 8
    assert len(facts["history"]) == 40
    totals = [entry["total"] for entry in facts["history"]]
    assert sum(totals[-10:]) < 0.9 * sum(totals[:10])


@pytest.mark.ray
def test_the_same_job_does_nothing_and_another_is_refused(unbroken, world, capsys):
    result, output = unbroken
    started = time.monotonic()
    again = training.fit(world, str(output), progress=False)
    assert again.reused
    assert again.workers == (1, 1)
    assert again.sha256 == result.sha256
    assert time.monotonic() - started < 5
    with pytest.raises(InputError, match=r"different settings or data \(1 differences\):\s+loss\.betas"):
        training.fit(changed(world, loss={"betas": 1.0}), str(output))
    (output / "checkpoint.pt").rename(output / "moved.pt")
    with pytest.raises(InputError, match=r"no checkpoint\.pt"):
        training.fit(world, str(output))
    (output / "moved.pt").rename(output / "checkpoint.pt")


@pytest.mark.ray
def test_a_run_killed_within_an_epoch_resumes_there(unbroken, world, tmp_path):
    killed: list[int] = []
    killer = threading.Thread(target=kill_worker_after_first_checkpoint, args=(tmp_path, killed))
    killer.start()
    # 80 steps of 2 an epoch; without checkpoint_steps the first checkpoint would be the last.
    often = changed(world, train={"checkpoint_every_epochs": 40, "checkpoint_steps": 31})
    result = training.fit(often, str(tmp_path), progress=False)
    killer.join()
    assert killed, "the worker was gone before it could be killed"
    assert (result.sha256, len(result.history)) == (unbroken[0].sha256, 40)
    assert training.fit(world, str(tmp_path), progress=False).reused


def test_a_pace_leaves_out_the_first_steps(monkeypatch):
    seconds = iter([0.0, 2.0])
    monkeypatch.setattr(train_worker.time, "perf_counter", lambda: next(seconds))
    pace = train_worker.Pace()
    for _ in range(train_worker.WARM_UP):
        assert pace.samples_per_s is None
        pace.stepped(1000)
    pace.stepped(8)
    pace.stepped(4)
    assert pace.samples_per_s == 6.0


@pytest.mark.parametrize(("every", "steps", "due"), [(1, 2000, [10, 20, 30]), (2, 8, [8, 16, 20, 28, 36, 40])])
def test_checkpoints_come_within_long_epochs_too(every, steps, due):
    schedule = SimpleNamespace(steps_per_epoch=10)
    config = Config().model_copy(update={"train": TrainConfig(checkpoint_every_epochs=every, checkpoint_steps=steps)})
    found = [
        step
        for step in range(1, due[-1] + 1)
        if train_worker._due(SimpleNamespace(config=config, schedule=schedule, steps=step))
    ]
    assert found == due


@pytest.mark.ray
def test_two_workers_end_at_the_same_plateau(world, ray_session, tmp_path):
    train = {"steps": None, "epochs": 8, "held_out": 1, "plateau_epochs": 1, "plateau_decays": 1, "ema": 0.5}
    config = changed(world, train=train, cluster={"workers": [2, 2]})
    result = training.fit(config, str(tmp_path), progress=False)
    facts = json.loads((tmp_path / training_job.FACTS).read_text())
    assert facts["ended"] == result.ended
    assert result.ended.startswith(("plateau", "all 8 steps"))
    assert [row["steps"] for row in facts["validation"]] == list(range(1, result.steps + 1))
    assert all(row["mpjpe_mm"] > 0 for row in facts["validation"])
    saved = checkpoint.load(tmp_path / "checkpoint.pt")
    assert all(torch.isfinite(value).all() for value in saved.weights.values())
    assert (saved.last_weights, saved.sha256) == (None, result.sha256)


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_driver_resumes_when_the_job_is_called_again(unbroken, world, tmp_path):
    config_file = tmp_path / "config.yaml"
    output = tmp_path / "out"
    config_file.write_text(json.dumps(settings.to_tree(changed(world, output=str(output)))))
    command = [sys.executable, "-m", "jobs.train", "--config", str(config_file)]
    first = subprocess.Popen(command, cwd=session.ROOT, env=os.environ, start_new_session=True)
    end = time.monotonic() + 300  # a busy machine takes long to start Ray
    while not list(output.glob("runs/*/checkpoint_*/checkpoint.pt")):
        assert first.poll() is None, "the job ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (output / "training.json").exists()
    assert train_job.main(command[3:]) == 0
    saved, expected = (checkpoint.load(path / "checkpoint.pt").weights for path in (output, unbroken[1]))
    for name in expected:
        torch.testing.assert_close(saved[name], expected[name], atol=0, rtol=0)


# What ended a training, as a scheduler is told.


def failed(*causes: Exception) -> ray.train.TrainingFailedError:
    return ray.train.WorkerGroupError("workers failed", dict(enumerate(causes)))


def gone(cause: Exception) -> Exception:
    """As Ray Train tells of a worker whose process or node is lost."""
    return WorkerHealthCheckFailedError("A worker health check failed.\nWorker info: rank 1", failure=cause)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (failed(InputError("no such set")), InputError, "^no such set$"),
        (failed(Unavailable("store unreachable")), Unavailable, "^store unreachable$"),
        (failed(ValueError("bug"), NoRoom("no room on n1")), NoRoom, "^no room on n1$"),
        (failed(OSError("AWS Error NETWORK_CONNECTION")), training.StorageAway, "NETWORK_CONNECTION"),
        (failed(ray.exceptions.ActorDiedError()), Unavailable, "workers were lost more than cluster.max_failures"),
        (failed(gone(ray.exceptions.ActorDiedError())), Unavailable, "lost more than cluster.max_failures"),
        (failed(gone(ray.exceptions.ActorUnavailableError("away", b"0" * 16))), Unavailable, "were lost"),
        (failed(RuntimeError("gloo: Connection closed"), gone(ray.exceptions.ActorDiedError())), Unavailable, "lost"),
        (failed(WorkerHealthCheckTimeoutError("hanging")), Unavailable, "were lost"),
        (failed(RuntimeError("gloo: Connection closed"), ZeroDivisionError()), training.TrainingStopped, "gloo"),
        (failed(gone(ValueError("not pickled"))), training.TrainingStopped, "not pickled"),
        (failed(PermissionError("denied")), training.TrainingStopped, "denied"),
        (failed(FloatingPointError("the loss became nan")), InputError, "^the loss became nan$"),
        (failed(ZeroDivisionError("by zero")), training.TrainingStopped, "by zero"),
        (ray.train.ControllerError(OSError("AWS Error SLOW_DOWN")), training.StorageAway, "SLOW_DOWN"),
        (ray.train.ControllerError(ValueError("bug")), training.TrainingStopped, "bug"),
        (
            ray.train.ControllerError(WorkerGroupStartupTimeoutError(2)),
            Unavailable,
            r"did not start in 3 tries: .*Needed: 2 training workers x \(1 CPU",
        ),
    ],
)
def test_the_end_of_a_training_has_its_kind(error, kind, message):
    found = training._plain(error, Config(cluster=ClusterConfig(cpus=1, workers=(2, 2))))  # a node is away
    assert type(found) is kind
    assert re.search(message, str(found))


def test_a_store_away_after_the_last_step_is_waited_for(world, tmp_path, monkeypatch):
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.001)
    (tmp_path / train_worker.FILE).write_bytes(checkpoint.save(HOJoint(world.model), world, progress={}, parents={}))
    faults = [OSError("When reading information: AWS Error NETWORK_CONNECTION during HeadObject")] * 2

    @contextlib.contextmanager
    def as_directory():
        if faults:
            raise faults.pop()
        yield str(tmp_path)

    ran = SimpleNamespace(checkpoint=SimpleNamespace(as_directory=as_directory))
    store = open_store(str(tmp_path))
    assert training._last_checkpoint(ran, store).config.model == world.model
    faults.append(OSError("AWS Error NETWORK_CONNECTION"))
    with patience.granted(0.0), pytest.raises(Unavailable, match=r"store .* unreachable .*NETWORK_CONNECTION"):
        training._last_checkpoint(ran, store)


def test_a_second_driver_takes_the_result_of_the_first(world, tmp_path, monkeypatch):
    """Two at once would write into the same folder, and the first to finish removes it."""
    monkeypatch.setattr(presence, "LOOK_S", 0.02)
    monkeypatch.setattr(training, "_fitted", lambda *given, **named: pytest.fail("trained a second time"))
    answers, results = iter([None, "the first one's"]), []
    monkeypatch.setattr(training, "finished", lambda job, store: next(answers))
    store, name = open_store(str(tmp_path)), training_job.plan_job(world).name
    with presence.alone(store, "trains", name):
        second = threading.Thread(target=lambda: results.append(training.fit(world, str(tmp_path), progress=False)))
        second.start()
        second.join(0.5)
        assert second.is_alive()
    second.join(20)
    assert results == ["the first one's"]


def test_an_interrupt_is_not_left_to_ray_train(world, tmp_path, monkeypatch):
    """Ray Train takes SIGINT for itself where it runs in the main thread, and then the process ends with 0."""
    seen = []

    class Trainer:
        def fit(self):
            seen.append(threading.current_thread() is threading.main_thread())
            raise ray.train.ControllerError(ConnectionError("reset")) if len(seen) == 1 else KeyboardInterrupt

    monkeypatch.setattr(training, "_trainer", lambda *given: Trainer())
    monkeypatch.setattr(training, "new_board", lambda: None)
    with pytest.raises(KeyboardInterrupt):
        training._run(training_job.plan_job(world), open_store(str(tmp_path)), progress=False)
    assert seen == [False, False]  # after an outage of the storage it was tried again
