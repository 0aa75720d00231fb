"""jobs.detect with a scripted detector: rows, counts, resume, quarantine, windows, refusals; once with Ray, with S3."""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
import sys
import tarfile
import tempfile
import weakref
import zipfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import scripted as scripts
import wild
from ray import cloudpickle
from scripted import LEFT, SIDE, Scripted, picture

from cluster import progress as board
from cluster import session
from cluster.detection import boxes_file, findings
from cluster.detection import finder as finding
from cluster.detection import run as detection
from cluster.detection.finder import DetectionJob, Finder
from cluster.labelling import commits
from cluster.labelling.attempts import ATTEMPTS
from cluster.labelling.budget import BudgetExceeded
from cluster.labelling.units import Unit, Video
from cluster.sources import list_videos, scratch
from cluster.store import open_store, read_uri
from cluster.store.local import LocalStore
from hojoint import config as settings
from hojoint.datasets.box_tables import BOXES_SCHEMA
from hojoint.detection import models
from hojoint.errors import InputError
from hojoint.labelling.faults import CLASSES, VideoError
from jobs import detect as job
from jobs import status

FPS = 12


def scripted(config, **how):
    """Makes a detector from settings, in any process."""
    return Scripted(**how)


def write(path: Path, pictures):
    """A lossless video: the script reads colours."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for image in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def one_hand(count, first=0):
    return [picture()] * first + [picture((1, 5 + 2 * n, 10)) for n in range(count)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Six videos: one hand, a gap, two hands of two sides, none, a late one, a broken file."""
    videos = tmp_path_factory.mktemp("detect") / "videos"
    videos.mkdir()
    write(videos / "a one.mkv", one_hand(6))
    gap = one_hand(10)
    gap[4] = gap[5] = picture()
    write(videos / "b.gap.mkv", gap)
    write(videos / "c_two.mkv", [picture((1, 5, 5), (2, 60, 30, LEFT))] * 5)
    write(videos / "d_none.mkv", [picture()] * 7)
    write(videos / "e_late.mkv", one_hand(5, first=4) + [picture()] * 3)
    (videos / "f_broken.mkv").write_bytes((videos / "a one.mkv").read_bytes()[:700])
    return videos


@pytest.fixture
def in_process(monkeypatch):
    wild.without_ray(monkeypatch)


def config_of(videos, folder, **groups):
    tree = {
        "output": f"{folder}/boxes.parquet",
        "videos": {"root": str(videos)},
        "labelling": {"unit_videos": 2},
        "detect": {"look_back": 0},
        "cluster": {"teacher_cpus": 0.5, "cpus": 2, "object_store_mb": 100},
    }
    for group, values in groups.items():
        tree[group] = {**tree.get(group, {}), **values} if isinstance(values, dict) else values
    return settings.from_tree(tree)


def rows_of(config):
    return pyarrow.parquet.read_table(config.output)


def by_video(config):
    rows = {}
    for row in rows_of(config).to_pylist():
        rows.setdefault(row["video_id"], []).append(row)
    return rows


def quarantine_of(config):
    store = LocalStore(f"{config.output}.run")
    tables = [
        pyarrow.parquet.read_table(f"{store.root}/{key}") for key in commits.committed_files(store, "quarantine")
    ]  # fmt: skip
    return {row["video_id"]: row for row in pa.concat_tables(tables).to_pylist()}


