"""From a Batch to the network's input and its targets, on the device (Sec. 5.2, 6.1).

One affine per sample maps the pixels, points and boxes of its region to the network's input. An in-plane rotation of
the image rotates the hand about the camera's axis: only the global orientation changes, R' = Rz(a) R (released code),
and it is a new tensor each time. The RoI boxes are made after the affine: the hand's from its mapped joints, the
object's from its mapped control points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from hojoint import crops, geometry
from hojoint.config import Config
from hojoint.datasets.collate import Batch, collate
from hojoint.errors import InputError
from hojoint.hand.layer import HandLayer
from hojoint.model.losses import Targets
from hojoint.records import Sample
from hojoint.training import augment
from hojoint.training.augment import Draws
from hojoint.training.schedule import Pick, Schedule

# B samples, S input side; 4 is a box xyxy in px of the input.


class Samples(Protocol):
    """The interface of every reader of a data set."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True, eq=False)
class Prepared:
    """A batch in the frame of the network's input."""

    images: Tensor  # (B, 3, S, S) in [0, 1]
    hand_boxes: Tensor  # (B, 4) RoIs, px of the input
    object_boxes: Tensor  # (B, 4) RoIs, px of the input; NaN where no object is labelled
    affine: Tensor  # (B, 2, 3) region px to input px
    camera: Tensor  # (B, 3, 3) intrinsics of the input, NaN where unknown


def prepare(batch: Batch, config: Config, draws: Draws | None, device: torch.device | str) -> Prepared:
    """Images and boxes of a batch, augmented by ``draws``; None means no augmentation."""
    batch = batch.to(device)
    draws = None if draws is None else draws.to(device)
    affine, angle = _affine(batch, config, draws)
    images = crops.warp(
        batch.images,
        affine,
        config.model.input_px,
        resample=config.crop.resample,
        supersample=config.crop.supersample,
    )
    hand_B4 = geometry.rotate_box(batch.hand_box, affine)
    object_B4 = geometry.rotate_box(batch.object_box, affine)
    if draws is not None:
        images = augment.cut_out(augment.recolour(images, draws), draws)
        # The box of a rotated box is larger than that of the rotated joints; it serves where there are no joints.
        hand_B4 = _box_of(geometry.apply_affine(affine, batch.joints_px), hand_B4)
        object_B4 = _box_of(geometry.apply_affine(affine, batch.control_px), object_B4)
        hand_B4 = _jittered(hand_B4, draws.box_jitter[:, 0], draws.box_scale[:, 0])
        object_B4 = _jittered(object_B4, draws.box_jitter[:, 1], draws.box_scale[:, 1])
    no_box = torch.full_like(object_B4, torch.nan)
    return Prepared(
        images=images,
        hand_boxes=geometry.scale_box(hand_B4, config.crop.hand_roi_scale),
        object_boxes=torch.where(
            batch.has_object[:, None], geometry.scale_box(object_B4, config.crop.object_roi_scale), no_box
        ),
        affine=affine,
        camera=crops.turned_camera(batch.camera, affine, angle),
    )


