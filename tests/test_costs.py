"""cluster.labelling.costs, and the report page's part about them: sums by hand, and a Teacher's own seconds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import wild

from cluster.labelling import commits, costs
from cluster.labelling import run as labelling
from cluster.labelling.commits import Commit
from cluster.labelling.counts import Counts
from cluster.labelling.job import LabellingJob
from cluster.labelling.teacher import Teacher
from cluster.store.local import LocalStore
from hojoint.config import ReportConfig
from hojoint.report import costs as page


def commit(started: float, finished: float, seconds: dict[str, float], held: dict[str, float]) -> Commit:
    return Commit("u", "a", {}, {}, Counts(), started, finished, seconds, held)


# Two Teachers with two decoding children and half a GPU each, held for 1,800 s and 5,400 s.
TWO = [
    commit(
        100, 1600,
        {"wait": 300, "predict": 900, "tables": 120, "commit": 30, "fetch": 60, "decode": 1800},
        {"teacher": 1800, "gpu": 900, "cpu": 1800, "decoder": 3600},
    ),
    commit(
        1600, 5700,
        {"wait": 1500, "predict": 2700, "tables": 360, "commit": 90, "fetch": 0, "decode": 1800},
        {"teacher": 5400, "gpu": 2700, "cpu": 5400, "decoder": 10800},
    ),
]  # fmt: skip


def test_hours_money_and_shares_by_hand() -> None:
    found = costs.costs_of(TWO, ReportConfig(price_per_gpu_hour=4.0), videos=200)
    assert (found["wall_seconds"], found["busy_seconds"], found["teacher_seconds"]) == (5600, 5600, 7200)
    assert found["phases"] == {
        "wait": 1800, "predict": 3600, "tables": 480, "commit": 120, "fetch": 60, "decode": 3600, "other": 1200,
    }  # fmt: skip
    assert (found["gpu_hours"], found["cpu_hours"]) == (1.0, 2.0)
    assert (found["cost"], found["cost_per_1000_videos"]) == (4.0, 20.0)
    assert found["share_of_decode_limit"] == 0.25  # 3,600 s of 14,400 that the children were held
    assert found["share_of_device_limit"] == 0.5
    both = costs.costs_of(TWO, ReportConfig(price_per_gpu_hour=4.0, price_per_cpu_hour=0.5), videos=200)
    assert both["cost"] == 5.0


def test_breaks_are_wall_time_and_not_busy_time() -> None:
    held = {"teacher": 10.0, "gpu": 0.0, "cpu": 10.0, "decoder": 10.0}
    found = costs.costs_of([commit(0, 10, {}, held), commit(100, 110, {}, held)], ReportConfig(), videos=2)
    assert (found["wall_seconds"], found["busy_seconds"]) == (110, 20)
    assert (found["cost"], found["cost_per_1000_videos"]) == (None, None)


def test_commits_of_earlier_versions_have_phases_and_no_bill() -> None:
    old = Commit.from_bytes(commit(0, 10, {"waiting_for_frames": 4.0, "predict": 5.0}, {}).to_bytes())
    found = costs.costs_of([*TWO, old], ReportConfig(price_per_gpu_hour=4.0), videos=200)
    assert found["phases"]["wait"] == 1804
    assert "waiting_for_frames" not in found["phases"]
    assert [found[name] for name in ("teacher_seconds", "gpu_hours", "cost")] == [None] * 3
    assert costs.lines(found) == []
    assert page.costs(found) is None


def test_a_run_without_commits_costs_nothing_that_is_known() -> None:
    found = costs.costs_of([], ReportConfig(price_per_gpu_hour=4.0), videos=0)
    assert found["wall_seconds"] == 0
    assert found["cost"] is None


def test_the_terminal_and_the_page_say_the_bill() -> None:
    found = costs.costs_of(TWO, ReportConfig(price_per_gpu_hour=4.0), videos=200)
    printed = "\n".join(costs.lines(found))
    assert "wait 25%, predict 50%, tables 7%, commit 2%, other 17%; decoders busy 25%" in printed
    assert "1 GPU-hours, 2 CPU-hours; cost 4, 20 per 1,000 videos" in printed
    shown = page.costs(found)
    assert shown is not None
    assert "cost 4, 20 per 1,000 videos, at 4 per GPU-hour" in shown["lines"]
    assert "The run had 25% of the speed that decoding alone would have" in shown["lines"]
    assert [bar["text"].rpartition(" ")[2] for bar in shown["bars"]] == ["(50%)", "(25%)", "(7%)", "(2%)", "(17%)"]


@pytest.mark.slow
def test_a_teachers_phases_add_up_to_the_time_it_was_held(tmp_path: Path) -> None:
    wild.write_wild(tmp_path, good=4)
    wild.write_teacher(tmp_path / "teacher.pt")
    config = wild.config_of(tmp_path, tmp_path / "out", labelling={"unit_videos": 2})
    store = LocalStore(tmp_path / "out")
    plan = labelling.make_plan(config, store)
    began = time.monotonic()
    told: list[dict[str, float]] = []
    one = Teacher(LabellingJob(config, store.root, plan.teacher_sha256, "driver"), Listener(told))
    first, second = (one.work(unit) for unit in plan.manifest)
    lasted = time.monotonic() - began
    one.close()
    assert first is not None
    assert second is not None
    found = costs.costs_of(commits.read_commits(store), ReportConfig(), videos=4)
    assert found["teacher_seconds"] == pytest.approx(lasted, abs=0.5)  # both units, and the start
    assert all(found["phases"][name] > 0 for name in (*costs.PHASES, "decode", "other"))
    inside = sum(second.seconds[name] for name in costs.PHASES)
    assert inside <= second.held["teacher"] + 0.05
    assert second.held["decoder"] == pytest.approx(second.held["teacher"] * config.labelling.decode_children, abs=0.01)
    assert [seconds["decode"] for seconds in told] == [first.seconds["decode"], second.seconds["decode"]]


class Listener:
    def __init__(self, told: list[dict[str, float]]) -> None:
        self._told = told

    def __call__(self, videos: dict[str, int], frames: dict[str, int]) -> None: ...

    def spent(self, seconds: dict[str, float]) -> None:
        self._told.append(dict(seconds))
