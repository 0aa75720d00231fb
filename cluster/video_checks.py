"""Videos and boxes checked before they are labelled: what exists, what decodes, whether boxes belong to the pictures.

All videos are listed and all boxes read; ``doctor.videos`` evenly spaced videos are decoded as labelling would, in a
guarded child process, and each fault keeps its quarantine class. Not here: drawing and text (``hojoint.report``).
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cluster.labelling import budget
from cluster.labelling.clip_pixels import fits, request_of, with_pixels
from cluster.labelling.decoding import PICTURES_SHARE, Failure, GuardedDecoder, Request
from cluster.labelling.results import UnitResult
from cluster.labelling.units import Video
from cluster.sources import Entry, FetchLimits, fetched, list_videos
from hojoint import ids
from hojoint.config import Config
from hojoint.datasets import box_checks, boxes, listing, something
from hojoint.datasets.video_boxes import VideoBoxes
from hojoint.errors import InputError
from hojoint.labelling import faults
from hojoint.labelling.video import Decoded
from hojoint.report import draw, health
from hojoint.report.health import Checked, Count, Finding

Progress = Callable[[str, int, int], None]
"""Called with what is read, and how many of how many."""
PUBLISHED_VIDEOS, PUBLISHED_BOXES = "220,847 in Something-Something v2", "180,049 in Something-Else"
EVERY, FARTHEST = 30, 3000  # pictures asked for where no boxes say which
BUDGET, LEAVE_OUT = "labelling.error_budget_count and error_budget_share", "videos.missing=leave_out"
LEGEND = (
    "A picture of each of some videos, with the boxes of its first hand (blue) and object (orange) if boxes are given."
)


@dataclass
class _Listed:
    """The boxes of a list: counts of all, and the record of some videos."""

    videos: set[str] = field(default_factory=set)
    hands: int = 0
    objects: int = 0
    without_hand: int = 0
    twice: list[str] = field(default_factory=list)
    kept: dict[str, VideoBoxes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass
class _Decoding:
    """What decoding some videos found."""

    tried: int = 0
    failures: dict[str, list[Failure]] = field(default_factory=lambda: defaultdict(list))  # by class
    tiles: list[tuple[np.ndarray, list[str]]] = field(default_factory=list)


class _Failures(UnitResult):
    """What a unit of labelling would put into quarantine."""

    def __init__(self, config: Config, started: float) -> None:
        super().__init__(config, started)
        self.found: list[Failure] = []

    def fail(self, failure: Failure) -> None:
        super().fail(failure)
        self.found.append(failure)


def check(config: Config, progress: Progress) -> list[Checked]:
    """Videos, boxes, or both, as the settings name them."""
    results = []
    entries: list[Entry] = []
    findings: list[Finding] = []
    if config.videos.root is not None:
        notes: list[str] = []
        try:
            entries = list(list_videos(config.videos.root, lambda done: progress("videos listed", done, 0), notes))
        except InputError as error:
            results.append(health.failed("videos", config.videos.root, error, "no_videos"))
        findings += [Finding("listing", 1, note) for note in notes]
    listed = None
    if config.videos.boxes is not None:
        files = {entry.video_id for entry in entries}
        try:
            listed = _read_boxes(config.videos.boxes, files, config, progress)
            results.append(_boxes_result(config, listed, files))
        except InputError as error:
            results.append(health.failed("boxes", config.videos.boxes, error, "boxes_refused"))
    if entries:
        results.append(_videos_result(config, entries, listed, findings, progress))
    return results


def _some(items: Sequence[Any], config: Config) -> list[Any]:
    """The ``doctor.videos`` that are decoded."""
    return listing.evenly(items, len(items) if config.doctor.videos is None else config.doctor.videos)


def _read_boxes(path: str, files: set[str], config: Config, progress: Progress) -> _Listed:
    """Read all boxes; keep those of the videos that are decoded, evenly spaced among those of ``files``.

    Raises:
        InputError: a file is damaged, or the list as a complete one is wrong.
    """
    listed, census, some = _Listed(), box_checks.Census(), set(_some(sorted(files), config))
    for video in boxes.iterate_boxes(path, lambda done, total: progress("boxes", done, total)):
        census.add(video)
        if video.video_id in listed.videos:
            listed.twice.append(video.video_id)
        listed.videos.add(video.video_id)
        listed.hands += len(video.hand_frames)
        listed.objects += len(video.object_frames)
        listed.without_hand += not len(video.hand_frames)
        if video.video_id in some:
            listed.kept[video.video_id] = video
    listed.notes = census.refuse_or_note()
    chosen = set(_some(sorted(files & listed.videos), config))
    if not chosen <= listed.kept.keys():  # some files have no boxes: now it is known which, so read once more
        again = boxes.iterate_boxes(path, lambda done, total: progress("boxes of the decoded videos", done, total))
        listed.kept = {video.video_id: video for video in again if video.video_id in chosen}
    return listed


def _boxes_result(config: Config, listed: _Listed, files: set[str]) -> Checked:
    counts = [
        Count("videos with boxes", len(listed.videos), PUBLISHED_BOXES),
        Count("without a hand box", listed.without_hand),
        Count("hand boxes", listed.hands),
        Count("object boxes", listed.objects),
    ]
    findings = [Finding("boxes", 1, note) for note in listed.notes]
    if listed.twice:
        text = f"{len(listed.twice)} videos have boxes in two places, first {listed.twice[0]}"
        findings.append(Finding("boxes_twice", len(listed.twice), text, "remove one of them", fatal=True))
    if not listed.hands:
        text = f"none of the {listed.objects:,} boxes of {len(listed.videos):,} videos is a hand's"
        findings.append(Finding("no_hands", 1, text, "labelling needs boxes of hands; see docs/boxes.md", fatal=True))
    if files:
        alone = listed.videos - files
        if alone:
            findings.append(_missing(config, sorted(alone), len(listed.videos)))
            forms = {ids.nfc(name): name for name in files - listed.videos}
            if both := [(name, forms[ids.nfc(name)]) for name in sorted(alone) if ids.nfc(name) in forms]:
                findings.append(Finding("other_form", len(both), ids.other_form(len(both), *both[0])))
    return Checked("boxes", str(config.videos.boxes), counts, findings)


def _missing(config: Config, alone: Sequence[str], annotated: int) -> Finding:
    """Videos with boxes and without a file: a fault where the run would refuse them."""
    text = f"{len(alone):,} of {annotated:,} videos with boxes have no file, first {alone[0]}"
    if len(alone) == annotated:
        return Finding("missing", len(alone), text, "add their files to videos.root", fatal=True)
    if config.videos.missing == "leave_out":
        return Finding("missing", len(alone), text, "they are left out")
    fatal = budget.exceeded(config, len(alone), annotated)
    text += f", more than {BUDGET} allow" if fatal else ""
    remedy = f"add their files to videos.root, or set {LEAVE_OUT}"
    return Finding("missing", len(alone), text, remedy, fatal, usable_with=LEAVE_OUT if fatal else "")


def _videos_result(
    config: Config, entries: Sequence[Entry], listed: _Listed | None, findings: list[Finding], progress: Progress
) -> Checked:
    usable = [entry for entry in entries if listed is None or entry.video_id in listed.videos]
    # The same choice as that of the boxes: no video that has boxes is decoded without them.
    chosen = _some(usable, config) if listed is None else [entry for entry in usable if entry.video_id in listed.kept]
    found = _decode(config, chosen, listed, progress)
    failed = sum(map(len, found.failures.values()))
    counts = [
        Count("videos", len(entries), PUBLISHED_VIDEOS),
        *([] if listed is None else [Count("with boxes", len(usable))]),
        Count("kilobytes", round(sum(entry.size or 0 for entry in entries) / 1000)),
        Count("decoded", found.tried),
        Count("of these faulty", failed),
    ]
    if listed is not None and len(usable) < len(entries):
        there = {entry.video_id for entry in usable}
        first = next(entry.video_id for entry in entries if entry.video_id not in there)
        text = f"{len(entries) - len(usable):,} of {len(entries):,} videos have no boxes, first {first}"
        findings = [*findings, Finding("unboxed", len(entries) - len(usable), text, "they are not labelled")]
    missing = 0 if listed is None else len(listed.videos) - len(usable)
    findings = [*findings, *_faults(config, found, len(usable), missing)]
    return Checked("videos", str(config.videos.root), counts, findings, health.sheet(found.tiles), LEGEND)


def _faults(config: Config, found: _Decoding, usable: int, missing: int) -> list[Finding]:
    """What decoding found, judged as the run would: by the sample's share of all ``usable`` videos.

    ``missing`` videos have boxes and no file. The run counts them too, unless it leaves them out.
    """
    failed = sum(map(len, found.failures.values()))
    if not failed:
        return []
    all_failed = round(failed / found.tried * usable)
    exceeded = budget.exceeded(config, all_failed, usable)
    use = "these videos in quarantine"
    if config.videos.missing != "leave_out" and budget.exceeded(config, all_failed + missing, usable + missing):
        use += f" and {LEAVE_OUT}"
    findings = []
    for kind, failures in sorted(found.failures.items()):
        text = f"{len(failures)} of {found.tried} decoded videos, first {failures[0].video_id}: {failures[0].message}"
        usable_with = "" if failed == found.tried or exceeded else use
        findings.append(Finding(kind, len(failures), text, remedy_of(kind), fatal=True, usable_with=usable_with))
    if exceeded:
        about = f"{failed} of {found.tried} decoded videos are faulty, so about {all_failed:,} of all {usable:,}"
        remedy = "mend these videos, or raise one of the two"
        findings.append(Finding("error_budget", all_failed, f"{about}: more than {BUDGET} allow", remedy, fatal=True))
    return findings


def _decode(config: Config, chosen: Sequence[Entry], listed: _Listed | None, progress: Progress) -> _Decoding:
    """Decode the chosen videos as labelling does; evenly spaced ones get a tile."""
    out, result = _Decoding(), _Failures(config, started=time.time())
    shown = {entry.video_id for entry in listing.evenly(chosen, config.doctor.pictures)}
    entries, limits = {entry.uri: entry for entry in chosen}, FetchLimits.of(config.labelling)

    def fetch(uri: str) -> contextlib.AbstractContextManager[str]:
        return fetched(uri, limits, size=entries[uri].size, etag=entries[uri].etag)

    videos = [_video(entry, None if listed is None else listed.kept.get(entry.video_id), config) for entry in chosen]
    with contextlib.closing(GuardedDecoder.of(config.labelling, ahead=2, fetch=fetch)) as decoder:
        answers = decoder.decode(_request(video, config) for video in videos)
        for number, (video, (_, answer)) in enumerate(zip(videos, answers, strict=True)):
            progress("videos decoded", number, len(chosen))
            out.tried += 1
            before = len(result.found)
            if isinstance(answer, Failure):
                result.fail(answer)
            elif video.clips:
                fits(video, answer, result)
            failure = result.found[-1] if len(result.found) > before else None
            if failure is not None:
                out.failures[failure.kind].append(failure)
            if video.video_id in shown:
                out.tiles.append(_tile(video, answer, failure, config))
    return out


def _video(entry: Entry, boxes_of: VideoBoxes | None, config: Config) -> Video:
    least, rate = config.labelling.min_clip_frames, config.videos.boxes_fps
    clips = [] if boxes_of is None else something.clips_of(entry.uri, boxes_of, min_frames=least, boxes_fps=rate)
    return Video(entry.video_id, entry.uri, tuple(clips), entry.size, entry.etag)


def _request(video: Video, config: Config) -> Request:
    """The pictures that have boxes; else some, no more than fit whatever their size: jobs.detect takes windows."""
    if video.clips:
        return request_of(video)
    labelling = config.labelling
    pictures = int(labelling.decode_memory_mb * 2**20 * PICTURES_SHARE) // (3 * labelling.max_frame_px)
    most = max(1, min(labelling.max_frames, pictures))
    return Request(video.video_id, video.uri, np.array(listing.evenly(range(0, FARTHEST, EVERY), most)), 0)


def _tile(
    video: Video, answer: Decoded | Failure, failure: Failure | None, config: Config
) -> tuple[np.ndarray, list[str]]:
    """The middle picture of the video's first clip with its boxes; also where the boxes do not fit it."""
    if isinstance(answer, Failure):
        tile, _ = health.blank(video.video_id)
        return tile, [video.video_id, answer.kind]
    words = [] if failure is None else [failure.kind]
    pixels = with_pixels(video, answer, config) if video.clips else None
    if pixels is not None and pixels.clips:
        clip, frames = pixels.clips[0], pixels.frames[0]
        row = len(clip.frames) // 2
        tile, affine = health.fitted(frames.rgb[row])
        for box, colour in ((frames.object_boxes[row], draw.OBJECT), (frames.hand_boxes[row], draw.HAND)):
            tile = draw.box(tile, draw.mapped(affine, box.astype(np.float64).reshape(2, 2)).reshape(4), colour)
        about = f"picture {clip.frames[row]}, {len(clip.frames)} with boxes"
        return tile, [video.video_id, " ".join([about, *words])]
    if not len(answer.rgb):
        return health.blank(video.video_id)
    row = len(answer.rgb) // 2
    return health.fitted(answer.rgb[row])[0], [video.video_id, " ".join([f"picture {answer.numbers[row]}", *words])]


def remedy_of(kind: str) -> str:
    """The class's remedy, as the end of a sentence; none where it only says to follow the message before it."""
    remedy = faults.CLASSES[kind].remedy.rstrip(".") if kind in faults.CLASSES else ""
    return "" if remedy.startswith("Follow the message") else remedy[:1].lower() + remedy[1:]
