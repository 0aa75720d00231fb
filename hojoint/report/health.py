"""What is told of a checked data set: a verdict, counts beside the published ones, findings, a contact sheet.

Records in, text, HTML and JSON out. Nothing here knows a data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hojoint.report import draw, page
from hojoint.report.page import Picture

TEMPLATE = "health.html.jinja"
HEALTHY, INCOMPLETE, UNUSABLE = "healthy", "incomplete", "unusable"
TILE_PX, COLUMNS = 300, 4
_SHOWN = 12  # findings of one set in the terminal; the page and the JSON have all


@dataclass(frozen=True)
class Count:
    """A number of the set, with the published one where there is one."""

    name: str
    found: int
    published: str = ""


@dataclass(frozen=True)
class Finding:
    """One fault, or one thing worth knowing."""

    kind: str  # one word for programs
    count: int  # frames or files that have it
    sentence: str  # what was expected and what was found
    remedy: str = ""
    fatal: bool = False  # a run on this set would stop, or learn from wrong labels
    usable_with: str = ""  # of a fatal one: a setting, or a use, with which the rest of the set can be used

    @property
    def text(self) -> str:
        """Sentence and remedy in one line."""
        return f"{self.sentence}; {self.remedy}" if self.remedy else self.sentence


@dataclass(frozen=True)
class Checked:
    """The result of checking one set, or one split of it."""

    name: str
    place: str
    counts: Sequence[Count] = ()
    findings: Sequence[Finding] = ()
    sheet: bytes | None = None  # JPEG
    legend: str = ""  # of the sheet

    @property
    def verdict(self) -> str:
        """``UNUSABLE``, ``INCOMPLETE`` where fatal findings leave a use, or ``HEALTHY``."""
        fatal = [finding for finding in self.findings if finding.fatal]
        if any(not finding.usable_with for finding in fatal):
            return UNUSABLE
        return INCOMPLETE if fatal else HEALTHY

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        fatal = [finding for finding in self.findings if finding.fatal]
        kinds = ", ".join(dict.fromkeys(finding.kind for finding in fatal if not finding.usable_with))
        uses = " and ".join(dict.fromkeys(finding.usable_with for finding in fatal))
        notes = len(self.findings) - len(fatal)
        texts = {
            HEALTHY: HEALTHY + (f", with {notes} note{'s'[: notes > 1]}" if notes else ""),
            INCOMPLETE: f"incomplete but usable with {uses}",
            UNUSABLE: f"unusable: {kinds}",
        }
        return texts[self.verdict]

    @property
    def key(self) -> str:
        """The name as part of a file's name."""
        return "".join(letter if letter.isalnum() else "_" for letter in self.name.lower()).strip("_")


def failed(name: str, place: str, error: Exception, kind: str = "cannot_be_opened") -> Checked:
    """A set that its reader refuses, with the reader's words."""
    return Checked(name, place, (), (Finding(kind, 1, str(error), fatal=True),))


def sheet(tiles: Sequence[tuple[np.ndarray, Sequence[str]]]) -> bytes | None:
    """Squares of ``TILE_PX`` px with the lines under each, as one JPEG; None without tiles."""
    if not tiles:
        return None
    lines = max(len(texts) for _, texts in tiles)
    captioned = [
        draw.captioned(tile, [_short(text) for text in (*texts, *[""] * (lines - len(texts)))]) for tile, texts in tiles
    ]
    return draw.jpeg(draw.sheet(captioned, min(COLUMNS, len(captioned))))


def blank(text: str) -> tuple[np.ndarray, list[str]]:
    """A grey square for what cannot be shown."""
    return np.full((TILE_PX, TILE_PX, 3), 205, np.uint8), [text, "cannot be read"]


def fitted(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A complete picture in a square of ``TILE_PX`` px, and the affine (2, 3) that maps its pixels there."""
    height, width = image.shape[:2]
    return draw.closeup(image, np.array([0, 0, width - 1, height - 1], np.float64), TILE_PX, context=1.0)


def text(checked: Checked) -> str:
    """What the terminal shows."""
    lines = [f"{checked.name} ({checked.place}): {checked.sentence}"]
    width = max((len(count.name) for count in checked.counts), default=0)
    for count in checked.counts:
        published = f"  (published: {count.published})" if count.published else ""
        lines.append(f"  {count.name:<{width}}  {count.found:>9,}{published}")
    ordered = sorted(checked.findings, key=lambda finding: not finding.fatal)
    for finding in ordered[:_SHOWN]:
        lines.append(f"  {'fault' if finding.fatal else 'note'}: {finding.kind}: {finding.text}")
    if len(ordered) > _SHOWN:
        lines.append(f"  and {len(ordered) - _SHOWN} more")
    return "\n".join(lines)


def as_json(checked: Checked) -> dict[str, Any]:
    """Plain values, without the picture."""
    return {
        "name": checked.name,
        "place": checked.place,
        "verdict": checked.verdict,
        "sentence": checked.sentence,
        "counts": [vars(count) for count in checked.counts],
        "findings": [vars(finding) for finding in checked.findings],
        "sheet": None if checked.sheet is None else sheet_name(checked),
    }


def sheet_name(checked: Checked) -> str:
    """The file of a set's contact sheet."""
    return f"{checked.key}_sheet.jpg"


def render(results: Sequence[Checked]) -> str:
    """The page as HTML: nothing is fetched, no script runs, every value is escaped."""
    sets = [
        {
            "name": checked.name,
            "place": checked.place,
            "verdict": checked.verdict,
            "sentence": checked.sentence,
            "counts": [vars(count) | {"found": f"{count.found:,}"} for count in checked.counts],
            "findings": sorted(checked.findings, key=lambda finding: not finding.fatal),
            "sheet": None if checked.sheet is None else Picture(checked.sheet, checked.legend),
        }
        for checked in results
    ]
    return page.filled(TEMPLATE, {"title": "Data sets, checked", "sets": sets})


def merged(checked: Checked, findings: Sequence[Finding]) -> Checked:
    """The same with more findings."""
    return replace(checked, findings=(*checked.findings, *findings))


def _short(text: str) -> str:
    """What fits under a tile; OpenCV's letters are ASCII."""
    plain = text.encode("ascii", "replace").decode()
    return plain if len(plain) <= 42 else f"{plain[:18]}...{plain[-21:]}"
