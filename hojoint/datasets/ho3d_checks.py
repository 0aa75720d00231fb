"""HO-3D's labels against each other, the object models, the hand model and the images' size.

Each comparison finds a mistake that people make: models of another object, size or frame; labels turned into another
camera frame; intrinsics of another image size; a left hand's file; truth files of the other version. The limits lie far
above what rounding does to real labels. Where labels are right, every distance here is zero.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hojoint.config import ManoConfig
from hojoint.datasets import hand_checks, ho3d_files, ho3d_meta, listing, object_checks, regions
from hojoint.datasets.camera_checks import camera_faults
from hojoint.datasets.findings import Audit, Fault
from hojoint.datasets.ho3d import HO3D
from hojoint.datasets.ho3d_meta import GL_TO_CV
from hojoint.datasets.listing import Progress
from hojoint.datasets.object_checks import Posed
from hojoint.errors import InputError
from hojoint.hand.pickles import load_restricted

REFUSED_SHARE = 0.05  # of the compared frames: single wrong labels exist, many are a mistake
NOTED_IOU, REFUSED_IOU = 0.5, 0.3  # of the annotated hand box and that of the true joints, median
NOTED_MM, REFUSED_MM = 5.0, 20.0  # between a wrist in the metas and in the truth file, median
REACH_M = 0.6  # between a wrist and the origin of an object's model in that hand: both are smaller than 0.3 m
EVERY = 500  # frames between two calls of ``progress``


@dataclass
class _Read:
    """What the compared frames hold; grows frame by frame."""

    names: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)  # in the reader's names
    objects: list[Posed] = field(default_factory=list)
    joints: list[np.ndarray] = field(default_factory=list)  # (21, 3) train, (1, 3) evaluation; CV frame
    cameras: list[np.ndarray] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)  # width, height
    boxes: list[np.ndarray] = field(default_factory=list)  # evaluation
    poses: list[np.ndarray] = field(default_factory=list)  # train
    betas: list[np.ndarray] = field(default_factory=list)


def audit(dataset: HO3D, mano: ManoConfig | None, frames: int | None, progress: Progress | None) -> Audit:
    """As ``audit.audit``, for a split of HO-3D."""
    missing = dataset.files.missing(dataset.names)
    faults = ho3d_files.faults(dataset.left_out, dataset.listed, dataset.split, left_out=True)
    faults += ho3d_files.faults(missing, dataset.listed, dataset.split, left_out=False)
    there = [row for row, name in enumerate(dataset.names) if name not in missing]
    read, wrong = _read(dataset, there if frames is None else listing.evenly(there, frames), progress)
    faults += wrong
    faults += camera_faults(read.cameras, read.sizes, f"{dataset.root} {dataset.split}", key="camMat")
    try:
        faults += object_checks.faults(read.objects, dataset.models, dataset.object_folder)
    except InputError as error:
        faults.append(Fault("models_missing", str(dataset.object_folder), 1, str(error), ""))
    faults += _hand_faults(dataset, read, mano)
    faults += _mask_faults(dataset)
    counts = {
        "listed": len(dataset.listed),
        "sequences": len(dataset.files.sequences),
        "left_out": len(dataset.left_out),
        "missing": len(missing),
        "used": len(there),
        "compared": len(read.names),
    }
    if dataset.split == "train":
        counts["segmentations"] = len(dataset.mask_sizes) if dataset.has_segmentations else 0
    return Audit(f"HO-3D {dataset.split} ({dataset.root})", counts, tuple(faults))


def _read(dataset: HO3D, rows: list[int], progress: Progress | None) -> tuple[_Read, list[Fault]]:
    """Read annotations; those that cannot be read are faults, one per kind, with the first one's message."""
    read, sizes = _Read(), _Sizes(dataset)
    wrong: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for done, row in enumerate(rows):
        if progress is not None and done % EVERY == 0:
            progress(done, len(rows))
        name = dataset.names[row]
        path = dataset.files.meta(name)[0]
        try:
            meta = load_restricted(path)
            if (fault := ho3d_meta.fault_of(meta, dataset.split)) is not None:
                kind, found = fault
                wrong[kind].append((name, f"{path} {found}", ho3d_meta.remedy_of(kind, meta, dataset.split)))
                continue
            assert isinstance(meta, dict)
            _add(read, meta, row, dataset, sizes.of(name))
        except InputError as error:
            said = str(error).removesuffix(".")
            remedy = "" if "ownload" in said else "fetch this file again"  # most messages of this reader have one
            wrong["meta_damaged"].append((name, said, remedy))
    if progress is not None:
        progress(len(rows), len(rows))
    faults = []
    for kind, those in wrong.items():
        _, sentence, remedy = those[0]
        others = f"; {len(those)} of {len(rows)} compared frames are like that" if len(those) > 1 else ""
        faults.append(Fault(kind, str(dataset.root), len(those), f"{sentence}{others}", remedy))
    return read, faults


