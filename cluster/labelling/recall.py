"""A listing that an output knows already: a run that resumes need not read all boxes again (Sec. 6.2).

Boxes take milliseconds a video to read, check and cut into clips, and their files' checksums microseconds. So a run
keeps, beside its manifest, what its listing told, under a name made of all that the listing depends on: the contents of
the box files, the names, sizes and etags of the videos, and the settings. Another listing has another name and is not
found. Not here: how a listing is made (``listing``), how a run grows by another one (``growth``).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import weakref
from dataclasses import dataclass
from typing import Any

from cluster.labelling import commits, listing, manifest
from cluster.labelling.listing import Listed
from cluster.labelling.manifest import Manifest
from cluster.labelling.units import KnownDigests
from cluster.sources import list_videos, mirror, scratch
from cluster.store import Store
from hojoint.config import Config
from hojoint.datasets import boxes

FOLDER = "listings"
VERSION = 2
"""Of the code that cuts boxes into clips: a change there must not hide behind what an earlier version has listed."""
SETTINGS = (
    *("unit_videos", "limit", "min_clip_frames", "side", "error_budget_share", "error_budget_count"),
    *("videos.boxes_fps", "videos.missing"),
)


@dataclass(frozen=True)
class Memo:
    """What an output keeps of a listing."""

    key: str
    content: bytes

    def put(self, store: Store) -> None:
        """Keep it; its manifest lies in the store already."""
        if not store.exists(self.key):
            store.put(self.key, self.content)


def listed(config: Config, store: Store) -> tuple[Listed, Memo]:
    """What ``listing.listed`` tells, recalled from ``store`` where it is known there; and what to keep of it.

    Raises what ``listing.listed`` raises.
    """
    assert config.videos.root is not None
    # Before the listing: where a file changes meanwhile, the name belongs to a state that is gone, and is not found.
    key = _key(config)
    known = _recalled(store, key) if store.exists(commits.RUN) else None
    if known is None:
        known = listing.listed(config)
    return known, Memo(key, _content(known))


def _key(config: Config) -> str:
    """The name of the listing of these files and settings.

    Raises:
        InputError: boxes or videos cannot be listed.
    """
    state = hashlib.sha256(f"version {VERSION}\n".encode())
    for name in SETTINGS:
        group, _, setting = name.rpartition(".")
        state.update(f"{name}={getattr(getattr(config, group or 'labelling'), setting)!r}\n".encode())
    for path in boxes.parts(str(mirror.localised(config, "videos.boxes").videos.boxes)):
        with path.open("rb") as file:
            state.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    notes: list[str] = []
    for entry in list_videos(str(config.videos.root), notes=notes):
        state.update(f"{entry.video_id}\0{entry.uri}\0{entry.size}\0{entry.etag}\n".encode())
    state.update("\n".join(notes).encode())
    return f"{FOLDER}/{state.hexdigest()[:32]}.json"


def _content(known: Listed) -> bytes:
    made = known.manifest
    tree = {
        "manifest": made.key,
        "videos": made.videos,
        "clips": made.clips,
        "unit_frames": made.unit_frames,
        "digests": [made.digests.clips, made.digests.files],
        "notes": known.notes,
        "aside": known.aside,
        "sideless": known.sideless,
    }
    return json.dumps(tree).encode()


def _recalled(store: Store, key: str) -> Listed | None:
    """The listing of this name; None where the store does not hold it, or holds a damaged one."""
    try:
        tree: dict[str, Any] = json.loads(store.get(key))
        made = _manifest(store, tree)
        facts = (tuple(tree["notes"]), dict(tree["aside"]), int(tree["sideless"]))
    except (KeyError, ValueError, TypeError, FileNotFoundError, PermissionError):
        return None  # the listing is made anew
    return None if made is None else Listed(made, *facts)


def _manifest(store: Store, tree: dict[str, Any]) -> Manifest | None:
    """The manifest of a kept listing, in a temporary file; None where it is gone or is not what its name says."""
    folder = scratch.lasting_folder()
    path = folder / "manifest.parquet"
    made = Manifest(
        path,
        videos=int(tree["videos"]),
        clips=int(tree["clips"]),
        unit_frames=tuple(map(int, tree["unit_frames"])),
        digests=KnownDigests(*map(str, tree["digests"])),
    )
    weakref.finalize(made, shutil.rmtree, folder, ignore_errors=True)
    if not store.exists(tree["manifest"]):
        return None
    manifest.fetch(store, tree["manifest"], path)
    return made if made.key == tree["manifest"] else None