def test_every_video_is_counted_and_has_its_rows(made, tmp_path, in_process):
    config = config_of(made, tmp_path)
    report = detection.detect(config, scripted)
    assert report["videos"] == {"listed": 6, "with_hands": 4, "without_hands": 1, "quarantined": 1}
    assert report["pictures"] == 6 + 10 + 5 + 7 + 12
    assert report["boxes"] == {"found": 6 + 8 + 10 + 5, "filled": 2}
    assert report["tracks"] == 5
    assert report["sides"] == {"right": 4, "left": 1, "unknown": 0}
    assert sum(report["quarantine"].values()) == 1
    assert json.loads(Path(f"{config.output}.run/report.json").read_text()) == report
    table, rows = rows_of(config), by_video(config)
    assert table.schema.equals(BOXES_SCHEMA)
    assert table.schema.metadata.items() >= BOXES_SCHEMA.metadata.items()
    assert report["rows"] == len(table)
    assert list(rows) == ["a one", "b.gap", "c_two", "d_none", "e_late"]  # each video's rows in one place, by id
    assert [row["frame"] for row in rows["a one"]] == list(range(6))
    assert [row["x1"] for row in rows["a one"]] == [5 + 2 * n for n in range(6)]
    assert [row["time_s"] for row in rows["a one"]] == pytest.approx(np.arange(6) / FPS, abs=2e-3)
    assert [row["filled"] for row in rows["b.gap"]] == [n in (4, 5) for n in range(10)]
    assert [row["x2"] for row in rows["b.gap"]] == [5 + 2 * n + SIDE for n in range(10)]  # a line through the gap
    assert {(row["track"], row["side"]) for row in rows["c_two"]} == {(0, "right"), (1, "left")}
    assert [(row["frame"], row["track"]) for row in rows["c_two"]] == [(n, track) for n in range(5) for track in (0, 1)]


def test_the_last_picture_without_a_hand_has_an_empty_row(made, tmp_path, in_process):
    config = config_of(made, tmp_path)
    detection.detect(config, scripted)
    rows = by_video(config)
    [only] = rows["d_none"]
    assert (only["frame"], only["x1"], only["side"], only["track"], only["filled"]) == (6, None, None, None, None)
    assert only["time_s"] == pytest.approx(6 / FPS, abs=2e-3)
    assert [row["frame"] for row in rows["e_late"]] == [4, 5, 6, 7, 8, 11]
    assert rows["e_late"][-1]["x1"] is None


def test_a_broken_video_is_quarantined_with_its_reason(made, tmp_path, in_process):
    config = config_of(made, tmp_path)
    report = detection.detect(config, scripted)
    [(video_id, row)] = quarantine_of(config).items()
    assert video_id == "f_broken"
    assert row["stage"] == "decode"
    assert report["quarantine"] == {row["class"]: 1}
    assert row["class"] in ("truncated", "damaged")


class Picky(Scripted):
    """Fails on hands with the number 2."""

    def find(self, image, known, at_most):
        if (image[..., 0] == 20).any():
            raise RuntimeError("cannot look at two\nmore lines")
        return super().find(image, known, at_most)


def test_a_detector_that_fails_costs_one_video(made, tmp_path, in_process):
    config = config_of(made, tmp_path)
    report = detection.detect(config, lambda config: Picky())
    assert report["videos"]["quarantined"] == 2
    row = quarantine_of(config)["c_two"]
    assert (row["stage"], row["class"], row["message"]) == ("detect", "RuntimeError", "cannot look at two")
    assert "c_two" not in by_video(config)


def test_the_same_command_again_does_nothing(made, tmp_path, in_process, capsys, monkeypatch):
    config = config_of(made, tmp_path)
    report = detection.detect(config, scripted)
    before = Path(config.output).stat().st_mtime_ns
    monkeypatch.setattr(boxes_file, "write", None)
    assert detection.detect(config, scripted) == report
    assert "nothing to do" in capsys.readouterr().out
    assert Path(config.output).stat().st_mtime_ns == before


def test_a_lost_file_is_written_again_from_the_commits(made, tmp_path, in_process):
    config = config_of(made, tmp_path)
    detection.detect(config, scripted)
    before = Path(config.output).read_bytes()
    Path(config.output).unlink()
    make = functools.partial(scripted, reach=-1.0)  # would find other tracks: so no picture is looked at again
    detection.detect(config, make)
    assert Path(config.output).read_bytes() == before


