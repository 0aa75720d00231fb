"""Which categories of an annotation are hands, and of which side: 'hand', 'Hand', 'left_hand', 'RightHand', 'hand_r'.

A category is a hand where its words are 'hand' and nothing else but a side or a number. Other names that contain the
word ('handle', 'handbag') are objects; ``doubtful`` tells those that a person should look at ('hands', 'hand on cup').
"""

from __future__ import annotations

import functools
import re

from hojoint.datasets.video_boxes import LEFT, RIGHT, UNKNOWN

_SIDES = {"left": LEFT, "l": LEFT, "lh": LEFT, "right": RIGHT, "r": RIGHT, "rh": RIGHT}
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_]+")
_GLUED = re.compile(r"(left|right|l|r)hand", re.IGNORECASE)
_NEAR = re.compile(r"(?<![a-z])(hands?|palm|fist|finger)s?(?![a-z])|hand$|^hand")
_OBJECTS = re.compile(r"hand(le|bag|kerchief|set|cuff|rail|book|out|gun|saw|cream|cart|held)")


@functools.lru_cache(maxsize=4096)
def side_of(category: str) -> int | None:
    """RIGHT, LEFT or UNKNOWN for the name of a hand; None for that of an object."""
    words = [word.lower() for word in _WORD.findall(_GLUED.sub(r"\1 hand", category))]
    rest = [word for word in words if word != "hand" and not word.isdigit()]
    sides = {_SIDES[word] for word in rest if word in _SIDES}
    if words.count("hand") != 1 or len(rest) > 1 or len(sides) != len(rest):
        return None
    return sides.pop() if sides else UNKNOWN


def doubtful(category: str) -> bool:
    """Whether a category that is not read as a hand may be meant as one."""
    name = category.lower().replace("_", " ")
    return side_of(category) is None and bool(_NEAR.search(name)) and not _OBJECTS.search(name)


def side_given(value: str) -> int | None:
    """The code of a side as people write it ('right', 'L', 'left hand', ''); None where it is none."""
    text = value.strip().lower()
    if text in ("", "unknown", "none", "nan", "null", "?", "both"):
        return UNKNOWN
    return _SIDES.get(text, side_of(text) or None)
