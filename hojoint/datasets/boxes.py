"""Files of boxes as one stream of videos, whatever their format: Something-Else JSON, 100DOH JSON, CSV or Parquet.

The format is told by the content. The stream has the order of the files; of Something-Else, whose parts have more than
a gigabyte, it holds one video at a time. Not here: what a format looks like (``box_json``, ``box_100doh``,
``box_tables``), whether boxes fit their videos (``box_checks``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from hojoint.datasets import box_100doh, box_json, box_tables
from hojoint.datasets.video_boxes import VideoBoxes
from hojoint.errors import InputError

__all__ = ["VideoBoxes", "iterate_boxes", "read_boxes"]

PARTS = "bounding_box_smthsmth_part*.json"
SUFFIXES = (".json", ".csv", ".tsv", ".csv.gz", ".parquet")
WANTED = "a Something-Else or 100DOH JSON file, a CSV or Parquet table of boxes, or a folder of such files"
STRANGERS = (
    (b"version https://git-lfs", "a Git LFS pointer; run 'git lfs pull'"),
    (b"PK\x03\x04", "a zip archive (or .npz, .xlsx); unpack it, or write a table"),
    (b"\x80", "a pickle, which could run code; write its boxes as a table"),
    (b"\x93NUMPY", "a NumPy array; write its boxes as a table"),
    (b"<", "HTML or XML; a download that failed looks so"),
    (b"SQLite format 3", "a database; write its boxes as a table"),
)
"""How files begin that are no boxes, and what they are."""


def iterate_boxes(path: str | Path, progress: Callable[[int, int], None] | None = None) -> Iterator[VideoBoxes]:
    """The videos of a file or of all parts of a folder, in their order.

    A video that lies in two files comes twice; whoever collects the stream refuses that (as ``read_boxes`` does).

    Args:
        path: file or folder.
        progress: called while reading with (bytes read so far, bytes in all).

    Raises:
        InputError: no file to read, or one of another shape; while the stream is read.
    """
    files = parts(path)
    total = sum(part.stat().st_size for part in files)
    done = 0

    def moved(read: int) -> None:
        if progress is not None:
            progress(min(done + read, total), total)

    for part in files:
        yield from _videos(part, moved)
        done += part.stat().st_size


def read_boxes(
    path: str | Path, progress: Callable[[int, int], None] | None = None
) -> dict[str, VideoBoxes]:  # fmt: skip
    """All videos of ``iterate_boxes`` by id.

    Raises:
        InputError: as ``iterate_boxes``, or one video comes twice.
    """
    videos: dict[str, VideoBoxes] = {}
    for video in iterate_boxes(path, progress):
        if video.video_id in videos:
            raise InputError(
                f"video {video.video_id!r} is annotated twice in {path}; the parts of an annotation must be disjoint, "
                "so remove one"
            )
        videos[video.video_id] = video
    return videos


def parts(path: str | Path) -> list[Path]:
    """The files that hold the boxes: one file, or the parts in a folder, in the order in which they are read.

    Names that begin with a dot are left out, as among videos: operating systems keep notes under such names.

    Raises:
        InputError: there are none, or of several kinds.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"no boxes at {path}; set videos.boxes to {WANTED}")
    named = sorted(path.glob(PARTS))
    visible = (part for part in path.iterdir() if not part.name.startswith("."))
    found = named or sorted(part for part in visible if part.name.lower().endswith(SUFFIXES) and part.is_file())
    kinds = sorted({_kind(part) for part in found})
    if not found:
        names = ", ".join(sorted(os.listdir(path))[:3]) or "nothing"
        raise InputError(
            f"the folder {path} holds no {PARTS} and no other file of {', '.join(SUFFIXES)} (found: {names}); set "
            f"videos.boxes to {WANTED}"
        )
    if len(kinds) > 1:
        raise InputError(
            f"the folder {path} holds boxes as {' and as '.join(kinds)} ({found[0].name}, {found[-1].name}); set "
            "videos.boxes to one file, or to a folder of one kind"
        )
    return found


def _has_header(start: bytes) -> bool:
    """Whether a file begins as a table of text does, whatever its name: words between separators, no JSON, no bytes."""
    line = start.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")[0]
    try:
        words = line.decode()
    except UnicodeDecodeError:
        return False
    return words[:1].isalpha() and words.rstrip("\r").isprintable() and any(mark in words for mark in ",;|")


def _kind(path: Path) -> str:
    """The suffix without what makes no difference."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _videos(path: Path, moved: Callable[[int], None]) -> Iterator[VideoBoxes]:
    """The videos of one file."""
    try:
        with path.open("rb") as file:
            start = file.read(1 << 12)
    except OSError as error:
        raise InputError(f"cannot read the boxes {path}: {error.strerror}") from None
    what = next((what for magic, what in STRANGERS if start.startswith(magic)), None)
    if what is not None:
        raise InputError(f"{path} is {what}. Expected {WANTED}")
    named = path.name.lower().endswith((".csv", ".tsv", ".csv.gz"))
    if named or start.startswith(b"PAR1") or _has_header(start):
        yield from box_tables.iterate(path, moved)
    elif path.suffix.lower() == ".parquet":
        raise InputError(f"{path} is no Parquet file: it begins with {start[:12]!r}. Expected {WANTED}")
    elif box_100doh.is_image(box_json.first_key(path)):
        yield from box_100doh.iterate(path, moved)
    else:
        for video, read in box_json.iterate(path):
            yield video
            moved(read)
