"""The report: self-contained, escaped, with counts that add up; its tables say what the numbers say."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from test_retyped import typed

from cluster.labelling import commits
from cluster.store import open_store
from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError
from hojoint.report import draw, formats, label_tables, rounds
from hojoint.report import page as report
from hojoint.report import tables as report_tables
from jobs import label_measures
from jobs import report as job

PRICES = settings.ReportConfig(price_per_gpu_hour=2.5)


def scores(joints_mm, add=None):
    hand = {"joints_mm": joints_mm, "joints_wrist_mm": joints_mm, "mesh_mm": joints_mm - 0.4}
    hand |= {"joints_auc": 1 - joints_mm / 50, "mesh_auc": 0.8, "f5": 0.5, "f15": 0.95}
    target = None
    if add is not None:
        target = {"add_0.1d": add, "add_0.1d_true_diameter": add - 0.1}
        target |= {"adds_0.1d_true_diameter": add + 0.1, "rep_5": 0.1}
    return {"images": 200, "hand": hand, "object": target}


def fake_worth():
    group = {"frames": 900, "share": 0.6, "without_hand": 4, "right": 720, "precision": 0.8}
    group |= {f"{name}_{of}": 9.87 for name in ("aligned_mm", "wrist_mm", "joints_2d") for of in ("median", "mean")}
    none = {key: None if key not in ("frames", "right", "without_hand") else 0 for key in group}
    lost = {**group, "frames": 600, "precision": 0.31, "right": 186}
    side = {"frames": 10, "told": 9, "share": 0.9}
    return {
        "right_when": {"aligned_mm": 15.0, "joints_2d": 0.15},
        "frames": 1500,
        "all": group,
        "kept": group,
        "rejected": lost,
        "by_rule": {"box_iou": lost, "bone_length": none},
        "sides": {f"{s}_{which}": side for s in ("left", "right") for which in ("all", "kept")},
    }


def fake_facts(**changes):
    """A run with all its parts, of made-up numbers."""
    rejected = dict.fromkeys(label_tables.RULES, 0) | {"box_iou": 300, "reprojection": 120, "joint_step": 180}
    labels = {
        "videos": {"listed": 60, "labelled": 50, "empty": 8, "quarantined": 2},
        "frames": {"decoded": 1500, "predicted": 1500, "kept": 900, "rejected": rejected},
        "seconds": 41.2,
        "frames_per_second": 36.4,
    }
    evaluation = {
        "teacher": {"ho3d": scores(14.2, 0.41), "freihand": scores(24.0)},
        "control": {"ho3d": scores(13.9, 0.45), "freihand": scores(23.6)},
        "student": {"ho3d": scores(13.5, 0.52), "freihand": scores(19.8)},
    }
    stages = [
        {"name": "synthesize", "what": "drew the world", "seconds": 30.5},
        {"name": "train", "what": "600 steps", "seconds": 80.0},
        {"name": "pseudo_label", "what": "60 videos", "seconds": None},
    ]
    facts = {
        "title": "Hand and object poses from unlabelled video",
        "stages": stages,
        "provenance": {"command": "python -m jobs.pipeline output=runs/tiny", "config": "abcdef123456"},
        "labelling": labels,
        "quality": fake_worth(),
        "evaluation": evaluation,
        "training": {"teacher": {"steps": 600, "samples": 480}, "student": {"steps": 900, "samples": 1380}},
    }
    return report.Facts(**{**facts, **changes})


def fake_gallery():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (228, 228, 3), dtype=np.uint8)
    pictures = [report.Picture(draw.jpeg(image), f"video {number}", "kept", "kept") for number in range(5)]
    return report.Gallery("Frames", "Some frames.", pictures, [{"colour": "#2e86de", "text": "hand box"}])


class Fetches(HTMLParser):
    """Collects what a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag in ("script", "link", "iframe", "object", "embed"):
            self.found.append(tag)
        self.found += [value for name, value in attrs if name in ("src", "href") and not value.startswith("data:")]


