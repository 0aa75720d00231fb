"""The report page's part about time and money: where a labelling run's time went, and what it cost.

Numbers in (``costs`` of the labelling job's report.json), sentences and bars out. Not here: how they are counted
(``cluster.labelling.costs``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hojoint.report import formats

LABELS = {
    "predict": "the network, and judging its frames",
    "wait": "waiting for decoded frames",
    "tables": "tables and pictures of kept frames",
    "commit": "writing to the store",
    "other": "starting, and waiting between units",
}


def costs(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """A text, one bar per phase and lines for the bill; None where the run did not note its time."""
    total = facts["teacher_seconds"]
    if not total:
        return None
    text = (
        f"From the first unit to the last commit: {formats.seconds(facts['wall_seconds'])}, of which some unit was in "
        f"progress for {formats.seconds(facts['busy_seconds'])}. All Teachers together worked for "
        f"{formats.seconds(total)}; the bars show on what. Attempts that died are not counted."
    )
    phases = {name: facts["phases"].get(name, 0.0) for name in LABELS}
    bars = [
        {
            "label": LABELS[name],
            "tone": "kept" if name == "predict" else "",
            "width": round(100 * seconds / total, 2),
            "text": f"{formats.seconds(seconds)} ({seconds / total:.0%})",
        }
        for name, seconds in phases.items()
    ]
    return {"text": text, "bars": bars, "lines": [*_limits(facts), *_bill(facts)]}


def _limits(facts: Mapping[str, Any]) -> list[str]:
    """How near the run came to the speed of its parts alone."""
    parts = {"decoding": "share_of_decode_limit", "the networks": "share_of_device_limit"}
    return [
        f"The run had {facts[name]:.0%} of the speed that {part} alone would have"
        for part, name in parts.items()
        if facts[name] is not None
    ]


def _bill(facts: Mapping[str, Any]) -> list[str]:
    """Resources held and, where a price is given, their cost."""
    lines = [f"{facts['gpu_hours']:.3g} GPU-hours and {facts['cpu_hours']:.3g} CPU-hours were held"]
    if facts["cost"] is None:
        return [*lines, "no price is given: set report.price_per_gpu_hour or report.price_per_cpu_hour for the cost"]
    prices = [
        f"{facts[f'price_per_{kind.lower()}_hour']:g} per {kind}-hour"
        for kind in ("GPU", "CPU")
        if facts[f"price_per_{kind.lower()}_hour"] is not None
    ]
    each = facts["cost_per_1000_videos"]
    per_videos = "" if each is None else f", {each:.4g} per 1,000 videos"
    return [*lines, f"cost {facts['cost']:.4g}{per_videos}, at {' and '.join(prices)}"]
