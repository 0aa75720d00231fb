"""Score files of HO-3D and FreiHAND: ``pred.json`` submissions and ``evaluation_{xyz,verts}.json`` truth.

A submission is ``[[N x 21 x 3], [N x 778 x 3]]`` in metres. HO-3D's is in the OpenGL camera frame (x right, y up, looks
along -z) and raw MANO joint order, FreiHAND's in the camera frame and joint order of this project. Writing converts;
reading keeps the file's frame and order, which truth and submission should share; ``conventions`` finds where they do
not.
"""

from __future__ import annotations

import json
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hojoint.errors import InputError
from hojoint.evaluation import conventions, metrics
from hojoint.hand.model import SIMPLE_TO_MANO

Layout = Literal["ho3d", "freihand"]

_CV_TO_GL = np.array([1.0, -1.0, -1.0])
_KNOWN_SIZES = {11524: "HO-3D v2", 20137: "HO-3D v3", 3960: "FreiHAND"}
_DIGITS = 5  # after the point: 10 micrometres


@dataclass(frozen=True, eq=False)
class HandPoints:
    """Joints and vertices in the frame and joint order of their file, metres."""

    joints: np.ndarray  # (N, 21, 3)
    vertices: np.ndarray  # (N, V, 3)


@dataclass(frozen=True)
class Scored:
    """The official numbers of what a file means, and what was converted or left out to get them."""

    scores: dict[str, float]
    notes: tuple[str, ...]


def score_submission(predictions: str | Path, truth: str | Path, layout: Layout) -> Scored:
    """The official numbers of a submission file against a folder of truth; keys and units as in ``metrics``.

    A file in another unit, camera frame or joint order than the layout's is converted where that is clear
    (``conventions``), and a file of joints alone gets the scores of joints; the notes say so, and where the truth looks
    like that of another layout.

    Raises:
        InputError: as ``load_pair``.
    """
    pred, true = load_pair(predictions, truth)
    joints_only = pred.vertices.shape[1] == 0
    joints, notes = conventions.joints_as_meant(pred.joints, true.joints, layout)
    vertices = pred.vertices
    if not joints_only:
        vertices, more = conventions.vertices_as_meant(vertices, true.vertices, layout)
        notes += more
    scores = _scores(joints, vertices, true, layout)
    if (note := layout_note(len(true.joints), layout)) is not None:
        notes.insert(0, note)
    if not (np.array_equal(joints, pred.joints) and np.array_equal(vertices, pred.vertices)):
        notes.append(_official(pred, true, layout))
    if (note := conventions.collapsed(pred.joints)) is not None:
        notes.append(note)
    if joints_only:
        scores = {key: value for key, value in scores.items() if key.startswith("xyz_")}
        notes.append(f"{predictions} holds joints alone, so the scores of meshes are left out")
    return Scored(scores, tuple(notes))


def layout_note(count: int, layout: Layout) -> str | None:
    """A sentence where the truth has as many images as a published set of the other layout; None where it has not."""
    known = _KNOWN_SIZES.get(count)
    meant = "freihand" if known == "FreiHAND" else "ho3d"
    if known is None or meant == layout:
        return None
    return (
        f"the truth has {_size(count)}, and it is scored with the keys and units of score.layout={layout}; for {known} "
        f"give score.layout={meant}"
    )


def load_pair(predictions: str | Path, truth: str | Path) -> tuple[HandPoints, HandPoints]:
    """A submission file and its truth, which has no vertices where the file has none.

    Raises:
        InputError: a file is missing, is no submission, lists another number of images than the truth, or has values
            that are not finite.
    """
    pred = load_submission(predictions)
    true = load_truth(truth, vertices=pred.vertices.shape[1] > 0)
    if len(pred.joints) != len(true.joints):
        raise InputError(
            f"{predictions} holds {_size(len(pred.joints))} for {_size(len(true.joints))} under {truth}; "
            "both must list the same images in the same order"
        )
    _refuse_not_finite(predictions, pred)
    _refuse_not_finite(truth, true)
    return pred, true


