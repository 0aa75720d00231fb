"""Labelled images as rows of Parquet: a table of ``SAMPLES_SCHEMA`` is one shard of a labelled set.

A row holds the file of the image unchanged, the object's mask as PNG, and the labels as the set's reader converted
them: px of the image, radians, metres, CV camera frame, 64-bit. So a shard gives the same Samples as the files, bit for
bit, for any crop and any size of the network's input. What is unknown is NaN. Not here: which rows a shard has, and
where shards lie (``cluster``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import cv2
import numpy as np
import pyarrow as pa

from hojoint import crops
from hojoint.config import CropConfig
from hojoint.datasets import regions
from hojoint.datasets.annotated import Annotated
from hojoint.errors import InputError
from hojoint.records import Sample

VERSION = 1
_VERSION_KEY = b"hojoint.samples"
_SHAPES: dict[str, tuple[int, ...]] = {
    "hand_box": (4,),
    "object_box": (4,),
    "joints_px": (21, 2),
    "pose": (48,),
    "betas": (10,),
    "camera": (3, 3),
    "control_px": (21, 2),
    "object_pose": (3, 4),
}
SAMPLES_SCHEMA = pa.schema(
    [
        pa.field("number", pa.int64(), nullable=False),  # of the image in its set
        pa.field("name", pa.string(), nullable=False),
        pa.field("object_name", pa.string(), nullable=False),  # '' without object labels
        *(pa.field(name, pa.list_(pa.float64(), int(np.prod(shape)))) for name, shape in _SHAPES.items()),
        pa.field("mask", pa.binary()),  # PNG (H, W) of 0 and 1; null without object labels
        pa.field("image", pa.binary(), nullable=False),
    ],
    metadata={_VERSION_KEY: str(VERSION).encode()},
)


class Reader(Protocol):
    """A labelled set that can be stored in shards."""

    names: list[str]

    def __len__(self) -> int: ...
    def annotated(self, index: int) -> Annotated: ...


def table_of(reader: Reader, numbers: Iterable[int]) -> pa.Table:
    """Some images of a set, in the order given, with the columns of ``SAMPLES_SCHEMA``.

    Raises:
        InputError: an image or its annotation is missing or damaged.
    """
    rows = [_row(int(number), reader.annotated(int(number))) for number in numbers]
    return pa.Table.from_pylist(rows, schema=SAMPLES_SCHEMA)


def checked(table: pa.Table, name: str) -> pa.Table:
    """The table with exactly the columns of ``SAMPLES_SCHEMA``; InputError where it is of another version."""
    version = (table.schema.metadata or {}).get(_VERSION_KEY, b"none").decode()
    if version != str(VERSION) or set(SAMPLES_SCHEMA.names) - set(table.column_names):
        raise InputError(f"{name} is not a shard of version {VERSION} (found {version}); run jobs.ingest again")
    return table.select(SAMPLES_SCHEMA.names).cast(SAMPLES_SCHEMA)


class ShardSamples:
    """Rows of ``SAMPLES_SCHEMA`` as Samples, in the order of the table; images stay compressed."""

    def __init__(
        self,
        table: pa.Table,
        crop: CropConfig | None = None,
        region_px: int | None = None,
        *,
        factor: float = crops.REGION_FACTOR,
    ) -> None:
        """Take a table that ``checked`` has passed; the other arguments are as in the readers of sets."""
        self.crop, self.region_px, self.factor = crop or CropConfig(), region_px, factor
        self.names: list[str] = table["name"].to_pylist()
        self._objects: list[str] = table["object_name"].to_pylist()
        self._columns = {name: _array(table[name], shape) for name, shape in _SHAPES.items()}
        self._images, self._masks = table["image"], table["mask"]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """One image with its labels, as its set's reader returns it.

        Raises:
            InputError: the stored image is damaged.
        """
        image = regions.decoded(self._images[index].as_py())
        if image is None:
            raise InputError(f"the image of {self.names[index]} in its shard is damaged; run jobs.ingest again")
        labels: dict[str, Any] = {name: values[index] for name, values in self._columns.items()}
        mask = self._masks[index].as_py()
        labels["object_mask"] = None if mask is None else _decoded_mask(mask)
        return regions.cut_sample(
            self.names[index],
            image,
            crop=self.crop,
            region_px=self.region_px,
            factor=self.factor,
            object_name=self._objects[index],
            **labels,
        )


def _row(number: int, annotated: Annotated) -> dict[str, Any]:
    labels = dict(annotated.labels)
    mask = labels.pop("object_mask", None)
    out = {name: np.full(shape, np.nan).ravel() for name, shape in _SHAPES.items()}
    out |= {name: np.asarray(labels[name], np.float64).ravel() for name in _SHAPES if labels.get(name) is not None}
    assert labels.keys() <= out.keys() | {"object_name"}, labels.keys()
    return {
        "number": number,
        "name": annotated.name,
        "object_name": labels.get("object_name", ""),
        "mask": None if mask is None else cv2.imencode(".png", mask)[1].tobytes(),
        "image": annotated.file,
        **out,
    }


def _array(column: pa.ChunkedArray, shape: tuple[int, ...]) -> np.ndarray:
    """(N, *shape) float64."""
    return column.combine_chunks().flatten().to_numpy().reshape(-1, *shape)


def _decoded_mask(data: bytes) -> np.ndarray:
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert mask is not None, "a mask is written as PNG, and the checksum of its shard holds"
    return np.asarray(mask)
