"""How a run grows: new videos, and other attempts at quarantined ones, become new units; finished units stay.

A run's manifest holds its units in the order of their numbers. When the listing is another one than the run's, it is
laid out along that manifest: what the run knows keeps its unit, and what is new (``labelling.extend``) or tried again
(``labelling.retry``) comes behind, in units of its own. So the same command resumes an extended run exactly, and a
video has one place, or one more for each other attempt; the last one counts. Everything else that differs is refused by
name: videos that are gone, and videos whose boxes or file changed. Not here: how two drivers agree (``chain``), who
works on a unit (``teacher``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from cluster.labelling import chain, commits, manifest, units
from cluster.labelling.commits import Commit
from cluster.labelling.manifest import Manifest, Reader
from cluster.labelling.units import Unit, Video, make_units, unit_id, video_digest
from cluster.sources.listing import temporary_database
from cluster.store import Store, arrow
from hojoint.config import Config
from hojoint.errors import InputError
from hojoint.labelling.faults import CLASSES

LISTED = "CREATE TABLE listed (id TEXT PRIMARY KEY, digest TEXT, uri TEXT, etag TEXT, known INT) WITHOUT ROWID"


@dataclass(frozen=True)
class Growth:
    """What a run is about to grow by."""

    number: int  # of its record in the chain
    videos: int
    retried: Mapping[str, int]  # class in quarantine -> videos
    units: tuple[int, int]  # first, and behind the last

    def __str__(self) -> str:
        classes = ", ".join(f"{count} {kind}" for kind, count in sorted(self.retried.items()))
        again = f", another attempt at {sum(self.retried.values())} ({classes})" if classes else ""
        return f"{self.videos} new videos{again}: units {unit_id(self.units[0])} to {unit_id(self.units[1] - 1)}"


@dataclass(frozen=True)
class Arranged:
    """A listing, laid out along a run."""

    manifest: Manifest
    growth: Growth | None = None
    notes: tuple[str, ...] = ()


def arrange(store: Store, made: Manifest, config: Config, fingerprint: Mapping[str, Any]) -> Arranged:
    """The listing ``made`` along the units of the run in ``store``; as it is where there is none, or the same listing.

    Args:
        fingerprint: of the settings and of ``made``.

    Raises:
        InputError: the settings are not the run's; videos of the run are gone or changed; some are new, and
            ``labelling.extend`` does not ask for them; ``labelling.retry`` names an unknown class.
    """
    asked = config.labelling.retry
    if not store.exists(commits.RUN):
        return Arranged(made)
    commits.check_fingerprint(store, fingerprint, but=units.OF_VIDEOS)
    run = commits.read_run(store)
    same = all(run["fingerprint"].get(name) == fingerprint[name] for name in units.OF_VIDEOS)
    # The digests know no borders of units: those of a run that has grown are in its manifest alone.
    if asked is None and same and not run.get(chain.HISTORY):
        return Arranged(made)
    key = run.get(commits.MANIFEST)
    if key is None:
        if asked is not None or config.labelling.extend:
            raise InputError(f"{store.root} is of an earlier release, without a manifest; label into another output")
        return Arranged(made)  # refused by its fingerprint
    if not store.exists(key):
        raise InputError(
            f"{store.uri(key)}, the manifest of the run, is gone; restore it from a copy, or set another output"
        )
    before = Reader(store, key)
    retries, waiting, notes = _to_retry(store, before, asked)
    with contextlib.closing(temporary_database(LISTED)) as database:
        laid_out = _Layout(store, database, made, before, retries, config, waiting)
        arranged = manifest.write_units(laid_out.units())
    growth = None
    if len(arranged.unit_frames) > before.units:
        number = len(run.get(chain.HISTORY, ())) + 1  # after what was read, so that a record put since is found
        span = (before.units, len(arranged.unit_frames))
        growth = Growth(number, laid_out.new, Counter(retries.values()), span)
    return Arranged(arranged, growth, notes)


def record(store: Store, growth: Growth, fingerprint: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Make the growth part of the run; False where another driver has grown it first."""
    added = {"videos": growth.videos, "retried": dict(growth.retried), "units": list(growth.units)}
    run = commits.read_run(store)
    del run["fingerprint_digest"]
    return chain.append(store, run, growth.number, {"fingerprint": dict(fingerprint), **facts}, added)


@dataclass
class _Unlike:
    """Videos of a run that the listing does not hold as they were."""

    gone: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


