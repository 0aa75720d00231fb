"""The labelled domain on disk, exactly as HO-3D v2 or v3: OpenGL camera frame, MANO joint order.

One call writes one sequence and returns what the list and score files need; ``write_lists`` writes those.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from hojoint.errors import InputError
from hojoint.hand.model import SIMPLE_TO_MANO
from hojoint.hand.stand_in.model import stand_in_model
from hojoint.hand.stand_in.surfaces import normals as normals_of
from hojoint.synthetic import scene
from hojoint.synthetic.domains import LABELLED
from hojoint.synthetic.objects import YCB_LABELS, ycb_shape
from hojoint.synthetic.render import HAND, OBJECT, Picture
from hojoint.synthetic.scene import Shot

GL = np.diag([1.0, -1.0, -1.0])  # CV camera axes to GL and back
DEPTH_UNIT = 0.00012498664727900177  # metres per step of the packed depth
WALL = 1.4  # metres; where the depth camera sees no body
TRAIN = (
    "MC1", "SM2", "GPMF10", "ABF10", "SMu1", "BB10", "SS1", "MDF10", "SB10", "GPMF11", "SM3", "ABF11", "MC2", "SiBF10",
    "SMu40", "SS2", "ND2", "GPMF12", "SB12", "SM4", "BB11", "ShSu10", "MC4", "MDF11", "ABF12", "GPMF13", "SM5",
    "SMu41", "SiBF11", "SS3", "SB14", "MC5", "ABF13", "GPMF14", "BB12", "ShSu12", "MDF12", "SMu42", "ABF14", "MC6",
)  # fmt: skip
EVALUATION = (
    "SM1", "MPM10", "SB11", "AP10", "MPM11", "SB13", "AP11", "MPM12", "MPM13", "AP12", "MPM14", "AP13", "AP14",
)  # fmt: skip
OBJECT_OF = {
    "ABF": "021_bleach_cleanser", "SB": "021_bleach_cleanser", "BB": "011_banana", "SiBF": "011_banana",
    "GPMF": "010_potted_meat_can", "MPM": "010_potted_meat_can", "MC": "003_cracker_box", "MDF": "035_power_drill",
    "ND": "035_power_drill", "SM": "006_mustard_bottle", "SMu": "025_mug", "SS": "004_sugar_box",
    "ShSu": "004_sugar_box", "AP": "019_pitcher_base",
}  # fmt: skip
FAST_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
EXTRA_FRAMES = 2  # per sequence, in the folders but not in the lists; one of them without annotation


@dataclass(frozen=True)
class SequenceResult:
    """What a sequence adds to the files beside the folders."""

    split: str
    name: str
    frames: list[str]
    xyz: list[list[list[float]]]  # (N, 21, 3) of evaluation frames, GL, MANO order
    verts: list[list[list[float]]]


def sequence_names(split: str, count: int, objects: Sequence[str] | None = None) -> list[str]:
    """The first ``count`` names; beyond HO-3D's own, the numbers continue.

    ``objects``: YCB names, the only ones that training sequences show; None means all.

    Raises:
        InputError: an object that no training sequence of HO-3D shows.
    """
    names = list(TRAIN if split == "train" else EVALUATION)
    if split == "train" and objects is not None:
        shown = {object_of(name) for name in names}
        if unknown := [name for name in objects if name not in shown]:
            raise InputError(
                f"synthetic.train_objects holds {', '.join(unknown)}; training sequences can show "
                f"{', '.join(sorted(shown))}"
            )
        names = [name for name in names if object_of(name) in objects]
    turn = 1
    base = list(names)
    while len(names) < count:
        names += [f"{name}{turn}" if f"{name}{turn}" not in names else f"{name}{turn}9" for name in base]
        turn += 1
    return names[:count]


def object_of(sequence: str) -> str:
    """HO-3D's own table from sequence to object."""
    return OBJECT_OF[sequence.rstrip("0123456789")]


