"""FreiHAND's images and label files against each other and against the hand model."""

from __future__ import annotations

import numpy as np

from hojoint.config import ManoConfig
from hojoint.datasets import hand_checks, listing, regions
from hojoint.datasets.camera_checks import camera_faults
from hojoint.datasets.findings import Audit, Fault
from hojoint.datasets.freihand import VERSIONS, FreiHAND
from hojoint.datasets.ho3d_checks import outside_faults, project
from hojoint.datasets.listing import Progress
from hojoint.errors import InputError
from hojoint.hand.chosen import hand_model

NOTED_PX, REFUSED_PX = 2.0, 10.0  # between the root in px that the mano file holds and the projected joint 9, median
NOTED_MM, REFUSED_MM = 3.0, 10.0  # between joints and those regressed from the vertices, median
ROOT = 9
TIPS = [4, 8, 12, 16, 20]


def audit(dataset: FreiHAND, mano: ManoConfig | None, frames: int | None, progress: Progress | None) -> Audit:
    """As ``audit.audit``, for a split of FreiHAND; labels of images that exist are compared, once for
    all versions of an image."""
    faults = _file_faults(dataset)
    missing = set(dataset.missing_images())
    rows = sorted({row for name, row in zip(dataset.names, dataset.rows, strict=True) if name not in missing})
    counts = {
        "labels": len(dataset.cameras),
        "versions": len(dataset.versions),
        "listed": len(dataset.listed),
        "left_out": len(dataset.left_out),
        "missing": len(missing),
        "used": len(dataset.names) - len(missing),
        "compared": 0,
    }
    title = f"FreiHAND {dataset.split} ({dataset.root})"
    if not rows:
        return Audit(title, counts, tuple(faults))
    labels = np.array(rows if frames is None else listing.evenly(rows, frames))
    names = [f"{label:08d}" for label in labels]
    where = f"{dataset.root} {dataset.split}"
    px = [project(dataset.joints[label], dataset.cameras[label]) for label in labels]
    size = _size(dataset)
    if size is not None:
        faults += outside_faults("hand", names, px, [size] * len(labels), where)
        faults += camera_faults(dataset.cameras[labels], [size] * len(labels), where, key="K")
    faults += _root_faults(dataset, labels, px, where)
    if mano is not None and dataset.mano is not None:
        pose, betas = dataset.mano[labels, :48].copy(), dataset.mano[labels, 48:58]
        pose[:, 3:] += hand_model(mano).hands_mean  # as the reader does
        labelled = hand_checks.Labelled(names, dataset.joints[labels], pose, betas, mean_added=True, by_setting=False)
        fault = hand_checks.fault(labelled, mano, where, hand_checks.regressed)
        faults += [] if fault is None else [fault]
    if mano is not None and dataset.split == "evaluation":
        faults += _vertex_faults(dataset, labels, mano, where)
    if progress is not None:
        progress(len(labels), len(labels))
    return Audit(title, counts | {"compared": len(labels)}, tuple(faults))


def _file_faults(dataset: FreiHAND) -> list[Fault]:
    """Missing images by version, versions that are missing completely, and images without a label."""
    faults = []
    if (note := dataset.versions_note()) is not None:
        kind = "versions_missing"
        faults.append(Fault(kind, str(dataset.folder), len(VERSIONS) - len(dataset.versions), note, "", fatal=False))
    if (note := dataset.unlabelled_note()) is not None:
        count = len(dataset.unlabelled)
        faults.append(Fault("images_unlabelled", str(dataset.folder), count, note, "", fatal=False))
    for names, left_out in ((dataset.left_out, True), (dataset.missing_images(), False)):
        if not names:
            continue
        sentence = dataset.missing_text(names)
        remedy = (
            "they are left out"
            if left_out
            else "fetch them again, or set data.freihand.missing=leave_out to drop and count them"
        )
        faults.append(Fault("image_missing", str(dataset.folder), len(names), sentence, remedy, fatal=not left_out))
    return faults


def _size(dataset: FreiHAND) -> tuple[int, int] | None:
    """Width and height of the first readable image, px."""
    for name in listing.evenly(dataset.names, 8):
        try:
            height, width = regions.read_image(dataset.image_path(name)).shape[:2]
        except InputError:
            continue  # its reader names it
        return width, height
    return None


def _root_faults(dataset: FreiHAND, labels: np.ndarray, px: list[np.ndarray], where: str) -> list[Fault]:
    """The mano file's root in px against K and xyz: label files of one version in one order agree."""
    if dataset.mano is None:
        return []
    apart = np.linalg.norm(dataset.mano[labels, 58:60] - np.stack(px)[:, ROOT], axis=1)
    apart = apart[np.isfinite(apart)]  # joints behind the camera have no px: ``outside_faults`` names them
    if not len(apart) or not (middle := float(np.median(apart))) > NOTED_PX:
        return []
    sentence = (
        f"{where}: the root joint in px of the mano file and joint {ROOT} of the xyz file, projected by K, are "
        f"{middle:.0f} px apart (median)"
    )
    remedy = "the label files are of different versions or orders; fetch FreiHAND v2 again"
    count = int((apart > NOTED_PX).sum())
    return [Fault("labels_differ", where, count, sentence, remedy, fatal=middle > REFUSED_PX)]


def _vertex_faults(dataset: FreiHAND, labels: np.ndarray, mano: ManoConfig, where: str) -> list[Fault]:
    """True joints against the true vertices: the tips are vertices, and the model's regressor finds the wrist."""
    try:
        joints, vertices = dataset.truth()
    except InputError as error:
        return [Fault("truth", where, 1, str(error), "")]
    rows = np.flatnonzero(np.isin(dataset.rows, labels))
    if not len(rows):
        return []
    tips = [_nearest_mm(joints[row, TIPS], vertices[row]) for row in rows]
    remedy = "the files are of different versions or orders; fetch FreiHAND v2 again"
    if (fault := _apart("fingertips of the xyz file and the verts file", np.array(tips), where, remedy)) is not None:
        return [fault]
    found = vertices[rows].astype(np.float64).transpose(0, 2, 1) @ hand_model(mano).J_regressor.T
    wrist = found[:, :, 0]  # the regressor's joint 0 is the wrist
    apart = 1000 * np.linalg.norm(wrist - joints[rows, 0], axis=1)
    words = "the wrist of the xyz file and that of the hand model in the verts file"
    remedy = "the files are of different versions or orders, or mano.path is another hand model"
    fault = _apart(words, apart, where, remedy)
    if fault is not None and mano.path is None and (apart > NOTED_MM).all():  # the stand-in's wrist, which is no MANO's
        sentence = f"{fault.sentence}; {hand_checks.UNKNOWN}"
        fault = Fault("hand_vertices", where, fault.count, sentence, hand_checks.ASKED, fatal=False)
    return [] if fault is None else [fault]


def _apart(what: str, apart: np.ndarray, where: str, remedy: str) -> Fault | None:
    """A fault where the median of distances, mm, is larger than rounding."""
    if not (middle := float(np.median(apart))) > NOTED_MM:
        return None
    sentence = f"{where}: {what} are {middle:.0f} mm apart (median)"
    count = int((apart > NOTED_MM).sum())
    return Fault("truth_differs", where, count, sentence, remedy, fatal=middle > REFUSED_MM)


def _nearest_mm(points: np.ndarray, vertices: np.ndarray) -> float:
    """Mean distance of points (N, 3) m to their nearest vertices (V, 3) m, mm."""
    return 1000 * float(np.linalg.norm(points[:, None] - vertices[None], axis=-1).min(1).mean())
