"""One listing of all videos under a root, sorted by id; memory does not grow with their number.

Found videos go through a temporary sqlite file, which sorts them and keeps one file per id. Not here: how a folder, a
bucket and a tar file are listed (``folders``, ``objects``, ``tars``).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from cluster.sources import folders
from cluster.sources.naming import SUFFIXES, Entry, Found
from hojoint.errors import InputError

AT_ONCE = 2000  # rows per insertion
LAYOUT = "CREATE TABLE videos (id TEXT PRIMARY KEY, rank INT, tie TEXT, uri TEXT, size INT, etag TEXT) WITHOUT ROWID"
KEEP_FIRST = """
INSERT INTO videos VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE
SET rank = excluded.rank, tie = excluded.tie, uri = excluded.uri, size = excluded.size, etag = excluded.etag
WHERE (excluded.rank, excluded.tie) < (videos.rank, videos.tie)
"""


def list_videos(
    root: str | Path, progress: Callable[[int], None] | None = None, notes: list[str] | None = None
) -> Iterator[Entry]:  # fmt: skip
    """Every video under ``root`` once, in ascending order of the ids.

    Args:
        root: a folder, ``s3://bucket/prefix``, or one tar file in either; what counts as a video is in ``naming``. The
            URIs of local videos are absolute.
        progress: called now and then with the number of files found so far.
        notes: takes sentences for the user, as about ids that several files have, or what cannot be read.

    Raises:
        InputError: it cannot be listed, holds no video, a name cannot be an id, or a tar file cannot be read.
    """
    scan, root = folders.scan, str(root)
    if not root.startswith("s3://"):
        root = os.path.abspath(os.path.expanduser(root))  # a manifest is read from other folders and on other nodes
    else:
        from cluster.sources import objects  # what lies in folders needs no boto3

        scan = objects.scan
    seen = folders.Seen()
    found = 0
    with contextlib.closing(temporary_database(LAYOUT)) as database:
        candidates = scan(root, seen)
        while rows := [_row(candidate) for candidate in itertools.islice(candidates, AT_ONCE)]:
            database.executemany(KEEP_FIRST, rows)
            found += len(rows)
            if progress is not None:
                progress(found)
        [kept] = database.execute("SELECT count(*) FROM videos").fetchone()
        if not kept:
            raise InputError(
                f"videos.root must hold <id>.webm ({' '.join(SUFFIXES[1:])}), folders <id>/000001.jpg or tar files of "
                f"videos, found none in {root}{seen.hint()}"
            )
        if found > kept and notes is not None:
            notes.append(
                f"{found - kept} more files in {root} have the id of another one and are left out; docs/cluster.md "
                "tells which is taken"
            )
        if notes is not None:
            notes.extend(seen.notes())
        for row in database.execute("SELECT id, uri, size, etag FROM videos ORDER BY id"):
            yield Entry(*row)


def temporary_database(layout: str) -> sqlite3.Connection:
    """A sqlite file without a name, in the folder for temporary files; gone when it is closed or its process ends."""
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    for setting in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -16000"):
        database.execute(f"PRAGMA {setting}")
    database.execute(layout)
    return database


def _row(found: Found) -> tuple[str, int, str, str, int | None, str]:
    entry = found.entry
    return entry.video_id, found.rank, found.tie or entry.uri, entry.uri, entry.size, entry.etag
