"""Pseudo-labelled frames as training samples (Sec. 5.2), from the ``pseudo_labels`` table alone.

A row holds the JPEG of a region and labels in pixels of the true frame. The network sees right hands only, so a left
hand's region is mirrored, and with it every pixel x; its pose is the right-hand model's already. There are no object
labels: B of Eq. 8 is zero. A row without a quality counts as right (1). The images stay compressed in memory, some 20
kB each, in the table's chunks: sorting them would copy them all, and beyond 2 GiB no single Arrow array of them exists.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Collection, Iterable

import numpy as np
import pyarrow as pa

from hojoint import crops
from hojoint.config import CropConfig
from hojoint.datasets import regions
from hojoint.errors import InputError
from hojoint.labelling import tables
from hojoint.records import Sample


class PseudoLabelled:
    """Rows of ``tables.PSEUDO_LABELS_SCHEMA`` as Samples; the caller knows which files are committed."""

    def __init__(
        self,
        table: pa.Table,
        crop: CropConfig | None = None,
        region_px: int | None = None,
        *,
        fraction: float = 1.0,
        factor: float = crops.REGION_FACTOR,
    ) -> None:
        """Sort the rows by clip and frame.

        Args:
            table: of the schema, in any order.
            crop: how the network crops; None means the defaults.
            region_px: largest side of a sample's image, px; None means the stored size.
            fraction: of the clips that is used (``some_clips``), in (0, 1].
            factor: side of a sample's region, in crops (``crops.region_factor``).
        """
        # A fixed order whatever the order of the files, so that a run does not depend on who committed first.
        clips = np.asarray(table["clip_id"].to_pylist(), dtype=str)
        order = np.lexsort((tables.array_of(table, "frame"), clips))
        if fraction < 1:
            order = order[np.isin(clips[order], some_clips(clips.tolist(), fraction))]
        self.images, self.order = table["image"], order
        table = table.drop_columns(["image"]).take(order)
        self.crop, self.region_px, self.factor = crop or CropConfig(), region_px, factor
        self.flipped = np.asarray(table["flipped"].to_pylist(), dtype=bool)
        columns = ("frame", "image_box", "object_box", "joints_px", "mano_pose", "mano_shape")
        self.columns = {name: tables.array_of(table, name).astype(np.float64) for name in columns}
        quality = tables.array_of(table, "quality").astype(np.float64)
        self.quality = np.where(np.isnan(quality), 1.0, quality)
        ids = table["clip_id"].to_pylist()
        self.names = [f"{clip}/{int(frame)}" for clip, frame in zip(ids, self.columns["frame"], strict=True)]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """One frame as a right hand's sample, in pixels of the cut region; no camera, no object labels.

        Raises:
            InputError: the stored image is damaged.
        """
        row = {name: values[index] for name, values in self.columns.items()}
        image = _decoded(self.images[int(self.order[index])].as_py(), self.names[index])
        corner = np.tile(row["image_box"][:2], 2)
        joints_px = row["joints_px"].reshape(21, 2) - corner[:2]
        object_box = row["object_box"] - corner if self.crop.unlabelled_region == "union" else regions.NO_BOX
        if self.flipped[index]:
            last = image.shape[1] - 1
            image = np.ascontiguousarray(image[:, ::-1])
            joints_px = mirrored(joints_px, last)
            object_box = np.concatenate(
                [mirrored(object_box[None, [2, 1]], last)[0], mirrored(object_box[None, [0, 3]], last)[0]]
            )
        sample = regions.cut_sample(
            self.names[index],
            image,
            crop=self.crop,
            region_px=self.region_px,
            factor=self.factor,
            hand_box=regions.box_of(joints_px),
            object_box=object_box,
            joints_px=joints_px,
            pose=row["mano_pose"],
            betas=row["mano_shape"],
        )
        return dataclasses.replace(sample, pseudo=True, quality=float(self.quality[index]))

    def fingerprint(self) -> str:
        """Twelve hex digits that tell these labels from others; they cover all names, numbers and images."""
        digest = hashlib.sha256("\n".join(self.names).encode())
        digest.update(self.flipped.tobytes())
        for row in self.order:
            digest.update(hashlib.sha256(self.images[int(row)].as_buffer()).digest())
        for name in sorted(self.columns):
            digest.update(np.ascontiguousarray(self.columns[name], dtype=np.float32).tobytes())
        if (self.quality != 1).any():  # labels without a quality keep the digest that they had before there was one
            digest.update(self.quality.astype(np.float32).tobytes())
        return digest.hexdigest()[:12]


def some_clips(clip_ids: Iterable[str], fraction: float) -> list[str]:
    """That share of the distinct clips, at least one, by a hash of their ids: a larger share holds the smaller ones."""
    order = sorted(set(clip_ids), key=clip_hash)
    return order[: _share_of(len(order), fraction)]


def last_hash(hashes: Collection[bytes], fraction: float) -> bytes:
    """The largest ``clip_hash`` of the clips that ``some_clips`` takes, given those of all clips."""
    return sorted(hashes)[_share_of(len(hashes), fraction) - 1] if hashes else b""


def _share_of(count: int, fraction: float) -> int:
    return math.ceil(fraction * count - 1e-9)


def clip_hash(clip_id: str) -> bytes:
    """What ``some_clips`` sorts by."""
    return hashlib.sha256(clip_id.encode()).digest()


def mirrored(px: np.ndarray, last: int) -> np.ndarray:
    """Points (N, 2) px of an image mirrored left to right; ``last`` is the number of its last column."""
    return np.stack([last - px[:, 0], px[:, 1]], axis=1)


def _decoded(data: bytes, name: str) -> np.ndarray:
    image = regions.decoded(data)
    if image is None:
        raise InputError(f"the image of pseudo-label {name} is damaged; label the videos again")
    return image
