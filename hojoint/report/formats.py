"""Numbers as the reports print them."""

from __future__ import annotations


def share(part: float, whole: float) -> str:
    """A part of a whole in per cent; '–' where the whole is zero."""
    return percent(part / whole) if whole else "–"


def percent(value: float | None) -> str:
    """0.123 -> '12 %', with one more digit below ten."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if abs(value) < 0.0995 else f"{100 * value:.0f} %"


def seconds(value: float) -> str:
    """12.3 -> '12.3 s', 200 -> '3 min 20 s'."""
    if value < 100:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
