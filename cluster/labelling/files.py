"""Where the videos of a finished labelling run lie: as its manifest says, or under another root that is given.

Not here: what is read from them (``refiltering``, jobs.labelled_frames), whether they are the labelled ones
(``sameness``).
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Collection, Iterable

from cluster.labelling import manifest
from cluster.labelling.manifest import Manifest, Reader
from cluster.labelling.units import Video
from cluster.sources import Entry, list_videos
from cluster.sources.listing import temporary_database
from cluster.store import Store

LISTED_TOGETHER = 2000  # videos in one row group


def listed(root: str) -> Manifest:
    """The videos of another root, listed once for all actors; prints what the listing notes.

    Raises:
        InputError: it cannot be listed, or holds no video.
    """
    notes: list[str] = []
    made = manifest.write(map(Video.of, list_videos(root, notes=notes)), LISTED_TOGETHER)
    for note in notes:
        print(f"note: {note}")
    return made


class VideoFiles:
    """The files of a run's videos; without a manifest (runs of earlier versions) and another root, none."""

    def __init__(self, store: Store, key: str | None, listing: Callable[[], Iterable[Entry]] | None) -> None:
        """``key``: of the manifest in ``store``; ``listing``: the videos of another root, which goes before it."""
        self._store, self._key, self._listing = store, key, listing

    def of(self, unit_ids: Iterable[str], video_ids: Collection[str]) -> dict[str, Entry]:
        """The files of some videos of some units; a video without one is left out.

        Raises:
            InputError: the manifest or the root cannot be read.
        """
        if self._listing is not None:
            return {video_id: entry for video_id in video_ids if (entry := self._under_root(video_id)) is not None}
        return self.labelled(unit_ids, video_ids)

    def labelled(self, unit_ids: Iterable[str], video_ids: Collection[str]) -> dict[str, Entry]:
        """The files that the run read, as its manifest says; without a manifest none. Raises what ``of`` raises."""
        if self._key is None or not video_ids:
            return {}
        videos = (video for name in unit_ids for video in self._manifest.unit(name).videos)
        return {video.video_id: video.entry for video in videos if video.uri and video.video_id in video_ids}

    @functools.cached_property
    def _manifest(self) -> Reader:
        assert self._key is not None
        return Reader(self._store, self._key)

    def _under_root(self, video_id: str) -> Entry | None:
        row = self._index.execute("SELECT * FROM files WHERE id = ?", (video_id,)).fetchone()
        return None if row is None else Entry(*row)

    @functools.cached_property
    def _index(self) -> sqlite3.Connection:
        assert self._listing is not None
        layout = "CREATE TABLE files (id TEXT PRIMARY KEY, uri TEXT, size INT, etag TEXT) WITHOUT ROWID"
        database = temporary_database(layout)
        rows = ((entry.video_id, entry.uri, entry.size, entry.etag) for entry in self._listing())
        database.executemany("INSERT INTO files VALUES (?, ?, ?, ?)", rows)
        return database
