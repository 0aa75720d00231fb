"""Whether a cluster can hold a job: CPUs and GPUs are compared before any work.

Ray itself waits without end for resources that never come. Not here: starting a session (``session``).
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from cluster import processors, session
from hojoint.config import ClusterConfig
from hojoint.errors import InputError, Unavailable

TAKEN = "cluster.worker_cpus, cluster.worker_gpus, cluster.teacher_cpus, cluster.teacher_gpus"


@dataclass(frozen=True)
class Need:
    """This many processes at once, each with this many CPUs and GPUs."""

    what: str  # in words, as in 'training workers'
    processes: int
    cpus: float
    gpus: float = 0.0


def capacity(config: ClusterConfig) -> dict[str, float]:
    """CPUs and GPUs of the cluster that ``session.start(config)`` would use; nothing is started for a local one."""
    if ray.is_initialized():
        return _most_resources()
    if config.address:
        with session.start(config):
            return _most_resources()
    return {"CPU": float(config.cpus or processors.usable()), "GPU": float(processors.gpus())}


def feasibility(config: ClusterConfig, needs: Sequence[Need], *, begun: bool = False) -> str:
    """What is needed and what the cluster has, in one line for ``--dry-run``.

    ``begun``: the output holds work of this very run. On a running cluster it has had room before, then.

    Raises:
        InputError: all of ``needs`` together do not fit into the cluster, or one process fits into none of its nodes.
        Unavailable: the same, of a run that has begun, or of a cluster of which only a head without CPUs is there.
    """
    with session.start(config) if config.address else contextlib.nullcontext():
        total = capacity(config)
        nodes = _nodes() if ray.is_initialized() else [total]
    needed = {
        "CPU": sum(need.processes * need.cpus for need in needs),
        "GPU": sum(need.processes * need.gpus for need in needs),
    }
    line = (
        f"{described(needs)} = {needed['CPU']:g} CPU, {needed['GPU']:g} GPU; "
        f"the cluster has {total.get('CPU', 0):g} CPU, {total.get('GPU', 0):g} GPU"
    )
    try:
        _all_fit(needed, total, line)
        _each_fits_a_node(needs, nodes)
    except InputError as error:
        empty = not any(amount > 0 for node in nodes for amount in node.values())
        if config.address is None or not (begun or empty):
            raise
        why = "none of its nodes that are there has a CPU" if empty else "this run has begun, so it had room before"
        raise Unavailable(
            f"nodes of the cluster at cluster.address={config.address} seem to be away: {why}. Wait for them, or start "
            f"them (of an autoscaler: min_workers); the same command then continues. As it is now, {error}"
        ) from None
    return line


def described(needs: Sequence[Need]) -> str:
    """In words, as in '2 training workers x (4 CPU, 1 GPU)'."""
    return " + ".join(f"{need.processes} {need.what} x ({need.cpus:g} CPU, {need.gpus:g} GPU)" for need in needs)


def _all_fit(needed: Mapping[str, float], total: Mapping[str, float], line: str) -> None:
    """Raise InputError where all processes together need more than the cluster has."""
    if any(amount > total.get(kind, 0) + 1e-6 for kind, amount in needed.items()):
        raise InputError(
            f"the cluster cannot hold this job: {line}. Lower the number of processes (cluster.workers, "
            "cluster.teachers, the actors of evaluate, refilter, detect or ingest) or what each takes "
            f"({TAKEN}), or set cluster.address to a larger cluster"
        )


def _each_fits_a_node(needs: Sequence[Need], nodes: Sequence[Mapping[str, float]]) -> None:
    """A process runs on one node: Ray would wait without end for one that is large enough."""
    for need in needs:
        needed = {"CPU": need.cpus, "GPU": need.gpus}
        if not any(all(amount <= node.get(kind, 0) + 1e-6 for kind, amount in needed.items()) for node in nodes):
            kinds = sorted({f"({node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU)" for node in nodes})
            raise InputError(
                f"the cluster cannot hold this job: each of the {need.what} needs ({need.cpus:g} CPU, {need.gpus:g} "
                f"GPU) on one node, and its nodes have {', '.join(kinds)}. Lower what each takes ({TAKEN}), "
                "or set cluster.address to a cluster of larger nodes"
            )


def _most_resources() -> dict[str, float]:
    """What the cluster has or, where an autoscaler runs, may grow to."""
    now: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    most = {kind: float(now.get(kind, 0)) for kind in ("CPU", "GPU")}
    limits = getattr(ray._private.state.state, "get_max_resources_from_cluster_config", lambda: None)()
    for kind, limit in (limits or {}).items():
        if kind in most:
            most[kind] = max(most[kind], float(limit))
    return most


def other_machines() -> list[str]:
    """Nodes that are not on this machine, by name, and those that an autoscaler may start; the cluster is attached."""
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    names = {node.get("NodeManagerHostname") or node.get("NodeManagerAddress") for node in alive}
    others = [f"the node {name}" for name in sorted(map(str, names - {socket.gethostname()}))]
    return [*others, "nodes that the autoscaler starts"] if _groups() else others


def startable() -> list[dict[str, float]]:
    """Resources of each kind of node that an autoscaler may start; the cluster is attached."""
    return [{kind: float(amount) for kind, amount in dict(group.resources).items()} for group in _groups()]


def _groups() -> list[Any]:
    """What an autoscaler may start, if there is one."""
    config = getattr(ray._private.state.state, "get_cluster_config", lambda: None)()
    return [] if config is None else [group for group in config.node_group_configs if group.max_count != 0]


def _nodes() -> list[dict[str, float]]:
    """CPUs and GPUs of each node that runs or, where an autoscaler does, may be started."""
    nodes = [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    nodes += startable()
    return [{kind: float(node.get(kind, 0)) for kind in ("CPU", "GPU")} for node in nodes]