def _scores(joints: np.ndarray, vertices: np.ndarray, true: HandPoints, layout: Layout) -> dict[str, float]:
    if layout == "freihand":
        return metrics.freihand_scores(joints, vertices, true.joints, true.vertices)
    return metrics.hand_scores(joints, vertices, true.joints, true.vertices, order="mano")


def _official(pred: HandPoints, true: HandPoints, layout: Layout) -> str:
    """What the official script prints for the unconverted file; of the joints, for meshes take minutes."""
    none = np.zeros((len(pred.joints), 0, 3))
    scores = _scores(pred.joints, none, HandPoints(true.joints, none), layout)
    shown = ", ".join(f"{key} {scores[key]:f}" for key in scores if key.startswith("xyz_") and key.endswith("mean3d"))
    return f"the official script does not convert; for the file as it stands it prints {shown}"


def _refuse_not_finite(file: str | Path, points: HandPoints) -> None:
    for name, values in (("joints", points.joints), ("vertices", points.vertices)):
        broken = ~np.isfinite(values).all((1, 2))
        if broken.any():
            raise InputError(
                f"{file}: {name} must be finite numbers; found NaN, null or infinity in {broken.sum()} of "
                f"{len(values)} samples, first sample {broken.argmax()}"
            )


def load_submission(path: str | Path) -> HandPoints:
    """Read ``pred.json``, the folder that holds it, or the zip file that is uploaded.

    A file of joints alone, ``[[N x 21 x 3], []]``, ``[[N x 21 x 3]]`` or ``N x 21 x 3``, has vertices (N, 0, 3).
    """
    file = Path(path)
    if file.is_dir():
        file = _in_folder(file)
    content = _read_json(file)
    if isinstance(content, list) and _depth(content) == 3:  # the samples themselves, without a list around them
        content = [content, []]
    if isinstance(content, list) and len(content) == 1:
        content = [content[0], []]
    if not (isinstance(content, list) and len(content) == 2 and all(isinstance(part, list) for part in content)):
        raise InputError(
            f"{file} must hold two lists, [[N x 21 x 3], [N x 778 x 3]], or one of joints; found {_describe(content)}"
        )
    joints = _points(file, "joints", content[0], 21)
    if not content[1]:
        return HandPoints(joints, np.zeros((len(joints), 0, 3)))
    vertices = _points(file, "vertices", content[1], None)
    if len(joints) != len(vertices):
        raise InputError(f"{file} holds {len(joints)} samples of joints but {len(vertices)} of vertices")
    return HandPoints(joints, vertices)


def load_truth(root: str | Path, *, vertices: bool = True) -> HandPoints:
    """Read ``evaluation_xyz.json`` and ``evaluation_verts.json`` in a folder, or in its 'evaluation' or 'ref'.

    ``vertices=False`` leaves the second file unread: vertices (N, 0, 3).
    """
    folders = [Path(root), Path(root) / "evaluation", Path(root) / "ref"]
    folder = next((f for f in folders if (f / "evaluation_xyz.json").is_file()), None)
    if folder is None:
        raise InputError(
            f"no evaluation_xyz.json under {root}; the truth of HO-3D and FreiHAND is a separate download: put "
            "evaluation_xyz.json and evaluation_verts.json into one folder"
        )
    joints_file, vertices_file = folder / "evaluation_xyz.json", folder / "evaluation_verts.json"
    joints = _points(joints_file, "joints", _read_json(joints_file), 21)
    if not vertices:
        return HandPoints(joints, np.zeros((len(joints), 0, 3)))
    meshes = _points(vertices_file, "vertices", _read_json(vertices_file), None)
    if len(joints) != len(meshes):
        raise InputError(f"{folder} holds {len(joints)} samples of joints but {len(meshes)} of vertices")
    return HandPoints(joints, meshes)


