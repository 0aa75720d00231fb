"""What a pipeline's calibration found, read back and put into the settings of labelling.

Not here: the calibration itself (``jobs.calibrate``).
"""

from __future__ import annotations

from typing import Any

from cluster.store import Store
from hojoint.config import Config, changed
from hojoint.errors import InputError
from jobs import results

RESULT = "calibration.json"
QUALITY = "quality.json"


def applied(config: Config, store: Store, home: str, *, thresholds: bool = True) -> Config:
    """The settings with the calibration's thresholds, where they decide, and with its chance of being right.

    Args:
        home: the calibration's folder in ``store``.
        thresholds: False leaves the settings' own.

    Raises:
        InputError: no thresholds reach the wanted precision.
    """
    changes: dict[str, Any] = {}
    if store.exists(f"{home}/{QUALITY}"):
        changes["quality_model"] = store.uri(f"{home}/{QUALITY}")
    if thresholds and config.filters.mode == "thresholds":
        found = results.read_json(store, f"{home}/{RESULT}")
        if found["proposed"] is None:
            raise InputError(
                f"calibration found no thresholds by which {found['wanted_precision']:.0%} of the kept labels are "
                "right; lower calibrate.precision, or let the quality decide with filters.mode=quality"
            )
        changes |= found["proposed"]
    return changed(config, filters=changes)


def text(store: Store, home: str) -> str:
    """What calibration promises, in a few words."""
    key = f"{home}/{RESULT}"
    if not store.exists(key):
        return ""
    promised = promise(results.read_json(store, key))
    if promised is None or promised["precision"] is None:
        return "no thresholds reach the wanted precision"
    return f"promises {promised['precision']:.0%} right labels among {promised['yield']:.0%} of the frames"


def promise(found: dict[str, Any]) -> dict[str, Any] | None:
    """Precision and yield of the proposed thresholds, on recordings that did not choose them where there are enough."""
    together = found["together"]
    return together.get("held_out") or together.get("proposed")
