"""FreiHAND v2: hands without objects; its evaluation set is the out-of-domain test, its training set
can join the labelled images.

Camera frame and joint order are ours already. Poses are relative to the mean hand, which is added on reading, and
images have no box: the hand's is that of its projected joints. Each labelled image exists in up to four versions.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hojoint import crops
from hojoint.config import CropConfig, FreiHANDConfig
from hojoint.datasets import listing, regions
from hojoint.datasets.annotated import Annotated
from hojoint.errors import InputError
from hojoint.records import Sample

WHERE = "FreiHAND comes from its authors' page (search 'FreiHAND dataset'); set data.freihand.root"
VERSIONS = ("green screen", "homogenised", "sample-based", "automatic")
"""Of each training image, in the order of their numbers: image v * N + k is version v of label k of N."""
IMAGE = re.compile(r"[0-9]{8}\.jpg")
SOME = 16  # images whose content a fingerprint covers


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
        *,
        factor: float = crops.REGION_FACTOR,
    ) -> None:
        """Read the label files of one split.

        Args:
            config: where the data are.
            split: whose evaluation set may be a separate download, see ``evaluation_root``.
            crop: how the network crops; None means the defaults.
            region_px: largest side of a sample's image, px; None means the native size.
            mean_pose: (45,) rad of the hand model in use (``HandModel.hands_mean``); None means a flat hand.
            factor: side of a training sample's region, in crops (``crops.region_factor``).

        Raises:
            InputError: no folder is set, a label file is missing, damaged or of another length, training images are
                of more labels than there are, or ``data.freihand.missing=leave_out`` leaves no image.
        """
        root = config.root if split == "train" else evaluation_root(config)
        if root is None:
            raise InputError(f"the setting 'data.freihand.root' is needed. {WHERE}")
        self.root, self.split = Path(root), split
        self.crop, self.region_px = crop or CropConfig(), region_px
        self.factor = factor
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
        if self.mano is not None and len(self.mano) != len(self.joints):
            raise InputError(
                f"{self._path('mano')} and {self._path('xyz')} must be of one length, found {len(self.mano)} and "
                f"{len(self.joints)}; fetch FreiHAND again"
            )
        self._list_images(config)

    def _list_images(self, config: FreiHANDConfig) -> None:
        """Find the versions and images that exist; files with other names are not FreiHAND's."""
        there = listing.names_in(self.folder)
        count = len(self.cameras)
        numbers = {int(name[:8]) for name in there if IMAGE.fullmatch(name)}
        known = range(len(VERSIONS) if self.split == "train" else 1)
        self.unlabelled = sorted(number for number in numbers if number >= count * len(known))
        if self.split == "train" and self.unlabelled:
            # The versions of an image are found by the number of labels: with another one, labels are another image's.
            raise InputError(self._too_few_labels())
        self.versions = [version for version in known if any(n // count == version for n in numbers)] or [0]
        self.listed = [f"{version * count + label:08d}" for version in self.versions for label in range(count)]
        self._absent = [name for name in self.listed if f"{name}.jpg" not in there]
        self.left_out = self._absent if config.missing == "leave_out" else []
        dropped = set(self.left_out)
        self.names = [name for name in self.listed if name not in dropped]
        if not self.names:
            raise InputError(
                f"no images in {self.folder}, so that data.freihand.missing=leave_out leaves none; unpack FreiHAND v2. "
                f"{WHERE}"
            )
        self.rows = [int(name) % count for name in self.names]

    def _too_few_labels(self) -> str:
        count, versions = len(self.cameras), len(VERSIONS)
        return (
            f"{self._path('K')} has {count} labels, so with {versions} versions of each image those in {self.folder} "
            f"have numbers below {versions * count}; found {len(self.unlabelled)} others, up to "
            f"{self.unlabelled[-1]:08d}.jpg. Images would get labels of others: take label files and images of one "
            f"download, or for a part of FreiHAND keep its first {count} labels and the images below {count:08d} alone"
        )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """Read one image and its labels, in pixels of the cut region.

        Pose (48,) rad with the mean added, and betas (10,), where the split has them; no object.

        Raises:
            InputError: the image is missing or damaged.
        """
        factor = self.factor if self.split == "train" else 1.0
        return self.annotated(index).cut(self.crop, self.region_px, factor)

    def annotated(self, index: int) -> Annotated:
        """One image with its labels in px of the image, before a region is cut; raises as ``__getitem__`` does."""
        label = self.rows[index]  # the versions of an image share its label
        camera = self.cameras[label]
        joints_px = regions.project(self.joints[label], camera)
        pose = betas = None
        if self.mano is not None:
            pose, betas = self.mano[label, :48].copy(), self.mano[label, 48:58]
            pose[3:] += self.mean_pose
        labels = {"camera": camera, "hand_box": regions.box_of(joints_px), "joints_px": joints_px}
        labels |= {} if pose is None else {"pose": pose, "betas": betas}
        return Annotated(self.names[index], *regions.read_file(self.image_path(self.names[index])), labels)

    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """Joints (N, 21, 3) and vertices (N, 778, 3) float32, camera frame, our joint order, metres.

        Rows are those of ``names``: an image that is left out has none.
        """
        vertices = self._read("verts", (778, 3))
        if len(vertices) != len(self.joints):
            raise InputError(
                f"{self._path('verts')} and {self._path('xyz')} must be of one length, found {len(vertices)} and "
                f"{len(self.joints)}; fetch FreiHAND again"
            )
        return self.joints[self.rows].astype(np.float32), vertices[self.rows].astype(np.float32)

    def roots(self) -> np.ndarray:
        """The annotated wrist, (N, 3) m, camera frame."""
        return self.joints[self.rows, 0]

    def advice(self) -> tuple[str, ...]:
        """Sentences for the user: versions that do not exist, images without a label, and images that are left out."""
        left = (
            f"{self.missing_text(self.left_out)}; they are left out (data.freihand.missing)" if self.left_out else None
        )
        return tuple(text for text in (self.versions_note(), self.unlabelled_note(), left) if text is not None)

    def unlabelled_note(self) -> str | None:
        """A sentence where the folder has images beyond the labels, as in a part of an evaluation set; else None."""
        if not self.unlabelled:
            return None
        return (
            f"{self.folder} holds {len(self.unlabelled)} images beyond the {len(self.cameras)} labels of "
            f"{self._path('K').name}, the first is {self.unlabelled[0]:08d}.jpg; they are not used"
        )

    def versions_note(self) -> str | None:
        """A sentence where the training images do not exist in all versions; None where they do."""
        if self.split != "train" or len(self.versions) == len(VERSIONS):
            return None
        kinds = ", ".join(VERSIONS[version] for version in self.versions)
        return (
            f"{self.folder} holds {len(self.versions)} of FreiHAND's {len(VERSIONS)} versions of each image ({kinds}), "
            f"{len(self.versions)} x {len(self.cameras)} images; these are used"
        )

    def missing_images(self) -> list[str]:
        """Names of the images that do not exist and are not left out."""
        return [] if self.left_out else list(self._absent)

    def missing_text(self, names: list[str]) -> str:
        """A sentence that counts missing images."""
        return f"{len(names)} of {len(self.listed)} images are missing in {self.folder}, the first is {names[0]}.jpg"

    def refuse_missing(self) -> None:
        """Raise InputError where an image is missing and not left out."""
        if names := self.missing_images():
            raise InputError(
                f"{self.missing_text(names)}. Fetch them again, or set data.freihand.missing=leave_out to drop and "
                "count them"
            )

    def image_path(self, name: str) -> Path:
        """File of an image."""
        return self.folder / f"{name}.jpg"

    def fingerprint(self) -> str:
        """Twelve hex digits that tell this data from other data.

        They cover the label files that are read, names and sizes of all images, those left out, and the content of
        about sixteen images.

        Raises:
            InputError: an image is missing and not left out.
        """
        self.refuse_missing()
        sizes = listing.sizes_in(self.folder)
        images = [f"{name} {sizes.get(f'{name}.jpg')}" for name in self.names]
        left_out = [f"left out {name}" for name in self.left_out]
        labels = [self._path(key) for key in (("K", "xyz") if self.mano is None else ("K", "xyz", "mano"))]
        some = [self.image_path(name) for name in listing.stepped(self.names, SOME)]
        return regions.fingerprint([*images, *left_out], [*labels, *some])

    def _path(self, key: str) -> Path:
        return self.root / f"{'training' if self.split == 'train' else 'evaluation'}_{key}.json"

    def _read(self, key: str, shape: tuple[int, ...]) -> np.ndarray:
        path = self._path(key)
        if not path.is_file():
            raise InputError(f"no {path}: expected FreiHAND v2 with its label files. {WHERE}")
        values: Any = listing.read_json(path)
        try:
            numbers = np.array(values, dtype=np.float64).reshape(len(values), *shape)
        except (ValueError, TypeError):
            raise InputError(
                f"{path} must hold {shape} numbers per image, found others; fetch FreiHAND v2 again"
            ) from None
        wrong = np.flatnonzero(~np.isfinite(numbers).all(axis=tuple(range(1, numbers.ndim))))
        if len(wrong):  # NumPy reads null as NaN
            raise InputError(
                f"{path} must hold finite numbers, found null, NaN or infinity in {len(wrong)} of {len(numbers)} rows, "
                f"the first is row {wrong[0]} (from 0); fetch FreiHAND v2 again"
            )
        return numbers
