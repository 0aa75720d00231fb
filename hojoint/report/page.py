"""The report of a run as one self-contained HTML page: facts (plain numbers) and pictures in, text out.

Readers need not know the project. The page fetches nothing, runs no script and escapes every value. Its tables and
sentences come from ``tables`` and ``rounds``. Not here: where the facts come from (``jobs.report``) and how pictures
are drawn (``draw``, ``figures``).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hojoint.report import costs, formats, label_tables, rounds, tables

TEMPLATE = "report.html.jinja"


@dataclass(frozen=True)
class Picture:
    """An image with its caption."""

    data: bytes  # JPEG, PNG or SVG
    caption: str = ""
    tag: str = ""  # a word on a coloured label before the caption
    tone: str = ""  # 'kept', 'rejected' or ''

    @property
    def uri(self) -> str:
        """The image as a data: URI."""
        if self.data.startswith(b"\xff\xd8"):
            kind = "image/jpeg"
        elif self.data.startswith(b"\x89PNG"):
            kind = "image/png"
        else:
            kind = "image/svg+xml"
        return f"data:{kind};base64,{base64.b64encode(self.data).decode()}"

    @property
    def alt(self) -> str:
        """The caption, for readers who do not see the image."""
        return f"{self.tag} {self.caption}".strip()


@dataclass(frozen=True)
class Gallery:
    """A section of pictures."""

    title: str
    text: str
    pictures: Sequence[Picture]
    keys: Sequence[Mapping[str, str]] = ()  # a legend: 'colour' (CSS) and 'text' of each entry
    wide: bool = False  # pictures that are several tiles side by side


@dataclass(frozen=True)
class Facts:
    """All numbers of the report; a part may be missing, and the page then has no section of it."""

    title: str
    stages: Sequence[Mapping[str, Any]]  # name, what, seconds (None: was complete already)
    provenance: Mapping[str, str]
    labelling: Mapping[str, Any] | None = None  # report.json of the labelling job
    quality: Mapping[str, Any] | None = None  # label_quality.summary
    evaluation: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # network -> domain -> scores
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # network -> steps, samples, ...
    rules: Sequence[str] = tuple(label_tables.RULES)  # enabled in labelling
    views: int = 8  # of each labelled frame
    by_round: Sequence[Mapping[str, Any]] = ()  # labels and promises (jobs.label_measures)
    notes: Sequence[str] = ()  # where the report measures otherwise than the run did


def render(
    facts: Facts, *, galleries: Sequence[Gallery] = (), pck: Sequence[Picture] = (), curves: Sequence[Picture] = ()
) -> str:
    """The page as HTML; ``pck`` and ``curves`` are figures of the evaluation and of the training."""
    page = {
        "title": facts.title,
        "summary": tables.summary(facts.labelling, facts.evaluation, facts.training, facts.rules),
        "notes": facts.notes,
        "views": facts.views,
        "cards": tables.cards(facts.labelling, facts.quality, facts.evaluation, facts.stages),
        "comparison": tables.comparison(facts.evaluation),
        "rounds": rounds.by_round(facts.evaluation, facts.by_round),
        "promises": rounds.promises(facts.by_round),
        "comparison_text": tables.comparison_text(facts.evaluation, facts.training),
        "pck": pck,
        "labelling": label_tables.labelling(facts.labelling, facts.rules) if facts.labelling else None,
        "costs": costs.costs(facts.labelling["costs"]) if facts.labelling and facts.labelling.get("costs") else None,
        "quality": label_tables.quality(facts.quality) if facts.quality else None,
        "no_quality": "The true poses of these videos are unknown, so the quality of the labels cannot be measured.",
        "galleries": [gallery for gallery in galleries if gallery.pictures],
        "curves": curves,
        "training_text": tables.training_text(facts.training),
        "stages": [
            {**stage, "seconds": formats.seconds(stage["seconds"]) if stage["seconds"] is not None else "was complete"}
            for stage in facts.stages
        ],
        "provenance": list(facts.provenance.items()),
    }
    return filled(TEMPLATE, page)


def filled(template: str, page: Mapping[str, Any]) -> str:
    """A template of this folder with its values."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )  # autoescape: ids and messages come from data, and a file name may hold a tag
    return environment.get_template(template).render(page=page)
