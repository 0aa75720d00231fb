"""cluster.labelling.growth and chain: a run grows, keeps its units, and refuses by name what it cannot take.

Most tests plan without labelling; the last ones label without Ray.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import wild
from test_units import contents, video
from video_files import write_video

from cluster.labelling import budget, chain, commits, growth, manifest
from cluster.labelling import run as labelling
from cluster.labelling.commits import Commit
from cluster.labelling.counts import Counts
from cluster.labelling.growth import Arranged
from cluster.labelling.manifest import Manifest
from cluster.labelling.run import label
from cluster.labelling.teacher import Teacher
from cluster.labelling.units import Video
from cluster.store.local import LocalStore
from hojoint.config import Config
from hojoint.errors import InputError
from jobs import quarantined


def made_of(videos: Sequence[Video]) -> Manifest:
    return manifest.write(iter(videos), 2)


def named(names: str) -> list[Video]:
    return [video(name) for name in names]


def fingerprint(made: Manifest, views: int = 8) -> dict:
    return {"tta.views": views, "clips": made.digests.clips, "video_files": made.digests.files}


def facts(store: LocalStore, made: Manifest) -> dict:
    return {"units": len(made.unit_frames), "videos": made.videos, commits.MANIFEST: made.put(store)}


def begun(folder: Path, videos: Sequence[Video]) -> LocalStore:
    store, made = LocalStore(folder), made_of(videos)
    commits.open_run(store, fingerprint(made), facts(store, made))
    return store


def arranged(store: LocalStore, videos: Sequence[Video], views: int = 8, **settings: object) -> Arranged:
    made = made_of(videos)
    config = Config.model_validate({"labelling": {"unit_videos": 2, **settings}})
    return growth.arrange(store, made, config, fingerprint(made, views))


def record(store: LocalStore, plan: Arranged) -> bool:
    assert plan.growth is not None
    return growth.record(store, plan.growth, fingerprint(plan.manifest), facts(store, plan.manifest))


def units_of(made: Manifest) -> list[str]:
    return ["".join(one.video_id for one in unit.videos) for unit in made]


def put_quarantined(store: LocalStore, unit: str, names: str, taken_over: dict[str, str] | None = None) -> None:
    """Commit a unit whose videos are all in quarantine as truncated."""
    counts = Counts(listed=len(names), quarantined=len(names))
    counts.quarantine["truncated"] = len(names)
    counts.take_over((taken_over or {}).values())
    commits.commit(store, unit, "a", contents(list(names)), counts=counts, started=0, seconds={}, taken_over=taken_over)


def test_new_videos_come_behind_and_others_keep_their_units(tmp_path: Path) -> None:
    store = begun(tmp_path, named("bdf"))
    plan = arranged(store, named("abcdefg"), extend=True)
    assert units_of(plan.manifest) == ["bd", "f", "ac", "eg"]
    assert str(plan.growth) == "4 new videos: units u000002 to u000003"
    assert record(store, plan)
    run = commits.read_run(store)
    assert (run["units"], run["videos"], run["manifest"]) == (4, 7, plan.manifest.key)
    again = arranged(store, named("abcdefg"))
    assert (again.growth, again.manifest.key) == (None, plan.manifest.key)
    assert fingerprint(again.manifest) == run["fingerprint"]
    third = arranged(store, named("abcdefgh"), extend=True)
    assert units_of(third.manifest) == ["bd", "f", "ac", "eg", "h"]
    assert record(store, third)
    written = json.loads((tmp_path / "run.json").read_text())
    assert [one["videos"] for one in written["extensions"]] == [4, 1]
    assert (written["units"], written["manifest"]) == (5, third.manifest.key)


@pytest.mark.parametrize("new", ["d", "de"])
def test_new_videos_that_sort_last_keep_the_borders_of_units(new: str, tmp_path: Path) -> None:
    """The last unit is not full: the listing alone has the same digests, and would be cut in another way."""
    store = begun(tmp_path, named("abc"))
    plan = arranged(store, named("abc" + new), extend=True)
    assert units_of(plan.manifest) == ["ab", "c", new]
    assert record(store, plan)
    again = arranged(store, named("abc" + new), extend=True)
    assert (again.growth, units_of(again.manifest)) == (None, ["ab", "c", new])


def test_a_run_whose_units_lack_videos_is_refused(tmp_path: Path) -> None:
    store = begun(tmp_path, named("abc"))
    put_quarantined(store, "u000000", "ab")
    put_quarantined(store, "u000001", "")
    with pytest.raises(InputError, match=r"hold 2 videos, and its run has 3: .*another output"):
        labelling.finish(store, ["u000000", "u000001"], {})
    assert not (tmp_path / "report.json").exists()


def test_a_listing_that_lags_behind_is_asked_key_by_key(tmp_path: Path, monkeypatch) -> None:
    store = begun(tmp_path, named("abc"))
    put_quarantined(store, "u000000", "ab")
    put_quarantined(store, "u000001", "c")
    real = LocalStore.list
    monkeypatch.setattr(
        LocalStore, "list", lambda self, prefix: iter(list(real(self, prefix))[: -(prefix == "commits")])
    )
    report, _ = labelling.finish(store, ["u000000", "u000001"], {})
    assert report["videos"]["listed"] == 3
    with pytest.raises(InputError, match=r"1 units \(the first: u000002\) are done and not in"):
        labelling.finish(store, ["u000000", "u000001", "u000002"], {})


def test_a_run_that_another_driver_lets_grow_is_finished(tmp_path: Path) -> None:
    store = begun(tmp_path, named("ab"))
    put_quarantined(store, "u000000", "ab")
    record(store, arranged(store, named("abc"), extend=True))
    report, _ = labelling.finish(store, ["u000000"], {})
    assert report["videos"]["listed"] == 2


def test_videos_that_have_moved_are_taken_from_where_they_are(tmp_path: Path) -> None:
    store = begun(tmp_path, named("ac"))
    record(store, arranged(store, named("abc"), extend=True))
    moved = arranged(store, [video(name, path="/mnt/moved") for name in "abc"])
    assert moved.growth is None
    assert [one.uri for unit in moved.manifest for one in unit.videos] == [f"/mnt/moved/{name}.webm" for name in "acb"]
    assert fingerprint(moved.manifest) == commits.read_run(store)["fingerprint"]


@pytest.mark.parametrize("extend", [False, True])
def test_what_is_gone_or_changed_is_refused_by_name(extend: bool, tmp_path: Path) -> None:
    store = begun(tmp_path, named("abcd"))
    with pytest.raises(InputError, match=r"clips: 2 videos \(b, c\) are of the run and not among the listed ones"):
        arranged(store, named("ade"), extend=extend)
    with pytest.raises(InputError, match=r"clips: the video d is of the run, now with other boxes or another file"):
        arranged(store, [*named("abc"), video("d", size=8)], extend=extend)
    with pytest.raises(InputError, match=r"the video a is of the run, now with other boxes"):
        arranged(store, [video("a", shift=0.5), *named("bcd")], extend=extend)
    gone = dataclasses.replace(video("b"), uri="", clips=())
    with pytest.raises(InputError, match=r"the video b is of the run and not among the listed ones"):
        arranged(store, [video("a"), gone, *named("cd")], extend=extend)
    with pytest.raises(InputError, match=r"tta.views: 8 before, 9 now"):
        arranged(store, named("abcde"), views=9, extend=extend)


def test_new_videos_that_are_not_asked_for_are_refused(tmp_path: Path) -> None:
    store = begun(tmp_path, named("b"))
    with pytest.raises(InputError, match=r"clips: 5 videos \(a, c, d, ...\) are new; labelling.extend=true"):
        arranged(store, named("abcdef"))


def test_replaced_objects_are_refused_where_etags_tell(tmp_path: Path) -> None:
    store = begun(tmp_path, [dataclasses.replace(one, etag="1") for one in named("ab")])
    with pytest.raises(InputError, match="the video b is of the run, now with other boxes or another file"):
        arranged(store, [video("a"), dataclasses.replace(video("b"), etag="2"), video("c")], extend=True)


def test_a_grown_runs_manifest_is_not_to_be_removed(tmp_path: Path) -> None:
    store = begun(tmp_path, named("bd"))
    record(store, arranged(store, named("abcd"), extend=True))
    path = tmp_path / commits.read_run(store)["manifest"]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"cannot be read as the manifest.*restore it from a copy, or set another"):
        arranged(store, named("abcd"))
    path.unlink()
    with pytest.raises(InputError, match=r"the manifest of the run, is gone; restore it from a copy, or set another"):
        arranged(store, named("abcd"))


def test_a_run_without_a_manifest_cannot_grow(tmp_path: Path) -> None:
    store, made = LocalStore(tmp_path), made_of(named("a"))
    commits.open_run(store, fingerprint(made), {"units": 1, "videos": 1})
    with pytest.raises(InputError, match="without a manifest"):
        arranged(store, named("ab"), extend=True)


def test_of_two_drivers_that_extend_the_second_looks_again(tmp_path: Path) -> None:
    store = begun(tmp_path, named("b"))
    plans = [arranged(store, named("abc"), extend=True), arranged(store, named("abd"), extend=True)]
    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(lambda plan: record(store, plan), plans))
    assert sorted(won) == [False, True]
    listing = "abd" if won[0] else "abc"
    with pytest.raises(InputError, match="not among the listed ones"):
        arranged(store, named(listing), extend=True)
    late = [
        dataclasses.replace(unit, videos=tuple(dataclasses.replace(one, etag="1") for one in unit.videos))
        for unit in plans[won[0]].manifest
    ]
    manifest.check_etags(store, manifest.write_units(late))  # its new unit holds other videos than the run's
    later = arranged(store, named("abcd"), extend=True)
    assert units_of(later.manifest) == ["b", "ac" if won[0] else "ad", "d" if won[0] else "c"]
    assert record(store, later)
    assert chain.length(store) == 2


def test_quarantined_videos_are_tried_as_they_are_now(tmp_path: Path) -> None:
    store = begun(tmp_path, named("abc"))
    put_quarantined(store, "u000000", "ab")
    put_quarantined(store, "u000001", "c")
    mended = [video("a", size=9), *named("bc")]
    with pytest.raises(InputError, match=r"the video a .*\n?.*labelling.retry=quarantined"):
        arranged(store, mended)
    plan = arranged(store, mended, retry="quarantined:truncated")
    assert units_of(plan.manifest) == ["ab", "c", "ab", "c"]
    assert str(plan.growth) == "0 new videos, another attempt at 3 (3 truncated): units u000002 to u000003"
    assert [one.size for unit in plan.manifest for one in unit.videos] == [7, 7, 7, 9, 7, 7]
    assert plan.manifest.videos == 3
    assert record(store, plan)
    # Begun and not done: it is finished first, with or without the setting.
    for settings in ({}, {"retry": "quarantined"}):
        resumed = arranged(store, mended, **settings)
        assert (resumed.growth, resumed.manifest.key) == (None, plan.manifest.key)
    put_quarantined(store, "u000002", "b", {"a": "truncated", "b": "truncated"})
    put_quarantined(store, "u000003", "", {"c": "truncated"})
    done = commits.read_commits(store)
    assert growth.quarantined(store, done) == {"b": "truncated"}
    assert quarantined.firsts(store, done) == {"truncated": ("b", "half")}
    third = arranged(store, mended, retry="quarantined")
    assert units_of(third.manifest)[4:] == ["b"]


def test_a_file_replaced_again_gets_a_further_attempt(tmp_path: Path) -> None:
    store = begun(tmp_path, named("ab"))
    put_quarantined(store, "u000000", "ab")
    record(store, arranged(store, [video("a", size=8), *named("b")], retry="quarantined"))
    # Stopped here; the new file is bad too, and is replaced.
    with pytest.raises(InputError, match=r"the video a .*\n?.*labelling.retry=quarantined"):
        arranged(store, [video("a", size=9), *named("b")])
    plan = arranged(store, [video("a", size=9), *named("b")], retry="quarantined")
    assert str(plan.growth) == "0 new videos, another attempt at 1 (1 truncated): units u000002 to u000002"
    assert units_of(plan.manifest) == ["ab", "ab", "a"]
    assert [one.size for unit in plan.manifest for one in unit.videos] == [7, 7, 8, 7, 9]
    assert plan.manifest.retries["a"] == [("u000001", "truncated"), ("u000002", "truncated")]
    assert record(store, plan)
    again = arranged(store, [video("a", size=9), *named("b")])
    assert (again.growth, again.manifest.key) == (None, plan.manifest.key)


def test_a_class_that_nobody_has_is_refused(tmp_path: Path) -> None:
    store = begun(tmp_path, named("a"))
    put_quarantined(store, "u000000", "a")
    with pytest.raises(InputError, match=r"no video is quarantined as 'trunkated'; there are 1 truncated"):
        arranged(store, named("a"), retry="quarantined:trunkated")
    plan = arranged(store, named("a"), retry="quarantined:timeout")
    assert plan.growth is None
    assert "no such video is in quarantine" in plan.notes[0]
    with pytest.raises(ValueError, match="retry"):
        Config.model_validate({"labelling": {"retry": "all"}})


def test_counts_add_up_when_videos_leave_quarantine() -> None:
    first = Counts(listed=3, labelled=1, quarantined=2)
    first.quarantine.update(truncated=2)
    second = Counts(listed=2, labelled=1, quarantined=1)
    second.quarantine.update(damaged=1)
    second.take_over(["truncated", "truncated"])
    for order in ([first, second], [second, first]):
        total = Counts()
        for one in order:
            total.add(Counts.of(json.loads(json.dumps(vars(one)))))
        assert (total.listed, total.labelled, total.empty, total.quarantined) == (3, 2, 0, 1)
        assert +total.quarantine == {"damaged": 1}


def test_a_retry_is_not_refused_by_the_budget_it_relieves() -> None:
    config = Config.model_validate({"labelling": {"error_budget_share": 0.0, "error_budget_count": 2}})

    def of(listed: int, quarantined: int, taken_over: int = 0) -> Counts:
        counts = Counts(listed=listed, quarantined=quarantined, empty=listed - quarantined)
        counts.quarantine["truncated"] = quarantined
        counts.take_over(["truncated"] * taken_over)
        return counts

    retries = {name: [("u000001" if name < "c" else "u000002", "truncated")] for name in "abcd"}
    with pytest.raises(budget.BudgetExceeded, match="5 of 9 videos so far"):
        budget.Watched(config, of(9, 5), retries, set()).check()
    watched = budget.Watched(config, of(9, 5), retries, {"u000001", "u000002"})
    watched.check()
    for unit, counts in (("u000001", of(2, 1, 2)), ("u000002", of(2, 1, 2))):
        watched.check()
        watched.add(Commit(unit, "a", {}, {}, counts, 0.0, 0.0, {}))
    with pytest.raises(budget.BudgetExceeded, match=r"3 of 9 videos so far are quarantined \(3 truncated\)"):
        watched.check()


# Labelling, without Ray.


@pytest.mark.slow
def test_a_run_over_budget_grows_by_a_retry_only(tmp_path: Path, monkeypatch) -> None:
    wild.without_ray(monkeypatch)
    boxes = wild.write_wild(tmp_path, good=2)
    wild.write_boxes(tmp_path, boxes | wild.boxes_of(["bad", "worse"]))
    wild.write_teacher(tmp_path / "teacher.pt")
    for name in ("bad", "worse"):
        (tmp_path / "videos" / f"{name}.webm").write_bytes(b"no video")

    def config(**labelling: object) -> Config:
        none = {"error_budget_share": 0.0, "error_budget_count": 1, "unit_videos": 4}
        return wild.config_of(tmp_path, tmp_path / "out", labelling=none | labelling)

    with pytest.raises(budget.BudgetExceeded):
        label(config())
    write_video(tmp_path / "videos" / "0new.webm", 6, seed=9)
    wild.write_boxes(tmp_path, boxes | wild.boxes_of(["0new", "bad", "worse"]))
    with pytest.raises(budget.BudgetExceeded):
        label(config(extend=True))
    assert chain.length(LocalStore(tmp_path / "out")) == 0  # what is refused is not recorded
    write_video(tmp_path / "videos" / "bad.webm", 6, seed=5)
    write_video(tmp_path / "videos" / "worse.webm", 6, seed=6)
    report = label(config(extend=True, retry="quarantined"))
    assert report["videos"] == {"listed": 5, "labelled": 5, "empty": 0, "quarantined": 0}
    # A commit that was damaged is made again, and leaves out what a later unit has labelled.
    (tmp_path / "out" / "commits" / "u000000.json").unlink()
    again = label(config())
    assert (again["videos"], again["quarantine"]) == (report["videos"], {})
    rows = wild.rows_of(tmp_path / "out", "predictions")
    assert len(set(zip(*(rows[name].to_pylist() for name in ("clip_id", "frame")), strict=True))) == len(rows)


@pytest.mark.slow
def test_a_grown_run_has_the_rows_of_a_run_of_all(tmp_path: Path, monkeypatch) -> None:
    wild.without_ray(monkeypatch)
    wild.write_wild(tmp_path, good=4)
    wild.write_teacher(tmp_path / "teacher.pt")
    whole = (tmp_path / "videos" / "101.webm").read_bytes()
    (tmp_path / "videos" / "101.webm").write_bytes(whole[: len(whole) // 2])
    config = wild.config_of(tmp_path, tmp_path / "out", labelling={"unit_videos": 2})
    before = label(config)
    assert before["videos"] == {"listed": 4, "labelled": 3, "empty": 0, "quarantined": 1}
    kept = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.parquet")}
    (tmp_path / "videos" / "101.webm").write_bytes(whole)
    write_video(tmp_path / "videos" / "0new.webm", 6, seed=9)
    wild.write_boxes(tmp_path, wild.boxes_of(["0new", "100", "101", "102", "103"]))
    with pytest.raises(InputError, match="0new is new"):
        label(config)
    grown = wild.config_of(
        tmp_path, tmp_path / "out", labelling={"unit_videos": 2, "extend": True, "retry": "quarantined"}
    )
    begun, real = [], Teacher.work

    def work(self, unit):
        begun.append(unit.unit_id)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return real(self, unit)

    monkeypatch.setattr(Teacher, "work", work)
    with pytest.raises(KeyboardInterrupt):
        label(grown)
    report = label(grown)
    assert begun == ["u000002", "u000003", "u000003"]
    assert report["videos"] == {"listed": 5, "labelled": 5, "empty": 0, "quarantined": 0}
    assert report["quarantine"] == {}
    assert label(wild.config_of(tmp_path, tmp_path / "out", labelling={"unit_videos": 2})) == report
    assert {path: path.read_bytes() for path in kept} == kept
    label(wild.config_of(tmp_path, tmp_path / "whole", labelling={"unit_videos": 2}))
    for table in ("predictions", "pseudo_labels"):
        wild.assert_same_rows(wild.rows_of(tmp_path / "whole", table), wild.rows_of(tmp_path / "out", table))


@pytest.mark.slow
def test_two_drivers_that_retry_count_every_video_once(tmp_path: Path, monkeypatch) -> None:
    wild.without_ray(monkeypatch)
    boxes = wild.write_wild(tmp_path, good=2)
    wild.write_boxes(tmp_path, boxes | wild.boxes_of(["gone"]))
    wild.write_teacher(tmp_path / "teacher.pt")
    label(wild.config_of(tmp_path, tmp_path / "out"))
    write_video(tmp_path / "videos" / "gone.webm", 6, seed=5)
    config = wild.config_of(tmp_path, tmp_path / "out", labelling={"retry": "quarantined:missing"})
    store, inner = labelling.open_output(config), []
    real = labelling.begin

    def second_driver_first(*given):
        if not inner:  # between the first driver's plan and its record
            inner.append(None)
            inner.append(label(config))
        return real(*given)

    monkeypatch.setattr(labelling, "begin", second_driver_first)
    report = label(config)
    assert report["videos"] == inner[1]["videos"] == {"listed": 3, "labelled": 3, "empty": 0, "quarantined": 0}
    assert chain.length(store) == 1
    assert len(commits.committed_units(store)) == 2
    assert set(wild.rows_of(tmp_path / "out", "predictions")["video_id"].to_pylist()) == {"100", "101", "gone"}