def test_the_page_fetches_nothing_and_runs_nothing():
    html = report.render(fake_facts(), galleries=[fake_gallery()])
    parser = Fetches()
    parser.feed(html)
    assert parser.found == []
    assert "default-src 'none'" in html
    assert "url(" not in html
    assert "@import" not in html


def test_what_comes_from_data_is_escaped():
    evil = "<script>alert(1)</script>"
    picture = report.Picture(draw.jpeg(np.zeros((8, 8, 3), np.uint8)), caption=evil, tag=evil)
    html = report.render(
        fake_facts(title=evil, provenance={evil: evil}), galleries=[report.Gallery(evil, evil, [picture])]
    )
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_every_part_may_be_missing_and_then_its_section_is():
    html = report.render(fake_facts(labelling=None, quality=None, evaluation={}, training={}))
    assert "Before and after" not in html
    assert "Pseudo-labels" not in html
    assert "How this was made" in html


def by_round(**first):
    frames = {"predicted": 200, "kept": 50}
    promised = {"precision": 0.9, "yield": 0.3}
    entry = {"frames": frames, "labels": {"precision": 0.8}, "promised": promised}
    return [{"round": 1, "network": "student", **entry, **first}, {"round": 2, "network": "student-2", **entry}]


def test_rounds_are_told_with_their_labels_and_their_students():
    evaluation = fake_facts().evaluation | {"student-2": {"freihand": scores(18.8)}}
    table = rounds.by_round(evaluation, by_round())
    column = table["columns"].index("MPJPE, out of domain (mm)")
    assert [row[1] for row in table["rows"]] == ["teacher", "student", "student-2"]
    assert [row[column] for row in table["rows"]] == ["24.0", "19.8", "18.8"]
    assert table["rows"][1][2:4] == ["50 (25 %)", "80 %"]
    html = report.render(fake_facts(evaluation=evaluation, by_round=by_round()))
    assert "<h3>By round</h3>" in html
    assert "<td>student-2</td>" in html
    assert rounds.by_round(evaluation, by_round()[:1]) is None


def test_what_calibration_promised_stands_beside_what_came_of_it():
    table = rounds.promises(by_round(promised=None, labels=None))
    assert table["rows"] == [["2", "90 %", "30 %", "80 %", "25 %"]]
    assert "What calibration promised" in report.render(fake_facts(by_round=by_round()))
    assert rounds.promises(by_round(promised=None)[:1]) is None


def test_a_promise_of_other_correct_labels_is_named():
    then, now = ({"aligned_mm": 15.0, "joints_2d": 0.15, "wrist_mm": wrist} for wrist in (30.0, None))
    told = "promised within PA-MPJPE 15 mm, MPJPE 30 mm, 2D error 0.15 box sides; measured within PA-MPJPE 15 mm, 2D"
    entries = by_round(right_when={"promised": then, "measured": now})
    assert told in rounds.promises(entries)["note"]
    assert told in report.render(fake_facts(by_round=entries))
    assert rounds.promises(by_round(right_when={"promised": now, "measured": now}))["note"] == ""
    kept = {"kept": 1, "precision": 1.0, "promised": 0.9}
    found = {"reliability": [], "kept": kept, "fitted": {"right_when": then}}
    assert told in label_tables.promise(found, now)["text"]
    for known in ({"right_when": then}, {}, None):  # models of earlier versions do not tell
        assert "CAUTION" not in label_tables.promise(found | {"fitted": known}, then)["text"]


def test_without_true_poses_the_worth_is_not_measured():
    assert "cannot be measured" in report.render(fake_facts(quality=None))


def test_a_quality_of_some_units_says_so():
    text = label_tables.quality(fake_worth() | {"units": {"read": 24, "all": 63}})["text"]
    assert text.endswith("Measured on 24 of 63 units, evenly spaced.")
    for units in ({}, {"units": {"read": 7, "all": 7}}):
        assert "units" not in label_tables.quality(fake_worth() | units)["text"]


