"""Files of boxes, in any format that is read, as one stream of videos: Something-Else JSON.

The stream has the order of the files, and holds one video at a time: a real annotation has gigabytes. Not here: what a
format looks like (``box_json``), and whether boxes fit a picture (``box_checks``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from hojoint.datasets import box_json
from hojoint.datasets.video_boxes import VideoBoxes
from hojoint.errors import InputError

__all__ = ["VideoBoxes", "iterate_boxes", "read_boxes"]

PARTS = "bounding_box_smthsmth_part*.json"


def iterate_boxes(path: str | Path, progress: Callable[[int, int], None] | None = None) -> Iterator[VideoBoxes]:
    """The videos of a file or of all parts of a folder, in their order.

    A video that lies in two files comes twice; whoever collects the stream refuses that (as ``read_boxes`` does).

    Args:
        path: file or folder.
        progress: called after each video with (bytes read so far, bytes in all).

    Raises:
        InputError: no file to read, or a file of another shape; while the stream is read.
    """
    parts = _parts(Path(path))
    total = sum(part.stat().st_size for part in parts)
    done = 0
    for part in parts:
        for video, read in box_json.iterate(part):
            yield video
            if progress is not None:
                progress(min(done + read, total), total)
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
                f"video {video.video_id!r} has boxes in two places of {path}; the parts of an annotation must be "
                "disjoint, so remove one"
            )
        videos[video.video_id] = video
    return videos


def _parts(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"no box annotation at {path}; set videos.boxes to a Something-Else JSON file or its folder")
    parts = sorted(path.glob(PARTS)) or sorted(path.glob("*.json"))
    if not parts:
        names = ", ".join(sorted(os.listdir(path))[:3]) or "nothing"
        raise InputError(f"the folder {path} holds no {PARTS} and no other *.json (found: {names}); set videos.boxes")
    return parts
