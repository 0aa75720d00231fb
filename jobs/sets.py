"""What every job says about the labelled sets that it reads, before it starts: notes, or a refusal with numbers.

A job looks at all files and at some labels, which takes seconds; a dry run looks at everything. The checks themselves
are in ``hojoint.datasets.audit``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from cluster.progress import Bar
from cluster.sources import mirror
from hojoint.config import Config
from hojoint.datasets import audit
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.errors import InputError

FILES = ("sequence_missing", "image_missing", "meta_missing", "meta_empty", "versions_missing", "images_unlabelled")
"""Kinds of faults that the set's own ``advice`` says in one sentence where they are no cause to refuse."""


def check(dataset: Any, config: Config, *, complete: bool = False, hand: bool = True) -> None:
    """Check a set and print a line for each note; sets of pseudo-labels were checked when they were made.

    Args:
        dataset: opened as the job opens it.
        config: with the hand model, and what follows from contradictions (``data.ho3d.checks``).
        complete: compare the labels of all frames, with a bar, and print the counts.
        hand: compare them with the hand model of ``config``; False where a checkpoint brings another.

    Raises:
        InputError: files are missing, or labels contradict each other, the models or the hand.
    """
    if not isinstance(dataset, HO3D | FreiHAND):
        return
    with Bar("checking labels", "frame", total=len(dataset), shown=complete) as bar:
        frames, mano = None if complete else audit.QUICK, mirror.localised(config, "mano").mano if hand else None
        found = audit.audit(dataset, mano, frames=frames, progress=lambda done, _: bar.move(done))
    if complete:
        counts = ", ".join(f"{key.replace('_', ' ')} {count}" for key, count in found.counts.items())
        print(f"checked {found.name}: {counts}")
    setting = "data.ho3d.checks" if isinstance(dataset, HO3D) else "data.freihand.checks"
    group = config.data.ho3d if isinstance(dataset, HO3D) else config.data.freihand
    passed = audit.CONTRADICTIONS if group.checks == "note" else ()
    for note in dataset.advice():
        print(f"note: {note}")
    for fault in found.faults:
        if fault.kind in passed or (not fault.fatal and fault.kind not in FILES):
            print(f"note: {fault.text}")
    refused = tuple(fault for fault in found.fatal if fault.kind not in passed)
    try:
        dataclasses.replace(found, faults=refused).refuse()
    except InputError as error:
        if all(fault.kind in audit.CONTRADICTIONS for fault in refused):
            raise InputError(f"{error}. {audit.ALL_THE_SAME} {setting}=note") from None
        raise
