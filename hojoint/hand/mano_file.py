"""Finding a MANO file and opening it: the pickle that MANO's authors publish, or an ``.npz`` of the same arrays.

Neither kind may run code: pickles go through ``pickles``, archives are read without pickled objects. What the entries
must be is in ``model``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hojoint.errors import InputError
from hojoint.hand.pickles import load_restricted

SET = "set mano.path (in Python mano=, or load_mano's argument)"
"""How an error names the place where the file is given: on a command line, and in a program."""
NAMES = ("MANO_RIGHT.pkl", "MANO_RIGHT.npz")
_FOLDERS = ("", "models", "mano")
_LARGEST = 64 * 2**20  # bytes of one entry; posedirs, the largest one, has 2.5 MB
_ZIP = b"PK\x03\x04"


def find(path: str | Path) -> Path:
    """The file itself, or ``MANO_RIGHT.pkl`` or ``.npz`` in a folder or in its 'models' or 'mano'.

    Raises:
        InputError: there is none.
    """
    file = Path(path)
    if file.is_dir():
        candidates = [file / folder / name for folder in _FOLDERS for name in NAMES]
        file = next((candidate for candidate in candidates if candidate.is_file()), candidates[0])
    if file.is_file():
        return file
    left = sorted(other.name for other in file.parent.glob("MANO_LEFT.*")) if file.parent.is_dir() else []
    found = f" Found {left[0]} there, the left hand, which is not read." if left else ""
    raise InputError(
        f"no MANO model at {file}.{found} Register at mano.is.tue.mpg.de, unzip mano_v*.zip and {SET} to its "
        "MANO_RIGHT.pkl (or to MANO_RIGHT.npz, or their folder); or leave it out to use the stand-in hand, which needs "
        "no download."
    )


def read(file: Path, keys: Iterable[str]) -> Mapping[str, Any]:
    """The entries of a file by name, those of ``keys`` that it has at least. The content tells the kind of the file.

    Raises:
        InputError: the file cannot be read, is damaged, or holds more than arrays.
    """
    try:
        with file.open("rb") as stream:
            archive = stream.read(len(_ZIP)) == _ZIP
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None
    if archive:
        return _read_npz(file, keys)
    content = load_restricted(file)
    if not isinstance(content, dict):
        raise InputError(f"{file} holds a {type(content).__name__}; a MANO model is a dict of arrays")
    return content


def _read_npz(file: Path, keys: Iterable[str]) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(file) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} is not a complete .npz archive ({error}). Make or download it again.") from None
    if not any(name.endswith(".npy") for name in sizes):
        raise InputError(f"{file} is a zip archive, not a MANO model: unzip it and {SET} to its MANO_RIGHT.pkl")
    chosen = [key for key in keys if f"{key}.npy" in sizes]
    large = [key for key in chosen if sizes[f"{key}.npy"] > _LARGEST]
    if large:
        raise InputError(f"{file}: '{large[0]}' has {sizes[f'{large[0]}.npy']} bytes; no array of MANO is so large")
    content = {}
    with np.load(file, allow_pickle=False) as arrays:
        for key in chosen:
            try:
                content[key] = arrays[f"{key}.npy"]  # by its exact name: a member without suffix would come first
            except Exception as error:  # numpy and zipfile raise a dozen kinds
                raise InputError(_unreadable(file, key, error)) from None
    return content


def _unreadable(file: Path, key: str, error: Exception) -> str:
    if isinstance(error, ValueError) and "Object arrays" in str(error):
        return (
            f"{file}: '{key}' is an array of Python objects (as numpy.savez makes of a sparse matrix), which is a "
            "pickle and may run code; it is refused and not opened. Save a dense array instead, as in "
            f'numpy.savez("MANO_RIGHT.npz", **{{**model, "{key}": model["{key}"].toarray()}}), or '
            f"{SET} to MANO_RIGHT.pkl"
        )
    return f"{file}: '{key}' cannot be read ({type(error).__name__}: {error}). Make or download the file again."
