"""The two tables: the contract's columns, round trips, images cut where they say, thresholds changed later."""

from __future__ import annotations

import dataclasses
import errno
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
import torch
from made_tables import labels
from pyarrow.fs import FSSpecHandler

from cluster import patience
from cluster.labelling import label_tables
from cluster.store import arrow
from cluster.store.local import LocalStore
from hojoint.config import Config, FilterConfig
from hojoint.errors import InputError, Unavailable
from hojoint.labelling import filters, quality, reasons, rescoring, tables
from hojoint.labelling.quality import Curve, QualityModel
from hojoint.records import Footage, Frames, PseudoLabels

WIDTH, HEIGHT = 96, 64
DOUBLED = {"image_context": 2.0}  # regions of twice the box


def frames_of(label: PseudoLabels) -> Frames:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    image = np.stack([2 * x, 3 * y, np.full_like(x, 90)], axis=-1).astype(np.uint8)
    count = len(label.clip.frames)
    return Frames(label.clip.clip_id, np.tile(image, (count, 1, 1, 1)), label.clip.hand_boxes, label.clip.object_boxes)


def config(**groups: Any) -> Config:
    return Config.model_validate(groups)


def image_boxes(label: PseudoLabels, settings: Config) -> np.ndarray:
    rows = tables.with_images(tables.predictions_table([label]), list(frames_of(label).rgb), settings)
    return tables.array_of(rows, "image_box")


def test_the_columns_are_the_contracts() -> None:
    expected = {
        "video_id": pa.string(), "clip_id": pa.string(), "frame": pa.int32(), "flipped": pa.bool_(),
        "hand_box": 4, "object_box": 4, "joints_px": 42, "mano_pose": 48, "mano_shape": 10, "camera": 3,
        "score_box_iou": pa.float32(), "score_reprojection": pa.float32(), "score_bone_length": pa.float32(),
        "score_joint_angle": pa.float32(), "score_joint_step": pa.float32(), "score_pose_step": pa.float32(),
        "score_shape_spread": pa.float32(), "score_view_spread": pa.float32(), "score_side": pa.float32(),
        "quality": pa.float32(), "verdict": pa.string(), "teacher": pa.string(),
        "time_s": pa.float64(), "fps": pa.float32(), "pictures": pa.int32(), "rotation_deg": pa.int16(),
        "codec": pa.string(),
    }  # fmt: skip
    for schema in (tables.PREDICTIONS_SCHEMA, tables.PSEUDO_LABELS_SCHEMA):
        for name, kind in expected.items():
            assert schema.field(name).type == (pa.list_(pa.float32(), kind) if isinstance(kind, int) else kind)
    extra = set(tables.PSEUDO_LABELS_SCHEMA.names) - set(tables.PREDICTIONS_SCHEMA.names)
    assert extra == {"filled", "image", "image_box"}


def read(paths: list[str], **options: Any) -> pa.Table:
    return label_tables.read(LocalStore("/"), [path.removeprefix("/") for path in paths], **options)


def test_predictions_survive_a_parquet_file(tmp_path: Path) -> None:
    label = labels()
    path = str(tmp_path / "a.parquet")
    pq.write_table(tables.predictions_table([label]), path)
    table = read([path])
    assert table.schema.equals(tables.PREDICTIONS_SCHEMA)
    assert table["frame"].to_pylist() == [0, 1, 2, 3, 4]
    assert [box is None for box in table["object_box"].to_pylist()] == [True, False, True, True, True]
    assert table["object_box"][1].as_py() == [30, 20, 60, 50]
    np.testing.assert_array_equal(tables.array_of(table, "object_box")[1], [30, 20, 60, 50])
    assert np.isnan(tables.array_of(table, "object_box")[[0, 2, 3, 4]]).all()
    np.testing.assert_array_equal(
        tables.array_of(table, "joints_px"), label.prediction.joints_px.reshape(5, 42).numpy()
    )
    np.testing.assert_array_equal(tables.array_of(table, "camera"), label.camera.numpy())
    np.testing.assert_array_equal(tables.array_of(table, "score_box_iou"), label.scores["box_iou"].numpy())
    assert tuple(table["verdict"].to_pylist()) == label.verdicts
    assert set(table["teacher"].to_pylist()) == {"abc123"}
    assert set(table["flipped"].to_pylist()) == {True}


