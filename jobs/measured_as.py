"""By which settings labels are measured after their run: by those of the run, unless the user gives others.

A command that comes later has a config file of its own, often the default one, which knows nothing of what the run
called a correct label. Used by ``jobs.report`` and ``jobs.calibrate``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hojoint import config as settings
from hojoint.config import Config
from hojoint.settings_file import shown

FINGERTIPS = "mano.fingertips"
CORRECT: Mapping[str, tuple[str, ...]] = {
    "calibrate": ("max_aligned_mm", "max_joints_2d", "max_wrist_mm"),
    "mano": ("fingertips",),
}
"""Group -> its settings that say what a correct label is; also where the fingers end that are compared."""
MEASURED: Mapping[str, tuple[str, ...]] = {**CORRECT, "train": ("pseudo_fraction",)}
"""These, and which of the labels training reads."""


def given(config: Config) -> list[tuple[str, Any]]:
    """Dotted keys and values of those that the user has given: a job elsewhere must know, also of a default."""
    return [
        (f"{group}.{name}", getattr(getattr(config, group), name))
        for group, members in MEASURED.items()
        for name in members
        if name in getattr(config, group).model_fields_set
    ]


def of_run(run: Mapping[str, Any]) -> Config | None:
    """The settings that a labelling run was called with; None where it did not note them.

    The hand is its teacher's, whatever the command said: its fingertips are in the fingerprint.
    """
    if "config" not in run:
        return None
    made = settings.from_stored(run["config"])
    tips = run["fingerprint"].get(FINGERTIPS)
    return made if tips is None else settings.changed(made, mano={"fingertips": tips})


def as_made(
    config: Config, made: Config | None, owner: str, names: Mapping[str, tuple[str, ...]] = MEASURED
) -> tuple[Config, list[str]]:
    """The settings with those of the run; what the user has given stays, and where it differs a sentence says so.

    Args:
        made: the settings of the run; None leaves all as it is.
        owner: what holds them, for the sentences.
        names: group -> which settings.
    """
    notes: list[str] = []
    if made is None:
        return config, notes
    for group, members in names.items():
        own, theirs = getattr(config, group), getattr(made, group)
        for name in members:
            here, there = getattr(own, name), getattr(theirs, name)
            if name not in own.model_fields_set:
                own = own.model_copy(update={name: there})
            elif here != there:
                notes.append(
                    f"measured with {group}.{name}={shown(here)}, as given; {owner} has {shown(there)}. Leave it out "
                    "to measure as there"
                )
        config = config.model_copy(update={group: own})
    return config, notes
