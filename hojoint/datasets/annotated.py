"""One annotated image as a labelled set holds it, before a region is cut: what a shard stores, whatever the network.

Readers of labelled sets make it, and cut their Samples from it. Not here: shards (``shards``), cutting (``regions``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hojoint.config import CropConfig
from hojoint.datasets import regions
from hojoint.records import Sample


@dataclass(frozen=True, eq=False)
class Annotated:
    """An image with its labels in px of the image, radians, metres and the CV camera frame."""

    name: str
    file: bytes  # of the image, as it is stored
    image: np.ndarray  # (H, W, 3) uint8 RGB
    labels: Mapping[str, Any]  # arguments of ``regions.cut_sample``; what is unknown is left out

    def cut(self, crop: CropConfig, region_px: int | None, factor: float) -> Sample:
        """The Sample of the image; arguments as in ``regions.cut_sample``."""
        return regions.cut_sample(self.name, self.image, crop=crop, region_px=region_px, factor=factor, **self.labels)
