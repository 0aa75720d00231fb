"""Which videos a run labels: every video with boxes, joined with its file, in the order of the ids (Sec. 6.2).

Boxes and files come as streams and meet in a temporary sqlite file, so the memory that this takes does not grow with
their number. What is not listed is counted and noted. Not here: how sources list files (cluster.sources), which boxes
are one hand (hojoint.datasets.something), the manifest (``manifest``).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import pickle
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from cluster.labelling import budget, manifest
from cluster.labelling.manifest import Manifest
from cluster.labelling.units import Video
from cluster.sources import list_videos, mirror
from cluster.sources.listing import temporary_database
from hojoint import ids
from hojoint.config import Config
from hojoint.datasets import something
from hojoint.datasets.box_checks import Census
from hojoint.datasets.boxes import VideoBoxes, iterate_boxes
from hojoint.errors import InputError

ASIDE = ("left_out", "videos_without_boxes", "short_tracks", "short_boxes")
"""Counts of what is not listed: videos left out by ``videos.missing``, videos without boxes, and hands seen in too few
frames to make a clip, with their boxes."""
AT_ONCE = 500  # rows per insertion
JOINED = "FROM boxes LEFT JOIN files USING (id)"


@dataclass(frozen=True, eq=False)
class Listed:
    """The listed videos, in a manifest, and what the user is told about them."""

    manifest: Manifest
    notes: tuple[str, ...]
    aside: dict[str, int]  # by ``ASIDE``
    sideless: int  # clips whose side neither the annotation nor ``labelling.side`` gives


def listed(config: Config) -> Listed:
    """Every video with boxes, up to ``labelling.limit``.

    Raises:
        InputError: boxes or files cannot be read, none belong together, or more files are missing than the error
            budget allows.
    """
    assert config.videos.root is not None
    notes: list[str] = []
    with contextlib.closing(temporary_database("CREATE TABLE boxes (id TEXT PRIMARY KEY, content BLOB)")) as database:
        database.execute("CREATE TABLE files (id TEXT PRIMARY KEY, uri TEXT, size INT, etag TEXT) WITHOUT ROWID")
        notes += _store_boxes(database, str(mirror.localised(config, "videos.boxes").videos.boxes))
        _store_files(database, config.videos.root, notes)
        join = _Join(database, config)
        join.check()
        made = manifest.write(join.videos(), config.labelling.unit_videos)
        return Listed(made, (*notes, *join.notes()), join.aside(), join.sideless)


class _Join:
    """Boxes and files that have met, and what is counted while they pass."""

    def __init__(self, database: sqlite3.Connection, config: Config) -> None:
        self._database, self._config = database, config
        self._both = self._count(f"{JOINED} WHERE uri IS NOT NULL")
        self._annotated = self._count("FROM boxes")
        self._files = self._count("FROM files")
        self._leave_out = config.videos.missing == "leave_out"
        self._short_tracks = self._short_boxes = 0
        self.sideless = 0  # once all videos have passed

    def check(self) -> None:
        """Raise InputError where no boxes have a file, or too few of those that are to be labelled."""
        root = self._config.videos.root
        if not self._both:
            raise InputError(
                f"none of the {self._files} videos in {root} ({self._some('FROM files')}) has boxes among the "
                f"{self._annotated} annotated ones ({self._some('FROM boxes')}); videos.root must hold videos whose "
                f"names are the ids of videos.boxes{self._hint()}"
            )
        taken = f"FROM (SELECT id {self._chosen()}) LEFT JOIN files USING (id)"
        missing, listed = self._count(f"{taken} WHERE uri IS NULL"), self._count(taken)
        if budget.exceeded(self._config, missing, listed):
            first = self._some(f"{taken} WHERE uri IS NULL", 1)
            raise InputError(
                f"{missing} of {listed} annotated videos are not in {root} (the first: {first}), more than "
                "labelling.error_budget_count and error_budget_share allow. Set videos.missing=leave_out to label the "
                f"existing ones{self._hint()}"
            )

    def videos(self) -> Iterator[Video]:
        """The videos to label, in the order of their ids."""
        labelling = self._config.labelling
        columns = "SELECT content, uri, size, etag"
        for content, uri, size, etag in self._database.execute(f"{columns} {self._chosen()}"):
            boxes: VideoBoxes = pickle.loads(zlib.decompress(content))
            if uri is None:
                yield Video(boxes.video_id, "", ())
                continue
            clips, short_tracks, short_boxes = something.tracks_of(
                uri, boxes, min_frames=labelling.min_clip_frames, boxes_fps=self._config.videos.boxes_fps
            )
            self._short_tracks += short_tracks
            self._short_boxes += short_boxes
            clips = sorted(clips, key=lambda clip: clip.clip_id)
            self.sideless += sum(clip.side is None for clip in clips) if labelling.side == "both" else 0
            yield Video(boxes.video_id, uri, tuple(clips), size, etag)

    def aside(self) -> dict[str, int]:
        """By ``ASIDE``; once all videos have passed."""
        left_out = self._annotated - self._both if self._leave_out else 0
        counts = (left_out, self._files - self._both, self._short_tracks, self._short_boxes)
        return dict(zip(ASIDE, counts, strict=True))

    def notes(self) -> Iterator[str]:
        """Sentences for the user; once all videos have passed."""
        root, boxes_alone = self._config.videos.root, self._annotated - self._both
        if boxes_alone and not self._leave_out:
            names = self._some(f"{JOINED} WHERE uri IS NULL")
            yield f"annotated videos without a file in {root}: {boxes_alone} ({names}){self._hint()}"
        if self._files > self._both:
            names = self._some("FROM files LEFT JOIN boxes USING (id) WHERE boxes.id IS NULL")
            hint = self._hint() if self._leave_out else ""
            yield f"videos in {root} without boxes, left out: {self._files - self._both} ({names}){hint}"
        if self._short_tracks:
            least = self._config.labelling.min_clip_frames
            yield (
                f"{self._short_tracks} hands seen in fewer than {least} frames ({self._short_boxes} boxes) make no clip"
            )

    def _hint(self) -> str:
        """The end of a sentence about boxes without a file, where some have one under a name that only looks the same;
        else nothing."""
        count, listed, file = self._other_forms
        return f". {ids.other_form(count, listed, file)}" if count else ""

    @functools.cached_property
    def _other_forms(self) -> tuple[int, str, str]:
        """How many ids of boxes and of files differ only in their Unicode form, and the first of both."""
        database = self._database
        database.create_function("nfc", 1, ids.nfc, deterministic=True)
        database.execute("CREATE TABLE forms (form TEXT PRIMARY KEY, file TEXT) WITHOUT ROWID")
        alone = "FROM files LEFT JOIN boxes USING (id) WHERE boxes.id IS NULL"
        database.execute(f"INSERT OR IGNORE INTO forms SELECT nfc(files.id), files.id {alone}")
        pairs = "FROM boxes LEFT JOIN files USING (id) JOIN forms ON form = nfc(boxes.id) WHERE uri IS NULL"
        [row] = database.execute(f"SELECT count(*), min(boxes.id), file {pairs}")
        return row

    def _chosen(self) -> str:
        """The rows that are labelled."""
        limit = -1 if self._config.labelling.limit is None else self._config.labelling.limit
        which = "WHERE uri IS NOT NULL" if self._leave_out else ""
        return f"{JOINED} {which} ORDER BY id LIMIT {limit}"

    def _count(self, rows: str) -> int:
        [count] = self._database.execute(f"SELECT count(*) {rows}").fetchone()
        return int(count)

    def _some(self, rows: str, most: int = 3) -> str:
        """The first ids of some rows, in words."""
        names = [name for [name] in self._database.execute(f"SELECT id {rows} ORDER BY id LIMIT {most + 1}")]
        return ", ".join(names[:most]) + (", ..." if len(names) > most > 1 else "")


def _store_boxes(database: sqlite3.Connection, path: str) -> tuple[str, ...]:
    """All boxes by video; notes about the complete list."""
    census = Census()

    def rows(progress: Callable[[int, int], None]) -> Iterator[tuple[str, bytes]]:
        for boxes in iterate_boxes(path, progress):
            census.add(boxes)
            yield boxes.video_id, zlib.compress(pickle.dumps(boxes, pickle.HIGHEST_PROTOCOL), 1)

    with tqdm(desc="reading boxes", unit="B", unit_scale=True, delay=2, leave=False, dynamic_ncols=True) as bar:

        def moved(read: int, total: int) -> None:
            bar.total = total
            bar.update(read - bar.n)

        try:
            _insert(database, "INSERT INTO boxes VALUES (?, ?)", rows(moved))
        except sqlite3.IntegrityError:
            raise InputError(
                f"a video has boxes in two places of {path}; the parts of an annotation must be disjoint, so remove one"
            ) from None
    return census.refuse_or_note()


def _store_files(database: sqlite3.Connection, root: str, notes: list[str]) -> None:
    with tqdm(desc="listing videos", unit="file", delay=2, leave=False, dynamic_ncols=True) as bar:
        entries = list_videos(root, lambda found: bar.update(found - bar.n) and None, notes)
        rows = ((entry.video_id, entry.uri, entry.size, entry.etag) for entry in entries)
        _insert(database, "INSERT INTO files VALUES (?, ?, ?, ?)", rows)


def _insert(database: sqlite3.Connection, command: str, rows: Iterable[tuple[Any, ...]]) -> None:
    rows = iter(rows)
    while some := list(itertools.islice(rows, AT_ONCE)):
        database.executemany(command, some)
