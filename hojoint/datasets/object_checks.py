"""Object labels against the object models: the box that the annotation holds is that of the model's points.

Another object's model, one of another size, in another frame (the original scans, BOP), or an object pose in another
camera frame shows here, in millimetres.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hojoint.datasets import regions, ycb
from hojoint.datasets.findings import Audit, Fault
from hojoint.datasets.ycb import ObjectModel
from hojoint.errors import InputError

NOTED_MM, REFUSED_MM = 3.0, 10.0  # of a box's side; a decimated mesh and its points differ by less than 1 mm
REFUSED_SHARE = 0.05  # of an object's frames
CENTRED_MM = 50.0  # between a model's origin and the centre of its box; those of YCB-Video have up to 29 mm


@dataclass(frozen=True, eq=False)
class Posed:
    """The object of one frame; metres, CV camera frame."""

    frame: str
    name: str  # of the object
    pose: np.ndarray  # (3, 4) model to camera
    camera: np.ndarray  # (3, 3) px
    size: tuple[int, int]  # width, height of the image, px
    rest: np.ndarray | None  # (8, 3) the annotated box's corners in the model's frame
    placed: np.ndarray | None  # (8, 3) and in the camera's


def faults(frames: Sequence[Posed], models: Mapping[str, ObjectModel], folder: Path) -> list[Fault]:
    """One fault per object and kind; nothing where the annotation holds no boxes."""
    by_object: dict[str, list[Posed]] = defaultdict(list)
    for frame in frames:
        by_object[frame.name].append(frame)
    out = []
    for name, posed in sorted(by_object.items()):
        if name not in models:
            sentence = f"{len(posed)} compared frames show {name}, the first is {posed[0].frame}, and {folder} lacks it"
            remedy = f"put {name}/points.xyz of the YCB-Video models there, or set data.ho3d.object_models"
            out.append(Fault("model_missing", name, len(posed), sentence, remedy))
            continue
        checks = (_rest(name, posed, models[name], folder), _placed(name, posed), _outside(name, posed, models[name]))
        out += [fault for fault in checks if fault is not None]
    return out


def audit_models(folder: Path) -> Audit:
    """As ``audit.audit_models``."""
    names = ycb.names_in(folder)
    found, meshes = [], 0
    for name in names:
        try:
            model = ycb.load_model(folder / name)
        except InputError as error:
            found.append(Fault("model_damaged", name, 1, str(error), "fetch the YCB-Video models again"))
            continue
        meshes += model.faces is not None
        center = 1000 * float(np.linalg.norm(model.hi + model.lo)) / 2
        if center > CENTRED_MM:
            sentence = f"{name}: the centre of the model's box lies {center:.0f} mm from the model's origin"
            remedy = "the YCB-Video models are roughly centred; the original scans are not, and do not fit HO-3D"
            found.append(Fault("model_off_centre", name, 1, sentence, remedy, fatal=False))
    return Audit(f"object models ({folder})", {"models": len(names), "meshes": meshes}, tuple(found))


def _rest(name: str, posed: Sequence[Posed], model: ObjectModel, folder: Path) -> Fault | None:
    """The annotated box at rest against the model's: it is the same box."""
    boxes = [(frame, frame.rest.min(0), frame.rest.max(0)) for frame in posed if frame.rest is not None]
    if not boxes:
        return None
    low, high = np.stack([box[1] for box in boxes]), np.stack([box[2] for box in boxes])
    apart = 1000 * np.maximum(np.abs(low - model.lo), np.abs(high - model.hi)).max(1)
    bad = int((apart > NOTED_MM).sum())
    if not bad:
        return None
    worst = int(apart.argmax())
    sides, own = 1000 * (high[worst] - low[worst]), 1000 * (model.hi - model.lo)
    middle = 500 * ((high[worst] + low[worst]) - (model.hi + model.lo))
    sentence = (
        f"{name}: the annotated box (objCorners3DRest of {boxes[worst][0].frame}) and that of "
        f"{folder / name / 'points.xyz'} differ by {apart[worst]:.0f} mm, in {bad} of {len(boxes)} compared frames: "
        f"sides {_mm(sides)} against {_mm(own)} mm, centres {np.linalg.norm(middle):.0f} mm apart"
    )
    if np.abs(np.sort(sides) - np.sort(own)).max() <= NOTED_MM:
        cause = "the size is right, so the model is in another frame"
    else:
        cause = "the size is wrong, so this is another object's model or one of another scale"
    remedy = f"{cause}; take {name} of the YCB-Video models (data.ho3d.object_models)"
    return Fault("model_differs", name, bad, sentence, remedy, fatal=_many(apart > REFUSED_MM))


def _placed(name: str, posed: Sequence[Posed]) -> Fault | None:
    """The annotated box in the camera frame against the one at rest, moved by objRot and objTrans."""
    both = [(frame, frame.rest, frame.placed) for frame in posed if frame.rest is not None and frame.placed is not None]
    if not both:
        return None
    apart = np.array([_moved_apart(frame.pose, rest, placed) for frame, rest, placed in both])
    bad = int((apart > NOTED_MM).sum())
    if not bad:
        return None
    worst = int(apart.argmax())
    sentence = (
        f"{name}: objCorners3D and objCorners3DRest moved by objRot and objTrans differ by {apart[worst]:.0f} mm in "
        f"{both[worst][0].frame}, and in {bad} of {len(both)} compared frames"
    )
    remedy = "one of them is probably in another camera frame (HO-3D's is OpenGL's); fetch the metas again"
    return Fault("pose_differs", name, bad, sentence, remedy, fatal=_many(apart > REFUSED_MM))


def _moved_apart(pose: np.ndarray, rest: np.ndarray, placed: np.ndarray) -> float:
    """Largest distance of corners, mm. The corners' order may differ, so the nearest one counts."""
    moved = rest @ pose[:, :3].T + pose[:, 3]
    return 1000 * float(np.linalg.norm(moved[:, None] - placed[None], axis=-1).min(1).max())


def _outside(name: str, posed: Sequence[Posed], model: ObjectModel) -> Fault | None:
    """Objects of which no part lies in the image."""
    corners = np.stack(np.meshgrid(*zip(model.lo, model.hi, strict=True)), -1).reshape(-1, 3)
    missed = [frame.frame for frame in posed if not _touches(corners, frame)]
    if not missed:
        return None
    sentence = (
        f"{name}: its projection misses the image in {len(missed)} of {len(posed)} compared frames, first {missed[0]}"
    )
    many = len(missed) > REFUSED_SHARE * len(posed)
    cause = "objRot and objTrans are probably in another camera frame, or camMat belongs to another image size"
    remedy = f"{cause}; fetch the metas again" if many else "look at these frames with jobs.doctor"
    return Fault("object_outside", name, len(missed), sentence, remedy, fatal=many)


def _touches(corners: np.ndarray, frame: Posed) -> bool:
    points = corners @ frame.pose[:, :3].T + frame.pose[:, 3]
    if points[:, 2].min() <= 0:
        return False  # nobody holds an object around the camera
    low, high = np.split(regions.box_of(regions.project(points, frame.camera)), 2)
    return bool((high > 0).all() and (low < frame.size).all())


def _many(bad: np.ndarray) -> bool:
    return float(bad.mean()) > REFUSED_SHARE


def _mm(sides: np.ndarray) -> str:
    return " x ".join(f"{side:.0f}" for side in sides)
