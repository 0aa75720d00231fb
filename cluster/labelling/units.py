"""Videos to units by a fixed rule, and the fingerprint that ties an output to what made it.

A unit is what is scheduled, retried, committed and resumed. The rule is: videos sorted by id, cut into runs of
``labelling.unit_videos``; so the same input always gives the same units, on any cluster. The fingerprint names
everything that changes a result; an output with another fingerprint is refused, and the message names what differs. Not
here: who works on a unit.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.sources import Entry, mirror
from hojoint.config import Config, ManoConfig, to_tree
from hojoint.errors import InputError
from hojoint.hand import identity
from hojoint.hand.chosen import hand_model
from hojoint.labelling.tables import SCHEMA_VERSION
from hojoint.records import Clip

GROUPS = ("mano", "crop", "tta", "filters")
"""Groups of settings in which everything changes results (``mano`` and ``crop`` come from the checkpoint)."""
LABELLING = (
    *("unit_videos", "min_clip_frames", "side", "side_probe_frames", "decoder"),
    *("max_frame_px", "max_frames", "max_file_mb", "decode_memory_mb", "jpeg_quality", "image_context"),
)
NAMED_UNLESS = {"precision": "float32"}
"""Settings of ``labelling`` that change results too, and their values in all earlier labels, which are not named."""
OF_VIDEOS = ("clips", "video_files")
"""Names in a fingerprint of what the listed videos are."""
BY_CONTENT = ("path", "quality_model")
QUALITY_MODEL = "quality_model"
"""Name of the digest of ``filters.quality_model`` in a fingerprint."""
REFINED_BY = "refined_by"
"""What refinement counts distances in; an earlier version, which names nothing, counted pictures."""
BAKED_IN = ("reprojection_norm", "bone_reference", "joint_angle", "min_angle_deg", "max_angle_deg")
"""Settings that a run's spatial scores were computed with; another value needs the 3D hand, which is not stored."""

_DIGEST = re.compile("[0-9a-f]{32,}")


@dataclass(frozen=True, eq=False)
class Video:
    """A listed video with the clips of its boxes, maybe none."""

    video_id: str
    uri: str  # of its file (cluster.sources); '' for boxes without one
    clips: tuple[Clip, ...]
    size: int | None = None  # bytes, as listed; None where it is not known
    etag: str = ""  # as listed; '' where it is not known
    retry_of: str = ""  # its class in quarantine, where this is another attempt at it

    @classmethod
    def of(cls, entry: Entry) -> Video:
        """A video without boxes."""
        return cls(entry.video_id, entry.uri, (), entry.size, entry.etag)

    @property
    def entry(self) -> Entry:
        """Its file alone."""
        return Entry(self.video_id, self.uri, self.size, self.etag)


@dataclass(frozen=True, eq=False)
class Unit:
    """What one attempt works on and one commit names."""

    unit_id: str
    videos: tuple[Video, ...]

    @property
    def clips(self) -> int:
        return sum(len(video.clips) for video in self.videos)

    @property
    def frames(self) -> int:
        return sum(len(clip.frames) for video in self.videos for clip in video.clips)


Retries = dict[str, list[tuple[str, str]]]
"""Video id -> the units of all further attempts at it, in order, and its class in quarantine before each."""


def next_attempt(retries: Mapping[str, Sequence[tuple[str, str]]], video_id: str, unit: str) -> tuple[str, str] | None:
    """The first further attempt at a video in a unit after ``unit``; None where there is none."""
    return next((attempt for attempt in retries.get(video_id, ()) if attempt[0] > unit), None)


def unit_id(number: int) -> str:
    """Name of the unit with this number, from 0."""
    return f"u{number:06d}"


def unit_number(name: str) -> int:
    """Number of the unit with this name."""
    return int(name.removeprefix("u"))


def make_units(videos: Iterable[Video], unit_videos: int, first: int = 0) -> Iterator[Unit]:
    """Cut videos that come in the order of their ids into units of ``unit_videos``; holds one unit at a time.

    The units' numbers begin with ``first``.
    """
    ordered = iter(videos)
    last = ""
    for number in itertools.count(first):
        some = tuple(itertools.islice(ordered, unit_videos))
        if not some:
            return
        for video in some:
            assert last < video.video_id, (last, video.video_id)
            last = video.video_id
        yield Unit(unit_id(number), some)


class Digests:
    """What the listed videos are, computed while they pass in the order of their ids.

    ``clips`` names ids, frames and boxes, ``files`` the sizes of the files: another file of the same name is another
    input. URIs and etags are left out, so that videos may move, also from a folder to object storage. Etags are
    compared with those of the run's first manifest (``manifest.check_etags``).
    """

    def __init__(self) -> None:
        self._clips, self._files = hashlib.sha256(), hashlib.sha256()

    def add(self, video: Video) -> None:
        """Take the next video."""
        self._files.update(f"{video.video_id}\0{video.size if video.uri else 'no file'}\n".encode())
        again = f" again after {video.retry_of}" if video.retry_of else ""
        self._clips.update(f"video {video.video_id} {len(video.clips)}{again}\n".encode())
        for clip in video.clips:
            facts = (clip.clip_id, clip.annotated_frames, clip.side, clip.every_frame_listed)
            self._clips.update(f"clip {facts}\n".encode())
            arrays = [(clip.frames, "<i4"), (clip.hand_boxes, "<f4"), (clip.object_boxes, "<f4")]
            arrays += [] if clip.times_s is None else [(clip.times_s, "<f8")]
            for array, kind in arrays:
                self._clips.update(array.astype(kind).tobytes())

    @property
    def clips(self) -> str:
        """Digest of the clips so far."""
        return self._clips.hexdigest()

    @property
    def files(self) -> str:
        """Digest of the files' sizes so far."""
        return self._files.hexdigest()


