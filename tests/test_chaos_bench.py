"""The benchmark of chaos: its store obeys and misbehaves as told, and its comparison finds every wrong row."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labelled import TINY_WORDS

from cluster import chaos_bench, chaos_rows, chaos_store, patience
from cluster.chaos_rows import Difference
from cluster.chaos_store import CUT, FULL, LOST, REFUSED, RESET, SKEW, SLOW, ChaosStore
from cluster.labelling import commits, quality_files
from cluster.labelling.counts import Counts
from cluster.store import Store, check_conditional, open_store
from cluster.store.local import LocalStore
from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError, MachineError
from hojoint.labelling import tables
from jobs import bench, command

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChaosStore]:
    monkeypatch.setattr(chaos_store, "SLOW_S", 0.5)
    monkeypatch.setattr(chaos_store, "WINDOW_S", 0.4)
    (tmp_path / "bucket").mkdir()
    with chaos_store.serving(tmp_path) as server, patience.granted(20):
        yield server


@pytest.fixture
def store(server: ChaosStore) -> Store:
    return open_store("s3://bucket/some/place")


def test_the_store_keeps_what_both_clients_send(store: Store, tmp_path: Path) -> None:
    check_conditional(store)
    (tmp_path / "file").write_bytes(CONTENT)
    store.put_file("a/file", tmp_path / "file")
    assert store.put_new("a/new", b"1")
    assert not store.put_new("a/new", b"2")
    assert (store.get("a/file"), store.get("a/new")) == (CONTENT, b"1")
    assert sorted(store.list("a")) == ["a/file", "a/new"]
    filesystem, root = store.filesystem()
    with filesystem.open_input_file(f"{root}/a/file") as file:
        file.seek(300)
        assert file.read(7) == CONTENT[300:307]
    store.delete("a/new")
    assert not store.exists("a/new")
    with pytest.raises(KeyError):
        store.get("a/new")


@pytest.mark.parametrize("fault", [REFUSED, RESET, CUT, LOST, SLOW, FULL])
def test_a_fault_strikes_once_and_is_ridden_out(fault: str, store: Store, server: ChaosStore) -> None:
    store.put("x", CONTENT)
    before, began = server.requests, time.monotonic()
    server.arm(fault)
    assert store.put_new("y", b"1")  # where the answer is lost, the repeated one is told that the key exists
    assert store.get("x") == CONTENT
    assert server.hits == 1
    repeated = server.requests - before > 2
    assert repeated or (fault == SLOW and time.monotonic() - began >= chaos_store.SLOW_S)
    assert store.get("y") == b"1"


def test_a_wrong_clock_is_said_and_passes(store: Store, server: ChaosStore) -> None:
    server.arm(SKEW)
    with pytest.raises(MachineError, match="clock of the node"):
        store.put("x", b"1")
    assert server.hits == 1
    time.sleep(chaos_store.WINDOW_S)
    store.put("x", b"2")
    assert store.get("x") == b"2"


def row(frame: int, x: float = 1.0) -> dict[str, object]:
    plain = dict.fromkeys(tables.PREDICTIONS_SCHEMA.names) | {"video_id": "7", "clip_id": "7-0"}
    words = {"verdict": "kept", "teacher": "t", "flipped": False}
    return plain | words | {"frame": frame, "joints_px": [x] * 42}


def write(folder: Path, *units: list[dict[str, object]]) -> Path:
    """An output whose units have these predictions."""
    store = LocalStore(folder)
    for number, rows in enumerate(units):
        made = {
            "predictions": pa.Table.from_pylist(rows, schema=tables.PREDICTIONS_SCHEMA),
            "pseudo_labels": tables.PSEUDO_LABELS_SCHEMA.empty_table(),
            "quarantine": commits.quarantine_table([]),
        }
        commits.commit(store, f"u{number:06d}", "a", made, counts=Counts(), started=0.0, seconds={})
    return folder


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ([[row(0), row(1)], [row(2)]], Difference()),
        ([[row(2)], [row(1), row(0, 1.0 + 1e-5)]], Difference()),  # another order, and float noise
        ([[row(0), row(1)], []], Difference(lost=1)),
        ([[row(0), row(1)], [row(2), row(1)]], Difference(twice=1)),
        ([[row(0), row(1)], [row(2, 1.5)]], Difference(different=1)),
        ([[row(0), row(1)], [row(2), row(3)]], Difference(different=1)),
    ],
)
def test_every_wrong_row_is_found(units, expected: Difference, tmp_path: Path) -> None:
    reference = write(tmp_path / "reference", [row(0), row(1)], [row(2)])
    assert chaos_rows.difference(reference, write(tmp_path / "found", *units)) == expected


def test_a_file_that_no_commit_names_is_no_row(tmp_path: Path) -> None:
    reference = write(tmp_path / "reference", [row(0)])
    found = write(tmp_path / "found", [row(0)])
    stray = pa.Table.from_pylist([row(9)], schema=tables.PREDICTIONS_SCHEMA)
    pq.write_table(stray, found / "predictions" / "u000000-b.parquet")
    assert not chaos_rows.difference(reference, found)


@pytest.mark.parametrize("total", [1, 50, 100, 1000])
def test_all_kinds_of_faults_share_the_number(total: int) -> None:
    counts = chaos_bench.shares(total)
    assert set(counts) == set(chaos_bench.WEIGHTS)
    assert min(counts.values()) >= 1
    assert sum(counts.values()) == max(total, len(counts))


def test_wrong_rows_end_the_benchmark_with_1(monkeypatch, capsys, tmp_path) -> None:
    outcomes = {"actor": chaos_bench.Outcome(times=3, runs=1, seconds=9.0, rows=Difference(lost=2))}
    found = chaos_bench._measured(chaos_bench.Outcome(runs=1, seconds=5.0), outcomes, rows=10)
    monkeypatch.setitem(bench.MEASURES, "chaos", lambda config: found)
    words = ["chaos", f"videos.root={tmp_path}", f"videos.boxes={tmp_path}", "teacher.checkpoint=x"]
    assert bench.main(words) == 1
    printed = capsys.readouterr()
    assert "2 rows are lost, 0 are there twice" in printed.err
    assert json.loads(printed.out.splitlines()[-1])["extra_s"] == {"actor": 4.0}


def bench_of(folder: Path, module: str, monkeypatch) -> chaos_bench._Bench:
    """A bench whose job is a module of these lines; its store and its cluster are not asked for anything."""
    (folder / "stand_in.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    server = SimpleNamespace(path=lambda key: folder / key, arm=lambda fault: None)
    return chaos_bench._Bench(Config(), "stand_in", server, SimpleNamespace(), folder)  # type: ignore[arg-type]


def test_a_job_that_refuses_its_input_ends_the_bench(tmp_path: Path, monkeypatch) -> None:
    module = "import sys\nprint('ready')\nprint('error: give videos.root', file=sys.stderr)\nsys.exit(2)\n"
    bench = bench_of(tmp_path, module, monkeypatch)
    with pytest.raises(InputError, match=r"refuses its input: error: give videos\.root$"):
        bench.runs("", 1)


def test_a_second_bench_measures_no_leftovers(tmp_path: Path, monkeypatch) -> None:
    references = []
    for _ in range(2):
        bench = bench_of(tmp_path, "", monkeypatch)
        assert (bench.runs("", 1).runs, bench.runs("", 1).runs) == (1, 1)
        references.append(bench.reference)
    assert references[0] != references[1]


def test_a_chaotic_job_needs_no_model_of_the_quality(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    small = settings.load(command.DEFAULT_CONFIG.parent / "small.yaml", [f"videos.root={tmp_path / 'videos'}"])
    assert quality_files.read(chaos_bench._prepared(small, tmp_path / "root", tmp_path).filters, side_head=True) is None


@pytest.mark.ray
@pytest.mark.long
def test_a_fault_of_each_of_three_kinds_costs_no_row(tmp_path: Path, capsys, monkeypatch) -> None:
    pytest.importorskip("aiohttp", reason="Ray's dashboard is not installed (pip install -e '.[cluster]')")
    kinds = (chaos_bench.ACTOR, chaos_bench.DRIVER, chaos_bench.LOST)  # all eleven take ten minutes
    monkeypatch.setattr(chaos_bench, "WEIGHTS", dict.fromkeys(kinds, 1))
    monkeypatch.setattr(chaos_bench, "REFUSED", chaos_bench.LOST)  # takes what is left after rounding
    words = ["bench.videos=12", "bench.frames=10", "tta.views=2", "bench.faults=1", f"world={tmp_path / 'world'}"]
    assert bench.main(["chaos", *TINY_WORDS, *words]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["faults"] == dict.fromkeys(kinds, 1)
    assert (line["lost"], line["twice"], line["different"]) == (0, 0, 0)
    assert line["rows"] > 12 * 6  # predictions of most frames, and pseudo-labels
