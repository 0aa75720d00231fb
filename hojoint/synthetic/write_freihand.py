"""The wide test images on disk, in the layout of FreiHAND's evaluation set.

Right hands, 224 x 224 JPEG, CV camera frame, simple joint order; poses relative to the mean hand; joints by the
regressor on the posed mesh, which is not quite where the kinematic joints are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hojoint.hand.model import FINGERTIPS, MANO_TO_SIMPLE
from hojoint.hand.stand_in.model import stand_in_model
from hojoint.synthetic import scene
from hojoint.synthetic.domains import WILD
from hojoint.synthetic.render import project
from hojoint.synthetic.scene import Shot

SIZE = 224
# The same domain as the wild videos; only the framing is FreiHAND's: the hand fills the picture.
TEST = replace(WILD, hand_share=(0.35, 0.55), wander=0.04, whole_hand=True)


@dataclass(frozen=True)
class ImageResult:
    """One image's entries in the five label files."""

    index: int
    labels: dict[str, Any]


def write_image(root: Path, index: int, seed: int) -> ImageResult:
    """Draw and write one image under ``root`` (the folder of FreiHAND_pub_v2_eval)."""
    rng = scene.generator(seed, "test", index)
    story = "gesture" if rng.random() < 0.3 else "hold"
    shot = scene.make_shot(rng, seed, TEST, story=story, frames=1, size=(SIZE, SIZE))
    folder = root / "evaluation" / "rgb"
    folder.mkdir(parents=True, exist_ok=True)
    quality = int(rng.integers(70, 96))
    image = scene.picture(shot, 0).rgb[..., ::-1]
    cv2.imwrite(str(folder / f"{index:08d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return ImageResult(index, labels(shot))


def labels(shot: Shot) -> dict[str, Any]:
    """Entries of K, mano, xyz, verts and scale."""
    model = stand_in_model()
    vertices = shot.hand.vertices[0]
    tips = vertices[list(FINGERTIPS["freihand"])]
    joints = np.concatenate([model.J_regressor @ vertices, tips])[MANO_TO_SIMPLE]
    root = joints[9]
    root_px = project(root[None], shot.camera)[0]
    pose = shot.hand.pose[0].copy()
    pose[3:] -= model.hands_mean
    focal = (shot.camera[0, 0] + shot.camera[1, 1]) / 2
    mano = np.concatenate([pose, shot.hand.betas, root_px, [focal / root[2]]])
    return {
        "K": shot.camera.tolist(),
        "mano": [mano.round(8).tolist()],
        "xyz": joints.round(7).tolist(),
        "verts": vertices.round(7).tolist(),
        "scale": float(np.linalg.norm(joints[9] - joints[10])),
    }


def write_labels(root: Path, results: list[ImageResult]) -> None:
    """The five JSON files, aligned by the number of the image."""
    ordered = sorted(results, key=lambda result: result.index)
    for key in ("K", "mano", "xyz", "verts", "scale"):
        (root / f"evaluation_{key}.json").write_text(json.dumps([result.labels[key] for result in ordered]))
