"""Plain tables for the terminal and for Markdown. Nothing here knows what the numbers mean."""

from __future__ import annotations

import re
from collections.abc import Sequence


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned columns, the first one left and numbers right, with a rule under the headers."""
    text = [[str(cell) for cell in row] for row in (headers, *rows)]
    widths = [max(len(row[column]) for row in text) for column in range(len(headers))]
    left = [column == 0 or not all(_is_number(row[column]) for row in text[1:]) for column in range(len(headers))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if to_left else cell.rjust(width)
            for cell, width, to_left in zip(row, widths, left, strict=True)
        ]
        return "  ".join(cells).rstrip()

    return "\n".join([line(text[0]), "  ".join("-" * width for width in widths), *(line(row) for row in text[1:])])


def markdown(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """The same table as Markdown."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _is_number(text: str) -> bool:
    """Whether a cell is aligned right: a number, with or without a unit or a spread, or an empty cell."""
    return re.fullmatch(r"[-–]?|[+-]?[\d.,]+( ± [\d.,]+)?( ?[%a-z]{1,3})?( \d+ s)?", text) is not None
