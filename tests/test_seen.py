"""seen: no network that has seen recordings passes as one that has not, whatever it was trained on since."""

from __future__ import annotations

import pytest
from labelled import draw_world, write_teacher
from test_freihand import write_training_set

from cluster.training import job as training_job
from cluster.training import seen
from cluster.training.seen import Seen, Wanted
from hojoint import config as settings
from hojoint.datasets.recordings import held_out_recordings
from hojoint.errors import InputError
from hojoint.model import checkpoint
from hojoint.model.network import HOJoint
from jobs import calibrate


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return draw_world(tmp_path_factory.mktemp("world"), frames=2)


@pytest.fixture(scope="module")
def apart(world):
    return settings.changed(world, train={"held_out": 1})


def trained(config, path):
    """A checkpoint with what the planned run notes, as if it had been trained."""
    job = training_job.plan_job(config)
    path.write_bytes(checkpoint.save(HOJoint(config.model), config, progress={}, parents=job.parents))
    return str(path)


def beginning(config, path):
    return settings.changed(config, train={"init_checkpoint": path})


def test_weights_that_saw_what_is_held_out_are_no_start(world, apart, tmp_path):
    seen_all = [(trained(world, tmp_path / "all.pt"), r"on SM of them \(compared by name\)")]
    seen_all.append((write_teacher(world, tmp_path / "earlier.pt"), r"with train\.held_out=0"))
    for path, how in seen_all:
        with pytest.raises(InputError, match=rf"train\.held_out=1 holds .* was trained {how}; start"):
            training_job.plan_job(beginning(apart, path))
        training_job.plan_job(beginning(world, path))
    for path in (trained(apart, tmp_path / "apart.pt"), write_teacher(apart, tmp_path / "counted.pt")):
        training_job.plan_job(beginning(apart, path))


def test_the_recordings_count_and_not_their_number(world, apart, tmp_path):
    job = training_job.plan_job(apart)
    out = seen.recordings_of(job.data.held_out.names)
    assert seen.recordings_of(job.data.sets[0].names) == set(job.parents["seen"]) != out
    other = tmp_path / "other.pt"
    parents = job.parents | {"seen": sorted(out)}
    other.write_bytes(checkpoint.save(HOJoint(apart.model), apart, progress={}, parents=parents))
    with pytest.raises(InputError, match=f"was trained on {next(iter(out))} of them"):
        training_job.plan_job(beginning(apart, str(other)))


def test_what_was_seen_is_not_forgotten_in_between(world, apart, tmp_path):
    hands = settings.changed(
        world, data={"freihand": {"root": write_training_set(tmp_path).root}}, train={"datasets": ["freihand"]}
    )
    fresh = trained(hands, tmp_path / "fresh.pt")
    training_job.plan_job(beginning(apart, fresh))  # it has seen nothing of HO-3D
    whole, earlier = trained(world, tmp_path / "all.pt"), write_teacher(world, tmp_path / "earlier.pt")
    between = [
        trained(beginning(hands, path), tmp_path / f"{number}.pt") for number, path in enumerate((whole, earlier))
    ]
    assert checkpoint.load(between[0]).parents["seen"] == training_job.plan_job(world).parents["seen"]
    with pytest.raises(InputError, match=r"was trained on .* of them"):
        training_job.plan_job(beginning(apart, between[0]))
    with pytest.raises(InputError, match=r"was trained with train\.held_out=0"):
        training_job.plan_job(beginning(apart, between[1]))


def test_without_names_the_digests_of_files_are_compared():
    before = Seen(None, 2, "8 samples aaa")
    assert seen.fault(before, Wanted(2, frozenset({"A"}), "8 samples aaa")) is None
    assert "8 samples aaa, here 9 samples bbb" in seen.fault(before, Wanted(2, frozenset({"A"}), "9 samples bbb"))
    assert seen.fault(before, Wanted(2, frozenset({"A"}))) is None  # shards have digests of their own
    assert seen.fault(before, Wanted(1, frozenset({"A"}), "4 samples ccc")) is None  # a part of those
    assert seen.fault(seen.RELEASED, Wanted(1)) == "with train.held_out=0"


def test_the_names_decide_where_they_are_known():
    assert seen.fault(Seen(frozenset({"X1", "X2"}), 0), Wanted(2, frozenset({"ABF1", "BB1"}))) is None
    assert seen.fault(Seen(frozenset({"X1", "BB1"}), 2), Wanted(2, frozenset({"ABF1", "BB1"}))) is not None
    assert seen.fault(Seen(frozenset({"X1"}), 0), Wanted(2)) is None  # their list is read later


def test_of_many_recordings_a_message_names_some():
    names = frozenset(f"R{number}" for number in range(7))
    assert seen.fault(Seen(names, 7), Wanted(7, names)) == "on R0, R1, R2, R3, R4 and 2 more of them (compared by name)"


def test_a_calibration_compares_recordings_too(world, apart, tmp_path, capsys):
    job = training_job.plan_job(apart)
    path = tmp_path / "teacher.pt"
    arguments = [
        f"data.ho3d.root={world.data.ho3d.root}", f"teacher.checkpoint={path}", "calibrate.split=held_out",
        "train.held_out=1", "calibrate.stride=1", f"output={tmp_path / 'out'}", "--dry-run",
    ]  # fmt: skip

    def judged(**parents):
        content = checkpoint.save(HOJoint(apart.model), apart, progress={}, parents=job.parents | parents)
        path.write_bytes(content)
        return calibrate.main(arguments), capsys.readouterr().err

    assert judged() == (0, "")
    out = held_out_recordings([*job.data.sets[0].names, *job.data.held_out.names], 1)
    code, said = judged(seen=sorted(out))
    assert (code, "trained on" in said) == (2, True)
    earlier = {"seen": None, "data": job.parents["data"]}
    assert judged(**earlier) == (0, "")
    code, said = judged(**earlier | {"data": job.parents["data"] | {"held out": "9 samples bbb"}})
    assert (code, "with others held out (9 samples bbb" in said) == (2, True)