def test_the_best_network_of_a_row_is_marked():
    labelled, wide = report_tables.comparison(fake_facts().evaluation)
    joints = next(row for row in wide["rows"] if row["label"] == "PA-MPJPE, joints aligned (mm)")
    assert wide["columns"] == ["teacher", "control", "student"]
    assert [cell["text"] for cell in joints["cells"]] == ["24.00", "23.60", "19.80"]
    assert [cell["best"] for cell in joints["cells"]] == [False, False, True]
    assert (joints["change"], joints["tone"]) == ("-4.20", "good")
    auc = next(row for row in labelled["rows"] if "joint AUC" in row["label"])
    assert (auc["change"], auc["tone"]) == ("+1.4", "good")  # higher is better here
    assert not any("object" in row["label"] for row in wide["rows"])  # no object truth there


def test_a_worse_student_is_called_worse():
    table = report_tables.comparison({"teacher": {"ho3d": scores(10.0)}, "student": {"ho3d": scores(12.0)}})[0]
    assert table["rows"][0]["tone"] == "bad"
    assert table["rows"][0]["cells"][0]["best"]


def test_what_looks_the_same_is_not_called_better_or_worse():
    evaluation = {"teacher": {"ho3d": scores(31.71)}, "student": {"ho3d": scores(31.74)}}
    row = report_tables.comparison(evaluation)[0]["rows"][0]
    assert [cell["text"] for cell in row["cells"]] == ["31.7", "31.7"]
    assert (row["change"], row["tone"]) == ("0.0", "")
    assert not any(cell["best"] for cell in row["cells"])
    card = report_tables.cards(None, None, evaluation, [])[0]
    assert card["tone"] == "soft"
    assert "31.7 → 31.7 mm" in card["value"]


def test_the_summary_names_the_data_kinds_and_counts_the_checks():
    facts = fake_facts(evaluation={"teacher": {"freihand": scores(24.0)}}, rules=["box_iou", "joint_step"], views=5)
    said = report_tables.summary(facts.labelling, facts.evaluation, facts.training, facts.rules)
    assert "passed 2 checks of space and time" in said
    assert said.endswith("none had seen, of a wider kind.")
    html = report.render(facts)
    assert "predicted from 5 augmented views. It is kept when it passes 2 checks" in html
    assert "seven" not in html
    bars = label_tables.labelling(facts.labelling, facts.rules)["bars"]
    assert [bar["label"].partition(":")[0] for bar in bars] == ["kept", "box_iou", "reprojection", "joint_step"]
    none_on = report_tables.summary(facts.labelling, {}, {}, [])
    assert "passed all checks (none was on) and were kept" in none_on
    both = report_tables.summary(None, fake_facts().evaluation, {})
    assert "of the labelled kind and of a wider kind" in both


@pytest.mark.parametrize(
    ("facts", "origin"),
    [
        ({"parents": {"data": {}, "init_checkpoint": "abc"}}, "from the weights of the teacher"),
        ({"parents": {"data": {}, "initial": "abc"}}, "from the weights of the teacher"),  # as older files have it
        ({"parents": {"data": {}}, "identity": {"train.initial": "abc"}}, "from the weights of the teacher"),
        ({"parents": {"data": {}, "init_checkpoint": "0123456789abcdef"}}, "from the weights 0123456789ab"),
        ({"parents": {"data": {}}, "identity": {"model.pretrained": None}}, "from scratch"),
        ({"parents": {}, "identity": {"model.pretrained": "imagenet"}}, "from scratch, with a backbone from imagenet"),
    ],
)
def test_the_report_names_what_a_network_started_from(facts, origin):
    training = {"teacher": {"steps": 600, "sha256": "abc"}, "student": {"steps": 900, **facts}}
    html = report.render(fake_facts(training=training), curves=[report.Picture(b"<?xml?><svg/>")])
    assert f"student: 900 steps, {origin}." in html
    assert f"student: labelled images and pseudo-labels, {origin}." in html
    assert f"trained on both together, starting {origin}." in html
    assert "teacher: 600 steps;" in html  # whose facts do not tell
    assert origin == "from scratch" or "from scratch." not in html


def test_counts_that_do_not_add_up_are_shown_as_such():
    labels = dict(fake_facts().labelling)
    assert [check["holds"] for check in label_tables.labelling(labels)["checks"]] == [True, True]
    labels["videos"] = {**labels["videos"], "quarantined": 1}
    assert [check["holds"] for check in label_tables.labelling(labels)["checks"]] == [False, True]


