"""A small folder of videos with boxes, a tiny teacher, and labelling without Ray, for tests of labelling."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import torch
from labelled import SMALL
from video_files import HEIGHT, WIDTH, write_broken, write_video

from cluster import metrics, session
from cluster import progress as board
from cluster.labelling import pool, stalls
from cluster.labelling.commits import committed_files
from cluster.store import open_store
from hojoint import config
from hojoint.config import Config, ModelConfig
from hojoint.labelling import tables
from hojoint.model import checkpoint
from hojoint.model.network import HOJoint

TINY = ModelConfig.model_validate(SMALL)


def write_teacher(path: Path, seed: int = 0) -> Path:
    """A checkpoint of random weights."""
    torch.manual_seed(seed)
    path.write_bytes(checkpoint.save(HOJoint(TINY), Config(model=TINY), progress={}, parents={}))
    return path


def frame(video_id: str, number: int, *, hands: int = 1, box: bool = True) -> dict[str, Any]:
    """One frame of a Something-Else file: hands that move to the right, and an object under the first."""
    labels = []
    for hand in range(hands if box else 0):
        left, top = 5 + number % 30 + 40 * hand, 8 + 4 * hand
        labels.append({"standard_category": "hand", "box2d": _box(left, top, left + 30, top + 36)})
    labels.append({"standard_category": "0000", "box2d": _box(20, 20, 50, 55)})
    return {"name": f"{video_id}/{number + 1:04d}.jpg", "labels": labels}


def _box(x1: float, y1: float, x2: float, y2: float) -> dict[str, float]:
    return {"x1": x1, "y1": y1, "x2": min(x2, WIDTH), "y2": min(y2, HEIGHT)}


def boxes_of(video_ids: Iterable[str], frames: int = 6) -> dict[str, list[dict[str, Any]]]:
    return {video_id: [frame(video_id, number) for number in range(frames)] for video_id in video_ids}


def write_wild(folder: Path, good: int = 8, frames: int = 6) -> dict[str, list[dict[str, Any]]]:
    """``good`` videos with boxes under ``folder/videos`` and ``folder/boxes.json``; returns the boxes."""
    videos = folder / "videos"
    videos.mkdir(parents=True)
    ids = [f"{100 + n}" for n in range(good)]
    for n, video_id in enumerate(ids):
        write_video(videos / f"{video_id}.webm", frames, seed=n)
    boxes = boxes_of(ids, frames)
    write_boxes(folder, boxes)
    return boxes


def write_boxes(folder: Path, boxes: Mapping[str, Any]) -> None:
    (folder / "boxes.json").write_text(json.dumps(boxes))


def write_faulty(folder: Path) -> Path:
    """Eight good videos, one without a hand, one with two hands, one without a file, six broken ones, and a teacher."""
    boxes = write_wild(folder)
    write_video(folder / "videos" / "nohand.webm", 6)
    boxes["nohand"] = [frame("nohand", n, box=False) for n in range(6)]
    write_video(folder / "videos" / "two.webm", 6)
    boxes["two"] = [frame("two", n, hands=2) for n in range(6)]
    boxes |= boxes_of(["gone"])
    broken = write_broken(folder / "videos", folder / "videos" / "100.webm")
    del broken["hang"]  # costs its deadline each time: it has a separate test
    (folder / "videos" / "hang.webm").unlink()
    boxes |= boxes_of(broken)
    write_boxes(folder, boxes)
    write_teacher(folder / "teacher.pt")
    return folder


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray Data becomes a loop over one actor in this process; nobody reads the progress board."""

    def from_items(rows: Any, **_: Any) -> Any:
        def mapped(kind: Any, *, fn_constructor_kwargs: dict[str, Any], **_: Any) -> Any:
            def iter_rows() -> Any:
                actor = kind(**fn_constructor_kwargs)
                try:
                    yield from map(actor, rows)
                finally:
                    if hasattr(actor.worker, "close"):
                        actor.worker.close()

            return SimpleNamespace(iter_rows=iter_rows, context=SimpleNamespace())

        return SimpleNamespace(map=mapped)

    monkeypatch.setattr(pool.ray.data, "from_items", from_items)
    monkeypatch.setattr(session, "start", lambda config: contextlib.nullcontext())
    monkeypatch.setattr(board, "new_board", lambda job, wanted, run: None)
    monkeypatch.setattr(board, "Progress", lambda *args, **kwargs: contextlib.nullcontext())
    monkeypatch.setattr(board, "signs_of", lambda watched: lambda: None)
    monkeypatch.setattr(board, "told_of", lambda watched: lambda left: None)
    monkeypatch.setattr(board, "Reporter", lambda watched, job, run: None)


def watches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, float]]:
    """After ``without_ray``: for each watch of a run, its signs and the longest time of a unit that it knows."""
    seen: list[tuple[Any, float]] = []

    class Seen(stalls.Watch):
        def __init__(self, signs: Any = None, unit_s: float = 0.0, **rest: Any) -> None:
            super().__init__(signs, unit_s, **rest)
            seen.append((signs, unit_s))

    for module in (stalls, pool):
        monkeypatch.setattr(module, "Watch", Seen)
    return seen


