"""Semi-supervised 3D hand-object pose estimation (Liu et al., CVPR 2021), as a library. Knows no Ray, no argv.

    from hojoint import HandPredictor, filter_clip

    predictor = HandPredictor.from_checkpoint("checkpoint.pt")  # ours, or the authors' with mano="MANO_RIGHT.pkl"
    hand = predictor.predict_image(image, hand_box)  # (H, W, 3) uint8 RGB; x0, y0, x1, y1 px
    print(hand.joints_px, hand.pose, hand.betas, hand.vertices)  # of one frame; shapes in hojoint.records
    clip = filter_clip(pose=pose, betas=betas, joints_px=joints_px, hand_boxes=boxes, image_size=(640, 480), mano=...)
    print(clip.verdicts, clip.scores["box_iou"])

The names in ``__all__`` are public. Each is loaded on its first use, so importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hojoint.config import FilterConfig
    from hojoint.evaluation.metrics import freihand_scores, hand_scores
    from hojoint.evaluation.object_metrics import object_scores
    from hojoint.hand.layer import ManoLayer
    from hojoint.hand.model import load_mano
    from hojoint.labelling.clip_filter import filter_clip
    from hojoint.labelling.tta import HandPredictor
    from hojoint.model.network import HOJoint
    from hojoint.model.opening import load_network
    from hojoint.model.released import load_released

__all__ = [
    "FilterConfig",
    "HOJoint",
    "HandPredictor",
    "ManoLayer",
    "filter_clip",
    "freihand_scores",
    "hand_scores",
    "load_mano",
    "load_network",
    "load_released",
    "object_scores",
]

_MODULES = {
    "FilterConfig": "hojoint.config",
    "HOJoint": "hojoint.model.network",
    "HandPredictor": "hojoint.labelling.tta",
    "ManoLayer": "hojoint.hand.layer",
    "filter_clip": "hojoint.labelling.clip_filter",
    "freihand_scores": "hojoint.evaluation.metrics",
    "hand_scores": "hojoint.evaluation.metrics",
    "load_mano": "hojoint.hand.model",
    "load_network": "hojoint.model.opening",
    "load_released": "hojoint.model.released",
    "object_scores": "hojoint.evaluation.object_metrics",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public names: {', '.join(__all__)}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
