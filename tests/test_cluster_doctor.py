"""A cluster's nodes examined: each fault is named with a remedy; equal findings of many nodes are one row."""

from __future__ import annotations

import contextlib
import os

import pytest

from cluster import checkup, node_checks
from cluster.node_checks import FAULT, NOTE, OK, Asked, Finding
from hojoint.config import Config, changed
from jobs import cluster_doctor, doctor

HERE = {"python": "3.11.2", "ray": "2.60.0", "torch": "2.15.0", "numpy": "2.4.6", "pyarrow": "26.0"}


def states(findings):
    return [finding.state for finding in findings]


@pytest.fixture
def asked(tmp_path):
    """Questions about a folder and a file that exist, and an output that holds the driver's probe."""
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.webm").touch()
    (tmp_path / "boxes.json").write_text("[]")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "probe").touch()
    places = {"videos.root": str(tmp_path / "videos"), "videos.boxes": str(tmp_path / "boxes.json")}
    seen = {name: node_checks.description(place) for name, place in places.items()}
    return Asked(places, seen, str(tmp_path / "out"), "probe", str(tmp_path / "cache"), "", node_checks.versions())


def test_a_node_that_shares_everything_is_well(asked, tmp_path):
    findings = node_checks.examine(asked, {"object_store_memory": 1.0})
    by_check = {finding.check: finding for finding in findings if finding.check not in ("disk", "GPU")}
    assert {name: finding.state for name, finding in by_check.items()} == {
        "versions": OK, "mounts": OK, "output": OK, "shared memory": OK,
    }  # fmt: skip
    assert [path.name for path in (tmp_path / "out").glob("probe*")] == ["probe"]


def test_a_mount_that_is_missing_or_another_is_a_fault(asked, tmp_path):
    (tmp_path / "videos" / "a.webm").rename(tmp_path / "boxes.json")
    (first, second) = node_checks._mounts(asked)
    assert first.state == second.state == FAULT
    assert "a folder of 0 entries (driver: a folder of 1 entries)" in first.found
    assert "a file of 0 bytes (driver: a file of 2 bytes)" in second.found
    assert "mount the same folder" in first.remedy
    (tmp_path / "boxes.json").unlink()
    assert "missing (driver" in list(node_checks._mounts(asked))[1].found


def test_an_output_of_its_own_is_a_fault(asked, tmp_path):
    (tmp_path / "out" / "probe").unlink()
    (finding,) = node_checks._output(asked)
    assert finding.state == FAULT
    assert "do not share it" in finding.found


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (HERE, [OK]),
        (HERE | {"numpy": "2.1.0"}, [NOTE]),
        (HERE | {"torch": "2.10.0"}, [FAULT]),
        (HERE | {"pyarrow": ""}, [FAULT]),
        (HERE | {"ray": "2.59.0", "numpy": "2.1.0"}, [FAULT, NOTE]),
    ],
)
def test_other_versions_are_named(there, expected):
    findings = list(node_checks.versions_of(HERE, there))
    assert states(findings) == expected
    assert all(finding.remedy for finding in findings if finding.state != OK)


def test_the_installed_versions_are_found():
    found = node_checks.versions()
    assert all(found[name] for name in node_checks.MUST_AGREE)
    assert states(node_checks.versions_of(found)) == [OK]


@pytest.mark.parametrize(
    ("ahead_s", "error_s", "state", "words"),
    [
        (0.2, 0.1, OK, "within 5 s"),
        (-8.0, 4.0, OK, "within 5 s"),
        (-30.0, 1.0, NOTE, "29 s behind the driver"),
        (901.0, 1.0, FAULT, "900 s ahead of the driver"),
    ],
)
def test_a_clock_that_is_off_is_told(ahead_s, error_s, state, words):
    finding = node_checks.clock("the driver", ahead_s, error_s)
    assert finding.state == state
    assert words in finding.found