def _add(read: _Read, meta: dict[str, Any], row: int, dataset: HO3D, size: tuple[int, int]) -> None:
    """Take over one annotation; nothing is added where a field is wrong."""
    name = dataset.names[row]
    camera, pose = ho3d_meta.array(meta, "camMat", (3, 3), name), ho3d_meta.object_pose(meta, name)
    corners = {
        key: ho3d_meta.array(meta, key, (8, 3), name) if meta.get(key) is not None else None
        for key in ("objCorners3DRest", "objCorners3D")
    }
    placed = corners["objCorners3D"] if corners["objCorners3D"] is None else corners["objCorners3D"] @ GL_TO_CV
    posed = Posed(name, str(meta["objName"]), pose, camera, size, corners["objCorners3DRest"], placed)
    if dataset.split == "train":
        joints, betas = ho3d_meta.joints_cv(meta, name), ho3d_meta.hand_betas(meta, name)
        hand = ho3d_meta.hand_pose(meta, name, dataset.mean_pose)  # as training reads it
        read.poses.append(hand)
        read.betas.append(betas)
    else:
        box = ho3d_meta.array(meta, "handBoundingBox", (4,), name)
        joints = np.asarray(meta["handJoints3D"], np.float64).reshape(-1, 3)[:1] @ GL_TO_CV
        read.boxes.append(box)
    read.names.append(name)
    read.rows.append(row)
    read.objects.append(posed)
    read.joints.append(joints)
    read.cameras.append(camera)
    read.sizes.append(size)


class _Sizes:
    """Width and height of the images, px: the first readable one of each sequence is opened."""

    def __init__(self, dataset: HO3D) -> None:
        self.dataset = dataset
        self.known: dict[str, tuple[int, int]] = {}

    def of(self, name: str) -> tuple[int, int]:
        sequence = name.partition("/")[0]
        if sequence not in self.known:
            height, width = regions.read_image(self.dataset.image_path(name)).shape[:2]
            self.known[sequence] = (width, height)
        return self.known[sequence]


def _hand_faults(dataset: HO3D, read: _Read, mano: ManoConfig | None) -> list[Fault]:
    where = f"{dataset.root} {dataset.split}"
    if not read.names:
        return []
    faults = _apart_faults(read, where)
    if dataset.split == "evaluation":
        return faults + _evaluation_faults(dataset, read, where)
    px = [project(points, camera) for points, camera in zip(read.joints, read.cameras, strict=True)]
    faults += outside_faults("hand", read.names, px, read.sizes, where)
    if mano is not None:
        joints, poses, betas = (np.stack(values) for values in (read.joints, read.poses, read.betas))
        labelled = hand_checks.Labelled(read.names, joints, poses, betas, dataset.mean_pose is not None)
        fault = hand_checks.fault(labelled, mano, where, hand_checks.kinematic)
        faults += [] if fault is None else [fault]
    return faults


def _apart_faults(read: _Read, where: str) -> list[Fault]:
    """Hands far from the object that they hold: one of the two is in another frame or unit."""
    wrists = np.stack([joints[0] for joints in read.joints])
    apart = np.linalg.norm(wrists - np.stack([posed.pose[:, 3] for posed in read.objects]), axis=1)
    far = np.flatnonzero(apart > REACH_M)
    if not len(far):
        return []
    sentence = (
        f"{where}: wrist and object are more than {REACH_M} m apart in {len(far)} of {len(apart)} compared frames, "
        f"first {read.names[far[0]]} with {apart[far[0]]:.2f} m"
    )
    fatal = len(far) > REFUSED_SHARE * len(apart)
    cause = "handJoints3D and objTrans are probably in different camera frames or units"
    remedy = f"{cause}; fetch the metas again" if fatal else "look at these frames with jobs.doctor"
    return [Fault("hand_object_apart", where, len(far), sentence, remedy, fatal)]