class _Layout:
    """The listing by id, in a temporary file, and its way into units."""

    def __init__(
        self,
        store: Store,
        database: sqlite3.Connection,
        made: Manifest,
        before: Reader,
        retries: dict[str, str],
        config: Config,
        waiting: Mapping[str, str],
    ) -> None:
        """``retries`` takes those of ``waiting``, the videos of attempts begun, whose files were replaced since."""
        self._store, self._database, self._made, self._before = store, database, made, before
        self._retries, self._config, self._waiting = retries, config, waiting
        self.new = 0  # videos, once the known units have passed
        for unit in made:
            rows = [(video.video_id, video_digest(video), video.uri, video.etag) for video in unit.videos]
            database.executemany("INSERT INTO listed VALUES (?, ?, ?, ?, 0)", rows)

    def units(self) -> Iterator[Unit]:
        """The run's units, then those of other attempts, then those of new videos.

        Raises:
            InputError: see ``arrange``.
        """
        last = {video_id: attempts[-1][0] for video_id, attempts in self._before.retries().items()}
        unlike = _Unlike()
        for number in range(self._before.units):
            unit = self._before.unit(unit_id(number))
            # A video that was tried again since stands here as it was then.
            videos = [
                self._as_listed(video, unlike) if last.get(video.video_id, unit.unit_id) == unit.unit_id else video
                for video in unit.videos
            ]
            yield Unit(unit.unit_id, tuple(videos))
        self._check(unlike)
        size, following = self._config.labelling.unit_videos, self._before.units
        for unit in make_units(self._again(), size, following):
            following += 1
            yield unit
        yield from make_units(self._unknown(), size, following)

    def _as_listed(self, video: Video, unlike: _Unlike) -> Video:
        """The video, where its file lies now; ``unlike`` takes one that is another."""
        columns = "SELECT digest, uri, etag FROM listed WHERE id = ?"
        row = self._database.execute(columns, (video.video_id,)).fetchone()
        if row is None:
            unlike.gone.append(video.video_id)
            return video
        self._database.execute("UPDATE listed SET known = 1 WHERE id = ?", (video.video_id,))
        digest, uri, etag = row
        if video.video_id in self._retries:
            return video
        if video.uri and not uri:
            unlike.gone.append(video.video_id)
        elif digest != video_digest(video) or (etag and video.etag and etag != video.etag):
            kind = self._waiting.get(video.video_id)
            if kind is not None:  # the attempt that was begun leaves it to the one that follows now
                self._retries[video.video_id] = kind
                return video
            unlike.changed.append(video.video_id)
        return dataclasses.replace(video, uri=uri, etag=etag)

    def _check(self, unlike: _Unlike) -> None:
        [self.new] = self._database.execute("SELECT count(*) FROM listed WHERE known = 0").fetchone()
        lines = []
        if unlike.gone:
            lines.append(
                f"clips: {_some(unlike.gone)} of the run and not among the listed ones; bring them back (videos.root, "
                "videos.boxes, labelling.limit)"
            )
        if unlike.changed:
            lines.append(
                f"clips: {_some(unlike.changed)} of the run, now with other boxes or another file; bring the former "
                "ones back. Those in quarantine are tried again with labelling.retry=quarantined"
            )
        if self.new and not self._config.labelling.extend:
            first = self._database.execute("SELECT id FROM listed WHERE known = 0 ORDER BY id LIMIT 4").fetchall()
            names = _some([name for [name] in first], self.new)
            lines.append(f"clips: {names} new; labelling.extend=true labels them too")
        if lines:
            listed = "\n  ".join(lines)
            raise InputError(
                f"{self._store.root} holds labels of another listing of videos, and one output cannot mix them. What "
                f"differs:\n  {listed}\nOr set another output"
            )

    def _again(self) -> Iterator[Video]:
        for unit in self._made:
            for video in unit.videos:
                if video.video_id in self._retries:
                    yield dataclasses.replace(video, retry_of=self._retries[video.video_id])

    def _unknown(self) -> Iterator[Video]:
        if not self.new:
            return
        names = {name for [name] in self._database.execute("SELECT id FROM listed WHERE known = 0")}
        for unit in self._made:
            yield from (video for video in unit.videos if video.video_id in names)


def _some(names: list[str], count: int | None = None) -> str:
    count = len(names) if count is None else count
    first = ", ".join(names[:3]) + (", ..." if count > 3 else "")
    return f"{count} videos ({first}) are" if count > 1 else f"the video {first} is"


def _to_retry(
    store: Store, before: Reader, asked: str | None
) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """What gets another attempt now, what waits for one that was begun, and notes.

    Both are video id -> class, of quarantined videos.
    """
    if asked is None:
        return {}, {}, ()
    kind = asked.partition(":")[2]
    done = commits.read_commits(store)
    committed = {commit.unit for commit in done}
    last = {video_id: attempts[-1] for video_id, attempts in before.retries().items()}
    waiting = {video_id: kind for video_id, (unit, kind) in last.items() if unit not in committed}
    if waiting:
        return (
            {},
            waiting,
            (
                f"{len(waiting)} videos of a retry that was begun are not done: they are tried now, as their files are "
                "now, and no other video is",
            ),
        )
    quarantine = quarantined(store, done)
    if kind and kind not in CLASSES and kind not in quarantine.values():
        classes = ", ".join(f"{count} {name}" for name, count in sorted(Counter(quarantine.values()).items()))
        raise InputError(f"labelling.retry={asked}: no video is quarantined as {kind!r}; there are {classes or 'none'}")
    retries = {video_id: name for video_id, name in quarantine.items() if kind in ("", name)}
    return retries, {}, () if retries else (f"labelling.retry={asked}: no such video is in quarantine",)


def quarantined(store: Store, done: list[Commit]) -> dict[str, str]:
    """Video id -> class of every video that is in quarantine after all attempts at it."""
    last = commits.superseded(done)
    some = [commit for commit in done if commit.failed]
    with ThreadPoolExecutor(commits.READERS) as pool:
        tables = pool.map(functools.partial(_quarantine_of, store), some)
        return {
            row["video_id"]: row["class"]
            for commit, rows in zip(some, tables, strict=True)
            for row in rows
            if last.get(row["video_id"], commit.unit) == commit.unit
        }


def _quarantine_of(store: Store, commit: Commit) -> list[dict[str, str]]:
    return list(arrow.read_table(store, commit.files["quarantine"], ["video_id", "class"]).to_pylist())
