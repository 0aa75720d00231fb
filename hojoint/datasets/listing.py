"""Lists, JSON and folders of data sets, as different tools leave them: with a byte-order mark, in UTF-16, with CRLF.

What can be read in one way only is read; everything else is refused by its line.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hojoint import rows
from hojoint.errors import InputError

MARKS = (  # longest first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SUFFIXES = (".png", ".jpg", ".jpeg", ".pkl")
THREADS = 16  # readers of small files: they wait for the disk or the network, not for the processor
CHUNK = 64  # files that one thread reads after each other
Progress = Callable[[int, int], None]
"""Called with how many of how many are done."""


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, UTF-16 or UTF-32, with or without a byte-order mark.

    Raises:
        InputError: the file cannot be read or is no such text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), None)
    if encoding is None and b"\0" in data[:256]:  # ASCII in UTF-16 has a zero in every second byte
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    try:
        return data.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} must be text in UTF-8 or UTF-16, and byte {error.start} fits neither; save it as UTF-8"
        ) from None


def read_json(path: Path) -> Any:
    """The content of a JSON file, in any encoding of ``read_text``.

    Raises:
        InputError: the file cannot be read or is no JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not complete JSON ({error}); fetch it again") from None


def read_frames(path: Path) -> list[str]:
    """The names ``SEQUENCE/FRAME`` of an HO-3D list, in order; backslashes and suffixes of images are understood.

    Raises:
        InputError: the list is empty, a line is something else, or a frame stands in it twice.
    """
    first: dict[str, int] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not (given := line.strip()):
            continue
        name = given.replace("\\", "/").removeprefix("./")
        suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
        name = name[: len(name) - len(suffix)]
        parts = name.split("/")
        if len(parts) != 2 or not all(parts) or ".." in name or any(sign.isspace() for sign in name):
            raise InputError(
                f"{path} must list one SEQUENCE/FRAME per line, as in MC1/0000, found {given[:80]!r} in line {number}"
            )
        if name in first:
            raise InputError(
                f"{path} lists {name} twice, in lines {first[name]} and {number}; remove one, or take the list that "
                "belongs to this version of the data"
            )
        first[name] = number
    if not first:
        raise InputError(f"{path} must list one SEQUENCE/FRAME per line, found nothing")
    return list(first)


def sizes_in(folder: Path) -> dict[str, int]:
    """File name -> bytes of every file in a folder; empty where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}") from None


def names_in(folder: Path) -> set[str]:
    """Names of all entries of a folder, without asking for each one's size; empty where there is no such folder."""
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}") from None


def read_all(paths: Sequence[Path], use: Callable[[bytes], Any]) -> list[Any]:
    """``use`` of the bytes of each file, in order; None for a file that cannot be read."""

    def some(part: Sequence[Path]) -> list[Any]:
        return [one(path) for path in part]

    def one(path: Path) -> Any:
        try:
            with open(path, "rb", buffering=0) as file:
                return use(file.read())
        except OSError:
            return None

    parts = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    with ThreadPoolExecutor(THREADS) as pool:
        return [answer for part in pool.map(some, parts) for answer in part]


def combined(parts: Iterable[bytes | None]) -> str:
    """SHA-256 of the digests of all files, in order; a file that is missing (None) counts as missing."""
    total = hashlib.sha256()
    for part in parts:
        total.update(b"missing" if part is None else part)
    return total.hexdigest()


def evenly(items: Sequence[Any], count: int) -> list[Any]:
    """Up to ``count`` evenly spaced items, both ends among them."""
    return [items[row] for row in rows.evenly(len(items), count)]


def stepped(items: Sequence[Any], count: int) -> list[Any]:
    """Every n-th item from the first on, ``count`` to nearly twice as many. Fingerprints hold this choice: it stays."""
    return list(items[:: max(1, len(items) // count)])