def write_submission(path: str | Path, joints: np.ndarray, vertices: np.ndarray, layout: Layout) -> None:
    """Write joints (N, 21, 3) m and vertices (N, 778, 3) m, in the project's frame and order, in the given layout.

    A path that ends in '.zip' gets the zip file to upload, with pred.json at its root.

    Raises:
        InputError: HO-3D's server would refuse the file, because a hand is completely behind the camera.
    """
    if layout == "ho3d":
        behind = (joints[..., 2] < 0).all(1) | (vertices[..., 2] < 0).all(1)
        if behind.any():
            raise InputError(
                f"{behind.sum()} hands are completely behind the camera, first {behind.argmax()}; HO-3D refuses them. "
                "Predictions must be in the camera frame, with z forward"
            )
        joints, vertices = joints[:, SIMPLE_TO_MANO] * _CV_TO_GL, vertices * _CV_TO_GL
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".part")
    if file.suffix == ".zip":
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("pred.json", "w") as member:
            for piece in _pieces(joints, vertices):
                member.write(piece.encode())
    else:
        with partial.open("w") as stream:
            stream.writelines(_pieces(joints, vertices))
    os.replace(partial, file)  # a file of that name is always complete


def _pieces(joints: np.ndarray, vertices: np.ndarray) -> Iterator[str]:
    """The JSON text, sample by sample: HO-3D's is hundreds of megabytes."""
    for start, points, end in (("[[", joints, "], "), ("[", vertices, "]]")):
        yield start
        for row, sample in enumerate(points):
            # + 0.0 turns -0.0 into 0.0
            text = json.dumps((np.round(np.asarray(sample, dtype=np.float64), _DIGITS) + 0.0).tolist())
            yield text if row == 0 else ", " + text
        yield end


def _in_folder(folder: Path) -> Path:
    files = [folder / "pred.json"] if (folder / "pred.json").is_file() else sorted(folder.glob("*.json"))
    if len(files) != 1:
        raise InputError(f"expected pred.json in {folder}, found {len(files)} .json files; name the file")
    return files[0]


def _read_json(file: Path) -> Any:
    try:
        return json.loads(_zipped(file) if file.suffix == ".zip" else file.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        where = "pred.json in " if file.suffix == ".zip" else ""
        raise InputError(f"{where}{file} is not JSON: {error}") from None


def _zipped(file: Path) -> bytes:
    """The content of pred.json in a zip file. What it raises for a damaged member depends on the compression."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.read("pred.json")
    except OSError:
        raise
    except KeyError:
        raise InputError(
            f"{file} is not a zip file of pred.json: expected pred.json at its root, found none; zip the file itself"
        ) from None
    # A password is a RuntimeError, an unknown compression a NotImplementedError, which is one too.
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{file} is not a zip file of pred.json that can be read: {error or 'it ends too early'}. Make it again "
            "from pred.json, without a password and with the usual compression (deflate)"
        ) from None


def _points(file: Path, name: str, content: Any, count: int | None) -> np.ndarray:
    """(N, count, 3) from nested lists; the message names the first sample that differs."""
    expected = f"{count or 'V'} x 3"
    if not isinstance(content, list) or not content:
        raise InputError(f"{file}: {name} must be a list of samples, {expected} each; found {_describe(content)}")
    samples = []
    for row, sample in enumerate(content):
        try:
            samples.append(np.array(sample, dtype=np.float64))
        except (ValueError, TypeError):
            raise InputError(f"{file}: {name} of sample {row} are not {expected} numbers") from None
        content[row] = None  # lists take four times the memory of the array
        shape = samples[-1].shape
        if len(shape) != 2 or shape[1] != 3 or shape[0] != (count or samples[0].shape[0]):
            raise InputError(f"{file}: {name} of sample {row} must be {expected}; found {' x '.join(map(str, shape))}")
    return np.stack(samples)


def _depth(content: Any) -> int:
    """How deep lists lie in each other, along the first entries."""
    depth = 0
    while isinstance(content, list):
        depth, content = depth + 1, content[0] if content else None
    return depth


def _describe(content: Any) -> str:
    return f"a list of {len(content)}" if isinstance(content, list) else f"a {type(content).__name__}"


def _size(count: int) -> str:
    return f"{count} samples" + (f" (as {_KNOWN_SIZES[count]} has)" if count in _KNOWN_SIZES else "")