def test_times_and_footage_survive_and_are_null_where_unknown(tmp_path: Path) -> None:
    times = np.array([0.0, 1 / 12, 2 / 12, 0.25, 1 / 3])
    known = dataclasses.replace(labels(), times_s=times, footage=Footage(64, 12.0, 90, "vp9"))
    partly = dataclasses.replace(labels("8-h0-0000-0004"), footage=Footage(None, None, 0, "mjpeg"))
    path = str(tmp_path / "a.parquet")
    pq.write_table(tables.predictions_table([known, partly]), path)
    table = read([path])
    assert table["time_s"].to_pylist() == [*times, *[None] * 5]
    assert table["fps"].to_pylist() == [12.0] * 5 + [None] * 5
    assert table["pictures"].to_pylist() == [64] * 5 + [None] * 5
    assert table["rotation_deg"].to_pylist() == [90] * 5 + [0] * 5
    assert table["codec"].to_pylist() == ["vp9"] * 5 + ["mjpeg"] * 5
    again = rescoring.rescored(table, FilterConfig())
    for name in tables.SINCE_VERSION_2:
        assert again[name].to_pylist() == table[name].to_pylist()
    kept = tables.pseudo_labels_table([known], [frames_of(known)], Config())
    assert kept["time_s"].to_pylist() == [times[number] for number in kept["frame"].to_pylist()]


@pytest.mark.parametrize("schema", [tables.PREDICTIONS_SCHEMA, tables.PSEUDO_LABELS_SCHEMA], ids=["all", "kept"])
def test_files_of_the_first_version_are_read_with_nulls(schema: pa.Schema, tmp_path: Path) -> None:
    label = labels()
    full = tables.predictions_table([label])
    if schema is tables.PSEUDO_LABELS_SCHEMA:
        full = tables.pseudo_labels_table([label], [frames_of(label)], Config())
    old = full.drop_columns(list(tables.SINCE_VERSION_2)).replace_schema_metadata({b"hojoint.schema": b"1"})
    pq.write_table(old, tmp_path / "old.parquet")
    pq.write_table(full, tmp_path / "new.parquet")
    table = read([str(tmp_path / "old.parquet"), str(tmp_path / "new.parquet")], schema=schema)
    assert table.schema.equals(schema)
    assert len(table) == 2 * len(full)
    assert table.slice(0, len(full))["fps"].null_count == len(full)
    assert table.slice(0, len(full))["verdict"].to_pylist() == full["verdict"].to_pylist()


