"""The command and the settings that made a set of labels, from what its run has noted."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from cluster.labelling import quality_files, units
from cluster.store import Store
from hojoint import config as settings
from hojoint.config import Config
from jobs import command, retyped


def old_pipeline(output: str) -> str:
    """The command of a pipeline of earlier versions, which did not note its settings."""
    return shlex.join(["python", "-m", "jobs.pipeline", retyped.word("output", output)])


def settings_of(run: Mapping[str, Any], config: Config, labels: Store) -> Config:
    """The settings of a labelling run, with filters and refinement of the last judgement; ``config`` without any."""
    if "config" not in run:
        return config
    fingerprint, stored = run["fingerprint"], settings.from_stored(run["config"])
    rules = _group(fingerprint, "filters.")
    if fingerprint.get(units.QUALITY_MODEL) is not None:
        rules["quality_model"] = labels.uri(quality_files.FILE)
    made = settings.changed(stored, filters=rules)
    if "refiltered" not in run:
        return made
    # What is not refined has none of these in its fingerprint.
    refined = _group(fingerprint, "refine.") or settings.to_tree(settings.Config().refine)
    return settings.changed(made, refine=refined)


def labelling_command(run: Mapping[str, Any], made: Config, output: str) -> str:
    """The command that writes the labels to ``output``; ``made``: as ``settings_of``."""
    if "refiltered" not in run:
        return retyped.command_line("pseudo_label", made.model_copy(update={"output": output}))
    default = settings.load(command.DEFAULT_CONFIG)
    judged = {"filters": dict(made.filters), "refine": dict(made.refine)}  # jobs.refilter reads no others
    config = settings.changed(default, output=output, data={"pseudo": {"labels": run["refiltered"]}}, **judged)
    return retyped.command_line("refilter", config)


def _group(fingerprint: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in fingerprint.items() if name.startswith(prefix)}
