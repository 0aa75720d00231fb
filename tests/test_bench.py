"""The benchmark: turns, ratios, memory, and the line of JSON at the end."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from labelled import TINY_WORDS, draw_world
from training_here import train_here

from cluster import benchmarks, decoder_speeds, memory, training_bench
from cluster.training import job as training_job
from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError
from jobs import bench, command

CONFIGS = command.DEFAULT_CONFIG.parent
TINY = [*TINY_WORDS]
TINY += ["bench.videos=2", "bench.frames=6", "bench.repeats=1", "bench.steps=2", "cluster.teachers=[1,1]"]
TINY += ["synthetic.train_frames=6", "train.batch_size=4", "cluster.threads=1", "bench.plain_frames=1"]


LABELLING = {"decode alone", "teacher alone", "network alone", "plain way", "at matrix speed", "complete job"}
FILMS = {
    f"{film}: {decoder}"
    for film in decoder_speeds.FILMS
    for decoder in ("pyav", "decord", decoder_speeds.RANDOM_ACCESS)
}


def test_repetitions_take_turns():
    calls = []

    def part(name):
        return lambda: (calls.append(name), float(len(calls)))[1]

    speeds = benchmarks.take_turns({"a": part("a"), "b": part("b")}, 3)
    assert calls == ["a", "b", "a", "b", "a", "b"]
    assert speeds == {"a": [1.0, 3.0, 5.0], "b": [2.0, 4.0, 6.0]}


def test_the_median_ignores_one_slow_minute():
    assert benchmarks.Speeds("frames/s", {"whole": [10.0, 1.0, 11.0]}, {}).median("whole") == 10.0


def test_peak_memory_sees_what_this_process_held_for_a_moment():
    with memory.PeakMemory(every_s=0.02) as before:
        time.sleep(0.1)
    with memory.PeakMemory(every_s=0.02) as during:
        held = np.ones(25_000_000)  # 200 MB
        time.sleep(0.2)
        del held
    assert 150 < during.peaks_mb["driver"] - before.peaks_mb["driver"] < 300


def test_a_child_is_counted_and_a_stranger_is_not():
    started = "print(1, flush=True); input()"  # a process that only begins has no memory yet
    child = subprocess.Popen([sys.executable, "-c", started], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    try:
        processes = memory.family(child.pid)
        assert set(processes) == {child.pid}
        assert processes[child.pid][1] > 1
    finally:
        child.communicate(b"\n")


def test_a_dry_run_prints_the_work_and_draws_nothing(capsys, tmp_path):
    assert bench.main(["labelling", *TINY, f"world={tmp_path / 'world'}", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "would measure labelling" in out
    assert not (tmp_path / "world").exists()


def test_labelling_needs_one_teacher_whatever_the_range_is():
    config = Config.model_validate({"cluster": {"teachers": [2, 8]}})
    assert [bench.need(config, word).processes for word in ("labelling", "scale", "decode")] == [1, 2, 2]


def test_a_config_for_a_student_measures_labelled_images_alone(tmp_path):
    """small.yaml holds out more recordings than the drawn world has, and mixes in pseudo-labels."""
    world = draw_world(tmp_path)
    config = settings.changed(settings.load(CONFIGS / "small.yaml"), data=settings.to_tree(world.data))
    with pytest.raises(InputError):
        training_job.plan_job(settings.changed(config, train={"datasets": ["ho3d"]}))
    job = training_job.plan_job(training_bench.measured(config))
    assert (len(job.data), job.data.held_out) == (8, None)
    assert bench.given(config, "training") == "8 images"


def test_an_unknown_word_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        bench.main(["everything"])
    assert stop.value.code == 2


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Where the benchmarks of this file draw their videos."""
    return tmp_path_factory.mktemp("bench") / "world"


@pytest.mark.ray
@pytest.mark.parametrize(
    ("word", "parts"),
    [
        pytest.param("decode", {"in process", "guarded child"} | FILMS, marks=pytest.mark.slow),
        ("labelling", LABELLING),
        pytest.param("training", {"at matrix speed", "step alone", "complete loop"}, marks=pytest.mark.slow),
    ],
)
def test_the_last_line_is_json_with_a_speed_for_each_part(
    word, parts, world, ray_session, capsys, tmp_path, monkeypatch
):
    small = {film: (encoder, (320, 180), options) for film, (encoder, _, options) in decoder_speeds.FILMS.items()}
    monkeypatch.setattr(decoder_speeds, "FILMS", small)
    train_here(monkeypatch)  # Ray Train starts for half a minute, and the benchmark leaves its start out
    assert bench.main([word, *TINY, f"world={world}", f"output={tmp_path}"]) == 0
    speeds = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert speeds["bench"] == word
    assert {name for name in speeds["per_second"] if "torchcodec" not in name} == parts
    assert all(value > 0 for values in speeds["per_second"].values() for value in values)
    assert speeds["ratio"] > 0
    if word == "labelling":
        assert {name: value for name, value in speeds.items() if value is None} == {"gpu_idle": None}
        assert speeds["views_asked_per_frame"] == 16  # six frames are fewer than are tried both ways
        shares = ("teacher_to_network", "teacher_to_plain_way", "matrix_utilisation", "gflop_per_view")
        assert all(speeds[name] > 0 for name in shares)
        assert [(path / "report.json").exists() for path in tmp_path.iterdir()] == [True]  # the complete job's
