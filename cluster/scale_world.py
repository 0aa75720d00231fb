"""Listings of any length for the benchmark of scale: empty video files, and boxes in Something-Else's own format.

A listing sees names and sizes, and nobody decodes these videos. Not here: what is measured on them (``scale_bench``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hojoint.config import Config, changed

HAND = {"standard_category": "hand", "category": "hand", "gt_annotation": "hand"}
OBJECT = {"standard_category": "0000", "category": "cup", "gt_annotation": "object 0"}


def write(folder: Path, videos: int, frames: int) -> None:
    """So many videos of so many frames, each with one hand and one object."""
    root = folder / "videos"
    root.mkdir(parents=True)
    with open(folder / "boxes.json", "w") as file:
        for number in range(videos):
            video_id = str(number + 1)
            file.write("{" if number == 0 else ",\n")
            file.write(f'"{video_id}":{json.dumps(list(_frames(video_id, frames)))}')
            (root / f"{video_id}.webm").touch()
        file.write("}")


def on(config: Config, folder: Path) -> Config:
    """The settings that list what ``write`` has put there."""
    return changed(config, videos={"root": str(folder / "videos"), "boxes": str(folder / "boxes.json")})


def _frames(video_id: str, frames: int) -> Iterator[dict[str, Any]]:
    for frame in range(frames):
        left, top = 5.5 + frame % 30, 8.25 + frame % 7
        hand = {**HAND, "box2d": {"x1": left, "y1": top, "x2": left + 60.125, "y2": top + 72.25}}
        thing = {**OBJECT, "box2d": {"x1": 20.5 + left, "y1": 20.125, "x2": 90.25 + left, "y2": 95.5}}
        yield {"name": f"{video_id}/{frame + 1:04d}.jpg", "labels": [hand, thing], "nr_instances": 2}