@dataclass(frozen=True)
class KnownDigests:
    """The digests of a listing that was made before."""

    clips: str
    files: str


def video_digest(video: Video) -> str:
    """Names what a video is: its id, its clips and the size of its file, whichever attempt this is."""
    digests = Digests()
    digests.add(dataclasses.replace(video, retry_of=""))
    return digests.clips + digests.files


def fingerprint(
    config: Config, teacher_sha256: str, hand_sha256: str, digests: Digests | KnownDigests, quality: bytes | None = None
) -> dict[str, Any]:  # fmt: skip
    """Everything that changes a result, as flat names and plain values; ``config`` as ``open_teacher`` returns it.

    ``quality`` is the content of ``filters.quality_model``.
    """
    settings: dict[str, Any] = {}
    for group in GROUPS:
        tree = to_tree(getattr(config, group))
        # The hand model and the model of the quality count by their contents.
        settings |= {f"{group}.{name}": value for name, value in tree.items() if name not in BY_CONTENT}
    settings |= refinement(config) | _readings(config)
    labelling = to_tree(config.labelling)
    settings |= {f"labelling.{name}": labelling[name] for name in LABELLING}
    settings |= {f"labelling.{name}": labelling[name] for name in NAMED_UNLESS if labelling[name] != NAMED_UNLESS[name]}
    return {
        "schema_version": SCHEMA_VERSION,
        "teacher": teacher_sha256,
        "hand_model": hand_sha256,
        QUALITY_MODEL: quality_digest(quality),
        "clips": digests.clips,
        "video_files": digests.files,
        **settings,
    }


def quality_digest(quality: bytes | None) -> str | None:
    """Names a quality model by the content of its file."""
    return None if quality is None else hashlib.sha256(quality).hexdigest()


def refinement(config: Config) -> dict[str, Any]:
    """The settings of refinement as a fingerprint holds them: none where labels are the predictions."""
    if not config.refine.active:
        return {}
    return {f"refine.{name}": value for name, value in to_tree(config.refine).items()} | {REFINED_BY: "steps of boxes"}


def _readings(config: Config) -> dict[str, str]:
    """What an earlier version did in another way, where it did: units of both must not lie in one output."""
    found = {}
    if config.model.reasoning in ("h+", "h+o+") and config.crop.unlabelled_region != "union":
        found["object_boxes"] = "unseen"
    if config.tta.views == 1:
        found["spreads"] = "unknown"
    return found


def hand_digest(config: Config) -> str:
    """Names the hand model by the contents of all its arrays: its file may move."""
    return _hand_digests(config)[0]


def _hand_digests(config: Config) -> tuple[str, str]:
    return identity.digests(hand_model(mirror.localised(config, "mano").mano))


def check_hand(run: Mapping[str, Any], config: Config, root: str) -> None:
    """Raise InputError if ``config`` names another hand model than the labelling run at ``root`` used."""
    used = run["fingerprint"].get("hand_model")
    if used is not None and used not in _hand_digests(config):
        given = config.mano.path or "the stand-in hand"
        raise InputError(
            f"the labels at {root} are poses of another hand model than {given}; set mano.path (in Python mano=) to "
            "the one of their run"
        )


def makers(run: Mapping[str, Any]) -> str:
    """Which commands may have made the labels of ``run.json``; the job alone would go on with other settings."""
    return "jobs.refilter or a study" if "refiltered" in run else "jobs.pseudo_label, a pipeline or a study"


def fingertips_of(run: Mapping[str, Any]) -> str:
    """``mano.fingertips`` of a labelling run; labels that do not name it were made with the default."""
    return str(run["fingerprint"].get("mano.fingertips", ManoConfig().fingertips))


def check_fingertips(run: Mapping[str, Any], config: Config, root: str) -> None:
    """Raise InputError if the labels at ``root`` have other vertices as fingertips than ``config``."""
    asked, used = config.mano.fingertips, fingertips_of(run)
    if used != asked:
        raise InputError(
            f"the labels at {root} have the fingertips of mano.fingertips={used}, and this training has "
            f"mano.fingertips={asked}, other vertices of the hand; set mano.fingertips={used}, or label the videos "
            "with a teacher of these fingertips"
        )


def check_readings(run: Mapping[str, Any], config: Config, root: str) -> None:
    """Raise InputError if ``config`` reads a rule differently from the scores of the labelling run at ``root``."""
    for name in BAKED_IN:
        asked = getattr(config.filters, name)
        used = run["fingerprint"].get(f"filters.{name}", asked)
        if used != asked:
            raise InputError(
                f"filters.{name}={asked}: the scores in {root} were computed with {used}, and computing them again "
                f"needs the 3D hand; set filters.{name}={used}, or run jobs.pseudo_label with filters.{name}={asked} "
                "on another output"
            )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line per name whose value is not the same."""
    names = [*before, *(name for name in now if name not in before)]
    return [
        f"{name}: {_short(before.get(name))} before, {_short(now.get(name))} now"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if _DIGEST.fullmatch(text) else text