def test_disks_memory_and_gpus_have_their_limits():
    gb = 10**9
    assert [node_checks.disk("x", 1000 * gb, free * gb).state for free in (500, 30, 0)] == [OK, FAULT, FAULT]
    assert [node_checks.disk("x", 100 * gb, free * gb).state for free in (50, 8, 0)] == [OK, NOTE, FAULT]
    assert [node_checks.shared_memory(total * gb, 2.0 * gb).state for total in (4, 0.064)] == [OK, FAULT]
    cards = ["H100, 570.1", "H100, 570.1"]
    assert [node_checks.gpus(count, cards).state for count in (2, 1, 3)] == [OK, NOTE, FAULT]
    assert node_checks.gpus(0, []).found == "none"


def test_credentials_are_told_by_source_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-word")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-word")
    finding = node_checks._credentials()
    assert finding == Finding("credentials", OK, "from env")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    assert node_checks._credentials().state == FAULT


def test_another_endpoint_than_the_drivers_is_a_fault(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(node_checks, "_bucket", lambda setting, uri: iter(()))
    asked = Asked({"videos.root": "s3://b/v"}, {}, None, "p", None, "http://store:1", {})
    first, *_ = node_checks._storage(asked)
    assert (first.check, first.state) == ("endpoint", FAULT)
    assert "driver: http://store:1" in first.found
    assert list(node_checks._storage(Asked({}, {}, "/out", "p", None, "", {}))) == []


@pytest.mark.s3
def test_a_real_store_answers_with_its_clock(bucket):
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    asked = Asked({"videos.root": f"{bucket}/none"}, {}, bucket, "p", None, endpoint, {})
    findings = list(node_checks._storage(asked))
    assert [(finding.check, finding.state) for finding in findings] == [
        ("endpoint", OK), ("credentials", OK), ("mounts", FAULT), ("clock", OK), ("mounts", OK), ("clock", OK),
    ]  # fmt: skip


def test_equal_findings_are_one_row_in_the_order_of_checks():
    well, full = Finding("disk", OK, "room"), Finding("disk", FAULT, "no room", "free some")
    node = Finding("node", OK, "answers")
    found = {f"n{number}": [well if number else full, node] for number in range(7)}
    rows = checkup.rows(found)
    assert [(row.finding, len(row.nodes)) for row in rows] == [(node, 7), (full, 1), (well, 6)]
    text = cluster_doctor.text(rows)
    assert "all 7" in text
    assert "n1, n2, n3, n4 and 2 more" in text
    assert text.splitlines()[-1] == "remedy: disk, n0: free some"


def test_nodes_of_one_name_are_told_apart():
    nodes = [
        {"NodeName": "10.0.0.1", "NodeID": "abcdefgh"},
        {"NodeName": "10.0.0.1", "NodeID": "ijklmnop"},
        {"NodeName": "", "NodeManagerAddress": "10.0.0.2", "NodeID": "q"},
    ]
    assert list(checkup._named(nodes)) == ["10.0.0.1 (abcdef)", "10.0.0.1 (ijklmn)", "10.0.0.2"]


def test_gpus_that_no_node_has_are_a_fault():
    config = changed(Config(), cluster={"teacher_gpus": 0.5})
    bare, card = {"Resources": {"CPU": 4}}, {"Resources": {"CPU": 4, "GPU": 1}}
    assert states(checkup._of_cluster(config, {"a": bare}, 0, [])) == [FAULT]
    assert checkup._of_cluster(config, {"a": bare, "b": card}, 0, []) == []
    assert states(checkup._of_cluster(Config(), {"a": bare}, 2, [])) == [NOTE]


def test_gpu_nodes_that_come_on_demand_are_no_fault():
    config = changed(Config(), cluster={"teacher_gpus": 1})
    head = {"head": {"Resources": {}}}
    (found,) = checkup._of_cluster(config, head, 0, [{"CPU": 4.0}, {"CPU": 4.0, "GPU": 1.0}])
    assert found.state == NOTE
    assert "no node has one now; the autoscaler may start some" in found.found
    assert states(checkup._of_cluster(config, head, 0, [{"CPU": 4.0}])) == [FAULT]


@pytest.mark.parametrize(
    ("output", "left"), [("new/boxes.parquet", []), ("new/deep/labels", []), ("kept/labels", ["kept"])]
)
def test_the_doctor_leaves_nothing_in_an_output(monkeypatch, tmp_path, output, left):
    """A folder of the name would keep jobs.detect from writing the file; its run lies beside it."""
    for name in left:
        (tmp_path / name).mkdir()
    looked = []

    def examine(alive, asked, found, limit_s):
        looked.extend(node_checks._output(asked))

    monkeypatch.setattr(checkup, "_examine", examine)
    monkeypatch.setattr(checkup.session, "start", lambda config: contextlib.nullcontext())
    monkeypatch.setattr(checkup.ray, "nodes", list)
    monkeypatch.setattr(checkup.capacity, "startable", list)
    rows = checkup.check(Config(output=str(tmp_path / output)), {})
    assert states(looked) == [OK]
    assert (".parquet.run is shared" in looked[0].found) == output.endswith(".parquet")
    assert [row.finding for row in rows if row.finding.state == FAULT] == []
    assert [path.name for path in tmp_path.rglob("*")] == left


def test_a_store_that_cannot_be_opened_is_a_row(monkeypatch):
    monkeypatch.setattr(checkup, "_examine", lambda *_: None)
    monkeypatch.setattr(checkup.session, "start", lambda config: contextlib.nullcontext())
    monkeypatch.setattr(checkup.ray, "nodes", list)
    monkeypatch.setattr(checkup.capacity, "startable", list)
    rows = checkup.check(Config(output="gs://bucket/labels"), {})
    assert [(row.finding.check, row.finding.state) for row in rows] == [("output", FAULT)]


def test_only_places_that_jobs_read_are_examined():
    config = changed(
        Config(),
        videos={"root": "/v"}, model={"pretrained": "imagenet"}, teacher={"checkpoint": "s3://b/t.pt"}, output="/o",
    )  # fmt: skip
    assert cluster_doctor.places_of(config) == {"videos.root": "/v", "teacher.checkpoint": "s3://b/t.pt"}


def test_the_word_cluster_stands_for_a_setting(capsys):
    assert doctor.named(["cluster", "videos=/v"]) == ["doctor.cluster=true", "videos.root=/v"]
    assert doctor.main(["cluster", "cluster.address=auto", "videos=/v", "--dry-run"]) == 0
    assert "every node of auto, with videos.root" in capsys.readouterr().out


def test_a_dashboards_address_sends_the_doctor_there(monkeypatch):
    sent = []
    monkeypatch.setattr(cluster_doctor.submit, "send", lambda config, name, dry_run: sent.append((name, dry_run)))
    assert doctor.main(["cluster", "cluster.address=http://127.0.0.1:1"]) == 0
    assert sent == [("doctor", False)]


def test_faults_are_exit_code_2_and_a_table(monkeypatch, capsys):
    rows = checkup.rows({"n": [Finding("GPU", FAULT, "lost", "find it")]})
    monkeypatch.setattr(checkup, "check", lambda config, places: rows)
    assert doctor.main(["cluster"]) == 2
    said = capsys.readouterr()
    assert "remedy: GPU, all 1: find it" in said.out
    assert "the cluster has faults: GPU" in said.err
    monkeypatch.setattr(checkup, "check", lambda config, places: checkup.rows({"n": [Finding("GPU", OK, "none")]}))
    assert doctor.main(["cluster"]) == 0


def test_a_silent_node_is_a_fault():
    import ray

    assert "has not answered for 3 s" in checkup._silent(ray.exceptions.GetTimeoutError("x"), 3.0).found
    died = checkup._silent(ray.exceptions.RayError("first\nThe node died."), 3.0)
    assert died.found == "cannot be examined: The node died."
