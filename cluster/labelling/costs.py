"""Where the time of a labelling run went, what it cost, and how near it came to the limit of its parts.

All of it is added up from commits, so a resumed run's numbers cover all of it. A Teacher's time from its start to its
last commit is counted: loading, waiting, attempts that another was faster than. Not counted are attempts that died and
the time after a Teacher's last commit. Not here: what a Teacher measures (``teacher``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.labelling.commits import Commit
from cluster.labelling.totals import busy_seconds
from hojoint.config import ReportConfig

PHASES = ("wait", "predict", "tables", "commit")  # one after the other in a Teacher
BESIDE = ("fetch", "decode")  # meanwhile, in the decoder's threads and children
FORMER = {"waiting_for_frames": "wait"}  # names in commits of earlier versions
HOUR_S = 3600.0


def costs_of(commits: Sequence[Commit], prices: ReportConfig, videos: int) -> dict[str, Any]:
    """Time, resources and money of a run of so many listed videos; None for what its commits do not tell.

    ``wall_seconds`` runs from the first unit to the last commit, breaks included; ``busy_seconds`` leaves out the time
    in which no unit was in progress. ``phases`` are seconds of all Teachers together; 'other' is the rest of
    ``teacher_seconds``. ``share_of_decode_limit`` is the run's speed over the one that its decoding children could
    reach alone, ``share_of_device_limit`` over the one that its networks could. A cost has the unit of its prices.
    """
    known = bool(commits) and all(commit.held for commit in commits)
    held: dict[str, float] = defaultdict(float)
    for commit in commits:
        for kind, seconds in commit.held.items():
            held[kind] += seconds
    phases = _phases(commits)
    teachers = held["teacher"] if known else None
    resources = {kind: held[kind] / HOUR_S if known else None for kind in ("gpu", "cpu")}
    cost = _cost(resources, prices)
    if teachers is not None:
        phases["other"] = max(0.0, teachers - sum(phases[name] for name in PHASES))
    return {
        "wall_seconds": _rounded(_wall(commits)),
        "busy_seconds": _rounded(busy_seconds(commits)),
        "teacher_seconds": _rounded(teachers),
        "phases": {name: _rounded(value) for name, value in phases.items()},
        "gpu_hours": _rounded(resources["gpu"], 6),
        "cpu_hours": _rounded(resources["cpu"], 6),
        "price_per_gpu_hour": prices.price_per_gpu_hour,
        "price_per_cpu_hour": prices.price_per_cpu_hour,
        "cost": _rounded(cost, 6),
        "cost_per_1000_videos": _rounded(1000 * cost / videos, 6) if cost is not None and videos else None,
        "share_of_decode_limit": _share(phases["decode"], held["decoder"]),
        "share_of_device_limit": _share(phases["predict"], held["teacher"]),
    }


def uncounted(report: Mapping[str, Any], prices: ReportConfig) -> str | None:
    """A sentence where prices are given and a run's ``report`` has no cost all the same; None otherwise."""
    if prices == ReportConfig() or report.get("costs", {}).get("cost") is not None:
        return None
    return (
        "report.price_per_* count nothing: these labels do not tell what their actors held, as those of jobs.refilter "
        "and of earlier versions"
    )


def lines(costs: Mapping[str, Any]) -> list[str]:
    """Where the time went, and the bill, for a terminal; nothing for runs of earlier versions."""
    total, phases = costs["teacher_seconds"], costs["phases"]
    if not total:
        return []
    spent = ", ".join(f"{name} {phases[name] / total:.0%}" for name in (*PHASES, "other"))
    out = [f"spent    {spent}; decoders busy {costs['share_of_decode_limit'] or 0:.0%}"]
    bill = f"held     {costs['gpu_hours']:.3g} GPU-hours, {costs['cpu_hours']:.3g} CPU-hours"
    if costs["cost"] is not None:
        bill += f"; cost {costs['cost']:.4g}, {costs['cost_per_1000_videos'] or 0:.4g} per 1,000 videos"
    return [*out, bill]


def _phases(commits: Sequence[Commit]) -> dict[str, float]:
    total = dict.fromkeys((*PHASES, *BESIDE), 0.0)
    for commit in commits:
        for name, seconds in commit.seconds.items():
            name = FORMER.get(name, name)
            total[name] = total.get(name, 0.0) + seconds
    return total


def _wall(commits: Sequence[Commit]) -> float:
    if not commits:
        return 0.0
    return max(commit.finished for commit in commits) - min(commit.started for commit in commits)


def _cost(hours: Mapping[str, float | None], prices: ReportConfig) -> float | None:
    """None where no price is given, or not for every resource that is known to be held."""
    given = {"gpu": prices.price_per_gpu_hour, "cpu": prices.price_per_cpu_hour}
    amounts = [(hours[kind], price) for kind, price in given.items() if price is not None]
    if not amounts or any(amount is None for amount, _ in amounts):
        return None
    return sum(amount * price for amount, price in amounts if amount is not None)


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole > 0 else None


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)
