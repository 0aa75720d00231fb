"""MediaPipe's palm and hand-landmark networks: where their files are found, and what names them.

They are Apache-2.0 and lie inside the wheels of mediapipe 0.10.14 and 0.10.21, and of no later version; this project
holds no copy. A wheel is a zip file and is read in place, so the package need not be installed. Nothing is executed.
Not here: what the networks answer (``palms``, ``mediapipe``).
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from hojoint.errors import InputError

PARTS = {"palm": "palm_detection/palm_detection_{}.tflite", "hand": "hand_landmark/hand_landmark_{}.tflite"}
"""Network -> its file under the package's ``modules``, for a variant 'full' or 'lite'."""
LARGEST = 64 * 2**20  # bytes of one file; the real ones have 2 to 6 million
MAGIC = b"TFL3"  # at byte 4 of every tflite file
REMEDY = (
    "mediapipe 0.10.14 and 0.10.21 hold them, later versions do not. Run\n"
    "  pip download --no-deps --only-binary=:all: --python-version 3.12 mediapipe==0.10.21\n"
    "and give the wheel as detect.models=FILE.whl; it need not be installed"
)


@dataclass(frozen=True)
class ModelFiles:
    """Both networks, as they lie in their files."""

    palm: bytes
    hand: bytes
    where: str  # for messages

    @property
    def identity(self) -> dict[str, str]:
        """SHA-256 of both files."""
        return {
            name: hashlib.sha256(content).hexdigest() for name, content in (("palm", self.palm), ("hand", self.hand))
        }


def find(place: str | None, variant: str) -> ModelFiles:
    """The files of a variant, 'full' or 'lite'.

    Args:
        place: a wheel, or a folder with the files or with an unpacked package; None means the installed mediapipe.

    Raises:
        InputError: there is no such place, or it does not hold both files.
    """
    if place is None:
        return _installed(variant)
    path = Path(place)
    if path.is_dir():
        return in_folder(path, variant)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read detect.models={place}: {error.strerror}. {_wanted(variant)}") from None
    return in_wheel(content, place, variant)


def in_wheel(content: bytes, where: str, variant: str) -> ModelFiles:
    """The files inside a wheel; InputError where it is none or lacks them."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            parts = {part: _named(names, file.format(variant)) for part, file in PARTS.items()}
            if None in parts.values():
                raise InputError(f"detect.models={where} lacks what is expected. {_wanted(variant)}")
            found = {part: _limited(archive, str(name)) for part, name in parts.items()}
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError):
        raise InputError(
            f"detect.models={where} is neither a folder nor a wheel (a zip file) that opens. {_wanted(variant)}"
        ) from None
    return _checked(found, where)


def in_folder(folder: Path, variant: str) -> ModelFiles:
    """The files inside a folder: beside each other, or as in the package; InputError where one is missing."""
    found = {}
    for part, file in PARTS.items():
        name = file.format(variant)
        tried = [
            folder / name.rpartition("/")[2],
            *(folder / top / name for top in (".", "modules", "mediapipe/modules")),
        ]
        path = next((path for path in tried if path.is_file()), None)
        if path is None:
            raise InputError(f"the folder detect.models={folder} holds no {tried[0].name}. {_wanted(variant)}")
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} has {path.stat().st_size} bytes, too many for a network of mediapipe")
        found[part] = path.read_bytes()
    return _checked(found, str(folder))


def _installed(variant: str) -> ModelFiles:
    spec = importlib.util.find_spec("mediapipe")  # without running any of its code
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not folders:
        raise InputError(f"no mediapipe is installed, and detect.models is not set. {_wanted(variant)}")
    return in_folder(Path(folders[0]), variant)


def _wanted(variant: str) -> str:
    names = " and ".join(file.format(variant).rpartition("/")[2] for file in PARTS.values())
    return f"jobs.detect needs {names}: {REMEDY}"


def _named(names: list[str], file: str) -> str | None:
    return next((name for name in names if name == file or name.endswith(f"/{file}")), None)


def _limited(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > LARGEST:
        raise InputError(f"{name} in detect.models is too large for a network of mediapipe")
    return archive.read(name)


def _checked(found: dict[str, bytes], where: str) -> ModelFiles:
    for part, content in found.items():
        if content[4:8] != MAGIC:
            raise InputError(f"the {part} network in detect.models={where} is no tflite file; {REMEDY}")
    return ModelFiles(found["palm"], found["hand"], where)
