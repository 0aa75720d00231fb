"""HOJoint: the joint hand-object network of Fig. 2, from image and boxes to hand and object (Sec. 4).

Encoder, RoI features, contextual reasoning, hand decoder, object decoder, in this order. It knows no loss, no MANO
layer and no PnP. With ``ModelConfig()`` it computes what the authors' released network computes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hojoint.config import ModelConfig
from hojoint.model.decoders import JOINTS, JointDecoder, MeshDecoder, ObjectDecoder, SideHead
from hojoint.model.encoder import Encoder, intersection_features, roi_features
from hojoint.model.reasoning import ContextReasoning

# B images, K of them with an object, C channels, R RoI cells a side, N = R * R.


class HandOutput(NamedTuple):
    """What the hand decoder predicts."""

    joints_box: Tensor  # (B, 21, 2) x, y in units of the hand box
    rotations: Tensor  # (B, 16, 3, 3) root first
    betas: Tensor  # (B, 10)
    heatmaps: Tensor  # (B, 21, R, R), each of sum 1
    side: Tensor | None = None  # (B + side_only,) logit that it is a right hand; None without a side head


class ObjectOutput(NamedTuple):
    """What the object decoder predicts; NaN points of confidence 0 for images without an object."""

    control_box: Tensor  # (B, R, R, 21, 2) x, y in units of the object box; cells as [row, column]
    confidence: Tensor  # (B, R, R, 21) in [0, 1]


class HOJointOutput(NamedTuple):
    """What the network predicts for a batch."""

    hand: HandOutput
    object: ObjectOutput
    attention: Tensor | None = None  # (B, N, N) query cell, context cell; NaN rows for images without an object


class HOJoint(nn.Module):
    """Images (B, 3, S, S) RGB in [0, 1] and their boxes (B, 4) xyxy px to hand and object (``HOJointOutput``).

    The boxes are the RoIs themselves: margins are the caller's. An object box that is not finite means "no object": the
    object branch, its batch statistics included, never sees that image (reading A21).

    Args:
        config: None means the authors' released network.
    """

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ModelConfig()
        self.encoder = Encoder(config)
        self.joint_decoder = JointDecoder(config)
        self.mesh_decoder = MeshDecoder(config)
        self.object_decoder = ObjectDecoder(config)
        self.hand_reasoning = ContextReasoning(config) if config.reasoning in ("h+", "h+o+") else None
        self.object_reasoning = ContextReasoning(config) if config.reasoning in ("o+", "h+o+") else None
        # Last, so that with it the other parts draw the same weights as without.
        self.side_head = SideHead(config) if config.side_head else None

    def forward(
        self,
        images: Tensor,
        hand_boxes: Tensor,
        object_boxes: Tensor,
        *,
        with_object: bool = True,
        with_attention: bool = False,
        side_only: int = 0,
        roi_samples: int | None = None,
    ) -> HOJointOutput:
        """``with_object=False`` skips the object decoder; ``with_attention`` adds the weights of Eq. 2.

        Without both, and with ``roi_samples``, nothing waits for a GPU, and shapes depend on no value.

        Args:
            side_only: so many images at the end, which have a hand box and no row in ``object_boxes``, pass through
                encoder and side head alone: they are in ``hand.side`` and nowhere else.
            roi_samples: ``encoder.samples_per_cell`` of the hand boxes, or more; None means that it is found out here.

        Raises:
            AssertionError: a hand box is not finite, or ``side_only`` without a side head.
        """
        _refuse_no_hand(hand_boxes)
        assert side_only == 0 or self.side_head is not None, "only a side head reads images of side_only"
        cells = self.config.roi_cells
        p2 = self.encoder(images)
        hand_features = roi_features(p2, hand_boxes, None, cells=cells, samples=roi_samples)
        side = None if self.side_head is None else self.side_head(hand_features)
        hand_features = hand_features[: len(images) - side_only]
        if not (with_object or with_attention or side_only):
            context_features = self._context_of_all(p2, hand_boxes, object_boxes, roi_samples)
            return HOJointOutput(self._hand(hand_features, context_features, side), self._no_object(len(images)))
        rows = torch.isfinite(object_boxes).all(dim=1).nonzero()[:, 0]
        object_images = None if len(rows) == len(images) else rows
        runs_object = with_object and len(rows) > 0
        context_features = None
        if len(rows) > 0 and (self.hand_reasoning is not None or (runs_object and self.object_reasoning is not None)):
            context_features = intersection_features(
                p2, hand_boxes[rows], object_boxes[rows], object_images, cells=cells
            )
        object_features = roi_features(p2, object_boxes[rows], object_images, cells=cells) if runs_object else None
        attention = self._attention(hand_features, object_features, context_features, rows) if with_attention else None
        # Without an object no intersection exists: zeros, as for boxes that do not overlap.
        of_all = None if self.hand_reasoning is None else scatter_rows(context_features, rows, hand_features, fill=0.0)
        return HOJointOutput(
            self._hand(hand_features, of_all, side),
            self._object(object_features, context_features, rows, len(hand_features)),
            attention,
        )

    def _hand(self, features: Tensor, context: Tensor | None, side: Tensor | None) -> HandOutput:
        """The hand of hand features (B, C, R, R) and, where the hand asks, the intersection's of the same shape."""
        if self.hand_reasoning is not None:
            features = self.hand_reasoning(features, context)
        joints, heatmaps, features = self.joint_decoder(features)
        rotations, betas = self.mesh_decoder(heatmaps, features)
        return HandOutput(joints, rotations, betas, heatmaps, side)

    def _context_of_all(
        self, p2: Tensor, hand_boxes: Tensor, object_boxes: Tensor, samples: int | None
    ) -> Tensor | None:  # fmt: skip
        """Features of the intersection (B, C, R, R) for the hand's reasoning, zeros without an object; None without it.

        All images have the same work, so that no shape depends on how many have an object.
        """
        if self.hand_reasoning is None:
            return None
        known_B1 = torch.isfinite(object_boxes).all(dim=1, keepdim=True)
        # A box without an area overlaps with none.
        boxes_B4 = torch.where(known_B1, object_boxes, 0.0)
        return intersection_features(p2, hand_boxes, boxes_B4, None, cells=self.config.roi_cells, samples=samples)

    def _object(
        self, object_features: Tensor | None, context_features: Tensor | None, rows: Tensor, batch: int
    ) -> ObjectOutput:
        """Control points and confidence of all images; the decoder sees only ``rows``."""
        if object_features is None:
            return self._no_object(batch)
        if self.object_reasoning is not None:
            assert context_features is not None
            object_features = self.object_reasoning(object_features, context_features)
        control, confidence = self.object_decoder(object_features)
        if len(rows) == batch:
            return ObjectOutput(control, confidence)
        empty = control.new_empty(batch, *control.shape[1:])
        return ObjectOutput(
            scatter_rows(control, rows, empty, fill=torch.nan), scatter_rows(confidence, rows, empty[..., 0], fill=0.0)
        )

    def _no_object(self, batch: int) -> ObjectOutput:
        """NaN points of confidence 0 for all images."""
        confidence = self._touch_object_branch().view(1, 1, 1, 1)
        shape = (batch, self.config.roi_cells, self.config.roi_cells, JOINTS)
        control = torch.full_like(confidence, torch.nan)[..., None]
        return ObjectOutput(control.expand(*shape, 2), confidence.expand(shape))

    def _touch_object_branch(self) -> Tensor:
        """A zero that depends on every parameter of the object branch while training.

        A batch of pseudo-labels alone uses none of them; distributed training waits for a gradient of each.
        """
        zero = torch.zeros((), device=self.joint_decoder.cells_x.device)
        if not (self.training and torch.is_grad_enabled()):
            return zero
        branch = [self.object_decoder, *([] if self.object_reasoning is None else [self.object_reasoning])]
        return zero + sum(p.float().sum() * 0.0 for module in branch for p in module.parameters())

    def _attention(
        self, hand_features: Tensor, object_features: Tensor | None, context_features: Tensor | None, rows: Tensor
    ) -> Tensor | None:
        """Softmax weights of the object's reasoning, of the hand's under "h+"; None where neither exists."""
        if context_features is None:
            return None
        if self.object_reasoning is not None and object_features is not None:
            weights = self.object_reasoning.attention(object_features, context_features)
        elif self.hand_reasoning is not None:
            weights = self.hand_reasoning.attention(hand_features[rows], context_features)
        else:
            return None
        return scatter_rows(weights, rows, weights.new_empty(len(hand_features), *weights.shape[1:]), fill=torch.nan)


def _refuse_no_hand(hand_boxes: Tensor) -> None:
    """AssertionError unless all boxes are finite, for RoIAlign on NaN is undefined; a GPU reports it later, unasked."""
    finite = torch.isfinite(hand_boxes).all()
    if hand_boxes.is_cuda:
        torch._assert_async(finite)  # a plain assert would wait for the GPU
    else:
        assert finite, "every image has a hand box"


def scatter_rows(values: Tensor | None, rows: Tensor, like: Tensor, *, fill: float) -> Tensor:
    """A tensor of the shape of ``like``, ``values`` in its ``rows`` and ``fill`` elsewhere."""
    out = torch.full_like(like, fill, requires_grad=False)
    return out if values is None else out.index_copy(0, rows, values.to(out.dtype))
