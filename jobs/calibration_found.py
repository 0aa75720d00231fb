"""What a pipeline's calibration found, read back and put into the settings of labelling.

Not here: the calibration itself (``jobs.calibrate``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.store import Store
from hojoint.config import Config, changed
from jobs import calibrate, results


def read(store: Store, home: str) -> dict[str, Any] | None:
    """What the calibration in a folder of ``store`` found; None where there is none."""
    key = f"{home}/{calibrate.RESULT}"
    return results.read_json(store, key) if store.exists(key) else None


def applied(config: Config, store: Store, home: str, *, thresholds: bool = True) -> Config:
    """The settings with the calibration's model of the quality and, where they decide, with what it proposes.

    Under ``filters.mode=thresholds`` that is thresholds; under 'quality' it is ``min_quality``.

    Args:
        home: the calibration's folder in ``store``.
        thresholds: False leaves the settings' own limits.

    Raises:
        InputError: it found nothing that it could propose.
    """
    if thresholds:
        return changed(config, filters=calibrate.proposed_filters(store, config.filters.mode, home))
    return changed(config, filters={"quality_model": store.uri(f"{home}/{calibrate.QUALITY}")})


def promise(found: Mapping[str, Any] | None, config: Config) -> dict[str, Any] | None:
    """Precision and yield of what is proposed.

    Thresholds: on recordings that did not choose them, where these keep a frame. Quality: out of fold, but
    ``min_quality`` was chosen on these same chances, so slightly too good.
    """
    if found is None:
        return None
    if config.filters.mode == "quality":
        return found["quality"]["promised"]
    apart = found["together"]["held_out"]
    if apart is not None and apart["precision"] is not None:
        return apart
    return found["together"]["proposed"]


def text(store: Store, home: str, config: Config) -> str:
    """What calibration promises, in a few words."""
    found = read(store, home)
    promised = promise(found, config)
    if found is None or promised is None or promised["precision"] is None:
        return "nothing reaches the wanted precision"
    wanted = found["wanted_precision"]
    short = "" if promised["precision"] >= wanted else f", {wanted:.0%} were wanted"
    return f"promises {promised['precision']:.0%} correct labels among {promised['yield']:.0%} of the frames{short}"
