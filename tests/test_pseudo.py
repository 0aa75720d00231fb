"""datasets.pseudo: a row of the table becomes a right hand's sample, a left hand's by mirroring."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pyarrow as pa
import pytest
from made_tables import SIZE, row, table_of

from hojoint.config import CropConfig
from hojoint.datasets.pseudo import PseudoLabelled
from hojoint.errors import InputError
from hojoint.labelling import tables


def bright(image: np.ndarray) -> np.ndarray:
    y, x = np.nonzero(image[..., 0] > 128)
    return np.array([x.mean(), y.mean()])


@pytest.mark.parametrize("flipped", [False, True])
def test_joints_lie_on_their_pixels_also_when_mirrored(flipped):
    sample = PseudoLabelled(table_of(row("1-a", 3, flipped=flipped)))[0]
    assert np.abs(bright(sample.image) - sample.joints_px[8]).max() < 0.6
    assert not sample.has_object
    assert np.isnan(sample.object_box).all()


def test_mirroring_turns_x_and_leaves_the_right_hand_s_pose():
    right, left = (PseudoLabelled(table_of(row("1-a", 3, flipped=flipped)))[0] for flipped in (False, True))
    np.testing.assert_array_equal(left.pose, right.pose)
    offsets = [s.joints_px - s.joints_px[0] for s in (left, right)]
    np.testing.assert_allclose(offsets[0] * [-1, 1], offsets[1], atol=1e-4)


def test_the_object_may_widen_the_crop_and_is_never_a_label():
    for flipped in (False, True):
        rows = table_of(row("1-a", 3, flipped=flipped))
        sample = PseudoLabelled(rows, CropConfig(unlabelled_region="union"))[0]
        assert not sample.has_object
        box = sample.object_box
        assert box[0] < box[2]
        np.testing.assert_allclose(box[2] - box[0], 35, atol=1e-3)
        sides = np.sort([sample.joints_px[:, 0].mean() - box[0], box[2] - sample.joints_px[:, 0].mean()])
        joints = np.array(row("1-a", 3, flipped=False)["joints_px"]).reshape(21, 2)[:, 0].mean()
        np.testing.assert_allclose(sides, np.sort([joints - 140, 175 - joints]), atol=1e-3)


def test_the_order_of_files_changes_nothing():
    rows = [row("2-b", 1, flipped=False), row("1-a", 9, flipped=True), row("1-a", 3, flipped=False)]
    first, second = (PseudoLabelled(table_of(*order)) for order in (rows, rows[::-1]))
    assert first.names == second.names == ["1-a/3", "1-a/9", "2-b/1"]
    assert first.fingerprint() == second.fingerprint()
    assert first.fingerprint() != PseudoLabelled(table_of(*rows[:2])).fingerprint()
    np.testing.assert_array_equal(first[1].image, second[1].image)


def test_more_images_than_one_arrow_array_holds_are_not_copied():
    image = row("1-a", 0, flipped=False)["image"] + bytes(32 << 20)
    rows = [row("1-a", frame, flipped=False, image=b"") for frame in reversed(range(72))]
    table = table_of(*rows).drop_columns(["image", "image_box"])
    once = pa.array([image], pa.binary())  # one buffer for all 72: 2.25 GiB in the table's eyes, 32 MiB in truth
    table = table.append_column(tables.PSEUDO_LABELS_SCHEMA.field("image"), pa.chunked_array([once] * 72))
    table = table.append_column("image_box", table_of(*rows)["image_box"])
    assert table.nbytes > 2**31
    before = pa.total_allocated_bytes()
    reader = PseudoLabelled(table)
    assert pa.total_allocated_bytes() - before < 1 << 20
    assert reader.names[:2] == ["1-a/0", "1-a/1"]
    assert np.abs(bright(reader[0].image) - reader[0].joints_px[8]).max() < 0.6


@pytest.mark.parametrize("kind", ["no picture", "half a JPEG"])
def test_a_damaged_image_is_named(kind):
    jpeg = cv2.imencode(".jpg", np.zeros((SIZE, SIZE, 3), np.uint8))[1].tobytes()
    image = b"no picture" if kind == "no picture" else jpeg[: len(jpeg) - 8]
    with pytest.raises(InputError, match="1-a/3 is damaged"):
        PseudoLabelled(table_of(row("1-a", 3, flipped=False, image=image)))[0]


def test_a_row_without_a_quality_counts_as_right():
    rows = [row("1-a", 3, flipped=False) | {"quality": 0.25}, row("1-a", 4, flipped=False)]
    samples = list(PseudoLabelled(table_of(*rows)))
    assert [sample.quality for sample in samples] == [0.25, 1.0]
    assert all(sample.pseudo for sample in samples)
    without = [row("1-a", frame, flipped=False) for frame in (3, 4)]
    assert PseudoLabelled(table_of(*rows)).fingerprint() != PseudoLabelled(table_of(*without)).fingerprint()


def test_a_share_of_the_clips_holds_the_smaller_shares():
    clips = [f"{number}-a" for number in range(10)]
    table = table_of(*(row(clip, frame, flipped=False) for clip in clips for frame in (1, 2)))
    readers = {share: PseudoLabelled(table, fraction=share) for share in (0.01, 0.2, 0.5, 1.0)}
    assert [len(reader) for reader in readers.values()] == [2, 4, 10, 20]
    names = [set(reader.names) for reader in readers.values()]
    assert all(few < more for few, more in itertools.pairwise(names))
    assert {name.replace("/1", "/2") for name in names[1]} == {name for name in names[1] if name.endswith("/2")}
    assert readers[0.5].fingerprint() != readers[1.0].fingerprint()
    backwards = PseudoLabelled(table.take(list(range(20))[::-1]), fraction=0.5)
    assert backwards.names == readers[0.5].names
    np.testing.assert_array_equal(backwards[3].joints_px, readers[0.5][3].joints_px)


def test_no_rows_are_no_samples():
    assert len(PseudoLabelled(tables.PSEUDO_LABELS_SCHEMA.empty_table())) == 0