def mirrored_rows(weights: Tensor, share: float) -> Tensor:
    """Rows (M,) whose mirrored images a side head learns from: M = ``share`` of the batch, rounded up.

    Evenly spaced among the rows that count, for labelled rows stand before pseudo-labelled ones; a batch is shuffled
    otherwise. Where too few count, the others fill up: M is the same in every step.

    Args:
        weights: (B,) of the rows in the side term.
    """
    count = math.ceil(share * len(weights) - 1e-9)
    order = torch.argsort((weights <= 0).int(), stable=True)  # those that count first
    among = (weights > 0).sum().clamp(min=count)
    return order[torch.arange(count, device=weights.device) * among // max(count, 1)]


def side_images(prepared: Prepared, rows: Tensor, draws: Draws | None) -> tuple[Tensor, Tensor, Tensor]:
    """What a side head sees beyond the batch: mirrored images of ``rows``; with ``draws``, noisy images before them.

    Args:
        prepared: B images.
        rows: (M,) from ``mirrored_rows``.
        draws: of the batch (B rows), from ``augment.side_draws``; what they say of scale, turn and shift is not used.

    Returns:
        Images (N, 3, S, S), hand boxes (N, 4), and rows (M,) of the unmirrored images among all B + N. The mirrored
        ones are the last M.
    """
    if draws is None:
        return *mirrored(prepared, rows), rows
    draws = draws.to(rows.device).take(rows)
    boxes_M4 = _jittered(prepared.hand_boxes[rows], draws.box_jitter[:, 0], draws.box_scale[:, 0])
    images = augment.cut_out(augment.recolour(prepared.images[rows], draws), draws)
    places = torch.arange(len(rows), device=rows.device)
    noisy = replace(prepared, images=images, hand_boxes=boxes_M4)
    pairs = zip((images, boxes_M4), mirrored(noisy, places), strict=True)
    both, boxes = (torch.cat(pair) for pair in pairs)
    return both, boxes, len(prepared.images) + places


def mirrored(prepared: Prepared, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Images (M, 3, S, S) and hand boxes (M, 4) of ``rows`` (M,), mirrored left to right: right hands become left."""
    last = prepared.images.shape[-1] - 1
    left, top, right, bottom = prepared.hand_boxes[rows].unbind(1)
    return prepared.images[rows].flip(3), torch.stack((last - right, top, last - left, bottom), dim=1)


@torch.no_grad()
def targets_of(batch: Batch, prepared: Prepared, mano_layer: HandLayer, config: Config) -> Targets:
    """The targets of the losses (Eq. 5, 6, 8); the hand model makes joints and vertices from the labelled pose."""
    batch = batch.to(prepared.images.device)
    rotations = geometry.axis_angle_to_matrix(batch.pose.reshape(-1, 16, 3))
    # The affine's linear part is a rotation times a scale. The angle is read from it, so that the two never differ.
    angle = torch.atan2(prepared.affine[:, 1, 0], prepared.affine[:, 0, 0])
    root = geometry.rotation_z(angle) @ rotations[:, 0]
    rotations = torch.cat((root[:, None], rotations[:, 1:]), dim=1)
    hand = mano_layer.from_rotations(rotations, batch.betas)
    cells = config.model.roi_cells
    to_cells = crops.cell_affine(prepared.affine, prepared.object_boxes.nan_to_num(0.0) + _unit(batch), cells)
    return Targets(
        joints_box=_in_box(geometry.apply_affine(prepared.affine, batch.joints_px), prepared.hand_boxes),
        rotations=rotations,
        betas=batch.betas,
        vertices=hand.vertices,
        joints=hand.joints,
        has_object=batch.has_object,
        control_box=_in_box(geometry.apply_affine(prepared.affine, batch.control_px), prepared.object_boxes),
        object_mask=crops.warp_mask(batch.object_masks, to_cells, cells),
        pseudo=batch.pseudo,
        quality=batch.quality,
    )


class ConcatSamples(Dataset[tuple[Sample, Pick]]):
    """Several data sets one after the other under one numbering; an item's index is (pass over the data, number)."""

    def __init__(self, datasets: Sequence[Samples]) -> None:
        self.datasets = list(datasets)
        self.ends = torch.tensor([len(d) for d in self.datasets]).cumsum(0).tolist()

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, pick: Pick) -> tuple[Sample, Pick]:
        which = next(k for k, end in enumerate(self.ends) if pick[1] < end)
        return self.datasets[which][pick[1] - (self.ends[which] - len(self.datasets[which]))], pick


class Cached:
    """A data set read once, by several threads, and kept in memory as decoded regions."""

    def __init__(self, dataset: Samples, threads: int) -> None:
        with ThreadPoolExecutor(threads) as pool:  # OpenCV decodes outside Python's lock
            self._samples = list(pool.map(dataset.__getitem__, range(len(dataset))))

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]