def test_bars_are_as_long_as_their_counts():
    bars = label_tables.labelling(fake_facts().labelling)["bars"]
    predicted = fake_facts().labelling["frames"]["predicted"]
    shares = [100 * 900 / predicted, 100 * 300 / predicted]
    assert [bar["width"] for bar in bars[:2]] == pytest.approx(shares, abs=0.01)
    assert len(bars) == 1 + len(label_tables.RULES)


def test_a_picture_knows_its_kind():
    assert report.Picture(draw.jpeg(np.zeros((8, 8, 3), np.uint8))).uri.startswith("data:image/jpeg;base64,")
    assert report.Picture(b"\x89PNG...").uri.startswith("data:image/png")
    assert report.Picture(b"<?xml?><svg/>").uri.startswith("data:image/svg+xml")


@pytest.mark.parametrize(
    ("value", "said"), [(12.34, "12.3 s"), (200, "3 min 20 s"), (3599.6, "1 h 00 min"), (7260, "2 h 01 min")]
)
def test_times_read_as_people_write_them(value, said):
    assert formats.seconds(value) == said


@pytest.mark.parametrize(("value", "said"), [(None, "–"), (0.5, "50 %"), (0.0123, "1.2 %"), (1.0, "100 %")])
def test_shares_are_written_in_per_cent(value, said):
    assert formats.percent(value) == said


def test_the_page_is_well_formed():
    html = report.render(fake_facts(), galleries=[fake_gallery()])
    for tag in ("section", "table", "div", "figure", "tr", "td", "ul"):
        assert len(re.findall(rf"<{tag}\b", html)) == html.count(f"</{tag}>"), tag


def labelled(path):
    """A labelling run's own settings, and its output as far as provenance reads it."""
    made = settings.changed(
        Config(), seed=5, videos={"root": "/videos", "boxes": "/boxes"}, teacher={"checkpoint": "/teacher.pt"}
    )
    store = open_store(str(path))
    commits.open_run(store, {"filters.min_box_iou": 0.6}, {"config": settings.to_tree(made)})
    store.put(commits.REPORT, b"{}")
    return made, store.root


def provenance(path):
    return job.provenance(settings.changed(Config(), output=str(path)), job.gather(open_store(str(path))))


def test_labels_alone_come_from_their_own_command_and_settings(tmp_path):
    made, root = labelled(tmp_path / "labels")
    found = provenance(tmp_path / "labels")
    assert found["command"].startswith("python -m jobs.pseudo_label ")
    assert typed(found["command"]) == settings.changed(made, output=root)
    assert found["seed"] == "5"
    assert found["settings"] == settings.digest(made)
    assert "labels" in found


def test_refiltered_labels_name_their_run_and_their_filters(tmp_path):
    store = open_store(str(tmp_path))
    made = settings.changed(Config(), filters={"min_box_iou": 0.6})
    facts = {"config": settings.to_tree(made), "refiltered": "/labels"}
    refined = {f"refine.{name}": value for name, value in settings.to_tree(made.refine).items()}
    judged = {"filters.min_box_iou": 0.7, "refiltered": "abc", **refined, "refine.one_shape": True}
    commits.open_run(store, judged, facts)
    store.put(commits.REPORT, b"{}")
    found = provenance(tmp_path)
    assert found["command"].startswith("python -m jobs.refilter ")
    again = typed(found["command"])
    assert (again.data.pseudo.labels, again.output, again.filters.min_box_iou) == ("/labels", store.root, 0.7)
    assert again.refine.one_shape
    new = {"filters": {"min_box_iou": 0.7}, "refine": {"one_shape": True}}
    assert found["settings"] == settings.digest(settings.changed(made, **new))