def project(points: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Points (N, 3) m of the CV frame to px (N, 2); NaN for those that do not lie in front of the camera."""
    front = points[:, 2] > 1e-6
    out = np.full((len(points), 2), np.nan)
    out[front] = regions.project(points[front], camera)
    return out


def outside_faults(
    what: str, names: list[str], px: list[np.ndarray], sizes: list[tuple[int, int]], where: str
) -> list[Fault]:
    """Frames whose points all lie behind the camera or beside the image; many of them are a mistake in the labels."""
    behind = [name for name, points in zip(names, px, strict=True) if np.isnan(points).all()]
    beside = [
        name
        for name, points, (width, height) in zip(names, px, sizes, strict=True)
        if not np.isnan(points).all() and not ((points >= 0) & (points <= [width, height])).all(1).any()
    ]
    causes = {
        "behind": "the labels are probably in another camera frame than HO-3D's (OpenGL: y up, looking along -z)",
        "outside": "the intrinsics or the labels probably belong to images of another size or to another camera",
    }
    faults = []
    for kind, found in (("behind", behind), ("outside", beside)):
        if not found:
            continue
        place = "behind the camera" if kind == "behind" else "outside the image"
        sentence = (
            f"{where}: the {what} of {len(found)} of {len(names)} compared frames lies completely {place}, first "
            f"{found[0]}"
        )
        fatal = len(found) > REFUSED_SHARE * len(names)
        remedy = f"{causes[kind]}; fetch the labels again" if fatal else "look at these frames with jobs.doctor"
        faults.append(Fault(f"{what}_{kind}", where, len(found), sentence, remedy, fatal))
    return faults


def _evaluation_faults(dataset: HO3D, read: _Read, where: str) -> list[Fault]:
    """Metas against the public truth, which is a separate download: another version's has other hands."""
    try:
        truth = dataset.true_joints()[read.rows].astype(np.float64)
    except InputError as error:
        return [Fault("truth", where, 1, str(error), "")]
    verts = dataset.root / "evaluation_verts.json"
    faults = []
    if not verts.is_file():
        faults.append(Fault("truth", where, 1, f"no {verts}", "it comes with evaluation_xyz.json; put it beside that"))
    wrists = np.stack([joints[0] for joints in read.joints])
    apart = 1000 * np.linalg.norm(wrists - truth[:, 0], axis=1)
    if (middle := float(np.median(apart))) > NOTED_MM:
        sentence = f"{where}: wrists in the metas and in evaluation_xyz.json are {middle:.0f} mm apart (median)"
        remedy = "list, metas and truth must be of one version of HO-3D and in one order; fetch its truth again"
        faults.append(
            Fault("truth_differs", where, int((apart > NOTED_MM).sum()), sentence, remedy, middle > REFUSED_MM)
        )
        return faults
    px = [project(points, camera) for points, camera in zip(truth, read.cameras, strict=True)]
    faults += outside_faults("hand", read.names, px, read.sizes, where)
    overlaps = np.array([_iou(regions.box_of(points), box) for points, box in zip(px, read.boxes, strict=True)])
    if (middle := float(np.median(overlaps))) < NOTED_IOU:
        sentence = (
            f"{where}: handBoundingBox and the projected true joints overlap by {middle:.2f} (median intersection over "
            "union, 1 where they agree)"
        )
        remedy = "boxes must be x0, y0, x1, y1 in px of the image, and camMat that of the image; fetch the metas again"
        count = int((overlaps < NOTED_IOU).sum())
        faults.append(Fault("hand_box", where, count, sentence, remedy, middle < REFUSED_IOU))
    return faults


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    common = float(np.prod(np.clip(high - low, 0, None)))
    union = float(np.prod(one[2:] - one[:2]) + np.prod(np.clip(other[2:] - other[:2], 0, None))) - common
    return common / union if union > 0 else 0.0


def _mask_faults(dataset: HO3D) -> list[Fault]:
    """Single masks that a folder of segmentations lacks: they are drawn, which deserves a note."""
    if dataset.split != "train" or not dataset.has_segmentations:
        return []
    lacking = [name for name in dataset.names if name not in dataset.mask_sizes]
    if not lacking:
        return []
    sentence = (
        f"{len(lacking)} of {len(dataset.names)} frames have no segmentation under {dataset.segmentations}, the first "
        f"is {lacking[0]}"
    )
    remedy = "the models' outlines are drawn instead, without the hand in front of them (A6)"
    return [Fault("segmentation_missing", str(dataset.segmentations), len(lacking), sentence, remedy, fatal=False)]
