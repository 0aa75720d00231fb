"""The vocabulary of quarantine: every way in which a video can fail, each with a sentence and a remedy.

``docs/videos.md`` shows the same table. Not here: who finds a fault (``video``, ``readers``, ``cluster.labelling``).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """What a class of faults means and what to do about it."""

    sentence: str
    remedy: str


CLASSES = {
    "missing": Fault(
        "Boxes are given for the video, and its file does not exist.",
        "Add the file to videos.root and give labelling.retry=quarantined; or set videos.missing=leave_out.",
    ),
    "truncated": Fault(
        "The file, or the list of its pictures, ends before what it or the list of boxes promises.",
        "Copy or download the video again; compare the file's size with the source's.",
    ),
    "damaged": Fault(
        "Data are missing inside the file, or the pictures up to the last one asked for do not all decode.",
        "Copy the video again, or encode it again with ffmpeg and look at the result.",
    ),
    "unsupported_codec": Fault(
        "The decoder knows no way to decode the named codec.",
        "Encode the video again, for example: ffmpeg -i VIDEO "
        '-vf "crop=trunc(iw/2)*2:trunc(ih/2)*2" -c:v libx264 -crf 18 NEW.mp4',
    ),
    "unsupported_rotation": Fault(
        "The display matrix turns the picture by other than quarter turns, or the decoder does not apply it.",
        "Set labelling.decoder=pyav; if that is set, encode the video again so that its pixels are upright.",
    ),
    "decoder_differs": Fault(
        "The decoder counts or shows other pictures than a person sees.",
        "Set labelling.decoder=pyav.",
    ),
    "encrypted": Fault(
        "The pictures are encrypted (DRM).",
        "Get the video without encryption.",
    ),
    "no_pictures": Fault(
        "The file holds sound or metadata, and no pictures.",
        "Look at the source of the file; get the one with pictures.",
    ),
    "not_video": Fault(
        "The file is not a video; the message says what it is.",
        "Replace it by the video: unpack the archive, run git lfs pull, or download it again.",
    ),
    "too_large": Fault(
        "What is asked for exceeds a limit; the message names the setting.",
        "Raise the setting that the message names, or make the video smaller; then label into another output.",
    ),
    "timeout": Fault(
        "The video was not decoded within labelling.decode_deadline_s.",
        "Raise labelling.decode_deadline_s, or cut a long video: reading starts at its first picture. Then give "
        "labelling.retry=quarantined.",
    ),
    "crashed": Fault(
        "The process that decoded the video died.",
        "Raise labelling.decode_memory_mb, then label into another output; if it dies again, encode the video again.",
    ),
    "unreachable": Fault(
        "The disk or the object storage did not deliver the file.",
        "Check rights, network and mounts; then give labelling.retry=quarantined.",
    ),
    "changed": Fault(
        "The file is another one than when the videos were listed.",
        "Give labelling.retry=quarantined, and do not replace videos while they are labelled.",
    ),
    "boxes_rate": Fault(
        "The boxes count other pictures than the video has, or lie at times that it does not tell or does not reach.",
        "Follow the message: set, correct or unset videos.boxes_fps, or correct the frame numbers; then label into "
        "another output.",
    ),
    "boxes_outside": Fault(
        "The boxes lie outside the picture: they belong to another size of the video.",
        "Scale the boxes to the size of the video's pictures.",
    ),
    "boxes_relative": Fault(
        "The boxes lie between 0 and 1: they are shares of the picture, not pixels.",
        "Multiply the boxes by the picture's width and height.",
    ),
    "killed_worker": Fault(
        "The process that worked on the video died each time that it was tried.",
        "Look at the node's memory; leave the video out if it kills again.",
    ),
}  # fmt: skip


class VideoError(Exception):
    """A video without usable pictures: ``kind`` is one of ``CLASSES``, the message says what was found."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