def test_only_a_pipelines_output_has_a_pipelines_command(tmp_path):
    labelled(tmp_path / "labels")
    assert "jobs.pseudo_label" in provenance(tmp_path)["command"]
    marker = {"what": "", "seconds": 1, "settings": {}, "inputs": {}, "made": "x"}
    open_store(str(tmp_path)).put("stages/pseudo_label.json", json.dumps(marker).encode())
    assert provenance(tmp_path)["command"] == f"python -m jobs.pipeline output={tmp_path}"
    called = settings.changed(Config(), output=str(tmp_path), control=True, train={"steps": 7})
    open_store(str(tmp_path)).put("pipeline.json", json.dumps(settings.to_tree(called)).encode())
    found = provenance(tmp_path)
    assert found["command"].startswith("python -m jobs.pipeline ")
    assert typed(found["command"]) == called
    assert found["settings"] == settings.digest(called)


def test_a_report_by_hand_finds_the_labelled_videos(tmp_path):
    made = settings.changed(Config(), videos={"root": "/w/videos", "boxes": "/w/boxes"}, world="/w")
    store = open_store(str(tmp_path / "labels"))
    commits.open_run(store, {}, {"config": settings.to_tree(made)})
    store.put(commits.REPORT, b"{}")
    found = job.gather(open_store(str(tmp_path)))
    config = job.with_inputs(Config(output=str(tmp_path)), found)
    assert (config.videos, config.world) == (made.videos, "/w")
    given = settings.changed(Config(), videos={"root": "/mine"})
    assert job.with_inputs(given, found) == given


def pipeline_with(path, **changes):
    """The output of a pipeline as far as a report by hand looks for its settings."""
    made = settings.changed(Config(), calibrate={"max_wrist_mm": 30}, train={"pseudo_fraction": 0.5}, **changes)
    open_store(str(path)).put("pipeline.json", json.dumps(settings.to_tree(made)).encode())
    return job.gather(open_store(str(path)))


def test_a_report_by_hand_measures_as_the_pipeline_did(tmp_path):
    found = pipeline_with(tmp_path)
    config, notes = job.as_made(settings.from_tree({"train": {"epochs": 3}}), found)
    assert (config.calibrate.max_wrist_mm, config.train.pseudo_fraction, config.train.epochs) == (30, 0.5, 3)
    assert notes == []
    given = {"calibrate": {"max_wrist_mm": 20, "max_aligned_mm": 15}, "train": {"pseudo_fraction": 0.5}}
    config, notes = job.as_made(settings.from_tree(given), found)
    assert config.calibrate.max_wrist_mm == 20
    assert [note.partition(". ")[0] for note in notes] == [
        "measured with calibrate.max_wrist_mm=20.0, as given; pipeline.json has 30.0"
    ]
    assert "calibrate.max_wrist_mm=20.0" in report.render(fake_facts(notes=notes))
    assert job.as_made(Config(), job.gather(open_store(str(tmp_path / "none")))) == (Config(), [])


def test_labels_alone_are_measured_as_their_run_says(tmp_path, monkeypatch):
    store, seen = open_store(str(tmp_path)), []
    made = settings.changed(Config(), calibrate={"max_wrist_mm": 30})
    commits.open_run(store, {}, {"config": settings.to_tree(made)})
    facts = {"videos": {"listed": 1}, "frames": {"kept": 1, "predicted": 1, "rejected": {}, "filled": 0}}
    store.put(commits.REPORT, json.dumps(facts | {"quarantine": {}, "seconds": 1.0}).encode())
    monkeypatch.setattr(job.labelled_frames, "read", lambda config, *of: seen.append(config.calibrate.max_wrist_mm))
    monkeypatch.setattr(job.report, "render", lambda facts, **pictures: facts.title)
    assert job.main([f"output={tmp_path}"]) == 0
    assert job.main([f"output={tmp_path}", "calibrate.max_wrist_mm=20"]) == 0
    assert seen == [30, 20]
    assert len(json.loads(store.get(job.PAGE))["notes"]) == 1


def test_a_report_on_labels_alone_leaves_the_labels_own(tmp_path, monkeypatch):
    _, root = labelled(tmp_path / "labels")
    monkeypatch.setattr(job.labelled_frames, "read", lambda *of: None)
    facts = {"videos": {"listed": 1}, "frames": {"kept": 1, "predicted": 1, "rejected": {}, "filled": 0}}
    own = json.dumps(facts | {"quarantine": {}, "seconds": 1.0, "frames_per_second": 1.0}).encode()
    store = open_store(root)
    store.put(commits.REPORT, own)
    monkeypatch.setattr(job.report, "render", lambda facts, **pictures: facts.title)
    for _ in range(2):
        assert job.main([f"output={root}"]) == 0
    assert store.get(commits.REPORT) == own
    assert json.loads(store.get(job.PAGE))["labelling"] == json.loads(own)


