"""Labelling on real Ray, with real SIGKILLs: every row once, whatever dies, and the killer found.

The expected rows are those of an unbroken run, made here once by a Teacher in this process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import wild
import yaml

from cluster.labelling import budget, commits
from cluster.labelling import run as labelling
from cluster.labelling.job import LabellingJob
from cluster.labelling.teacher import Teacher
from cluster.store.local import LocalStore
from hojoint.config import Config, to_tree
from jobs import pseudo_label

pytestmark = pytest.mark.ray

ROOT = Path(__file__).resolve().parent.parent
VIDEOS, UNITS = 16, 8
SLOW = {"tta": {"views": 8}, "labelling": {"unit_videos": VIDEOS // UNITS}}  # some seconds of work, to be killed in
PATIENCE_S = 120.0
DRIVER = """
import sys
from jobs import pseudo_label
if __name__ == "__main__":  # its children import this file too
    code = pseudo_label.main(sys.argv[1:])
    print("with torch" if "torch" in sys.modules else "without torch")
    sys.exit(code)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wild")
    wild.write_wild(folder, good=VIDEOS, frames=12)
    wild.write_teacher(folder / "teacher.pt")
    return folder


@pytest.fixture(scope="module")
def unbroken(made: Path) -> Path:
    """The output of a run without faults."""
    config = wild.config_of(made, made / "unbroken", **SLOW)
    store = LocalStore(made / "unbroken")
    plan = labelling.make_plan(config, store)
    one = Teacher(LabellingJob(config, store.root, plan.teacher_sha256, "driver"))
    for unit in plan.manifest:
        one.work(unit)
    one.close()
    return made / "unbroken"


def assert_complete(output: Path | str, unbroken: Path) -> None:
    for table in commits.TABLES:
        wild.assert_same_rows(wild.rows_of(output, table), wild.rows_of(unbroken, table))
    ids = [(row["clip_id"], row["frame"]) for row in wild.rows_of(output, "predictions").to_pylist()]
    assert len(ids) == len(set(ids)) == VIDEOS * 12


def words(config: Config, folder: Path) -> list[str]:
    """The command line with the settings."""
    path = folder / f"config-{time.monotonic_ns()}.yaml"
    path.write_text(yaml.safe_dump(to_tree(config)))
    return ["--config", str(path)]


