"""Videos and boxes checked before they are labelled: what exists, what decodes, whether boxes belong to the pictures.

All videos are listed and all boxes read; ``doctor.videos`` evenly spaced videos are decoded as labelling would, in a
guarded child process, and each fault keeps its quarantine class. Not here: drawing and text (``hojoint.report``).
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from cluster.labelling.decoding import Failure, GuardedDecoder, Request
from cluster.sources import Entry, FetchLimits, fetched, list_videos
from hojoint.config import Config
from hojoint.datasets import box_checks, boxes, listing, something
from hojoint.datasets.video_boxes import VideoBoxes
from hojoint.errors import InputError
from hojoint.labelling.video import Decoded, VideoError
from hojoint.records import Clip
from hojoint.report import draw, health
from hojoint.report.health import Checked, Count, Finding

Progress = Callable[[str, int, int], None]
"""Called with what is read, and how many of how many."""
PUBLISHED_VIDEOS, PUBLISHED_BOXES = "220,847 in Something-Something v2", "180,049 in Something-Else"
EVERY, FARTHEST = 30, 3000  # pictures asked for where no boxes say which
LEGEND = "A picture of each of some videos with its hand boxes (blue) and object boxes (orange), if boxes are given."


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
            results.append(health.failed("videos", config.videos.root, error))
        findings += [Finding("listing", 1, note) for note in notes]
    listed = None
    if config.videos.boxes is not None:
        ids = {entry.video_id for entry in entries}
        some = set(listing.evenly(sorted(ids), config.doctor.videos or len(ids)))
        try:
            listed = _read_boxes(config.videos.boxes, some, progress)
            results.append(_boxes_result(config, listed, ids))
        except InputError as error:
            results.append(health.failed("boxes", config.videos.boxes, error))
    if entries:
        results.append(_videos_result(config, entries, listed, findings, progress))
    return results


def _read_boxes(path: str, some: set[str], progress: Progress) -> _Listed:
    """Read all boxes; keep those of the videos in ``some``.

    Raises:
        InputError: a file is damaged, or the list as a complete one is wrong.
    """
    listed, census = _Listed(), box_checks.Census()
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
    return listed


def _boxes_result(config: Config, listed: _Listed, ids: set[str]) -> Checked:
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
        findings.append(Finding("no_hands", 1, text, "labelling needs boxes of hands; see docs/videos.md", fatal=True))
    if ids:
        alone = listed.videos - ids
        if alone:
            text = f"{len(alone):,} of {len(listed.videos):,} videos with boxes have no file, first {min(alone)}"
            remedy = "add their files to videos.root, or set videos.missing=leave_out"
            none = len(alone) == len(listed.videos)
            findings.append(Finding("missing", len(alone), text, remedy, fatal=none))
    return Checked("boxes", str(config.videos.boxes), counts, findings)


def _videos_result(
    config: Config, entries: Sequence[Entry], listed: _Listed | None, findings: list[Finding], progress: Progress
) -> Checked:
    usable = [entry for entry in entries if listed is None or entry.video_id in listed.videos]
    chosen = listing.evenly(usable, config.doctor.videos or len(usable))
    found = _decode(config, chosen, listed, progress)
    failed = sum(map(len, found.failures.values()))
    counts = [
        Count("videos", len(entries), PUBLISHED_VIDEOS),
        Count("with boxes", len(usable) if listed is not None else 0),
        Count("megabytes", round(sum(entry.size or 0 for entry in entries) / 2**20)),
        Count("decoded", found.tried),
        Count("of these faulty", failed),
    ]
    if listed is not None and len(usable) < len(entries):
        there = {entry.video_id for entry in usable}
        first = next(entry.video_id for entry in entries if entry.video_id not in there)
        text = f"{len(entries) - len(usable):,} of {len(entries):,} videos have no boxes, first {first}"
        findings = [*findings, Finding("unboxed", len(entries) - len(usable), text, "they are not labelled")]
    budget = max(config.labelling.error_budget_share * found.tried, config.labelling.error_budget_count)
    for kind, failures in sorted(found.failures.items()):
        text = f"{len(failures)} of {found.tried} decoded videos, first {failures[0].video_id}: {failures[0].message}"
        use = "" if failed in (found.tried,) or failed > budget else "these videos in quarantine"
        findings = [*findings, Finding(kind, len(failures), text, _remedy(kind), fatal=True, usable_with=use)]
    return Checked("videos", str(config.videos.root), counts, findings, health.sheet(found.tiles), LEGEND)


def _decode(config: Config, chosen: Sequence[Entry], listed: _Listed | None, progress: Progress) -> _Decoding:
    """Decode the chosen videos one after the other; evenly spaced ones of those that work get a tile."""
    out = _Decoding()
    shown = {entry.video_id for entry in listing.evenly(chosen, config.doctor.pictures)[: config.doctor.pictures]}
    with contextlib.closing(GuardedDecoder.of(config.labelling, ahead=1)) as decoder:
        for number, entry in enumerate(chosen):
            progress("videos decoded", number, len(chosen))
            video = None if listed is None else listed.kept.get(entry.video_id)
            clips = [] if video is None else something.tracks_of(entry.uri, video, boxes_fps=config.videos.boxes_fps)[0]
            answer = _answer(decoder, entry, clips, config)
            out.tried += 1
            if isinstance(answer, Failure):
                out.failures[answer.kind].append(answer)
            if entry.video_id in shown:
                out.tiles.append(_tile(entry.video_id, answer, clips))
    progress("videos decoded", len(chosen), len(chosen))
    return out


def _answer(decoder: GuardedDecoder, entry: Entry, clips: Sequence[Clip], config: Config) -> Decoded | Failure:
    annotated = max((clip.annotated_frames for clip in clips), default=0)
    numbers = np.unique(np.concatenate([clip.frames for clip in clips])) if clips else np.arange(0, FARTHEST, EVERY)
    limits = FetchLimits.of(config.labelling)
    try:
        with fetched(entry.uri, limits, size=entry.size, etag=entry.etag) as path:
            request = Request(entry.video_id, path, numbers, annotated)
            [(_, answer)] = list(decoder.decode([request]))
    except VideoError as error:
        return Failure(entry.video_id, "fetch", error.kind, str(error))
    if isinstance(answer, Failure) or not clips:
        return answer
    if not len(answer.rgb):
        return Failure(entry.video_id, "decode", "no_pictures", "none of the pictures that have boxes exists")
    height, width = answer.rgb.shape[1:3]
    misfit = box_checks.misfit(clips, (width, height), None)
    return answer if misfit is None else Failure(entry.video_id, "boxes", *misfit)


def _tile(video_id: str, answer: Decoded | Failure, clips: Sequence[Clip]) -> tuple[np.ndarray, list[str]]:
    """The middle picture of the video's first clip, with all boxes of that picture."""
    if isinstance(answer, Failure):
        tile, _ = health.blank(video_id)
        return tile, [video_id, answer.kind]
    if not len(answer.rgb):
        return health.blank(video_id)
    middle = clips[0].frames[len(clips[0].frames) // 2] if clips else answer.numbers[len(answer.numbers) // 2]
    row = int(np.abs(answer.numbers - middle).argmin())
    tile, affine = health.fitted(answer.rgb[row])
    for box, colour in _boxes_of(int(answer.numbers[row]), clips):
        tile = draw.box(tile, draw.mapped(affine, box.reshape(2, 2)).reshape(4), colour)
    return tile, [video_id, f"picture {answer.numbers[row]} of {answer.count}, {answer.fps:.3g} fps"]


def _boxes_of(number: int, clips: Sequence[Clip]) -> Iterator[tuple[np.ndarray, draw.Colour]]:
    for clip in clips:
        for at in np.flatnonzero(clip.frames == number):
            yield clip.object_boxes[at].astype(np.float64), draw.OBJECT
            yield clip.hand_boxes[at].astype(np.float64), draw.HAND


def _remedy(kind: str) -> str:
    return ""


def kinds_of(failures: Sequence[Failure]) -> dict[str, int]:
    """Class -> number of videos."""
    return dict(Counter(failure.kind for failure in failures))
