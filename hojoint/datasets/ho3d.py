"""HO-3D v2 and v3: labelled images for training, and the evaluation set with its public truth.

HO-3D uses OpenGL's camera frame (y up, looking along -z) and MANO's joint order; both are converted here. Only frames
in ``train.txt`` and ``evaluation.txt`` count, in their order, for the score files are aligned to it. The 66,034 metas
are read one by one, on demand. In training the hand's box is that of its projected joints, in evaluation the annotated
one; the object's box is that of its projected control points in both, as in the released code (an oracle box).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch

from hojoint import crops, geometry
from hojoint.config import CropConfig, HO3DConfig
from hojoint.datasets import regions, ycb
from hojoint.errors import InputError
from hojoint.hand.model import MANO_TO_SIMPLE
from hojoint.hand.pickles import load_restricted
from hojoint.records import Sample

GL_TO_CV = np.diag([1.0, -1.0, -1.0])
MASK_BLUE, MASK_OTHER = 200, 80  # the rendered segmentation is a JPEG: object pixels are blue, about (0, 0, 255)
WHERE = "HO-3D comes from its authors' page (search 'HO-3D v2 download'); set data.ho3d.root to the unpacked folder"


class HO3D:
    """One split as a sequence of Samples."""

    def __init__(
        self,
        config: HO3DConfig,
        split: Literal["train", "evaluation"] = "train",
        crop: CropConfig | None = None,
        region_px: int | None = None,
    ) -> None:
        """Read the list of one split; images and metas are read on demand.

        Args:
            config: where data, segmentations and object models are.
            split: of the data set.
            crop: how the network crops; None means the defaults.
            region_px: largest side of a sample's image, px; None means the native size.

        Raises:
            InputError: the folder is not set or has no list, or segmentations are configured but missing.
        """
        if config.root is None:
            raise InputError(f"the setting 'data.ho3d.root' is needed: a folder with {split}.txt and {split}/. {WHERE}")
        self.root, self.split = Path(config.root), split
        self.crop, self.region_px = crop or CropConfig(), region_px
        self.names = _read_list(self.root, split)
        self.segmentations = Path(config.segmentations or f"{self.root}_segmentations_rendered")
        self.object_folder = Path(config.object_models or self.root.parent / "object_models")
        if split == "train" and config.segmentations is not None and not self.has_segmentations:
            raise InputError(
                f"data.ho3d.segmentations={config.segmentations} must be the folder of HO-3D's rendered segmentations "
                f"with {split}/ in it, found none; correct it, or leave it out to have the models' outlines drawn"
            )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """Read one frame with its labels, in pixels of the cut region and the CV camera frame.

        Evaluation frames have boxes, intrinsics and the object's pose; hand joints, pose and betas are NaN.

        Raises:
            InputError: image, meta, segmentation or object model is missing or damaged, or the frame is not annotated.
        """
        name = self.names[index]
        meta = self.meta(index)
        camera = _array(meta, "camMat", (3, 3), name)
        image = regions.read_image(self.image_path(name))
        model = self._model(str(meta["objName"]), name)
        pose = object_pose(meta, name)
        corners = geometry.control_points(torch.from_numpy(model.lo), torch.from_numpy(model.hi)).numpy()
        control_px = regions.project(corners @ pose[:, :3].T + pose[:, 3], camera)
        hand: dict[str, Any]
        if self.split == "train":
            joints_px = regions.project(joints_cv(meta, name), camera)
            mask = self._mask(name, image.shape[:2], model, pose, camera)
            hand = {"hand_box": regions.box_of(joints_px), "joints_px": joints_px, "object_mask": mask}
            hand |= {"pose": hand_pose(meta, name), "betas": hand_betas(meta, name)}
        else:
            hand = {"hand_box": _array(meta, "handBoundingBox", (4,), name)}
        return regions.cut_sample(
            name,
            image,
            crop=self.crop,
            region_px=self.region_px,
            factor=crops.REGION_FACTOR if self.split == "train" else 1.0,
            camera=camera,
            object_box=regions.box_of(control_px),
            control_px=control_px,
            object_name=str(meta["objName"]),
            object_pose=pose,
            **hand,
        )

    @cached_property
    def has_segmentations(self) -> bool:
        """Whether the folder exists; single masks that it lacks are drawn from the model."""
        return (self.segmentations / self.split).is_dir()

    def advice(self) -> str | None:
        """A sentence for the user where the masks of training are drawn (reading A6); None where they are HO-3D's."""
        if self.split != "train" or self.has_segmentations:
            return None
        return (
            f"found no {self.segmentations}/{self.split}, so object masks are outlines of the models, without the "
            "hand in front of them (A6); the segmentations are a separate download (data.ho3d.segmentations)"
        )

    @cached_property
    def models(self) -> dict[str, ycb.ObjectModel]:
        """The objects' models by name; InputError where none can be read."""
        return ycb.load_models(self.object_folder)

    def meta(self, index: int) -> dict[str, Any]:
        """The annotation of one frame as its file has it (OpenGL, MANO order).

        Raises:
            InputError: the file is missing, is not what it should be, or the frame is not annotated.
        """
        name = self.names[index]
        sequence, frame = name.split("/")
        path = self.root / self.split / sequence / "meta" / f"{frame}.pkl"
        meta = load_restricted(path)
        if not isinstance(meta, dict) or meta.get("objRot") is None or meta.get("handJoints3D") is None:
            raise InputError(
                f"{path} holds no annotation (objRot or handJoints3D is None), yet {self.split}.txt lists {name}; "
                "take the list of this version of the data, or remove the line"
            )
        return meta

    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """Joints (N, 21, 3) and vertices (N, 778, 3) float32 of the evaluation frames, CV frame, our joint order, m.

        Raises:
            InputError: a truth file is missing, damaged or of another length than ``evaluation.txt``.
        """
        arrays = []
        for key, count in (("xyz", 21), ("verts", 778)):
            path = self.root / f"evaluation_{key}.json"
            if not path.is_file():
                raise InputError(
                    f"no {path}: the truth of HO-3D's evaluation set is public since November 2024 and is a separate "
                    "download; put it beside evaluation.txt"
                )
            try:
                values = np.array(json.loads(path.read_text()), dtype=np.float32)
            except (ValueError, TypeError):
                raise InputError(f"{path} is damaged: expected {count} x 3 numbers per image; fetch it again") from None
            if values.shape != (len(self), count, 3):
                raise InputError(
                    f"{path}: expected the shape {(len(self), count, 3)} for evaluation.txt, found {values.shape}"
                )
            arrays.append(values @ GL_TO_CV.astype(np.float32))
        return arrays[0][:, MANO_TO_SIMPLE], arrays[1]

    def roots(self) -> np.ndarray:
        """The annotated wrist of each frame, (N, 3) m, CV frame: what the released code adds to its predictions."""
        wrists = [
            np.asarray(self.meta(index)["handJoints3D"], np.float64).reshape(-1, 3)[0] for index in range(len(self))
        ]
        return np.stack(wrists) @ GL_TO_CV

    def fingerprint(self) -> str:
        """Twelve hex digits that tell this data from other data.

        They cover all names, where masks come from, and the content of sixteen frames.
        """
        some = self.names[:: max(1, len(self) // 16)]
        files = [self.root / self.split / name.replace("/", "/meta/") for name in some]
        masks = [f"masks {'given' if self.has_segmentations else 'drawn'}"] if self.split == "train" else []
        names = [*self.names, *masks]
        return regions.fingerprint(names, [*(f.with_suffix(".pkl") for f in files), *map(self.image_path, some)])

    def objects_fingerprint(self) -> str:
        """Twelve hex digits of the object models' points and, of a training split, of sixteen segmentations."""
        points = sorted(self.object_folder.glob("*/points.xyz"))
        masks: list[Path] = []
        if self.split == "train" and self.has_segmentations:
            some = self.names[:: max(1, len(self) // 16)]
            masks = [self.segmentations / self.split / f"{name.replace('/', '/seg/')}.jpg" for name in some]
        return regions.fingerprint([path.parent.name for path in points], [*points, *filter(Path.is_file, masks)])

    def image_path(self, name: str) -> Path:
        """File of a listed frame's image."""
        stem = self.root / self.split / name.replace("/", "/rgb/")
        png = stem.with_suffix(".png")  # v2; v3 has jpg
        return png if png.is_file() else stem.with_suffix(".jpg")

    def _model(self, object_name: str, name: str) -> ycb.ObjectModel:
        if object_name not in self.models:
            raise InputError(
                f"{name} shows the object {object_name}, but {self.object_folder} has only "
                f"{', '.join(sorted(self.models))}; set data.ho3d.object_models to the YCB models"
            )
        return self.models[object_name]

    def _mask(
        self, name: str, size: tuple[int, ...], model: ycb.ObjectModel, pose: np.ndarray, camera: np.ndarray
    ) -> np.ndarray:
        """Where the object is visible, (H, W) of 0 and 1: the rendered segmentation, else the drawn model (A6)."""
        path = self.segmentations / self.split / f"{name.replace('/', '/seg/')}.jpg"
        if not path.is_file():
            return silhouette(model, pose, camera, size)
        red, green, blue = np.moveaxis(regions.read_image(path), 2, 0)
        mask = ((blue > MASK_BLUE) & (green < MASK_OTHER) & (red < MASK_OTHER)).astype(np.uint8)
        return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)  # they are a quarter of the image's size


def joints_cv(meta: dict[str, Any], name: str) -> np.ndarray:
    """Joints (21, 3) m, CV frame, our joint order; InputError where the meta lacks them."""
    return (_array(meta, "handJoints3D", (21, 3), name) @ GL_TO_CV)[MANO_TO_SIMPLE]


def hand_pose(meta: dict[str, Any], name: str) -> np.ndarray:
    """Pose (48,) rad, global orientation in the CV frame; InputError where the meta lacks it.

    Turning the camera's axes turns the global orientation alone. MANO turns about its wrist, not its origin, so a
    handTrans would change too; it is not needed here, for all targets are wrist-centred.
    """
    pose = _array(meta, "handPose", (48,), name).copy()
    root, _ = cv2.Rodrigues(pose[:3])
    pose[:3] = cv2.Rodrigues(GL_TO_CV @ root)[0][:, 0]
    return pose


def hand_betas(meta: dict[str, Any], name: str) -> np.ndarray:
    """Betas (10,); InputError where the meta lacks them."""
    return _array(meta, "handBeta", (10,), name)


def object_pose(meta: dict[str, Any], name: str) -> np.ndarray:
    """Object model to CV camera, (3, 4) m; InputError where the meta lacks it."""
    rotation, _ = cv2.Rodrigues(_array(meta, "objRot", (3,), name))
    return GL_TO_CV @ np.column_stack([rotation, _array(meta, "objTrans", (3,), name)])


def silhouette(
    model: ycb.ObjectModel, pose: np.ndarray, camera: np.ndarray, size: Sequence[int]
) -> np.ndarray:  # fmt: skip
    """The model's outline filled, (H, W) of 0 and 1; without a mesh, its points' convex hull. Ignores occlusion.

    Args:
        model: of the object.
        pose: (3, 4) model to camera, m.
        camera: (3, 3) intrinsics, px.
        size: height and width of the mask.
    """
    vertices = model.vertices if model.faces is not None else model.points
    px = np.rint(regions.project(vertices @ pose[:, :3].T + pose[:, 3], camera)).astype(np.int32)
    mask = np.zeros((size[0], size[1]), np.uint8)
    if model.faces is None:
        cv2.fillConvexPoly(mask, cv2.convexHull(px), 1)
        return mask
    for triangle in px[model.faces]:  # one by one: fillPoly of all at once lets overlaps cancel out
        cv2.fillConvexPoly(mask, triangle, 1)
    return mask


def _read_list(root: Path, split: str) -> list[str]:
    path = root / f"{split}.txt"
    if not path.is_file():
        inner = sorted(entry.name for entry in root.iterdir())[:8] if root.is_dir() else []
        content = f"found {', '.join(inner) or 'nothing'}" if root.is_dir() else "no such folder"
        raise InputError(f"no {path}: expected HO-3D's folder with {split}.txt and {split}/, {content}. {WHERE}")
    names = path.read_text().split()
    wrong = next((name for name in names if name.count("/") != 1 or ".." in name), None)
    if not names or wrong is not None:
        raise InputError(f"{path} must list one SEQUENCE/FRAME per line, found {wrong or 'nothing'}")
    return names


def _array(meta: dict[str, Any], key: str, shape: tuple[int, ...], name: str) -> np.ndarray:
    """One field as float64 of ``shape``; v2 and v3 differ in type and in flat or column form."""
    value = meta.get(key)
    array = np.asarray([] if value is None else value, dtype=np.float64)
    if array.size != np.prod(shape):
        raise InputError(
            f"{name}: '{key}' must hold {shape} numbers, found {None if value is None else array.shape}; "
            "fetch HO-3D again"
        )
    return array.reshape(shape)
