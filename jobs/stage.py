"""What all stages of a pipeline share: how a finished one is marked, and when its result still holds.

The marker, ``stages/<name>.json``, holds the settings, the digests of the data, and which results of other stages were
read. Only with all of these unchanged is a stage skipped. The stages themselves: ``stages``.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from cluster.capacity import Need
from cluster.labelling.units import LABELLING, NAMED_UNLESS, differences
from cluster.store import Store
from cluster.training.data import EDITION
from cluster.training.job import NOT_RESULT
from hojoint import config as settings
from hojoint.config import Config, LabellingConfig
from hojoint.errors import InputError
from jobs import results
from jobs.inputs import Inputs

HOW = {
    "train": NOT_RESULT,
    "student": {"rounds"},
    "labelling": set(LabellingConfig.model_fields) - {*LABELLING, *NAMED_UNLESS, "limit"},
    "evaluate": {"checkpoint", "actors"},
}
"""Group -> its settings that say how a stage works and do not change its result."""
FILES = ("mano.path", "model.pretrained", "train.init_checkpoint", "filters.quality_model")
"""Settings that name a file. Its content counts and not its path, so it is part of a stage's data."""
NOTED_SINCE = {"synthetic.ho3d_version"}
"""Settings that markers of earlier versions lack. They are not compared then: the world's digest covers this one."""


