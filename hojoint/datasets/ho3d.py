"""HO-3D v2 and v3: labelled images for training, and the evaluation set with its public truth.

HO-3D uses OpenGL's camera frame (y up, looking along -z) and MANO's joint order; both are converted here. Only frames
in ``train.txt`` and ``evaluation.txt`` count, in their order, for the score files are aligned to it. The 66,034 metas
are read one by one, on demand. In training the hand's box is that of its projected joints, in evaluation the annotated
one; the object's box is that of its projected control points in both, as in the released code (an oracle box).
Recordings can be held out of the training split (``recordings``; ours): they are a part of their own.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch

from hojoint import crops, geometry
from hojoint.config import CropConfig, HO3DConfig
from hojoint.datasets import ho3d_files, ho3d_meta, listing, recordings, regions, ycb
from hojoint.datasets.annotated import Annotated
from hojoint.datasets.ho3d_meta import GL_TO_CV, array, hand_betas, hand_pose, joints_cv, object_pose
from hojoint.errors import InputError
from hojoint.hand.model import MANO_TO_SIMPLE
from hojoint.hand.pickles import load_restricted
from hojoint.records import Sample

SOME = 16  # images whose content a fingerprint covers
MASK_BLUE, MASK_OTHER = 200, 80  # the rendered segmentation is a JPEG: object pixels are blue, about (0, 0, 255)


class HO3D:
    """One split as a sequence of Samples."""

    def __init__(
        self,
        config: HO3DConfig,
        split: Literal["train", "evaluation", "held_out"] = "train",
        crop: CropConfig | None = None,
        region_px: int | None = None,
        *,
        held_out: int = 0,
        mean_pose: np.ndarray | None = None,
        factor: float = crops.REGION_FACTOR,
    ) -> None:
        """Read the list of one split; images and metas are read on demand.

        Args:
            config: where data, segmentations and object models are.
            split: of the data set; 'held_out' are the held-out recordings of the training split, whose folder and
                kind of labels (``.split``) are those of 'train'.
            crop: how the network crops; None means the defaults.
            region_px: largest side of a sample's image, px; None means the native size.
            held_out: so many recordings of the training split are not in 'train' but in 'held_out'
                (``train.held_out``).
            mean_pose: (45,) rad, added to labelled poses (``hand.chosen.added_mean``); None means complete poses.
            factor: side of a training sample's region, in crops (``crops.region_factor``).

        Raises:
            InputError: the folder is not set or has no list, segmentations are configured but missing,
                ``data.ho3d.missing=leave_out`` leaves no frame, or too many recordings or none are held out.
        """
        self.split: Literal["train", "evaluation"] = "evaluation" if split == "evaluation" else "train"
        if config.root is None:
            raise InputError(
                f"the setting 'data.ho3d.root' is needed: a folder with {self.split}.txt and {self.split}/. "
                f"{ho3d_files.WHERE}. To train on another set, name it: train.datasets=[freihand]"
            )
        self.root = Path(config.root)
        self.crop, self.region_px, self.mean_pose = crop or CropConfig(), region_px, mean_pose
        self.factor = factor
        self.listed, self.held_out = recordings.part_of(ho3d_files.read_list(self.root, self.split), split, held_out)
        self.missing = config.missing
        self.left_out = self._left_out()
        self.rows = [row for row, name in enumerate(self.listed) if name not in self.left_out]
        self.names = [self.listed[row] for row in self.rows]
        self.segmentations = Path(config.segmentations or f"{self.root}_segmentations_rendered")
        self.object_folder = Path(config.object_models or self.root.parent / "object_models")
        if self.split == "train" and config.segmentations is not None and not self.has_segmentations:
            raise InputError(
                f"data.ho3d.segmentations={config.segmentations} must be the folder of HO-3D's rendered segmentations "
                "with train/ in it, found none; correct it, or leave it out to have the models' outlines drawn"
            )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """Read one frame with its labels, in pixels of the cut region and the CV camera frame.

        Evaluation frames have boxes, intrinsics and the object's pose; hand joints, pose and betas are NaN.

        Raises:
            InputError: image, meta, segmentation or object model is missing or damaged, or the frame is not annotated.
        """
        factor = self.factor if self.split == "train" else 1.0
        return self.annotated(index).cut(self.crop, self.region_px, factor)

    def annotated(self, index: int) -> Annotated:
        """One frame with its labels in px of the frame, before a region is cut; raises as ``__getitem__`` does."""
        name = self.names[index]
        meta = self.meta(index)
        camera = array(meta, "camMat", (3, 3), name)
        file, image = regions.read_file(self.image_path(name))
        model = self._model(str(meta["objName"]), name)
        pose = object_pose(meta, name)
        corners = geometry.control_points(torch.from_numpy(model.lo), torch.from_numpy(model.hi)).numpy()
        control_px = regions.project(corners @ pose[:, :3].T + pose[:, 3], camera)
        hand: dict[str, Any]
        if self.split == "train":
            joints_px = regions.project(joints_cv(meta, name), camera)
            mask = self._mask(name, image.shape[:2], model, pose, camera)
            hand = {"hand_box": regions.box_of(joints_px), "joints_px": joints_px, "object_mask": mask}
            hand |= {"pose": hand_pose(meta, name, self.mean_pose), "betas": hand_betas(meta, name)}
        else:
            hand = {"hand_box": array(meta, "handBoundingBox", (4,), name)}
        labels = {
            "camera": camera,
            "object_box": regions.box_of(control_px),
            "control_px": control_px,
            "object_name": str(meta["objName"]),
            "object_pose": pose,
        }
        return Annotated(name, file, image, labels | hand)

    @cached_property
    def has_segmentations(self) -> bool:
        """Whether the folder exists; single masks that it lacks are drawn from the model."""
        return (self.segmentations / self.split).is_dir()

    def advice(self) -> tuple[str, ...]:
        """Sentences for the user: frames that are left out, and masks that are drawn (A6) and not HO-3D's."""
        notes = []
        if self.held_out:
            some = ", ".join(sorted(self.held_out))
            notes.append(f"{len(self.held_out)} recordings of HO-3D are held out of training (train.held_out): {some}")
        if self.left_out:
            listed, left = self.listed, self.left_out
            notes.append(f"{ho3d_files.summary(left, listed, self.split)}; they are left out (data.ho3d.missing)")
        if self.split == "train" and not self.has_segmentations:
            notes.append(
                f"found no {self.segmentations}/{self.split}, so object masks are outlines of the models, without the "
                "hand in front of them (A6); the segmentations are a separate download (data.ho3d.segmentations)"
            )
        return tuple(notes)

    @cached_property
    def files(self) -> ho3d_files.Files:
        """Which images and metas exist, as listed once."""
        return ho3d_files.Files(self.root, self.split, self.listed)

    def refuse_missing(self) -> None:
        """Raise InputError where a listed frame lacks its image or meta and is not left out."""
        self._refuse(self.files.missing(self.names))

    def _refuse(self, without: dict[str, str]) -> None:
        if without:
            raise InputError(
                f"{self.root}: {ho3d_files.summary(without, self.listed, self.split)}. Fetch them again, or set "
                "data.ho3d.missing=leave_out to drop and count them"
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
        path = self.files.meta(name)[0]
        if not path.is_file():
            raise InputError(
                f"{path} is missing, yet {self.split}.txt lists {name}; fetch the sequence again, or set "
                "data.ho3d.missing=leave_out to drop and count such frames"
            )
        meta = load_restricted(path)
        if (fault := ho3d_meta.fault_of(meta, self.split)) is not None:
            kind, found = fault
            raise InputError(
                f"{path} {found}, yet {self.split}.txt lists {name}; {ho3d_meta.remedy_of(kind, meta, self.split)}"
            )
        assert isinstance(meta, dict)
        return meta

    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """Joints (N, 21, 3) and vertices (N, 778, 3) float32 of the evaluation frames, CV frame, our joint order, m.

        Rows are those of ``names``: a frame that is left out has none.

        Raises:
            InputError: a truth file is missing, damaged or of another length than ``evaluation.txt``.
        """
        return self.true_joints(), self._truth("verts", 778)

    def true_joints(self) -> np.ndarray:
        """The joints of ``truth`` alone: their file is a fortieth of the other's size."""
        return self._truth("xyz", 21)[:, MANO_TO_SIMPLE]

    def _truth(self, key: str, count: int) -> np.ndarray:
        values = ho3d_files.read_truth(self.root, key, (len(self.listed), count, 3))
        return values[self.rows] @ GL_TO_CV.astype(np.float32)

    def roots(self) -> np.ndarray:
        """The annotated wrist of each frame, (N, 3) m, CV frame: what the released code adds to its predictions."""
        wrists = [
            np.asarray(self.meta(index)["handJoints3D"], np.float64).reshape(-1, 3)[0] for index in range(len(self))
        ]
        return np.stack(wrists) @ GL_TO_CV

    def fingerprint(self) -> str:
        """Twelve hex digits that tell this data from other data.

        They cover all names, those left out, the content of all metas, names and sizes of all images, the content of
        about sixteen images, where masks come from, and whether poses are completed.

        Raises:
            InputError: a listed frame lacks a file or its annotation and is not left out.
        """
        self.refuse_missing()
        masks = [f"masks {'given' if self.has_segmentations else 'drawn'}"] if self.split == "train" else []
        masks += [] if self.mean_pose is None else ["mean pose added"]
        left_out = [f"left out {name}" for name in self.left_out]
        images = [f"{path.name} {size}" for path, size in map(self.files.image, self.names)]
        metas, unannotated = self.files.contents(self.names)
        self._refuse(unannotated)
        some = [self.image_path(name) for name in listing.stepped(self.names, SOME)]
        return regions.fingerprint([*self.names, *left_out, *images, metas, *masks], some)

    def objects_fingerprint(self) -> str:
        """Twelve hex digits of the object models and, of a training split, of the segmentations.

        They cover the complete content of points and meshes, names and sizes of all segmentations, and the content of
        about sixteen of them.
        """
        models = ycb.files_of(self.object_folder)
        names, masks = [f"{path.parent.name}/{path.name}" for path in models], []
        if self.split == "train" and self.has_segmentations:
            sizes = self.mask_sizes
            names += [f"{name} {sizes.get(name)}" for name in self.names]
            masks = [self.mask_path(name) for name in listing.stepped([n for n in self.names if n in sizes], SOME)]
        return regions.fingerprint(names, [*models, *masks])

    @cached_property
    def mask_sizes(self) -> dict[str, int]:
        """Frame -> bytes of its rendered segmentation, of the frames that have one."""
        folders = {name.partition("/")[0] for name in self.names}
        sizes = {name: listing.sizes_in(self.segmentations / self.split / name / "seg") for name in folders}
        pairs = ((name, name.split("/")) for name in self.names)
        found = ((name, sizes[sequence].get(f"{frame}.jpg")) for name, (sequence, frame) in pairs)
        return {name: size for name, size in found if size}

    def mask_path(self, name: str) -> Path:
        """File of a listed frame's rendered segmentation."""
        return self.segmentations / self.split / f"{name.replace('/', '/seg/')}.jpg"

    def image_path(self, name: str) -> Path:
        """File of a listed frame's image."""
        return self.files.image(name)[0]

    def _left_out(self) -> dict[str, str]:
        """Frame -> reason of what ``data.ho3d.missing=leave_out`` drops."""
        if self.missing == "refuse":
            return {}
        without = self.files.missing(self.listed)
        there = [name for name in self.listed if name not in without]
        without |= self.files.unannotated(there)
        if len(without) == len(self.listed):
            raise InputError(
                f"{self.root}: {ho3d_files.summary(without, self.listed, self.split)}, so that "
                f"data.ho3d.missing=leave_out leaves none; unpack HO-3D as {self.split}/SEQUENCE/rgb and meta"
            )
        return {name: without[name] for name in self.listed if name in without}

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
        path = self.mask_path(name)
        if not path.is_file():
            return ycb.silhouette(model, pose, camera, size)
        red, green, blue = np.moveaxis(regions.read_image(path), 2, 0)
        mask = ((blue > MASK_BLUE) & (green < MASK_OTHER) & (red < MASK_OTHER)).astype(np.uint8)
        return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)  # they are a quarter of the image's size
