"""What Prometheus and Grafana read: every name exists, alerts fire when they should, held gauges are set again."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from cluster import metrics

FOLDER = Path(metrics.__file__).parent / "observability"
NAMES = {
    f"ray_{name}_total" if metric.kind == "counter" else f"ray_{name}": metric
    for name, metric in metrics.METRICS.items()
}
LABELS = r"(?:by|on|without|ignoring)\s*\(([^)]*)\)"


def expressions():
    """(file, expression) of every panel and rule."""
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    yield from (("alerts.yml", rule["expr"]) for group in rules for rule in group["rules"])

    def targets(node):
        if isinstance(node, dict):
            if "expr" in node:
                yield node["expr"]
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                yield from targets(child)

    yield from (("dashboard.json", text) for text in targets(json.loads((FOLDER / "dashboard.json").read_text())))


def test_every_name_that_a_panel_or_a_rule_reads_is_a_metric():
    found = [(file, name) for file, text in expressions() for name in re.findall(r"ray_hojoint_\w+", text)]
    assert [pair for pair in found if pair[1] not in NAMES] == []
    assert {file for file, _ in found} == {"alerts.yml", "dashboard.json"}
    seen = {name for _, name in found}
    assert sorted(NAMES.keys() - seen) == ["ray_hojoint_committed_frames"]  # told by status; panels show rates


def test_labels_in_groupings_are_labels_of_the_metrics():
    known = {"run", "instance", "NodeAddress", "SessionName", "GpuIndex", "le"}
    known |= {label for metric in metrics.METRICS.values() for label in metric.labels}
    for file, text in expressions():
        if "hojoint" not in text:
            continue
        used = {word.strip() for group in re.findall(LABELS, text) for word in group.split(",")}
        assert used <= known, (file, text)


class Gauge:
    def __init__(self, name):
        self.info, self.calls = {"name": name}, []

    def set(self, value, labels):
        self.calls.append((value, dict(labels)))


def test_held_gauges_are_set_again_until_the_end(monkeypatch):
    monkeypatch.setattr(metrics, "AGAIN_S", 0.01)
    gauge = Gauge("hojoint_committed_videos")
    with metrics.Held() as held:
        held.hold(gauge, 1, outcome="kept")
        held.hold(gauge, 5, outcome="kept")
        held.hold(gauge, 2, outcome="quarantined")
        deadline = time.monotonic() + 10
        while len(gauge.calls) < 9 and time.monotonic() < deadline:
            time.sleep(0.01)
    calls = len(gauge.calls)
    again = gauge.calls[3:]
    assert len(again) >= 6
    assert (1, {"outcome": "kept"}) not in again  # the last value is held, one per label
    assert {(value, labels["outcome"]) for value, labels in again} == {(5, "kept"), (2, "quarantined")}
    time.sleep(0.1)
    assert len(gauge.calls) == calls


def test_a_retry_counts_for_the_output_that_is_worked_on(monkeypatch):
    """The store that was asked stands beside it: videos may lie in another bucket."""
    counted = []

    def of_run(name, run, **labels):
        return SimpleNamespace(inc=lambda value, own: counted.append((name, run, labels | own, value)))

    monkeypatch.setattr(metrics, "of_run", of_run)
    monkeypatch.setattr(metrics.ray, "is_initialized", lambda: True)
    with metrics.Held("s3://b/labels"):
        metrics.count_retry("s3://videos", "ClientError")
    metrics.count_retry("s3://videos", "ClientError")
    facts = {"store": "s3://videos", "reason": "ClientError"}
    assert counted == [
        ("hojoint_store_retries", "s3://b/labels", facts, 1), ("hojoint_store_retries", "s3://videos", facts, 1),
    ]  # fmt: skip


RULE_TESTS = """
rule_files: [{alerts}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:  # commits at minute 0 and never again; the run lives for 90 minutes
      - {{series: 'ray_hojoint_last_commit_timestamp_seconds{{run="a",stage="labelling"}}', values: '0x90 _x60'}}
      - {{series: 'ray_hojoint_listed_videos{{run="a",stage="labelling"}}', values: '500x90 _x60'}}
      - {{series: 'ray_hojoint_listed_videos{{run="b",stage="labelling"}}', values: '500x90 _x60'}}
      - {{series: 'ray_hojoint_actors_alive{{run="b",stage="labelling"}}', values: '0x60 1x30 _x60'}}
      - {{series: 'ray_hojoint_actors_wanted{{run="b",stage="labelling"}}', values: '8x90 _x60'}}
      - {{series: 'ray_hojoint_committed_videos{{run="a",stage="labelling",outcome="quarantined"}}', values: '10x90'}}
      - {{series: 'ray_hojoint_committed_videos{{run="a",stage="labelling",outcome="kept"}}', values: '90x90'}}
      - {{series: 'ray_hojoint_last_commit_timestamp_seconds{{run="e",stage="detection"}}', values: '0x90 _x60'}}
      - {{series: 'ray_hojoint_listed_videos{{run="f",stage="detection"}}', values: '500x90 _x60'}}
      - {{series: 'ray_hojoint_frames_total{{run="e",stage="detection",verdict="ok"}}', values: '0+9x20 180x70 _x60'}}
      - {{series: 'ray_hojoint_frames_total{{run="f",stage="detection",verdict="ok"}}', values: '0+9x90 _x60'}}
      - {{series: 'ray_hojoint_training_steps{{run="c",stage="teacher"}}', values: '0+10x30 300x60 _x60'}}
      - {{series: 'ray_hojoint_actors_alive{{run="h",stage="labelling",driver="1"}}', values: '3x90 _x60'}}
      - {{series: 'ray_hojoint_actors_alive{{run="h",stage="labelling",driver="2"}}', values: '0x90 _x60'}}
      - {{series: 'ray_hojoint_actors_wanted{{run="h",stage="labelling",driver="1"}}', values: '4x45 8x45 _x60'}}
      - {{series: 'ray_hojoint_actors_wanted{{run="h",stage="labelling",driver="2"}}', values: '1x90 _x60'}}
      - {{series: 'ray_hojoint_store_retries_total{{run="a",store="s3://v",reason="x"}}', values: '0x4 0+8x5 40x80'}}
      - {{series: 'ray_hojoint_training_steps{{run="g",stage="teacher"}}', values: '0x15 0+10x80 _x60'}}
      - {{series: 'ray_hojoint_training_steps{{run="d",stage="teacher"}}', values: '0+10x90 _x60'}}
    alert_rule_test:
{wanted}
"""


def rule_tests():
    """What fires for which run at which minute."""
    wanted = [
        ("HojointNoCommit", 30, []),
        ("HojointNoCommit", 40, ["a"]),
        ("HojointNoCommit", 70, ["a", "e"]),  # e looked at pictures for 20 minutes, and has stopped since
        ("HojointNoCommit", 100, []),  # the run has ended
        ("HojointNothingCommitted", 50, ["b"]),  # not of a run that has committed, or looks at pictures
        ("HojointNothingCommitted", 100, []),
        ("HojointNoTeachers", 5, []),
        ("HojointNoTeachers", 20, ["b"]),
        ("HojointNoTeachers", 70, []),
        ("HojointFewTeachers", 43, ["b"]),
        ("HojointFewTeachers", 85, ["b", "h"]),  # h: two drivers, with 3 of 5 actors, and of 9 later
        ("HojointQuarantine", 10, ["a"]),
        ("HojointStoreRetries", 4, []),
        ("HojointStoreRetries", 9, ["a"]),  # an outage of five minutes from minute 5, one process waits
        ("HojointStoreRetries", 15, []),
        ("HojointTrainingStalled", 14, []),  # g compiles for 15 minutes
        ("HojointTrainingStalled", 40, []),
        ("HojointTrainingStalled", 60, ["c"]),
        ("HojointTrainingStalled", 100, []),
    ]
    runs = {"a": "labelling", "b": "labelling", "c": "teacher", "e": "detection", "h": "labelling"}
    for name, minute, firing in wanted:
        alerts = ", ".join(alert(name, run, runs) for run in firing)
        yield f"      - {{eval_time: {minute}m, alertname: {name}, exp_alerts: [{alerts}]}}"


def alert(name, run, runs):
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
    severity = next(rule["labels"]["severity"] for rule in rules if rule["alert"] == name)
    stage = "" if name == "HojointStoreRetries" else f"stage: {runs[run]}, "
    return f"{{exp_labels: {{run: {run}, {stage}severity: {severity}}}}}"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, of the package prometheus")
def test_the_alerts_fire_when_they_should_and_not_after_the_end(tmp_path):
    bare = re.sub(r"        annotations:\n(          .*\n)+", "", (FOLDER / "alerts.yml").read_text())
    (tmp_path / "alerts.yml").write_text(bare)  # texts hold values; what fires is the question here
    (tmp_path / "tests.yml").write_text(RULE_TESTS.format(alerts="alerts.yml", wanted="\n".join(rule_tests())))
    for command in (["check", "rules", str(FOLDER / "alerts.yml")], ["test", "rules", str(tmp_path / "tests.yml")]):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
