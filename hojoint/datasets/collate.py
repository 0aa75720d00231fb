"""Samples to a Batch: images of different sizes padded into one tensor, everything else stacked. Still on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hojoint.records import Sample

# B samples; H, W the largest sides among them.


@dataclass(frozen=True, eq=False)
class Batch:
    """What a loader hands to the device; fields as in ``records.Sample``."""

    names: tuple[str, ...]
    object_names: tuple[str, ...]  # '' without object labels
    keys: tuple[tuple[int, int], ...]  # (pass over the data, number of the sample); seeds of the augmentation
    images: Tensor  # (B, H, W, 3) uint8, zeros to the right and below
    object_masks: Tensor  # (B, H, W) uint8
    sizes: Tensor  # (B, 2) width, height before padding, px
    hand_box: Tensor  # (B, 4) xyxy px
    object_box: Tensor  # (B, 4) xyxy px, NaN where none
    camera: Tensor  # (B, 3, 3) px, NaN where unknown
    joints_px: Tensor  # (B, 21, 2)
    pose: Tensor  # (B, 48) rad
    betas: Tensor  # (B, 10)
    has_object: Tensor  # (B,) bool
    control_px: Tensor  # (B, 21, 2)
    object_pose: Tensor  # (B, 3, 4) model to camera, m
    pseudo: Tensor  # (B,) bool
    quality: Tensor  # (B,)

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on a device."""
        return self._with_tensors(lambda value: value.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in memory that a GPU reads while the next step is prepared; DataLoader calls it too."""
        return self._with_tensors(Tensor.pin_memory)

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> Batch:
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        changed: dict[str, Any] = {name: change(value) for name, value in tensors.items()}
        return replace(self, **changed)


def collate(samples: Sequence[Sample], keys: Sequence[tuple[int, int]] | None = None) -> Batch:
    """Make one Batch of samples; None for ``keys`` means that they are numbered from zero."""
    assert samples, "a batch needs at least one sample"
    height = max(sample.image.shape[0] for sample in samples)
    width = max(sample.image.shape[1] for sample in samples)
    images = torch.zeros(len(samples), height, width, 3, dtype=torch.uint8)
    masks = torch.zeros(len(samples), height, width, dtype=torch.uint8)
    for row, sample in enumerate(samples):
        rows, columns = sample.image.shape[:2]
        images[row, :rows, :columns] = torch.from_numpy(sample.image)
        masks[row, :rows, :columns] = torch.from_numpy(sample.object_mask)

    def stacked(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(sample, name) for sample in samples]))

    numbers = ("hand_box", "object_box", "camera", "joints_px", "pose", "betas", "control_px", "object_pose")
    return Batch(
        names=tuple(sample.name for sample in samples),
        object_names=tuple(sample.object_name for sample in samples),
        keys=tuple(keys) if keys is not None else tuple((0, row) for row in range(len(samples))),
        images=images,
        object_masks=masks,
        sizes=torch.tensor([sample.image.shape[1::-1] for sample in samples]),
        has_object=torch.tensor([sample.has_object for sample in samples]),
        pseudo=torch.tensor([sample.pseudo for sample in samples]),
        quality=torch.tensor([sample.quality for sample in samples], dtype=torch.float32),
        **{name: stacked(name) for name in numbers},
    )
