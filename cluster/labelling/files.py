"""Where the videos of a finished labelling run lie: as its manifest says, or under another root that is given.

Not here: what is read from them (``refiltering``, jobs.labelled_frames).
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Collection, Iterable

from cluster.labelling.manifest import Reader
from cluster.sources import Entry, list_videos
from cluster.sources.listing import temporary_database
from cluster.store import Store


class VideoFiles:
    """The files of a run's videos; without a manifest (runs of earlier versions) and another root, none."""

    def __init__(self, store: Store, key: str | None, root: str | None) -> None:
        """``key``: of the manifest in ``store``; ``root``: ``videos.root``, which goes before it."""
        self._store, self._key, self._root = store, key, root

    def __bool__(self) -> bool:
        return self._root is not None or self._key is not None

    def of(self, unit_ids: Iterable[str], video_ids: Collection[str]) -> dict[str, Entry]:
        """The files of some videos of some units; a video without one is left out.

        Raises:
            InputError: the manifest or the root cannot be read.
        """
        if self._root is not None:
            return {video_id: entry for video_id in video_ids if (entry := self._under_root(video_id)) is not None}
        if self._key is None or not video_ids:
            return {}
        videos = (video for name in unit_ids for video in self._manifest.unit(name).videos)
        return {
            video.video_id: Entry(video.video_id, video.uri, video.size, video.etag)
            for video in videos
            if video.uri and video.video_id in video_ids
        }

    @functools.cached_property
    def _manifest(self) -> Reader:
        assert self._key is not None
        return Reader(self._store, self._key)

    def _under_root(self, video_id: str) -> Entry | None:
        row = self._index.execute("SELECT * FROM files WHERE id = ?", (video_id,)).fetchone()
        return None if row is None else Entry(*row)

    @functools.cached_property
    def _index(self) -> sqlite3.Connection:
        assert self._root is not None
        layout = "CREATE TABLE files (id TEXT PRIMARY KEY, uri TEXT, size INT, etag TEXT) WITHOUT ROWID"
        database = temporary_database(layout)
        rows = ((entry.video_id, entry.uri, entry.size, entry.etag) for entry in list_videos(self._root))
        database.executemany("INSERT INTO files VALUES (?, ?, ?, ?)", rows)
        return database
