"""Ids of videos: what may be one, and what is said of two that look the same.

An id is the video's name without its suffix, as its owner wrote it: spaces, dots and other letters are kept in every
table. It is checked where it is read, so that no path made of it can leave its folder.
"""

from __future__ import annotations

import unicodedata

from hojoint.errors import InputError

LONGEST = 200  # bytes of UTF-8; file names end at 255


def checked(video_id: str, where: str) -> str:
    """The id itself.

    Args:
        video_id: the id as it was read.
        where: names the source in the error, as in 'boxes.json'.

    Raises:
        InputError: it is empty, too long, holds a control character or a slash, or is '.' or '..'.
    """
    reason = None
    if not video_id or len(video_id.encode("utf-8", "surrogatepass")) > LONGEST:
        reason = f"1 to {LONGEST} bytes"
    elif video_id in (".", ".."):
        reason = "a name other than '.' and '..'"
    elif any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or letter in "/\\" for letter in video_id):
        reason = "a name without slashes and control characters"
    if reason is not None:
        raise InputError(f"{where}: expected a video id of {reason}, found {video_id!r:.80}. Rename the video")
    return video_id


def nfc(video_id: str) -> str:
    """The id in Unicode's composed form. For messages alone: ids of two forms are two ids, as the file system has it.

    macOS writes decomposed names (e and an accent), most other systems composed ones; both look the same.
    """
    return unicodedata.normalize("NFC", video_id)


def other_form(count: int, listed: str, file: str) -> str:
    """A sentence about ``count`` ids that files have in another form; ``listed`` and ``file`` are the first ones."""
    form = "NFC" if nfc(listed) == listed else "NFD"
    return (
        f"For {count} of the videos with boxes a file has the same name in another Unicode form: {listed!a} has boxes, "
        f"{file!a} is the file. Rename the files to the form of the boxes, for example with convmv -f utf8 -t utf8 "
        f"--{form.lower()} --notest or Python's unicodedata.normalize({form!r}, name)"
    )