def loader(
    samples: ConcatSamples, schedule: Schedule, *, start: int, rank: int = 0, workers: int = 1, processes: int = 0
) -> Iterator[Batch]:  # fmt: skip
    """One worker's batches from step ``start`` to the last, in order; ``processes`` read ahead, 0 reads in this one.

    Raises:
        InputError: a sample cannot be read.
    """
    shares = _Shares(schedule, start, rank, workers)
    if processes == 0:
        for picks in shares:
            yield _collate([samples[pick] for pick in picks])
        return
    batches: Iterator[Batch | InputError] = iter(
        DataLoader(
            _ErrorsAsValues(samples),
            batch_sampler=shares,
            num_workers=processes,
            collate_fn=_collate_or_error,
            pin_memory=torch.cuda.is_available(),
        )
    )
    for batch in batches:
        if isinstance(batch, InputError):
            raise batch
        yield batch


class _Shares(Sampler[list[Pick]]):
    """A worker's picks, step by step, made when they are needed: those of a long run would fill gigabytes."""

    def __init__(self, schedule: Schedule, start: int, rank: int, workers: int) -> None:
        self._schedule, self._steps = schedule, range(start, schedule.steps)
        self._rank, self._workers = rank, workers

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[Pick]]:
        return (self._schedule.share(step, self._rank, self._workers) for step in self._steps)


class _ErrorsAsValues(Dataset[tuple[Sample, Pick] | InputError]):
    """Samples that return an InputError instead of raising it.

    DataLoader would replace the message of an error raised in its process by a traceback.
    """

    def __init__(self, samples: ConcatSamples) -> None:
        self._samples = samples

    def __getitem__(self, pick: Pick) -> tuple[Sample, Pick] | InputError:
        try:
            return self._samples[pick]
        except InputError as error:
            return error


def _collate(items: Sequence[tuple[Sample, Pick]]) -> Batch:
    return collate([sample for sample, _ in items], [pick for _, pick in items])


def _collate_or_error(items: Sequence[tuple[Sample, Pick] | InputError]) -> Batch | InputError:
    """The batch, or the first error among its samples."""
    read = [item for item in items if not isinstance(item, InputError)]
    return _collate(read) if len(read) == len(items) else next(item for item in items if isinstance(item, InputError))


def _affine(batch: Batch, config: Config, draws: Draws | None) -> tuple[Tensor, Tensor]:
    """Affine (B, 2, 3) from region px to input px, and its in-plane rotation (B,) rad."""
    limit = batch.sizes.float() if config.crop.clip else None
    centre, side = crops.square_of(
        batch.hand_box, batch.object_box, config.crop.context, limit, hand_context=config.crop.hand_context
    )
    size = config.model.input_px
    if draws is None:
        return crops.plain_affine(centre, side, size), torch.zeros_like(side)
    return crops.view_affine(centre, side, size, draws.angle, draws.scale, draws.shift), draws.angle


def _box_of(px: Tensor, otherwise: Tensor) -> Tensor:
    """(B, 4) boxes of points (B, P, 2); a box of ``otherwise`` (B, 4) where a point is not finite."""
    box = geometry.box_of_points(px)
    return torch.where(torch.isfinite(box), box, otherwise)


def _jittered(box: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    size = box[:, 2:] - box[:, :2]
    return geometry.scale_box(box + (shift * size).repeat(1, 2), scale[:, None])


def _in_box(px: Tensor, box: Tensor) -> Tensor:
    return (px - box[:, None, :2]) / (box[:, None, 2:] - box[:, None, :2])


def _unit(batch: Batch) -> Tensor:
    """(B, 4): a box of one pixel where there is no object, so that its unused mask has finite cells; else zeros."""
    empty = (~batch.has_object).float()[:, None]
    return empty * batch.hand_box.new_tensor([0.0, 0.0, 1.0, 1.0])