def write_sequence(
    root: Path, split: str, index: int, name: str, *, seed: int, frames: int, size: tuple[int, int], version: str
) -> SequenceResult:
    """Draw and write one sequence under ``root`` (the folder of HO3D_v2)."""
    rng = scene.generator(seed, "labelled", 0 if split == "train" else 1, index)
    total = frames + EXTRA_FRAMES
    room = index % LABELLED.rooms
    shot = scene.make_shot(
        rng, seed, LABELLED, story="hold", frames=total, size=size, object_name=object_of(name),
        subject=(index // 2) % LABELLED.subjects if split == "train" else index % LABELLED.subjects, room=room,
    )  # fmt: skip
    folder = root / split / name
    segmentations = root.parent / f"{root.name}_segmentations_rendered" / split / name / "seg"
    for part in ("rgb", "depth", "meta"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    if split == "train":
        segmentations.mkdir(parents=True, exist_ok=True)
    blank = total // 2
    listed = []
    for frame in range(total):
        stem = f"{frame:04d}"
        seen = scene.picture(shot, frame)
        _write_images(folder, stem, seen, version)
        if split == "train":
            cv2.imwrite(str(segmentations / f"{stem}.jpg"), _segmentation(seen), [cv2.IMWRITE_JPEG_QUALITY, 97])
        meta = annotation(shot, frame, split, version, column=index % 2 == 0)
        if frame == blank:
            meta = {key: value if key in ("camMat", "objName", "objLabel", "camIDList") else None
                    for key, value in meta.items()}  # fmt: skip
        elif frame != total - 1:
            listed.append(frame)
        (folder / "meta" / f"{stem}.pkl").write_bytes(pickle.dumps(meta, protocol=2))
    truth = split == "evaluation"
    joints = (shot.hand.joints[:, SIMPLE_TO_MANO] @ GL)[listed].round(7)
    vertices = (shot.hand.vertices @ GL)[listed].round(7)
    return SequenceResult(
        split, name, [f"{frame:04d}" for frame in listed], joints.tolist() if truth else [],
        vertices.tolist() if truth else [],
    )  # fmt: skip


def write_lists(root: Path, results: list[SequenceResult]) -> None:
    """train.txt, evaluation.txt and the two score files, in one common order."""
    for split in ("train", "evaluation"):
        of_split = [result for result in results if result.split == split]
        lines = [f"{result.name}/{frame}\n" for result in of_split for frame in result.frames]
        (root / f"{split}.txt").write_text("".join(lines))
    evaluation = [result for result in results if result.split == "evaluation"]
    for key in ("xyz", "verts"):
        content = [frame for result in evaluation for frame in getattr(result, key)]
        (root / f"evaluation_{key}.json").write_text(json.dumps(content))


def write_object_models(root: Path) -> None:
    """points.xyz and textured_simple.obj of every object, as the YCB-Video package has them."""
    for name in YCB_LABELS:
        shape = ycb_shape(name)
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "points.xyz").write_text("".join(f"{x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in shape.points))
        normals = normals_of(shape.vertices, shape.faces)
        lines = ["mtllib textured_simple.obj.mtl\n"]
        lines += [f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in shape.vertices]
        lines += [f"vt {u:.6f} {1 - v:.6f}\n" for u, v in shape.uv]
        lines += [f"vn {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in normals]
        lines += ["usemtl material_0\n"]
        lines += ["f " + " ".join(f"{i}/{i}/{i}" for i in face) + "\n" for face in (shape.faces + 1).tolist()]
        (folder / "textured_simple.obj").write_text("".join(lines))
        (folder / "textured_simple.obj.mtl").write_text("newmtl material_0\nmap_Kd texture_map.png\n")
        cv2.imwrite(str(folder / "texture_map.png"), shape.texture[..., ::-1])


def annotation(shot: Shot, frame: int, split: str, version: str, *, column: bool) -> dict[str, Any]:
    """The meta dictionary of a frame; ``column``: objRot as (3, 1) instead of (3,)."""
    real = np.float32 if version == "v2" else np.float64
    rest = _corners(shot)
    rotation = GL @ shot.track.object_rotation[frame]
    translation = GL @ shot.track.object_position[frame]
    turn = Rotation.from_matrix(rotation).as_rotvec().astype(real)
    joints = shot.hand.joints[frame][SIMPLE_TO_MANO] @ GL
    meta: dict[str, Any] = {
        "camMat": shot.camera.astype(real),
        "objTrans": translation.astype(real),
        "objRot": turn[:, None] if column else turn,
        "objName": shot.shape.name,
        "objLabel": YCB_LABELS[shot.shape.name],
        "objCorners3D": (rest @ rotation.T + translation).astype(real),
        "objCorners3DRest": rest.astype(real),
        "camIDList": ["0"],
    }
    if split == "evaluation":
        px = shot.hand.joints_px[frame]
        box = [float(value) for value in (*px.min(0), *px.max(0))]
        return {**meta, "handJoints3D": joints[0].astype(real), "handBoundingBox": box}
    meta |= {
        "handJoints3D": joints.astype(real),
        "handPose": _pose_gl(shot.hand.pose[frame]).astype(real),
        "handTrans": (joints[0] - _rest_wrist(shot.hand.betas)).astype(real),
        "handBeta": shot.hand.betas.astype(real),
    }
    return meta | (_contact(shot, frame) if version == "v3" else {})


def _contact(shot: Shot, frame: int) -> dict[str, np.ndarray]:
    """v3 only: the hand's vertices against the object's surface."""
    rotation, translation = shot.track.object_rotation[frame], shot.track.object_position[frame]
    local = (shot.hand.vertices[frame] - translation) @ rotation
    distance = shot.shape.distance(local)
    nearest = shot.shape.points[shot.shape.tree.query(local)[1]]
    return {
        "handVertContact": np.abs(distance) < 0.004,
        "handVertDist": np.abs(distance),
        "handVertIntersec": distance < 0,
        "handVertObjSurfProj": (nearest @ rotation.T + translation) @ GL,
    }


def _pose_gl(pose: np.ndarray) -> np.ndarray:
    root = Rotation.from_matrix(GL @ Rotation.from_rotvec(pose[:3]).as_matrix()).as_rotvec()
    return np.concatenate([root, pose[3:]])


def _rest_wrist(betas: np.ndarray) -> np.ndarray:
    """J_0(beta): MANO turns about it and not about the origin, so handTrans is the wrist less this."""
    model = stand_in_model()
    return np.asarray(model.J_regressor[0] @ (model.v_template + model.shapedirs @ betas))


def _corners(shot: Shot) -> np.ndarray:
    low, high = shot.shape.points.min(0), shot.shape.points.max(0)
    bits = np.array([[k & 1, k >> 1 & 1, k >> 2 & 1] for k in range(8)])
    return np.where(bits == 1, high, low)


def _write_images(folder: Path, stem: str, seen: Picture, version: str) -> None:
    bgr = seen.rgb[..., ::-1]
    if version == "v2":
        cv2.imwrite(str(folder / "rgb" / f"{stem}.png"), bgr, FAST_PNG)
    else:
        cv2.imwrite(str(folder / "rgb" / f"{stem}.jpg"), bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])
    steps = np.round(np.where(seen.depth > 0, seen.depth, WALL) / DEPTH_UNIT).astype(np.uint16)
    packed = np.zeros((*steps.shape, 3), dtype=np.uint8)  # BGR: red holds the low byte, green the high one
    packed[..., 2], packed[..., 1] = steps & 255, steps >> 8
    cv2.imwrite(str(folder / "depth" / f"{stem}.png"), packed, FAST_PNG)


def _segmentation(seen: Picture) -> np.ndarray:
    """BGR at a quarter of the size: hand red, object blue; the forearm is no part of the hand's model."""
    small = seen.label[2::4, 2::4]
    image = np.zeros((*small.shape, 3), dtype=np.uint8)
    image[small == HAND] = (0, 0, 255)
    image[small == OBJECT] = (255, 0, 0)
    return image
