"""What ``jobs.doctor cluster`` does: every node of a cluster examined, and a table with remedies."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from cluster import checkup
from cluster.checkup import Row
from cluster.node_checks import FAULT, OK
from hojoint.config import Config
from hojoint.errors import InputError
from jobs import command, submit
from jobs.printing import table

NOT_READ = ("output", "world", "cluster.cache", "demo.image", "demo.video", "demo.boxes")
"""Places that no job on the cluster reads."""
NAMES = 4  # of nodes in one cell


def job(config: Config, dry_run: bool) -> None:
    """Examine the nodes of the cluster at ``cluster.address``; through the job server where that is a dashboard's.

    Raises:
        InputError: something on a node is at fault; the table says what, and what to do.
    """
    if (config.cluster.address or "").startswith(("http://", "https://")):
        submit.send(config, "doctor", dry_run)
        return
    places = places_of(config)
    if dry_run:
        where = config.cluster.address or "a session on this machine"
        print(f"would examine every node of {where}, with {', '.join(places) or 'no data set'}")
        return
    rows = checkup.check(config, places)
    print(text(rows))
    faults = [row for row in rows if row.finding.state == FAULT]
    if faults:
        kinds = ", ".join(dict.fromkeys(row.finding.check for row in faults))
        raise InputError(f"the cluster has faults: {kinds}; the remedies stand above")


def places_of(config: Config) -> dict[str, str]:
    """Setting -> what jobs read there: local paths and URIs."""
    values = {name: operator.attrgetter(name)(config) for name in command.PATH_SETTINGS if name not in NOT_READ}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, str) and ("://" in value or command.local_path_of(config, name) is not None)
    }


def text(rows: Sequence[Row]) -> str:
    """The table, and under it a remedy for each row that has one."""
    nodes = {name for row in rows for name in row.nodes} - {"cluster", "driver"}
    cells = [[row.finding.check, row.finding.state, _names(row.nodes, nodes), row.finding.found] for row in rows]
    remedies = [
        f"{row.finding.check}, {_names(row.nodes, nodes)}: {row.finding.remedy}"
        for row in rows
        if row.finding.state != OK and row.finding.remedy
    ]
    return "\n".join([table(["check", "state", "nodes", "found"], cells), *(f"remedy: {line}" for line in remedies)])


def _names(some: Sequence[str], nodes: set[str]) -> str:
    if nodes and nodes <= set(some):
        return f"all {len(nodes)}"
    more = f" and {len(some) - NAMES} more" if len(some) > NAMES else ""
    return ", ".join(some[:NAMES]) + more