def test_other_readers_of_parquet_see_plain_lists(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(tables.predictions_table([labels()]).replace_schema_metadata(None), path, store_schema=False)
    row = pq.read_table(path).to_pylist()[1]
    lengths = {"hand_box": 4, "object_box": 4, "joints_px": 42, "mano_pose": 48, "mano_shape": 10, "camera": 3}
    assert {name: len(row[name]) for name in lengths} == lengths


def test_several_files_become_one_table_and_no_file_an_empty_one(tmp_path: Path) -> None:
    for name in "ab":
        pq.write_table(tables.predictions_table([labels(f"{name}-h0-0000-0004")]), tmp_path / f"{name}.parquet")
    table = read([str(tmp_path / f"{name}.parquet") for name in "ab"])
    assert sorted(set(table["video_id"].to_pylist())) == ["a", "b"]
    assert read([]).num_rows == 0
    assert tables.predictions_table([]).schema.equals(tables.PREDICTIONS_SCHEMA)
    assert tables.pseudo_labels_table([], [], Config()).schema.equals(tables.PSEUDO_LABELS_SCHEMA)


def test_files_are_read_side_by_side_and_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [str(tmp_path / f"{name}.parquet") for name in "abcd"]
    for number, name in enumerate(names):
        pq.write_table(tables.predictions_table([labels(f"{number}-h0-0000-0004")]), name)
    everybody, read = threading.Barrier(len(names), timeout=20), pq.read_table

    def slow_first(path: str, **options: Any) -> pa.Table:
        everybody.wait()  # BrokenBarrierError where one is read after the other
        time.sleep(0.05 if path.endswith(names[0]) else 0)
        return read(path, **options)

    monkeypatch.setattr(arrow.pq, "read_table", slow_first)
    assert list(dict.fromkeys(read(names)["video_id"].to_pylist())) == ["0", "1", "2", "3"]


def test_foreign_old_and_broken_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(InputError, match=r"cannot read the table .*a\.parquet"):
        read([str(path)])
    path.write_bytes(b"junk" * 10)
    with pytest.raises(InputError, match=r"cannot read the table .*a\.parquet"):
        read([str(path)])
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(InputError, match=r"a\.parquet has schema version none, expected 3"):
        read([str(path)])
    pq.write_table(tables.predictions_table([labels()]).drop_columns(["camera"]), path)
    with pytest.raises(InputError, match=r"a\.parquet lacks the columns camera"):
        read([str(path)])


def test_kept_frames_carry_the_pixels_of_their_image_box() -> None:
    label = labels()
    table = tables.pseudo_labels_table([label], [frames_of(label)], config(labelling=DOUBLED))
    kept = [t for t, verdict in enumerate(label.verdicts) if verdict == "kept"]
    assert table["frame"].to_pylist() == kept
    assert 0 not in kept
    assert set(table["verdict"].to_pylist()) == {"kept"}
    native = frames_of(label).rgb[0].astype(int)
    for data, box in zip(table["image"].to_pylist(), table["image_box"].to_pylist(), strict=True):
        image = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        x0, y0, x1, y1 = map(int, box)
        assert (x0, y0, x1, y1) == (0, 0, 65, 64)  # centre (25, 32), side 40, doubled, inside 96 x 64
        assert image.shape == (y1 - y0, x1 - x0, 3)
        assert np.abs(image - native[y0:y1, x0:x1]).mean() < 3


def test_the_image_holds_the_object_where_the_union_is_cut() -> None:
    label = labels()
    hand = image_boxes(label, config(labelling=DOUBLED))
    union = image_boxes(label, config(labelling=DOUBLED, crop={"unlabelled_region": "union"}))
    assert hand[1].tolist() == [0, 0, 65, 64]
    assert union[1].tolist() == [0, 0, 85, 64]  # 10..60, centre 35, side 50, doubled
    assert union[0].tolist() == hand[0].tolist()  # no object in frame 0


def test_a_box_beyond_the_border_still_has_a_pixel_to_show() -> None:
    label = labels()
    label.clip.hand_boxes[0] = (WIDTH, 0, WIDTH, 0)
    box = image_boxes(label, Config())[0]
    assert (box[2:] > box[:2]).all()
    assert (box >= 0).all()
    assert (box <= (WIDTH, HEIGHT, WIDTH, HEIGHT)).all()


def test_rows_are_grouped_by_clip_with_ascending_frames() -> None:
    table = tables.predictions_table([labels("b-h0-0000-0004"), labels("a-h0-0000-0004")])
    shuffled = table.take(np.random.default_rng(0).permutation(10))
    groups = [shuffled.take(rows) for rows in tables.clips_of(shuffled)]
    assert [g["clip_id"].to_pylist() for g in groups] == [["a-h0-0000-0004"] * 5, ["b-h0-0000-0004"] * 5]
    assert [g["frame"].to_pylist() for g in groups] == [[0, 1, 2, 3, 4]] * 2
    assert tables.clips_of(tables.predictions_table([])) == []


def test_scoring_again_with_the_same_settings_changes_nothing() -> None:
    table = tables.predictions_table([labels("a-h0-0000-0004"), labels("b-h0-0000-0009", numbers=tuple(range(10)))])
    again = rescoring.rescored(table, FilterConfig())
    assert again.schema.equals(table.schema)
    for rule in reasons.RULES:
        np.testing.assert_allclose(
            tables.array_of(again, f"score_{rule}"), tables.array_of(table, f"score_{rule}"), atol=1e-6, err_msg=rule
        )
    assert again["verdict"].to_pylist() == table["verdict"].to_pylist()


def test_scores_of_other_readings_leave_rows_and_verdicts() -> None:
    table = tables.predictions_table([labels("b-h0-0000-0009", numbers=tuple(range(10))), labels("a-h0-0000-0004")])
    other = FilterConfig(pose_step="literal", shape_rule="mad", shape_min_frames=2, mode="quality")
    found = rescoring.with_scores(table, other)
    assert found.schema.equals(table.schema)
    wanted = rescoring.rescored(table, other.model_copy(update={"mode": "thresholds"}))
    order = np.concatenate(tables.clips_of(table))
    for name in ("score_pose_step", "score_shape_spread", "clip_id"):
        assert found.take(order)[name].to_pylist() == wanted[name].to_pylist()
    assert found["score_pose_step"].to_pylist() != table["score_pose_step"].to_pylist()
    assert found["clip_id"].to_pylist() == table["clip_id"].to_pylist()
    assert found["verdict"].to_pylist() == table["verdict"].to_pylist()
    assert len(rescoring.with_scores(table.slice(0, 0), other)) == 0


def test_other_thresholds_make_the_verdicts_of_labelling() -> None:
    label = labels("b-h0-0000-0011", numbers=tuple(range(12)))
    strict = FilterConfig(max_joint_step=0.04, neighbour="valid", shape_sigmas=1.0, pose_step="literal")
    direct = filters.with_temporal(
        {rule: label.scores[rule] for rule in reasons.SPATIAL_RULES},
        joints_px=label.prediction.joints_px,
        rotations=label.prediction.rotations,
        pose=label.prediction.pose,
        betas=label.prediction.betas,
        boxes=torch.from_numpy(label.clip.hand_boxes),
        frames=torch.arange(12),
        config=strict,
        joints_spread_px=label.prediction.joints_spread_px,
        side=label.scores["side"],
    )
    again = rescoring.rescored(tables.predictions_table([label]), strict)
    assert tuple(again["verdict"].to_pylist()) == filters.verdicts(direct, strict)
    assert set(again["verdict"].to_pylist()) != set(label.verdicts)


def test_a_quality_is_given_anew_and_taken_away() -> None:
    label = labels()
    table = tables.predictions_table([label])
    model = QualityModel(
        parts={"box_iou": Curve((0.0, 1.0), (0.0, 4.0), -3.0), "rotation_spread": Curve((0.0, 1.0), (1.0, 0.0), 0.0)},
        bias=-2.0, logits=(-4.0, 4.0), chances=(0.1, 0.9), readings=quality.readings_of(FilterConfig()),
    )  # fmt: skip
    config = FilterConfig(mode="quality", min_quality=0.5)
    again = rescoring.rescored(table, config, model)
    scores = {"box_iou": label.scores["box_iou"], "rotation_spread": label.prediction.rotation_spread}
    chances = model.quality({name: score.double().numpy() for name, score in scores.items()})
    np.testing.assert_allclose(tables.array_of(again, "quality"), chances, atol=1e-6)
    assert again["verdict"].to_pylist() == ["kept" if chance >= 0.5 else "quality" for chance in chances]
    assert set(again["verdict"].to_pylist()) == {"kept", "quality"}
    assert rescoring.rescored(again, FilterConfig())["quality"].null_count == len(table)
    off = table.set_column(
        table.schema.get_field_index("camera"), table.schema.field("camera"),
        tables._lists(-label.camera.abs(), 3),
    )  # fmt: skip
    unsound = rescoring.rescored(off, config, model)
    assert set(unsound["verdict"].to_pylist()) == {"box_iou"}
    assert set(unsound["quality"].to_pylist()) == {0.0}


def test_a_row_whose_camera_did_not_fit_is_rejected_again() -> None:
    label = labels()
    table = tables.predictions_table([dataclasses.replace(label, camera=label.camera * torch.tensor([-1.0, 1, 1]))])
    for enabled in ((), ("shape_spread",)):
        config = FilterConfig(enabled=enabled)
        assert set(rescoring.rescored(table, config)["verdict"].to_pylist()) == {"box_iou"}
        assert set(rescoring.rescored(tables.predictions_table([label]), config)["verdict"].to_pylist()) == {"kept"}


def test_pixels_of_another_clip_are_refused() -> None:
    label = labels()
    wrong = dataclasses.replace(frames_of(label), clip_id="other")
    with pytest.raises(AssertionError):
        tables.pseudo_labels_table([label], [wrong], Config())


class Away(LocalStore):
    """A store whose Arrow client finds every table away, as object storage that throttles; ``get`` still answers."""

    def filesystem(self) -> tuple[pa.fs.FileSystem, str]:
        class Throttled(FSSpecHandler):
            def get_file_info(self, paths: list[str]) -> Any:
                raise OSError("AWS Error SLOW_DOWN during HeadObject operation: Please reduce your request rate.")

            def open_input_file(self, path: str) -> Any:
                self.get_file_info([path])

        return pa.fs.PyFileSystem(Throttled(None)), self.root


def test_a_table_is_read_when_arrows_client_gives_up(tmp_path: Path) -> None:
    made, store = tables.predictions_table([labels()]), Away(tmp_path)
    pq.write_table(made, tmp_path / "a.parquet")
    assert label_tables.read(store, ["a.parquet"])["joints_px"].equals(made["joints_px"])
    assert arrow.read_table(store, "a.parquet", ["frame"]).column_names == ["frame"]
    assert arrow.columns_of(store, "a.parquet") == made.column_names
    (tmp_path / "a.parquet").write_bytes(b"junk" * 10)
    with pytest.raises(InputError, match=r"cannot read the table .*a\.parquet"):
        label_tables.read(store, ["a.parquet"])
    with pytest.raises(InputError, match=r"cannot read the table .*b\.parquet: AWS Error SLOW_DOWN"):
        label_tables.read(store, ["b.parquet"])


def test_an_outage_beyond_the_patience_is_no_wrong_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(self: Path) -> bytes:
        raise OSError(errno.ESTALE, "Stale file handle")

    pq.write_table(tables.predictions_table([labels()]), tmp_path / "a.parquet")
    monkeypatch.setattr(Path, "read_bytes", away)
    with patience.granted(0.0), pytest.raises(Unavailable, match="Stale file handle"):
        label_tables.read(Away(tmp_path), ["a.parquet"])


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OSError("AWS Error SLOW_DOWN during HeadObject operation: Please reduce your request rate."), True),
        (OSError("AWS Error ACCESS_DENIED during HeadObject operation"), False),
        (OSError(errno.ESTALE, "Stale file handle"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (FileNotFoundError("Path does not exist"), False),
        (pa.ArrowInvalid("no magic bytes"), False),
    ],
)
def test_what_may_pass_is_told_from_what_lasts(error: Exception, passes: bool) -> None:
    assert arrow.passes(error) == passes