def start_job(config: Config, folder: Path, *program: str) -> subprocess.Popen[str]:
    """``python -m jobs.pseudo_label`` as a user runs it, or another program, in a separate process."""
    return subprocess.Popen(
        [sys.executable, *(program or ("-m", "jobs.pseudo_label")), *words(config, folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | ({"PYTHONPATH": str(ROOT)} if program else {}),
    )


def finished(job: subprocess.Popen[str]) -> tuple[int, str]:
    printed, _ = job.communicate(timeout=PATIENCE_S)
    return job.returncode, printed


def wait_for(condition: Callable[[], object], what: str, seconds: float = PATIENCE_S) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"{what} did not happen within {seconds} s"
        time.sleep(0.01)


def committed(output: Path) -> int:
    return len(list((output / "commits").glob("*.json")))


def teacher_pids(output: Path) -> set[int]:
    """Processes that work on videos, from the ledger."""
    pids = set()
    for path in (output / "attempts").glob("u*/*.json"):
        try:
            pids.add(int(json.loads(path.read_text())["pid"]))
        except FileNotFoundError:  # closed meanwhile
            continue
    return pids


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_a_killed_driver_started_again_writes_every_row_once(
    made: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    config = wild.config_of(made, output, **SLOW)
    with start_job(config, tmp_path) as job:
        wait_for(lambda: committed(output) >= 2 and teacher_pids(output), "a second commit")
        teachers = teacher_pids(output)
        os.kill(job.pid, signal.SIGKILL)
        job.communicate()
    assert 2 <= committed(output) < UNITS
    wait_for(lambda: not any(runs(pid) for pid in teachers), "the end of the dead driver's actors")
    before = {path: path.stat().st_mtime_ns for path in (output / "commits").iterdir()}
    wild.without_ray(monkeypatch)
    report = labelling.label(config)
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())  # nothing committed is done again
    assert report["videos"] == {"listed": VIDEOS, "labelled": VIDEOS, "empty": 0, "quarantined": 0}
    assert_complete(output, unbroken)
    assert not teacher_pids(output)
    named = {key for table in commits.TABLES for key in commits.committed_files(LocalStore(output), table)}
    files = {path.relative_to(output).as_posix() for path in output.rglob("*.parquet")}
    assert {name for name in files if not name.startswith("manifest-")} == named
    assert len(files) == len(named) + 1


def test_a_worker_killed_in_the_middle_costs_nothing(
    made: Path, unbroken: Path, tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, killed = tmp_path / "out", []
    real = budget.Watched.check

    def kill_one(watched):  # called at every commit that the driver receives
        real(watched)
        if committed(output) >= 2 and not killed:
            wait_for(lambda: teacher_pids(output) or committed(output) == UNITS, "a unit in progress")
            killed.extend(teacher_pids(output))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr(budget.Watched, "check", kill_one)
    report = labelling.label(wild.config_of(made, output, **SLOW))
    assert killed
    assert report["videos"]["quarantined"] == 0
    assert_complete(output, unbroken)


class Poisoned(Teacher):
    """A video whose frames kill the process that reads them, as a driver fault or a lack of memory would."""

    def _call(self, clips, frames):
        if any(clip.video_id == "105" for clip in clips):
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._call(clips, frames)


def test_a_video_that_kills_its_process_is_found_and_quarantined(
    made: Path, tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(labelling, "reporting_teacher", lambda job, watched: Poisoned(job))
    options = {"labelling": {"unit_videos": 8, "limit": 8, "batch_views": 1000}}  # several videos in progress at once
    report = labelling.label(wild.config_of(made, tmp_path / "out", **options))
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert report["videos"] == {"listed": 8, "labelled": 7, "empty": 0, "quarantined": 1}
    [row] = wild.rows_of(tmp_path / "out", "quarantine").to_pylist()
    assert (row["video_id"], row["class"], row["attempts"]) == ("105", "killed_worker", 2)


@pytest.mark.slow
def test_a_terminated_driver_ends_cleanly_and_resumes(made: Path, unbroken: Path, tmp_path: Path, monkeypatch) -> None:
    output = tmp_path / "out"
    config = wild.config_of(made, output, **SLOW)
    with start_job(config, tmp_path) as job:
        wait_for(lambda: committed(output) >= 1 and teacher_pids(output), "a commit")
        job.terminate()
        code, printed = finished(job)
    assert code == 75, printed
    assert "ended by SIGTERM; run the same command again to continue" in printed
    assert not [word for word in ("Traceback", "SIGTERM received", "Fatal", "    @ ") if word in printed]
    wild.without_ray(monkeypatch)
    labelling.label(config)
    assert_complete(output, unbroken)


@pytest.mark.slow
def test_two_drivers_at_once_give_every_row_once(made: Path, unbroken: Path, tmp_path: Path, monkeypatch) -> None:
    """One over Ray in another process, which loads no torch; one without Ray here, within the time of the other."""
    (tmp_path / "driver.py").write_text(DRIVER)
    wild.without_ray(monkeypatch)
    output = tmp_path / "out"
    config = wild.config_of(made, output, **SLOW)
    with start_job(config, tmp_path, str(tmp_path / "driver.py")) as other:
        wait_for(lambda: (output / "run.json").exists() and teacher_pids(output), "the other driver's first unit")
        assert committed(output) < UNITS
        report = labelling.label(config)
        code, printed = finished(other)
    assert code == 0, printed
    assert "without torch" in printed
    assert report["videos"]["labelled"] == VIDEOS
    assert committed(output) == UNITS
    assert_complete(output, unbroken)


@pytest.mark.s3
@pytest.mark.slow
def test_the_same_command_reads_and_labels_on_a_real_s3_server(
    made: Path, unbroken: Path, tmp_path: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = f"{bucket}/labels/of/today"
    config = wild.in_bucket(wild.config_of(made, output, **SLOW), made, f"{bucket}/in")
    code, printed = finished(start_job(config, tmp_path))
    assert code == 0, printed
    assert f"{VIDEOS} labelled" in printed
    assert_complete(output, unbroken)
    assert pseudo_label.main(words(config, tmp_path)) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_an_exceeded_error_budget_ends_with_1_and_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    wild.without_ray(monkeypatch)
    wild.write_wild(tmp_path, good=4)
    for video_id in ("100", "101", "102"):
        (tmp_path / "videos" / f"{video_id}.webm").write_bytes(b"no video")
    wild.write_teacher(tmp_path / "teacher.pt")
    options = {"labelling": {"unit_videos": 4, "error_budget_count": 1}}
    assert pseudo_label.main(words(wild.config_of(tmp_path, tmp_path / "out", **options), tmp_path)) == 1
    out, error = capsys.readouterr()
    assert "failed: 3 of 4 videos so far are quarantined (3 not_video)" in error
    assert "Traceback" not in out + error
