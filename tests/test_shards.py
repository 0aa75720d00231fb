"""datasets.shards: a shard gives the Samples of the files bit for bit, for any crop; damage is named."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labelled import draw_world

from hojoint.config import CropConfig
from hojoint.datasets import shards
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.errors import InputError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return draw_world(tmp_path_factory.mktemp("world"), frames=2)


def stored(table: pa.Table) -> pa.Table:
    """The table through a Parquet file, as a shard is kept."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return shards.checked(pq.read_table(pa.BufferReader(sink.getvalue())), "shard")


def assert_same(one, other):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert (a.dtype, a.shape) == (b.dtype, b.shape), field.name
        np.testing.assert_array_equal(a, b, err_msg=field.name)


@pytest.mark.parametrize("crop", [CropConfig(), CropConfig(clip=True, context=2.0)], ids=["plain", "clipped"])
@pytest.mark.parametrize("region_px", [None, 70])
def test_a_shard_gives_the_samples_of_the_files(world, crop, region_px):
    reader = HO3D(world.data.ho3d, "train", crop, region_px)
    order = [2, 0, 3, 1]
    samples = shards.ShardSamples(stored(shards.table_of(reader, order)), crop, region_px)
    assert samples.names == [reader.names[number] for number in order]
    for place, number in enumerate(order):
        assert_same(samples[place], reader[number])
        assert samples[place].object_mask.any()


def test_images_without_objects_have_none_in_their_shard(world, monkeypatch):
    reader = FreiHAND(world.data.freihand, "evaluation", CropConfig(), 70)
    reader.split = "train"  # the world has evaluation images alone; a training image is cut larger
    samples = shards.ShardSamples(stored(shards.table_of(reader, range(3))), CropConfig(), 70)
    for number in range(3):
        assert_same(samples[number], reader[number])
        assert not samples[number].has_object


def test_a_damaged_image_is_named(world):
    table = shards.table_of(HO3D(world.data.ho3d, "train"), [0])
    image = pa.array([table["image"][0].as_py()[:500]], pa.binary())
    table = table.set_column(table.schema.get_field_index("image"), shards.SAMPLES_SCHEMA.field("image"), image)
    with pytest.raises(InputError, match=rf"{table['name'][0]} in its shard is damaged"):
        shards.ShardSamples(table)[0]


def test_another_table_is_no_shard():
    with pytest.raises(InputError, match=r"x\.parquet is not a shard of version 1 \(found none\)"):
        shards.checked(pa.table({"name": ["a"]}), "x.parquet")
