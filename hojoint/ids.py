"""Ids of videos: what may be one, and how one is written where only a few characters are allowed.

An id is the video's name without its suffix, as its owner wrote it: spaces, dots and other letters are kept in every
table. Where an id becomes part of a file name or of a store's key it is escaped, so that no id can leave its folder and
no two ids share a name.
"""

from __future__ import annotations

import re
import unicodedata

from hojoint.errors import InputError

LONGEST = 200  # bytes of UTF-8; file names end at 255
_PLAIN = re.compile(r"[A-Za-z0-9_-]")
_ESCAPED = re.compile(r"=([0-9A-F]{2})")


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


def escaped(video_id: str) -> str:
    """The id of letters, digits, '_' and '-'; every other byte as '=' and two hex digits."""
    return "".join(chr(byte) if _PLAIN.fullmatch(chr(byte)) else f"={byte:02X}" for byte in video_id.encode("utf-8"))


def unescaped(name: str) -> str:
    """The id that ``escaped`` made ``name`` of."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), name).encode("latin-1").decode("utf-8")


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