@dataclass(frozen=True, eq=False)
class Stage(ABC):
    """One job of the pipeline with the settings it runs with."""

    name: str
    configs: tuple[Config, ...]  # one per network that is measured; one for every other job
    needs: tuple[str, ...]  # stages whose results it reads
    inputs: Inputs
    prefix: str = ""  # folder under the output, with a slash at its end, in which its results lie

    groups: ClassVar[tuple[str, ...]] = ()
    """Groups of settings that its result depends on; output folders and resources are not among them."""
    cheap: ClassVar[bool] = False
    """Whether it runs again when its settings or its data change; an expensive stage is refused instead."""

    @property
    def config(self) -> Config:
        """The settings of its only job, or of its first."""
        return self.configs[0]

    @property
    def home(self) -> str:
        """Folder of its result under the pipeline's output."""
        return f"{self.prefix}{self.config.name}"

    @abstractmethod
    def run(self, store: Store) -> None:
        """Call the job. ``store`` is the pipeline's output."""

    @abstractmethod
    def planned(self) -> str:
        """What it would work on, for a dry run."""

    @abstractmethod
    def result(self, store: Store) -> str:
        """What it made, in a few words."""

    def products(self) -> list[str]:
        """Keys under the pipeline's output without which it is not complete."""
        return []

    def data(self) -> dict[str, str]:
        """What -> digest of the data that it reads, other stages' results excepted."""
        return {}

    def known_data(self, store: Store) -> dict[str, str]:
        """What -> digest of the data behind its result, where its marker, of an earlier version, has none."""
        return {}

    def data_unknown(self, store: Store) -> bool:
        """Whether it is an expensive stage of an earlier version, whose marker does not hold the data behind it."""
        marker = results.marker(self.name, store)
        return not self.cheap and marker is not None and "data" not in marker

    def resources(self) -> list[Need]:
        """What must fit into the cluster."""
        return []

    def facts(self, store: Store) -> dict[str, Any]:
        """What its marker holds besides, for the stages after it."""
        return {}

    def settings(self) -> dict[str, Any]:
        """What its result depends on, flat: dotted name -> value as JSON holds it."""
        names = {"runs": [config.name for config in self.configs]}
        return names | {name: value for name, value in self._grouped().items() if name not in FILES}

    def complete(self, store: Store) -> bool:
        """Whether it is done, with these settings, from the data and the results that exist now.

        Raises:
            InputError: it was done from others and is too expensive to repeat without being asked; or data are missing.
        """
        data = self.data()  # before the marker is read, so that missing data are reported before any work
        marker = results.marker(self.name, store)
        if marker is None:
            return False
        changes = self._changes(marker, data, store)
        if changes and not self.cheap:
            listed = "\n  ".join(changes[:8])
            raise InputError(
                f"{store.root} holds a run whose stage '{self.name}' was made with different settings or data "
                f"({len(changes)} differences):\n  {listed}\nGive another output, or remove that one{_age(marker)}"
            )
        return not changes and all(store.exists(key) for key in self.products())

    def mark(self, store: Store, seconds: float) -> None:
        """Note that it is done."""
        marker = {
            "settings": self.settings(),
            "data": self.data(),
            "edition": EDITION,
            "inputs": {name: made(name, store) for name in self.needs},
            "seconds": round(seconds, 2),
            "made": self.version(store),
            "what": self.result(store),
            **self.facts(store),
        }
        store.put(f"stages/{self.name}.json", json.dumps(marker, indent=1).encode())

    def version(self, store: Store) -> str:
        """Id of the result that it just made: with another one, what was made from the former result is stale."""
        return settings.digest(self.settings(), time.time())

    def restore(self) -> None:  # noqa: B027  # most stages keep nothing on this machine alone
        """Make again, in the same form, what a complete stage kept on this machine alone and lost."""

    def unmark(self, store: Store) -> None:
        """Note that it is not done: it runs again, and what it made before may go before the new result exists."""
        store.delete(f"stages/{self.name}.json")

    def _grouped(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        tree = settings.to_tree(self.config)
        for group in self.groups:
            out |= settings.flattened({group: tree[group]})
            for name in HOW.get(group, ()):
                out.pop(f"{group}.{name}", None)
        return out

    def _changes(self, marker: Mapping[str, Any], data: Mapping[str, str], store: Store) -> list[str]:
        """One line for each difference between a marker and what would be made now."""
        before, after, now = marker["settings"], self.settings(), self._grouped()
        compared = {name: value for name, value in after.items() if name in before or not _as_before(name, value)}
        lines = differences({name: before.get(name) for name in compared}, compared) + _left_out(before, after)
        if "data" in marker or self.cheap:
            lines += [f"data of {line}" for line in differences(marker.get("data", {}), data)]
        else:  # of an earlier version: what it did not note is unknown, and the expensive result is kept
            known = self.known_data(store)
            lines += [f"data of {line}" for line in differences(known, {name: data.get(name) for name in known})]
            files = [name for name in FILES if name in before and name in now]
            lines += differences({name: before[name] for name in files}, {name: now[name] for name in files})
        inputs = {name: made(name, store) for name in self.needs}
        changed = [name for name in {**marker["inputs"], **inputs} if marker["inputs"].get(name) != inputs.get(name)]
        return lines + [f"result of {name}: made again since, or not used before" for name in changed]


def _left_out(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One line per optional group, such as ``train.side_augment``, that was given and is None now.

    Flat settings name a given group by what it holds, and one that is None by itself.
    """
    gone = [
        name for name, value in after.items() if value is None and any(old.startswith(f"{name}.") for old in before)
    ]
    return [f"{name}: given before, None now" for name in gone]


def _age(marker: Mapping[str, Any]) -> str:
    """A sentence about markers of earlier versions, whose digests of data are others for the same data."""
    if "data" not in marker or marker.get("edition") == EDITION:
        return ""
    return (
        ". It was made by an earlier version, whose digests of the data covered less: whether only the digests differ "
        "cannot be told"
    )


def made(name: str, store: Store) -> str | None:
    """Id of a stage's result (``Stage.version``), None while there is none."""
    marker = results.marker(name, store)
    return None if marker is None else marker["made"]


def _as_before(name: str, value: Any) -> bool:
    """Whether a setting that an earlier version did not have leaves its results as they were."""
    return name in NOTED_SINCE or (name in settings.defaults() and settings.defaults()[name] == value)
