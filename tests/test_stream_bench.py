"""The benchmark of streams: generated labels are a complete run, and each part has its speed and its memory."""

from __future__ import annotations

import json

import pytest
from labelled import SMALL

from cluster import stream_bench, training_bench
from cluster.store import open_store
from cluster.training import data as training_data
from hojoint import config as settings
from hojoint.errors import InputError
from jobs import bench, command


def test_few_files_make_a_table_of_any_length(tmp_path):
    contents = [stream_bench._content_of(stream_bench.table_of(5, seed)) for seed in range(2)]
    store = open_store(str(tmp_path))
    stream_bench.write_labels(store, contents, 5, 33)
    assert len(list((tmp_path / "pseudo_labels").iterdir())) == 2
    tree = {
        "model": SMALL,
        "data": {"pseudo": {"labels": str(tmp_path)}},
        "train": {"datasets": ["pseudo"], "stream": True},
    }
    data = training_data.open_data(settings.from_tree(tree))
    assert data.shards().sizes == [5] * 7
    samples = [data.sets[0].read(number)[3] for number in range(3)]
    assert samples[0].image.std() > 10
    assert (samples[0].image == samples[2].image).all()
    assert (samples[0].image != samples[1].image).any()
    (tmp_path / "pseudo_labels" / "bench-1.parquet").write_bytes(contents[0][0])
    with pytest.raises(InputError, match="is not the file that its commit names"):
        data.sets[0].read(1)


def test_a_dry_run_of_the_stream_names_its_tables(capsys):
    assert bench.main(["stream", "bench.rows=[8,24]", "--dry-run"]) == 0
    assert "would measure stream 3 times on generated tables of 8, 24 rows" in capsys.readouterr().out


def test_the_stream_of_a_students_config_is_of_all_its_labels(tmp_path):
    """small.yaml mixes in labelled images and holds recordings out, which generated tables do not have."""
    content = stream_bench._content_of(stream_bench.table_of(5, 0))
    stream_bench.write_labels(open_store(str(tmp_path)), [content], 5, 20)
    small = settings.load(command.DEFAULT_CONFIG.parent / "small.yaml")
    config = training_bench.measured(small, "pseudo")
    config = settings.changed(config, data={"pseudo": {"labels": str(tmp_path)}}, train={"stream": True})
    data = training_data.open_data(config)
    assert (len(data), data.schedule(config).pseudo) == (20, 20)


@pytest.mark.ray
@pytest.mark.slow
def test_every_part_of_the_stream_has_speed_and_memory(tmp_path, capsys):
    words = [f"model.{name}={json.dumps(value)}" for name, value in SMALL.items()]
    words += ["bench.rows=[8,24]", "bench.repeats=1", "bench.steps=2", "train.batch_size=4", "train.window_samples=8"]
    assert bench.main(["stream", *words, "cluster.threads=1", f"output={tmp_path}"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    parts = {"samples in memory", "table in memory, 8 rows", "stream, 8 rows", "stream, 24 rows"}
    assert set(line["per_second"]) == set(line["resident_mb"]) == set(line["first_step_s"]) == parts
    assert line["ratio"] > 0
    assert line["resident_ratio"] >= 1