def test_a_table_of_former_commits_is_written_again(made, tmp_path, in_process, capsys, monkeypatch):
    """A unit was done anew, and the driver died between its commit and the table."""
    config = config_of(made, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(
            finding.Findings, "take", lambda self, video, *_, **__: self.fail(finding.Failure(video, "x", "y", "z"))
        )
        detection.detect(config, scripted)
    former = rows_of(config)
    shutil.rmtree(f"{config.output}.run/commits")
    with monkeypatch.context() as patch:
        patch.setattr(detection, "_finish", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            detection.detect(config, scripted)
    capsys.readouterr()
    report = detection.detect(config, scripted)
    assert "nothing to do" not in capsys.readouterr().out
    expected = config_of(made, tmp_path / "other")
    assert report["rows"] == detection.detect(expected, scripted)["rows"]
    assert rows_of(config).equals(rows_of(expected))
    assert not rows_of(config).equals(former)


def test_a_report_that_does_not_fit_is_written_again(made, tmp_path, in_process):
    config = config_of(made, tmp_path)
    report = detection.detect(config, scripted)
    path = Path(f"{config.output}.run/report.json")
    path.write_text("{}")
    assert detection.detect(config, scripted) == report == json.loads(path.read_text())


def test_a_short_outage_at_the_table_is_ridden_out(made, tmp_path, in_process, monkeypatch):
    config = config_of(made, tmp_path)
    calls = []

    def once_away(real):
        def call(*given):
            calls.append(real)
            if calls.count(real) == 1:
                raise OSError("AWS Error SLOW_DOWN during PutObject operation: Please reduce your request rate.")
            return real(*given)

        return call

    for name in ("_found", "_write_rows"):
        monkeypatch.setattr(boxes_file, name, once_away(getattr(boxes_file, name)))
    report = detection.detect(config, scripted)
    assert report["rows"] == len(rows_of(config))
    assert len(set(calls)) == 2


def test_a_stopped_run_resumes_with_the_open_units(made, tmp_path, in_process):
    config = config_of(made, tmp_path)
    detection.detect(config, scripted)
    expected = rows_of(config)
    Path(f"{config.output}.run/commits/u000001.json").unlink()
    Path(config.output).unlink()
    detectors = []

    def make(config):
        detectors.append(Scripted())
        return detectors[-1]

    detection.detect(config, make)
    assert rows_of(config).equals(expected)
    pictures = 5 + 7  # of c_two and d_none
    assert pictures <= sum(each.looked for each in detectors) <= 3 * pictures
    assert len(list(Path(f"{config.output}.run/detections").iterdir())) == 3  # the loser's files are gone


def test_windows_of_any_size_make_the_same_rows(made, tmp_path, in_process):
    config = config_of(made, tmp_path / "one")
    detection.detect(config, scripted)
    for frames in (1, 2, 5, 7):
        cut = config_of(made, tmp_path / f"{frames}", labelling={"max_frames": frames})
        report = detection.detect(cut, scripted)
        assert report["pictures"] == 40
        assert rows_of(cut).equals(rows_of(config))
    detection.dry_run(config_of(made, tmp_path / "one", labelling={"max_frames": 3}), scripted)  # the same run


def test_no_window_outlives_the_next(made, tmp_path, in_process, monkeypatch):
    real, memory = Finder._track, []

    def track(self, video, window, tracker, findings):
        assert not [ref for ref in memory if ref() is not None]
        owner = window.rgb
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        memory.append(weakref.ref(owner))
        del owner
        real(self, video, window, tracker, findings)

    monkeypatch.setattr(Finder, "_track", track)
    config = config_of(made, tmp_path, labelling={"max_frames": 3}, detect={"look_back": 2})
    assert detection.detect(config, scripted)["videos"]["quarantined"] == 1
    assert len(memory) > 10


def test_a_copy_is_fetched_once_for_all_windows(made, tmp_path, in_process, monkeypatch):
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars" / "all.tar", "w") as tar:
        for path in sorted(made.iterdir()):
            tar.add(path, path.name)
    calls, real = [], finding.fetched
    monkeypatch.setattr(
        finding, "fetched", lambda uri, *limits, **listed: calls.append(uri) or real(uri, *limits, **listed)
    )
    config = config_of(tmp_path / "tars", tmp_path / "tar", labelling={"max_frames": 2})
    plain = config_of(made, tmp_path / "plain", labelling={"max_frames": 2})
    detection.detect(config, scripted)
    assert len(calls) == len(set(calls)) == 6
    own = Path(scratch._own(tempfile.gettempdir(), os.getpid()))
    assert not list(own.glob("*/video*"))
    detection.detect(plain, scripted)
    assert rows_of(config).equals(rows_of(plain))


def test_other_settings_and_other_networks_are_refused(made, tmp_path, in_process):
    config = config_of(made, tmp_path)
    detection.detect(config, scripted)
    with pytest.raises(InputError, match=r"detect\.longest_gap: 6 before, 2 now"):
        detection.detect(config_of(made, tmp_path, detect={"longest_gap": 2}), scripted)
    with pytest.raises(InputError, match=r"network\.palm: scripted before, other now"):
        detection.detect(config, functools.partial(scripted, name="other"))
    with pytest.raises(InputError, match="videos: "):
        detection.dry_run(config_of(made, tmp_path, labelling={"limit": 3}), scripted)


def test_a_file_of_somebody_else_is_not_overwritten(made, tmp_path, in_process):
    config = config_of(made, tmp_path)
    Path(config.output).write_bytes(b"precious")
    with pytest.raises(InputError, match=r"was not written by jobs\.detect"):
        detection.detect(config, scripted)
    Path(config.output).write_bytes(b"PAR1" + b"\x99" * 20 + (20).to_bytes(4, "little") + b"PAR1")  # no outage
    with pytest.raises(InputError, match=r"was not written by jobs\.detect"):
        detection.detect(config, scripted)
    pyarrow.parquet.write_table(pa.table({"x": [1]}), config.output)
    with pytest.raises(InputError, match=r"was not written by jobs\.detect"):
        detection.dry_run(config, scripted)
    assert pyarrow.parquet.read_table(config.output)["x"].to_pylist() == [1]
    assert not Path(f"{config.output}.run").exists()


@pytest.mark.parametrize("output", ["boxes", "boxes.csv", ".parquet", "s3://bucket/.parquet", "folder/"])
def test_the_output_must_be_a_parquet_file(output):
    with pytest.raises(InputError, match=r"expected output=FILE\.parquet"):
        boxes_file.run_of(output)


def test_too_many_broken_videos_end_the_run(made, tmp_path, in_process):
    config = config_of(made, tmp_path, labelling={"error_budget_count": 1, "error_budget_share": 0.1})
    for _ in range(2):  # the second time before any work
        with pytest.raises(BudgetExceeded, match="2 of 6 videos so far are quarantined"):
            detection.detect(config, lambda config: Picky())
    detection.detect(config_of(made, tmp_path), lambda config: Picky())  # a larger budget: the same run resumes


def test_a_dry_run_writes_nothing(made, tmp_path, in_process, capsys):
    config = config_of(made, tmp_path)
    detection.dry_run(config, scripted)
    out = capsys.readouterr().out
    assert "videos     6" in out
    assert "3 of up to 2 videos; 0 committed, 3 to do" in out
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def finder(made, tmp_path):
    config = config_of(made, tmp_path)
    store = detection.open_run(config)
    job = DetectionJob(config, store.root, Scripted().identity, "driver")
    one = Finder(job, scripted)
    videos = [Video(entry.video_id, entry.uri, (), entry.size) for entry in list_videos(made)]
    yield one, store, Unit("u000000", tuple(videos[:3]))
    one.close()


def test_of_two_attempts_one_is_committed_and_one_is_garbage(finder):
    one, store, unit = finder
    assert one.work(unit).counts.listed == 3
    assert one.work(unit) is None
    assert len(list(store.list("detections"))) == 1
    assert list(store.list(ATTEMPTS)) == []


def test_every_window_is_a_sign_that_the_run_goes_on(made, tmp_path):
    """A video of hours would be a silence otherwise, and the watch would end the run."""
    config = config_of(made, tmp_path, labelling={"max_frames": 4})
    told = []
    one = Finder(
        DetectionJob(config, detection.open_run(config).root, Scripted().identity, "driver"),
        scripted,
        lambda videos, pictures: told.append((videos, pictures)),
    )
    [entry] = [entry for entry in list_videos(made) if entry.video_id == "b.gap"]
    one.work(Unit("u000000", (Video(entry.video_id, entry.uri, (), entry.size),)))
    one.close()
    assert told == [({}, {"looked": 4}), ({}, {"looked": 4}), ({}, {"looked": 2}), ({"with_hands": 1}, {})]


def test_prometheus_sees_what_a_detection_has_committed(made, tmp_path, in_process, monkeypatch):
    shown = wild.gauges(monkeypatch)
    detection.detect(config_of(made, tmp_path), scripted)
    for outcome, videos in (("with_hands", 4), ("without_hands", 1), ("quarantined", 1)):
        assert shown["committed_videos", "detection", outcome] == videos
    assert shown["listed_videos", "detection"] == 6
    assert shown["committed_frames", "detection", "looked"] == 40
    assert ("last_commit_timestamp_seconds", "detection") in shown
    assert ("eta_seconds", "detection") in shown


def test_the_watch_sees_what_the_finders_report(made, tmp_path, in_process, monkeypatch):
    """Not commits alone: a unit of long videos takes longer than the first silence that is allowed."""
    monkeypatch.setattr(board, "signs_of", lambda watched: lambda: "of the board")
    seen = wild.watches(monkeypatch)
    config = config_of(made, tmp_path)
    detection.detect(config, scripted)
    path = Path(f"{config.output}.run/commits/u000001.json")
    commit = json.loads(path.read_text())
    path.unlink()
    other = path.with_name("u000000.json")
    other.write_text(json.dumps(json.loads(other.read_text()) | {"started": commit["finished"] - 5000.0}))
    detection.detect(config, scripted)
    assert [signs() for signs, _ in seen] == ["of the board"] * 2
    assert seen[0][1] == 0.0
    assert seen[1][1] > 4000.0  # a run that resumes knows how long its units take


def test_a_video_that_killed_its_process_is_left_out(finder):
    one, store, unit = finder
    for attempt in range(2):  # labelling.attempts
        note = {"driver": "driver", "host": "here", "pid": 1, "started": "0", "in_hand": ["b.gap"], "at": 0}
        store.put(f"{ATTEMPTS}/u000000/{attempt:012x}.json", json.dumps(note).encode())
    counts = one.work(unit).counts
    assert counts.quarantine == {"killed_worker": 1}
    assert counts.with_hands == 2


def test_a_network_that_changes_during_the_run_is_refused(made, tmp_path):
    config = config_of(made, tmp_path)
    job = DetectionJob(config, detection.open_run(config).root, {"palm": "another", "hand": "another"}, "driver")
    with pytest.raises(InputError, match=r"detect\.models is not the same"):
        Finder(job, scripted)


def test_a_file_that_vanished_is_no_fault_of_the_video(finder):
    one, _, unit = finder
    gone = Unit("u000000", (*unit.videos[:1], Video("gone", "/nowhere/gone.mkv", ())))
    with pytest.raises(InputError, match="does not exist on the node"):
        one.work(gone)


def test_a_damaged_table_of_a_unit_is_named(made, tmp_path, in_process):
    config = config_of(made, tmp_path)
    detection.detect(config, scripted)
    Path(config.output).unlink()
    [path, *_] = sorted(Path(f"{config.output}.run/detections").iterdir())
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"is gone or damaged; remove .*commits/u000000\.json"):
        detection.detect(config, scripted)
    assert not list(Path(f"{config.output}.run").glob("boxes*"))


def test_two_drivers_that_finish_together_write_the_same_file(made, tmp_path, in_process, monkeypatch):
    config = config_of(made, tmp_path)
    detection.detect(config, scripted)
    before, real, others = Path(config.output).read_bytes(), boxes_file._detections, []
    store = detection.open_run(config)
    done = commits.read_commits(store, counts_of=findings.Counts.of)
    digest = boxes_file.written_by(store)

    def detections(store, commit):
        if not others:
            others.append("another driver begins and ends here")
            boxes_file.write(store, done, digest)
        return real(store, commit)

    monkeypatch.setattr(boxes_file, "_detections", detections)
    assert boxes_file.write(store, done, digest) > 0
    assert Path(config.output).read_bytes() == before
    assert not list(Path(store.root).glob("boxes*"))


def test_rows_of_no_tracks_and_no_times():
    [row] = findings.rows_of("v", [], None, 3).to_pylist()
    assert (row["frame"], row["time_s"], row["x1"]) == (2, None, None)


@pytest.mark.ray
def test_with_ray_as_without(made, tmp_path, request):
    """Two actors; a unit whose commit is lost is done again; the rows are those of one process."""
    for module in (scripts, sys.modules[__name__]):  # no worker can import the tests
        cloudpickle.register_pickle_by_value(module)
        request.addfinalizer(functools.partial(cloudpickle.unregister_pickle_by_value, module))
    config = config_of(made, tmp_path / "ray", detect={"look_back": 0, "actors": [2, 2]})
    with session.start(config.cluster):
        report = detection.detect(config, scripted)
        Path(f"{config.output}.run/commits/u000002.json").unlink()
        again = detection.detect(config, scripted)
    with pytest.MonkeyPatch.context() as patch:
        wild.without_ray(patch)
        alone = config_of(made, tmp_path / "alone", detect={"look_back": 0, "actors": [2, 2]})
        expected = detection.detect(alone, scripted)
    for one in (report, again):
        assert {**one, "seconds": 0, "pictures_per_second": 0} == {**expected, "seconds": 0, "pictures_per_second": 0}
    assert rows_of(config).equals(rows_of(alone))


def test_the_remedy_of_an_unreachable_video_works(made, tmp_path, in_process, capsys, monkeypatch):
    monkeypatch.setattr(detection.detect, "__defaults__", (scripted,))
    words = [f"videos.root={made}", "cluster.teacher_cpus=0.5", "labelling.unit_videos=2", "detect.look_back=0"]
    words, output = [*words, f"output={tmp_path}/boxes.parquet"], tmp_path / "boxes.parquet"
    real = finding.fetched

    def fetched(uri, *limits, **listed):
        if "c_two" in str(uri):
            raise VideoError("unreachable", "the mount was away.")
        return real(uri, *limits, **listed)

    monkeypatch.setattr(finding, "fetched", fetched)
    assert job.main(words) == 0
    remedy = f"remove commits/u000001.json in {output}.run and give the same command again; or set another output."
    for command in (lambda: None, lambda: status.main([f"output={output}"])):
        command()
        out = capsys.readouterr().out
        assert "unreachable: c_two: the mount was away." in out
        assert remedy in out
        assert "labelling.retry" not in out
    monkeypatch.setattr(finding, "fetched", real)
    (tmp_path / "boxes.parquet.run/commits/u000001.json").unlink()
    assert job.main(words) == 0
    assert "1 quarantined" in capsys.readouterr().out
    expected = config_of(made, tmp_path / "other")
    detection.detect(expected)
    assert pyarrow.parquet.read_table(output).equals(rows_of(expected))
    assert len(list((tmp_path / "boxes.parquet.run/detections").iterdir())) == 3


def test_a_remedy_names_few_units_of_many():
    store = SimpleNamespace(root="runs/boxes.parquet.run")
    done = [SimpleNamespace(unit=f"u{number:06d}", failed=Counter(timeout=number % 2)) for number in range(12)]
    found = job.remedies(store, done)
    places = "commits/u000001.json, commits/u000003.json, commits/u000005.json and those of 3 more units"
    assert list(found) == ["timeout"]
    assert f"remove {places} in runs/boxes.parquet.run and give the same" in found["timeout"]


def test_every_retry_of_labelling_has_a_remedy_here():
    """jobs.detect would print a setting that it refuses."""
    assert set(job.TRY_AGAIN) == {kind for kind, fault in CLASSES.items() if "labelling.retry" in fault.remedy}


@pytest.mark.parametrize("setting", ["labelling.extend=true", "labelling.retry=quarantined"])
def test_settings_that_add_to_labels_are_refused(setting, tmp_path, capsys):
    assert job.main(["videos.root=.", f"output={tmp_path}/x.parquet", setting]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {setting}: jobs.detect ")
    assert "set another output" in error


@pytest.mark.s3
def test_from_object_storage_to_object_storage(made, tmp_path, bucket, in_process):
    for path in made.iterdir():
        open_store(f"{bucket}/videos").put(path.name.replace(" ", "_"), path.read_bytes())
    config = config_of(f"{bucket}/videos", f"{bucket}/found")
    expected = config_of(made, tmp_path)
    assert detection.detect(config, scripted)["videos"] == detection.detect(expected, scripted)["videos"]
    detection.detect(config, scripted)  # nothing to do
    found = pyarrow.parquet.read_table(io.BytesIO(read_uri(config.output)))
    assert found.drop(["video_id"]).equals(rows_of(expected).drop(["video_id"]))
    foreign = config_of(f"{bucket}/videos", f"{bucket}/other")
    open_store(f"{bucket}/other").put("boxes.parquet", b"precious")
    with pytest.raises(InputError, match=r"was not written by jobs\.detect"):
        detection.detect(foreign, scripted)


@pytest.mark.s3
def test_a_wheel_in_object_storage_is_read(bucket, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        for file in models.PARTS.values():
            archive.writestr(f"mediapipe/modules/{file.format('full')}", b"\0\0\0\0TFL3 cut")
    open_store(bucket).put("a.whl", (tmp_path / "a.whl").read_bytes())
    config = config_of(tmp_path, tmp_path, detect={"models": f"{bucket}/a.whl"})
    pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed")
    with pytest.raises(InputError, match=r"the palm network in detect\.models=s3://\S+/a\.whl does not load"):
        detection.mediapipe_detector(config)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["output=x.parquet"], "videos.root"),
        (["videos.root=."], "output"),
        (["videos.root=.", "output=x.parquet", "detect.models=/nowhere/a.whl"], "pip download --no-deps"),
        (["videos.root=.", "output=folder", "detect.models=x"], "expected output=FILE.parquet"),
        (["videos.root=.", "output=x.parquet", "detect.actors=[3,2]"], "detect.actors"),
    ],
)
def test_the_command_says_what_is_missing(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert job.main([*words, "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_the_command_prints_the_report(made, tmp_path, in_process, capsys, monkeypatch):
    monkeypatch.setattr(detection.detect, "__defaults__", (scripted,))
    words = [f"videos.root={made}", f"output={tmp_path}/boxes.parquet", "cluster.teacher_cpus=0.5"]
    assert job.main(words) == 0
    out = capsys.readouterr().out
    assert "videos   6 = 4 with hands + 1 without + 1 quarantined (1 " in out
    assert "tracks   5 = 4 right + 1 left + 0 of unknown side" in out
    words += ["labelling.error_budget_share=0.1", "labelling.error_budget_count=1"]
    monkeypatch.setattr(detection.detect, "__defaults__", (lambda config: Picky(),))
    assert job.main([word.replace("boxes.", "other.") for word in words]) == 1
    assert "failed: 2 of 6 videos so far are quarantined" in capsys.readouterr().err