def gauges(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, ...], float]:
    """The last value of each gauge that a driver sets: its name, its stage, and its own labels' values, to a value."""
    shown: dict[tuple[str, ...], float] = {}

    def of_run(name: str, run: str, **labels: str) -> Any:
        def set_to(value: float, own: Mapping[str, str]) -> None:
            shown[name.removeprefix("hojoint_"), labels["stage"], *own.values()] = value

        return SimpleNamespace(set=set_to, info={"name": name})

    monkeypatch.setattr(metrics, "of_run", of_run)
    return shown


FORMER = {
    "model": {"leaky_relu_slope": "slope", "object_leaky_relu_slope": "object_slope"},
    "crop": {"hand_roi_scale": "hand_roi", "object_roi_scale": "object_roi"},
    "loss": {"betas": "shape"},
    "train": {"lr_decay": "decay", "lr_decay_every_epochs": "decay_every_epochs", "init_checkpoint": "initial"},
}


def write_former_names(output: Path, *, of_config: bool = True) -> None:
    """Rewrite ``run.json`` of an output with the former names of settings, as earlier versions wrote them."""
    run = json.loads((output / "run.json").read_text())
    tree, fingerprint = run["config"], run["fingerprint"]
    for group, names in FORMER.items():
        for now, former in names.items():
            if of_config:
                tree[group][former] = tree[group].pop(now)
            if f"{group}.{now}" in fingerprint:
                fingerprint[f"{group}.{former}"] = fingerprint.pop(f"{group}.{now}")
    if of_config:
        tree["evaluation"], tree["calibration"] = tree.pop("evaluate"), tree.pop("calibrate")
        for name in ("checkpoint", "actors"):
            del tree["evaluation"][name]
        for group, names in {"submit": ["job"], "score": ["predictions", "truth", "layout"], "refilter": []}.items():
            values = tree.pop(group)
            tree |= {name: values[name] for name in names}
    (output / "run.json").write_text(json.dumps(run))


def config_of(folder: Path, output: str | Path, **groups: Any) -> Config:
    """Settings that label the folder; without ``filters`` all rules are off, for random weights pass none."""
    tree: dict[str, Any] = {
        "output": str(output),
        "videos": {"root": str(folder / "videos"), "boxes": str(folder / "boxes.json")},
        "teacher": {"checkpoint": str(folder / "teacher.pt")},
        "tta": {"views": 2},
        "filters": {"enabled": []},
        "labelling": {"unit_videos": 3},
        "cluster": {"teachers": [1, 1], "teacher_cpus": 0.5, "cpus": 2, "object_store_mb": 100},
    }
    for group, values in groups.items():
        tree[group] = {**tree.get(group, {}), **values} if isinstance(values, dict) else values
    return config.from_tree(tree)


def upload(folder: Path, uri: str) -> None:
    """All files of a folder to the same names under a prefix; the environment has the credentials."""
    import boto3

    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder).as_posix()}")


def in_bucket(given: Config, folder: Path, uri: str) -> Config:
    """The settings with videos, boxes and teacher of ``folder`` under a prefix, where this puts them."""
    upload(folder / "videos", f"{uri}/videos")
    store = open_store(uri)
    for name in ("boxes.json", "teacher.pt"):
        store.put(name, (folder / name).read_bytes())
    places = {"root": f"{uri}/videos", "boxes": f"{uri}/boxes.json"}
    return config.changed(given, videos=places, teacher={"checkpoint": f"{uri}/teacher.pt"})


def rows_of(output: str | Path, table: str) -> pa.Table:
    """The rows of a table as readers see them: from the files that commits name, sorted."""
    store = open_store(str(output))
    filesystem, root = store.filesystem()
    parts = [pa.parquet.read_table(f"{root}/{key}", filesystem=filesystem) for key in committed_files(store, table)]
    table_rows = pa.concat_tables(parts)
    keys = ["clip_id", "frame"] if "frame" in table_rows.column_names else ["video_id"]
    return table_rows.sort_by([(key, "ascending") for key in keys])


def assert_same_rows(one: pa.Table, other: pa.Table) -> None:
    """The same frames with the same texts, and the same numbers but for float noise."""
    assert one.schema.equals(other.schema)
    for name in one.column_names:
        if pa.types.is_floating(one.schema.field(name).type) or pa.types.is_fixed_size_list(
            one.schema.field(name).type
        ):
            torch.testing.assert_close(
                torch.from_numpy(tables.array_of(one, name).copy()),
                torch.from_numpy(tables.array_of(other, name).copy()),
                rtol=1e-4, atol=1e-3, equal_nan=True, msg=lambda text, name=name: f"{name}: {text}",
            )  # fmt: skip
        else:
            assert one[name].to_pylist() == other[name].to_pylist(), name
