"""FreiHAND v2: hands without objects; its evaluation set is the out-of-domain test, its training set
can join the labelled images.

Camera frame and joint order are ours already. Poses are relative to the mean hand, which is added on reading, and
images have no box: the hand's is that of its projected joints. Each labelled image exists in up to four versions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hojoint import crops
from hojoint.config import CropConfig, FreiHANDConfig
from hojoint.datasets import regions
from hojoint.errors import InputError
from hojoint.records import Sample

WHERE = "FreiHAND comes from its authors' page (search 'FreiHAND dataset'); set data.freihand.root"


def evaluation_root(config: FreiHANDConfig) -> Path | None:
    """Folder of the evaluation set: a separate download, FreiHAND_pub_v2_eval beside FreiHAND_pub_v2.

    The training set's folder also holds the evaluation images, but not their truth.
    """
    if config.evaluation_root is not None or config.root is None:
        return None if config.evaluation_root is None else Path(config.evaluation_root)
    root = Path(config.root)
    beside = Path(f"{root}_eval")
    return beside if beside.is_dir() and not (root / "evaluation_xyz.json").is_file() else root


def advice(config: FreiHANDConfig) -> str | None:
    """A sentence for the user where the settings name a training set alone, which cannot be measured; else None."""
    root = evaluation_root(config)
    if root is None or config.evaluation_root is not None or (root / "evaluation_xyz.json").is_file():
        return None
    if not (root / "training_xyz.json").is_file():
        return None  # no FreiHAND at all: the reader raises
    return (
        f"{root} is FreiHAND's training set: it has no evaluation_xyz.json, so FreiHAND is not measured. The "
        "evaluation set is a separate download; set data.freihand.evaluation_root"
    )


class FreiHAND:
    """One split as a sequence of Samples without objects."""

    def __init__(
        self,
        config: FreiHANDConfig,
        split: Literal["train", "evaluation"],
        crop: CropConfig | None = None,
        region_px: int | None = None,
        mean_pose: np.ndarray | None = None,
    ) -> None:
        """Read the label files of one split.

        Args:
            config: where the data are.
            split: whose evaluation set may be a separate download, see ``evaluation_root``.
            crop: how the network crops; None means the defaults.
            region_px: largest side of a sample's image, px; None means the native size.
            mean_pose: (45,) rad of the hand model in use (``HandModel.hands_mean``); None means a flat hand.

        Raises:
            InputError: no folder is set, or a label file is missing, damaged or of another length.
        """
        root = config.root if split == "train" else evaluation_root(config)
        if root is None:
            raise InputError(f"the setting 'data.freihand.root' is needed. {WHERE}")
        self.root, self.split = Path(root), split
        self.crop, self.region_px = crop or CropConfig(), region_px
        self.mean_pose = np.zeros(45) if mean_pose is None else mean_pose
        self.folder = self.root / ("training" if split == "train" else "evaluation") / "rgb"
        self.cameras = self._read("K", (3, 3))
        self.joints = self._read("xyz", (21, 3))
        self.mano = self._read("mano", (61,)) if split == "train" or self._path("mano").is_file() else None
        if not len(self.cameras) == len(self.joints) > 0:
            raise InputError(
                f"{self._path('K')} and {self._path('xyz')} must be of one length and not empty, "
                f"found {len(self.cameras)} and {len(self.joints)}; fetch FreiHAND again"
            )
        versions = 4 if split == "train" and (self.folder / f"{len(self.cameras):08d}.jpg").is_file() else 1
        self.names = [f"{index:08d}" for index in range(versions * len(self.cameras))]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """Read one image and its labels, in pixels of the cut region.

        Pose (48,) rad with the mean added, and betas (10,), where the split has them; no object.

        Raises:
            InputError: the image is missing or damaged.
        """
        label = index % len(self.cameras)  # the versions of an image share its label
        camera = self.cameras[label]
        joints_px = regions.project(self.joints[label], camera)
        pose = betas = None
        if self.mano is not None:
            pose, betas = self.mano[label, :48].copy(), self.mano[label, 48:58]
            pose[3:] += self.mean_pose
        return regions.cut_sample(
            self.names[index],
            regions.read_image(self.folder / f"{self.names[index]}.jpg"),
            crop=self.crop,
            region_px=self.region_px,
            factor=crops.REGION_FACTOR if self.split == "train" else 1.0,
            camera=camera,
            hand_box=regions.box_of(joints_px),
            joints_px=joints_px,
            pose=pose,
            betas=betas,
        )

    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """Joints (N, 21, 3) and vertices (N, 778, 3) float32, camera frame, our joint order, metres."""
        return self.joints.astype(np.float32), self._read("verts", (778, 3)).astype(np.float32)

    def roots(self) -> np.ndarray:
        """The annotated wrist, (N, 3) m, camera frame."""
        return self.joints[:, 0]

    def fingerprint(self) -> str:
        """Twelve hex digits that tell this data from other data: its labels and the content of sixteen images."""
        some = self.names[:: max(1, len(self) // 16)]
        labels = [self._path(key) for key in (("K", "xyz") if self.mano is None else ("K", "xyz", "mano"))]
        return regions.fingerprint(self.names, [*labels, *(self.folder / f"{name}.jpg" for name in some)])

    def _path(self, key: str) -> Path:
        return self.root / f"{'training' if self.split == 'train' else 'evaluation'}_{key}.json"

    def _read(self, key: str, shape: tuple[int, ...]) -> np.ndarray:
        path = self._path(key)
        if not path.is_file():
            raise InputError(f"no {path}: expected FreiHAND v2 with its label files. {WHERE}")
        try:
            values: Any = json.loads(path.read_text())
            return np.array(values, dtype=np.float64).reshape(len(values), *shape)
        except (ValueError, TypeError):
            raise InputError(
                f"{path} must hold {shape} numbers per image, found others; fetch FreiHAND v2 again"
            ) from None
