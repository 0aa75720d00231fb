"""The benchmark of scale: its listings are whole, its worker commits what it gets, its rates are the steady ones."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import wild
from labelled import TINY_WORDS

from cluster import scale_bench, scale_world, timed
from cluster.labelling import commits, listing
from cluster.labelling import run as labelling
from cluster.labelling.commits import Commit
from cluster.labelling.counts import Counts
from cluster.labelling.job import NullProgress
from cluster.session import ROOT
from cluster.store.local import LocalStore
from cluster.timed import Durations, TimedTeacher
from hojoint.config import changed
from jobs import bench


def commit(started: float, finished: float, videos: int = 10) -> Commit:
    return Commit("u0", "a", {}, {}, Counts(listed=videos), started, finished, {})


def test_a_single_worker_counts_all_its_time() -> None:
    done = [commit(0, 4), commit(4.5, 8.5), commit(9, 13)]
    assert scale_bench.steady_rate(done, 1) == pytest.approx(30 / 13)


def test_starts_and_last_units_of_many_do_not_count() -> None:
    # The second worker begins at 6; the first has nothing left at 12: two thirds of a unit, one, and one lie between.
    done = [commit(0, 4), commit(4, 8), commit(8, 12), commit(6, 10), commit(10, 14)]
    assert scale_bench.steady_rate(done, 2) == pytest.approx((5 + 10 + 10 + 5) / 6)


def test_waits_between_units_lower_the_rate() -> None:
    dense = [commit(at, at + 4) for at in (0, 4, 8)] + [commit(at, at + 4) for at in (0, 4, 8)]
    gaps = [commit(at, at + 4) for at in (0, 6, 12)] + [commit(at, at + 4) for at in (0, 6, 12)]
    assert scale_bench.steady_rate(gaps, 2) == pytest.approx(scale_bench.steady_rate(dense, 2) * 12 / 16)


def test_children_decode_while_the_network_works() -> None:
    assert Durations(decode=0.2, predict=0.5, share=0.1).video_s == pytest.approx(0.05)
    assert Durations(decode=0.7, predict=0.5).video_s == 0.7


def facts(cpu_s: float, videos: int) -> dict[str, float]:
    return {"cpu_s": cpu_s, "cpu_ms": 1000 * cpu_s / videos, "peak_mb": 700, "resume_s": 3.0}


def test_what_a_further_video_costs_has_no_fixed_part() -> None:
    runs = {100: facts(5.0, 100), 1000: facts(5.9, 1000), 10_000: facts(23.9, 10_000)}
    assert scale_bench._marginal(runs) == {"100-1000": 1.0, "1000-10000": 2.0}


def test_a_bound_that_is_broken_is_said() -> None:
    runs = {1000: facts(1.0, 1000), 10_000: facts(12.0, 10_000) | {"resume_s": 61.0}}
    said = scale_bench._holds(runs, efficiency=0.94)
    assert list(said.values()) == [True, False, False, False]


def test_the_bound_of_the_cost_names_what_it_compares() -> None:
    assert "cost per video within 1.1 of that of 1000 videos" in scale_bench._holds({1000: facts(1.0, 1000)}, 1.0)
    runs = {500: facts(1.0, 500), 4000: facts(8.0, 4000)}
    assert scale_bench._holds(runs, 1.0)["cost per video within 1.1 of that of 500 videos"]


def test_a_complete_run_of_waits_commits_every_video(tmp_path: Path, monkeypatch) -> None:
    wild.without_ray(monkeypatch)
    wild.write_teacher(tmp_path / "teacher.pt")
    scale_world.write(tmp_path / "many", videos=23, frames=5)
    config = scale_world.on(wild.config_of(tmp_path, tmp_path / "out"), tmp_path / "many")
    listed = listing.listed(config)
    assert (listed.notes, listed.manifest.videos, sum(listed.manifest.unit_frames)) == ((), 23, 23 * 5)

    def make(durations, job, watched):
        return TimedTeacher(durations, job, NullProgress())

    waits = functools.partial(make, Durations(0.001, 0.001))
    report = labelling.label(config, waits)
    assert report["videos"] == {"listed": 23, "labelled": 23, "empty": 0, "quarantined": 0}
    assert report["frames"]["predicted"] == 23 * 5
    store = LocalStore(tmp_path / "out")
    assert len(commits.read_commits(store)) == 8
    assert len(commits.committed_files(store, "pseudo_labels")) == 8
    assert wild.rows_of(tmp_path / "out", "predictions").num_rows == 8 * timed.ROWS
    labelling.label(changed(config, labelling={"attempts": 3}), lambda *given: pytest.fail("no unit is pending"))


@pytest.mark.ray
@pytest.mark.long
def test_scale_tells_cost_memory_resume_and_efficiency(tmp_path: Path, capsys) -> None:
    pytest.importorskip("aiohttp", reason="Ray's dashboard is not installed (pip install -e '.[cluster]')")
    words = ["bench.videos=2", "bench.frames=6", "bench.repeats=1", "bench.videos_many=[130]", "bench.teachers=[1,2]"]
    words += ["bench.teacher_units=2", "bench.nodes=2", f"world={tmp_path / 'world'}", f"output={tmp_path / 'out'}"]
    assert bench.main(["scale", *TINY_WORDS, *words]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["videos"]["130"]["units"] == 3
    assert all(0 < one["base_mb"] <= one["peak_mb"] for one in line["videos"].values())
    assert 0 < line["efficiency"] < 1.5
    assert set(line["videos_per_s"]) == {"1", "2"}


def test_a_driver_loads_nothing_that_only_networks_need() -> None:
    """Half a gigabyte would be measured as the driver's."""
    program = "import sys, cluster.scale_driver; print(sorted({'torch', 'torchvision'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