def unfinished(path, committed, expected, **reported):
    """A labelling run with so many of its units, and maybe a report of before."""
    store = open_store(str(path))
    commits.open_run(store, {}, {"units": expected, "config": settings.to_tree(Config())})
    for number in range(committed):
        store.put(commits.commit_key(f"u{number:06d}"), b"{}")
    if reported:
        facts = {"videos": {"listed": 1}, "frames": {"kept": 1, "predicted": 1}}
        store.put(commits.REPORT, json.dumps(facts | reported).encode())
    return store


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_labels_that_grow_are_not_mixed_with_their_former_report(tmp_path, capsys, dry):
    store = unfinished(tmp_path / "labels", committed=3, expected=5, units=2)
    assert job.main([f"output={store.root}", *dry]) == 2
    error = " ".join(capsys.readouterr().err.split())
    makers = "jobs.pseudo_label, a pipeline or a study"
    assert f"3 of 5 units are committed. Repeat the command that made it ({makers}), or see jobs.status" in error
    with pytest.raises(InputError, match="3 of 5 units"):
        label_measures.measured(store, None, Config())


def test_a_report_of_fewer_units_than_are_committed_is_refused(tmp_path):
    store = unfinished(tmp_path / "labels", committed=5, expected=5, units=3)
    for read in (lambda: label_measures.measured(store, None, Config()), lambda: job.labelling_facts(store, PRICES)):
        with pytest.raises(InputError, match=r"all 5 units are committed, and its report\.json tells of 3"):
            read()


def test_labels_without_a_report_tell_how_far_they_are(tmp_path, capsys):
    unfinished(tmp_path / "labels", committed=1, expected=4)
    assert job.main([f"output={tmp_path / 'labels'}"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "nothing to report yet" in error
    assert "1 of 4 units are committed" in error
    marker = {"what": "", "seconds": 1, "settings": {}, "inputs": {}, "made": "x"}
    open_store(str(tmp_path)).put("stages/train.json", json.dumps(marker).encode())
    assert job.main([f"output={tmp_path}", "--dry-run"]) == 0  # a pipeline has other parts
    assert "reported without labels" in capsys.readouterr().out


def test_the_fingertips_are_those_of_the_labelling_run(tmp_path):
    tips = {"mano.fingertips": "smplx"}  # of the teacher's checkpoint: the command has named others
    commits.open_run(open_store(str(tmp_path)), tips, {"config": settings.to_tree(Config())})
    open_store(str(tmp_path)).put(commits.REPORT, b"{}")
    found = job.gather(open_store(str(tmp_path)))
    config, notes = job.as_made(settings.from_tree({}), found)
    assert (config.mano.fingertips, notes) == ("smplx", [])
    config, notes = job.as_made(settings.from_tree({"mano": {"fingertips": "manopth"}}), found)
    assert config.mano.fingertips == "manopth"
    assert "mano.fingertips=manopth, as given; run.json has smplx" in notes[0]


def test_prices_of_labels_without_costs_are_told(tmp_path, monkeypatch, capsys):
    _, root = labelled(tmp_path / "labels")
    monkeypatch.setattr(job.labelled_frames, "read", lambda *of: None)
    monkeypatch.setattr(job.report, "render", lambda facts, **pictures: facts.title)
    facts = {"videos": {"listed": 1}, "frames": {"kept": 1, "predicted": 1, "rejected": {}, "filled": 0}}
    open_store(root).put(commits.REPORT, json.dumps(facts).encode())
    for prices, told in (([], 0), (["report.price_per_gpu_hour=2.5"], 1)):
        assert job.main([f"output={root}", *prices]) == 0
        assert capsys.readouterr().out.count("note: report.price_per_* count nothing") == told
