"""The wild domain on disk, exactly as Something-Something v2 videos with Something-Else boxes.

Odd files (broken ones, boxes without a video, a video without boxes, lists that end early) are part of the world. True
poses go to a separate table. What a video shows and how it is annotated: ``film``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hojoint.synthetic import scene
from hojoint.synthetic.encode import encode
from hojoint.synthetic.film import Film

LARGEST_ID = 220847
# One row per frame; where no hand can be seen, all between its number and ``hard`` is null.
TRUTH_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("frame", pa.int32()),
        ("side", pa.string()),  # 'left': pose and joints are the right-hand model's, of the mirrored picture
        ("pose", pa.list_(pa.float32(), 48)),
        ("shape", pa.list_(pa.float32(), 10)),  # betas
        ("joints_px", pa.list_(pa.float32(), 42)),  # px of the true picture, centre of the first pixel (0, 0)
        ("joints", pa.list_(pa.float32(), 63)),  # m, wrist-centred, right-hand model
        ("camera", pa.list_(pa.float32(), 4)),  # fx, fy, cx, cy of the unmirrored picture
        ("visible", pa.float32()),  # share of the joints inside the picture and not behind the object or an occluder
        ("hard", pa.string()),
    ]
)


@dataclass(frozen=True)
class VideoResult:
    """What a video adds to the box files and to the truth."""

    index: int
    video_id: str
    boxes: list[dict[str, Any]]
    truth: list[dict[str, Any]]


def video_ids(seed: int, count: int) -> list[str]:
    """Ids like the real ones: unpadded numbers, drawn without repeats; the first ones do not depend on ``count``."""
    rng = np.random.default_rng([seed, 4])
    ids: list[str] = []
    while len(ids) < count:
        number = str(int(rng.integers(1, LARGEST_ID + 1)))
        if number not in ids:
            ids.append(number)
    return ids


def write_video(folder: Path, index: int, video_id: str, *, seed: int, frames: int) -> VideoResult:
    """Draw, encode and annotate one video."""
    rng = scene.generator(seed, "wild", index)
    film = Film(rng, seed, index, frames)
    folder.mkdir(parents=True, exist_ok=True)
    late = index % 17 == 5  # as in one real file, whose first frame comes at 83 ms
    encode(folder / f"{video_id}.webm", film.rgb, first=1 if late else 0)
    boxes = film.boxes(rng, video_id)
    return VideoResult(index, video_id, boxes, film.truth(video_id))


def write_broken(folder: Path, index: int, video_id: str, *, seed: int, frames: int, fault: int) -> VideoResult:
    """A file that no decoder can read to its end: junk, half a video, an empty file."""
    rng = scene.generator(seed, "wild", index)
    film = Film(rng, seed, index, frames)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{video_id}.webm"
    kind = fault % 3
    if kind == 1:
        encode(path, film.rgb)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(rng.bytes(20_000) if kind == 0 else b"")
    return VideoResult(index, video_id, film.boxes(rng, video_id), [])


def write_boxes(folder: Path, results: list[VideoResult]) -> None:
    """Four disjoint parts."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in range(4):
        boxes = {result.video_id: result.boxes for result in results if result.index % 4 == part and result.boxes}
        (folder / f"bounding_box_smthsmth_part{part + 1}.json").write_text(json.dumps(boxes))


def write_truth(path: Path, results: list[VideoResult]) -> None:
    """something_truth.parquet: kept aside for evaluation and report."""
    rows = [row for result in results for row in result.truth]
    pq.write_table(pa.Table.from_pylist(rows, schema=TRUTH_SCHEMA), path)
