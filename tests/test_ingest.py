"""jobs.ingest and training from its shards: same samples, exactly once, resumed, refused where they do not fit."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import made_tables
import numpy as np
import pyarrow.parquet as pq
import pytest
import wild
from damage import edit_all
from labelled import draw_world
from training_here import train_here

from cluster import garbage, ingesting
from cluster import progress as board
from cluster.labelling import commits
from cluster.labelling.counts import Counts
from cluster.store import open_store
from cluster.training import data as training_data
from cluster.training import job as training_job
from cluster.training import run as training
from cluster.training import worker as train_worker
from hojoint import config as settings
from hojoint.datasets.ho3d import HO3D
from hojoint.errors import InputError
from hojoint.hand.stand_in.model import save_model, stand_in_model
from hojoint.labelling import tables
from hojoint.training.batches import loader
from jobs import ingest as ingest_job
from jobs import status
from jobs import train as train_job


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    config = draw_world(tmp_path_factory.mktemp("world"), frames=4)
    return settings.changed(config, ingest={"shard_samples": 3}, train={"window_samples": 4, "cache": False})


@pytest.fixture(scope="module")
def shards(world, tmp_path_factory):
    """The shards of the complete set, written without Ray."""
    return written(world, tmp_path_factory.mktemp("shards"))


def written(config, output, units=None):
    """Shards as the actors write them, in this process."""
    config = settings.changed(config, output=str(output))
    store = open_store(str(output))
    plan = ingesting.make_plan(config, ingesting.LabelledSet(config), store)
    commits.open_run(store, plan.fingerprint, {"units": len(plan.layout.unit_ids), "config": {}})
    worker = ingesting.Ingestor(config, plan.layout, store.root)
    for unit in plan.pending[:units]:
        assert worker.work(unit) is not None
        assert worker.work(unit) is None  # an attempt that comes second changes nothing
    return str(output)


def other_image(world):
    reader = HO3D(world.data.ho3d)
    path = reader.image_path(reader.names[0])
    path.write_bytes(path.read_bytes() + b"\0")


def other_hand(world):
    model = stand_in_model()
    save_model(dataclasses.replace(model, v_template=1.1 * model.v_template), Path(world.mano.path))


@pytest.mark.parametrize(("change", "said"), [(other_image, "data of the set"), (other_hand, "mano.path=")])
def test_a_node_with_other_files_writes_no_shard(world, tmp_path, change, said):
    shutil.copytree(world.data.ho3d.root, tmp_path / "HO3D_v2")
    save_model(stand_in_model(), tmp_path / "MANO_RIGHT.pkl")
    data = {"ho3d": {"root": str(tmp_path / "HO3D_v2")}}
    config = settings.changed(world, data=data, mano={"path": str(tmp_path / "MANO_RIGHT.pkl")}, output=str(tmp_path))
    store = open_store(str(tmp_path / "out"))
    plan = ingesting.make_plan(config, ingesting.LabelledSet(config), store)
    commits.open_run(store, plan.fingerprint, {"units": 1, "config": {}})
    ingesting.Ingestor(config, plan.layout, store.root)
    change(config)
    with pytest.raises(InputError, match=f"{said}.* is not the same on the node .* expected the digest .*, found"):
        ingesting.Ingestor(config, plan.layout, store.root)


def from_shards(config, uri, **train):
    return settings.changed(config, data={"ho3d": {"shards": uri, "root": None}}, train={"stream": True, **train})


def of_name(samples):
    return {one.name: one for one in (samples[k] for k in range(len(samples)))}


def assert_same(one, other):
    for field in dataclasses.fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)


def test_shards_hold_each_image_once_in_an_order_of_their_own(world, shards):
    data = training_data.open_data(from_shards(world, shards))
    assert data.streams
    assert data.shards().sizes == [3, 3, 2]
    read = [data.sets[0].read(k) for k in range(3)]
    names = [sample.name for samples in read for sample in (samples[k] for k in range(len(samples)))]
    files = training_data.open_data(world).sets[0]
    assert sorted(names) == sorted(files.names)
    assert names != files.names
    assert len({name.partition("/")[0] for name in names[:3]}) == 2  # neighbours are apart


def test_a_stream_gives_the_samples_of_the_files(world, shards):
    config = from_shards(world, shards)
    data = training_data.open_data(config)
    expected = of_name(training_data.open_data(world).sets[0])
    shown = []
    for batch in train_worker.batches(data, None, data.schedule(config), config, start=0):
        for row, name in enumerate(batch.names):
            shown.append(name)
            height, width = expected[name].image.shape[:2]
            np.testing.assert_array_equal(batch.images[row, :height, :width].numpy(), expected[name].image)
            np.testing.assert_array_equal(batch.joints_px[row].numpy(), expected[name].joints_px)
    assert sorted(shown) == sorted(3 * list(expected))


def test_shards_in_memory_give_the_same_samples(world, shards):
    config = from_shards(world, shards, stream=None)
    data = training_data.open_data(config)
    assert not data.streams  # eight samples
    expected = of_name(training_data.open_data(world).sets[0])
    batch = next(loader(data.union(cached=True, threads=1), data.schedule(config), start=0))
    assert set(batch.names) <= set(expected)
    for name, sample in of_name(data.sets[0].whole()).items():
        assert_same(sample, expected[name])


def test_large_data_are_streamed_unless_the_settings_say(world, shards, monkeypatch):
    size = training_data.open_data(from_shards(world, shards)).sets[0].image_bytes
    paths = (Path(shards) / "samples").glob("*.parquet")
    images = sum(len(image) for path in paths for image in pq.read_table(path)["image"].to_pylist())
    assert size == images > 10_000  # bytes of images, however few samples they are
    for above, asked, streams in ((size - 1, None, True), (size, None, False), (size - 1, False, False)):
        monkeypatch.setattr(training_data, "STREAM_ABOVE", above)
        config = from_shards(world, shards, stream=asked)
        assert training_data.open_data(config).streams == streams
    assert not training_data.open_data(world).streams  # images in files are not held in memory


def test_the_order_is_part_of_a_run_s_identity(world, shards):
    base = training_job.plan_job(from_shards(world, shards))
    assert (base.identity["train.stream"], base.identity["train.window_samples"]) == (True, 4)
    assert training_job.plan_job(from_shards(world, shards, loader_processes=5)).name == base.name
    assert training_job.plan_job(from_shards(world, shards, window_samples=5)).name != base.name
    files = training_job.plan_job(world)
    assert (files.identity["train.stream"], files.identity["train.window_samples"]) == (None, 8192)
    assert training_job.plan_job(settings.changed(world, train={"stream": False})).name == files.name


def test_other_data_have_another_digest_and_a_copy_the_same(world, shards, tmp_path):
    digests = training_data.open_data(from_shards(world, shards)).fingerprints()
    again = written(world, tmp_path / "again")
    assert training_data.open_data(from_shards(world, again)).fingerprints() == digests
    other = written(settings.changed(world, ingest={"shard_samples": 4}), tmp_path / "other")
    assert training_data.open_data(from_shards(world, other)).fingerprints() != digests


def test_held_out_recordings_have_shards_of_their_own(world, tmp_path):
    config = settings.changed(world, train={"held_out": 1})
    near = training_data.open_data(config)
    uri = written(config, tmp_path)
    data = training_data.open_data(from_shards(config, uri))
    assert (len(data.sets[0]), len(data.held_out)) == (len(near.sets[0]), len(near.held_out))
    assert [data.held_out[k].name for k in range(4)] == list(near.held_out.names) == data.held_out.names
    assert sorted(data.sets[0].names) == sorted(near.sets[0].names)  # what the network notes as seen
    for name, sample in of_name(data.held_out).items():
        assert_same(sample, of_name(near.held_out)[name])
    assert "held out" in data.fingerprints()
    everything = training_data.open_data(from_shards(config, uri, held_out=0))
    assert len(everything.sets[0]) == 8
    with pytest.raises(InputError, match=r"made with train\.held_out=1, and this training holds out 2"):
        training_data.open_data(from_shards(config, uri, held_out=2))


def test_what_does_not_fit_is_refused(world, shards, tmp_path):
    with pytest.raises(InputError, match=r"must hold the shards of 'ho3d', version 1, and holds none"):
        training_data.open_data(from_shards(world, str(tmp_path)))
    freihand = settings.changed(
        world, data={"freihand": {"shards": shards}}, train={"datasets": ["freihand"], "stream": True}
    )
    with pytest.raises(InputError, match=r"'freihand', version 1, and holds those of 'ho3d'"):
        training_data.open_data(freihand)
    half = written(world, tmp_path / "half", units=2)
    with pytest.raises(InputError, match=r"not complete: 2 of 3 shards are committed\. Finish jobs\.ingest"):
        training_data.open_data(from_shards(world, half))
    with pytest.raises(InputError, match=r"shard_samples: 3 before, 4 now"):
        written(settings.changed(world, ingest={"shard_samples": 4}), tmp_path / "half")
    written(world, tmp_path / "half")  # resumes
    assert len(training_data.open_data(from_shards(world, half))) == 8


def test_poses_relative_to_the_mean_train_the_complete_hand(world, tmp_path):
    """Files, shards and held-out recordings give the targets of the same labels relative to the flat hand."""
    root, less = tmp_path / "HO3D_v2", np.concatenate([np.zeros(3), stand_in_model().hands_mean])
    shutil.copytree(world.data.ho3d.root, root)
    edit_all(root, lambda meta: {**meta, "handPose": meta["handPose"].astype(np.float64) - less})
    folders = {"ho3d": {"root": str(root), "object_models": f"{world.world}/object_models"}}
    relative = settings.changed(world, data=folders, mano={"flat_hand_mean": False}, train={"held_out": 1})
    uri = written(relative, tmp_path / "shards")
    wanted = training_data.open_data(settings.changed(world, train={"held_out": 1}))
    expected = of_name(wanted.sets[0])
    files, stored = (training_data.open_data(one) for one in (relative, from_shards(relative, uri)))
    for found, samples in ((files, files.sets[0]), (stored, stored.sets[0].whole())):
        assert of_name(samples).keys() == expected.keys()
        for name, sample in of_name(samples).items():
            np.testing.assert_allclose(sample.pose, expected[name].pose, atol=1e-6)
        np.testing.assert_allclose(found.held_out[0].pose, wanted.held_out[0].pose, atol=1e-6)
    assert files.sets[0].fingerprint() != HO3D(relative.data.ho3d, held_out=1).fingerprint()
    with pytest.raises(InputError, match=r"made with mano\.flat_hand_mean=false, and this training has another one"):
        training_data.open_data(from_shards(settings.changed(world, train={"held_out": 1}), uri))


def test_a_replaced_or_lost_shard_stops_the_training(world, tmp_path):
    uri = written(world, tmp_path)
    data = training_data.open_data(from_shards(world, uri))
    [*_, last] = sorted((tmp_path / "samples").iterdir())
    content = last.read_bytes()
    last.write_bytes(content[:-9] + b"x" + content[-8:])
    with pytest.raises(InputError, match=r"is not the file that its commit names.*damaged or replaced"):
        data.sets[0].read(2)
    last.unlink()
    with pytest.raises(InputError, match=r"is missing, and a commit names it"):
        data.sets[0].read(2)


def labels(folder, clips):
    """A complete labelling output with one unit per list of (clip, frames), as the reader of pseudo-labels sees it."""
    store = open_store(str(folder))
    run = {"fingerprint": {"schema_version": tables.SCHEMA_VERSION}, "units": len(clips), "config": {}}
    store.put(commits.RUN, json.dumps(run).encode())
    for number, unit in enumerate(clips):
        rows = [made_tables.row(clip, frame, flipped=False) for clip, frames in unit for frame in range(frames)]
        table = made_tables.table_of(*rows[::-1])
        counts = Counts(kept=len(table) - (len(table) > 2), filled=int(len(table) > 2))
        commits.commit(
            store, f"u{number:06d}", "a", {"pseudo_labels": table}, counts=counts, started=0.0, seconds={}
        )  # fmt: skip
    return str(folder)


CLIPS = [[("1-a", 3), ("2-a", 2)], [], [("3-a", 4)], [("4-a", 1), ("5-a", 2)]]


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_pseudo_labels_stream_as_they_are_in_memory(world, tmp_path, fraction):
    uri = labels(tmp_path, CLIPS)
    train = {"datasets": ["ho3d", "pseudo"], "pseudo_fraction": fraction, "pseudo_share": 0.5}
    config = settings.changed(world, data={"pseudo": {"labels": uri}}, train=train)
    near = training_data.open_data(config)
    streamed = settings.changed(config, train={"stream": True})
    data = training_data.open_data(streamed)
    assert (near.streams, data.streams) == (False, True)
    assert (data.labelled, data.pseudo) == (near.labelled, near.pseudo) == (8, 12 if fraction == 1 else near.pseudo)
    assert 0 not in data.shards().sizes  # a unit without labels is no shard
    expected = of_name(near.sets[1])
    found = {}
    for shard in range(len(data.sets[1].files)):
        found |= of_name(data.sets[1].read(shard))
    assert found.keys() == expected.keys()
    for name in found:
        assert_same(found[name], expected[name])
    for batch in train_worker.batches(data, None, data.schedule(streamed), streamed, start=0):
        assert batch.pseudo.sum() == 2


def test_a_dry_run_counts_shards_and_training_prints_the_stream(world, shards, tmp_path, capsys):
    ingest_job.job(settings.changed(world, output=str(tmp_path / "new")), True)
    assert "3 of up to 3 images; 0 committed, 3 to do" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()
    train_job.job(settings.changed(from_shards(world, shards), output=str(tmp_path / "teacher")), True)
    assert "streamed from 3 shards, in windows of 4 samples" in capsys.readouterr().out


def test_reading_images_is_a_sign_of_progress(world, tmp_path, monkeypatch):
    told = []
    wild.without_ray(monkeypatch)
    monkeypatch.setattr(board, "signs_of", lambda watched: lambda: len(told))
    monkeypatch.setattr(board, "Reporter", lambda *args: lambda videos, frames: told.append(frames))
    monkeypatch.setattr(ingesting, "TOLD_IMAGES", 2)
    seen, shown = wild.watches(monkeypatch), wild.gauges(monkeypatch)
    ingesting.ingest(settings.changed(world, output=str(tmp_path)))
    assert told == [{"train": 2}, {"train": 1}, {"train": 2}, {"train": 1}, {"train": 2}]
    assert [signs() for signs, _ in seen] == [5]
    assert shown["committed_frames", "ingesting", "train"] == 8
    assert ("last_commit_timestamp_seconds", "ingesting") in shown  # for the alert


def test_an_ingest_at_work_is_seen_and_its_garbage_is_too(world, tmp_path, monkeypatch, capsys):
    wild.without_ray(monkeypatch)
    real, out = ingesting.Ingestor.work, []

    def work(self, unit_id):
        (tmp_path / "samples").mkdir(exist_ok=True)
        (tmp_path / "samples" / "u000002-0123456789ab.parquet").write_bytes(b"half")
        assert status.main([f"output={tmp_path}"]) == 0
        out.append(capsys.readouterr().out)
        with pytest.raises(InputError, match="ingests images"):
            garbage.find(open_store(str(tmp_path)), 0.0)
        if len(out) == 2:
            raise InputError("ended here")
        return real(self, unit_id)

    monkeypatch.setattr(ingesting.Ingestor, "work", work)
    with pytest.raises(InputError, match="ended here"):
        ingesting.ingest(settings.changed(world, output=str(tmp_path)))
    assert all(re.search(r"ingests images, heard of \d s ago", text) for text in out)
    [piece] = garbage.find(open_store(str(tmp_path)), 0.0)
    assert piece.name == "samples/u000002-0123456789ab.parquet"


@pytest.mark.ray
def test_the_job_writes_resumes_and_trains(world, ray_session, tmp_path, capsys, monkeypatch):
    output = tmp_path / "shards"
    written(world, output, units=1)
    config = settings.changed(world, output=str(output))
    ingest_job.job(config, False)
    assert "8 images (0 held out" in capsys.readouterr().out
    files = sorted((output / "samples").iterdir())
    assert sum(pq.read_metadata(path).num_rows for path in files) == 8
    before = [path.stat().st_mtime_ns for path in files]
    ingest_job.job(config, False)
    assert [path.stat().st_mtime_ns for path in files] == before
    train_here(monkeypatch)
    result = training.fit(from_shards(world, str(output), steps=2), str(tmp_path / "teacher"), progress=False)
    assert (result.steps, result.samples) == (2, 8)
