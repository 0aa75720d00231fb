"""Every node of a cluster, examined from inside at the same time, and compared with the driver.

Each node gets one actor without resources, pinned to it, so that busy nodes are examined too; a node that does not
answer within ``doctor.node_s`` is a finding. Not here: what is looked at on a node (``node_checks``).
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster import capacity, node_checks, patience, session
from cluster.detection import boxes_file
from cluster.node_checks import FAULT, NOTE, OK, Asked, Finding
from cluster.store import check_conditional, local_path, open_store
from cluster.store.base import PARTIAL
from hojoint.config import Config

PROBE = ".probe-"
CLOCK_LOOKS = 3  # the quickest answer tells the time best
GPU_S = 60.0  # for a free GPU


@dataclass(frozen=True)
class Row:
    """Nodes on which the same was found."""

    finding: Finding
    nodes: tuple[str, ...]


@ray.remote(num_cpus=0, max_restarts=0)
class Examiner:
    """Looks at the node that it runs on."""

    def now(self) -> float:
        return time.time()

    def examine(self, asked: Asked, resources: Mapping[str, float]) -> list[Finding]:
        return node_checks.examine(asked, resources)


@ray.remote(num_cpus=0, num_gpus=1, max_retries=0)
def try_gpu() -> str:
    """Multiply two matrices on the GPU that Ray gives; its name, or what torch says."""
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no GPU"
    value = torch.ones(256, 256, device="cuda")
    good = bool((value @ value == 256).all())
    return "" if good else "a product of matrices is wrong"


def check(config: Config, places: Mapping[str, str]) -> list[Row]:
    """Examine all nodes; ``places`` are the files, folders and URIs that a job reads, by setting.

    Raises:
        InputError, Unavailable: the cluster cannot be reached, or not started.
    """
    place = None if config.output is None else boxes_file.store_place(config.output)
    with session.start(config.cluster):
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        alive = _named([node for node in nodes if node["Alive"]])
        found = {name: [Finding("node", OK, "answers")] for name in alive}
        found["cluster"] = list(_of_cluster(config, alive, len(nodes) - len(alive), capacity.startable()))
        made = [] if place is None else _missing_folders(place)
        asked, probed = _asked(config, places, place)
        found["driver"] = probed
        try:
            _examine(alive, asked, found, config.doctor.node_s)
        finally:
            if place is not None:
                _remove_probe(place, asked.probe, made)
    return rows(found)


def _missing_folders(place: str) -> list[Path]:
    """The folders that a first write to this store makes, the deepest first; none in a bucket."""
    folder = local_path(place)
    if folder is None:
        return []
    folder = folder.absolute()
    return [one for one in (folder / PARTIAL, folder, *folder.parents) if not os.path.lexists(one)]


def _remove_probe(place: str, probe: str, made: Sequence[Path]) -> None:
    """A store that has gone away meanwhile costs the probe, and not the table. ``made`` are folders, if empty."""
    with contextlib.suppress(*node_checks.FAULTS), patience.granted(node_checks.OUTAGE_S, "the doctor"):
        open_store(place).delete(probe)
    for folder in made:
        with contextlib.suppress(OSError):
            folder.rmdir()


def rows(found: Mapping[str, Sequence[Finding]]) -> list[Row]:
    """Equal findings of several nodes as one row, in the order of the checks."""
    grouped: dict[Finding, list[str]] = {}
    for name, findings in found.items():
        for finding in dict.fromkeys(findings):
            grouped.setdefault(finding, []).append(name)
    made = [Row(finding, tuple(names)) for finding, names in grouped.items()]
    return sorted(made, key=lambda row: node_checks.CHECKS.index(row.finding.check))


def _named(nodes: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Nodes by the name that Ray shows, with a part of the id where two have one name."""
    names = [node.get("NodeName") or node["NodeManagerAddress"] for node in nodes]
    return {
        name if names.count(name) == 1 else f"{name} ({node['NodeID'][:6]})": node
        for name, node in zip(names, nodes, strict=True)
    }


def _of_cluster(
    config: Config, alive: Mapping[str, Mapping[str, Any]], dead: int, startable: Sequence[Mapping[str, float]]
) -> list[Finding]:
    """What is known of the cluster without asking a node; ``startable`` are the kinds that an autoscaler starts."""
    out = []
    if dead:
        remedy = "see the dashboard's page of nodes; their work is done again by others"
        out.append(Finding("node", NOTE, f"{dead} nodes of this cluster have died", remedy))
    wanted = max(config.cluster.teacher_gpus, config.cluster.worker_gpus)
    least = min(wanted, 1.0)
    if not wanted or any(node["Resources"].get("GPU", 0) >= least for node in alive.values()):
        return out
    asked = f"the settings ask for {wanted:g} GPU a process, and no node has one"
    if any(resources.get("GPU", 0) >= least for resources in startable):
        note = f"{asked} now; the autoscaler may start some"
        return [*out, Finding("GPU", NOTE, note, "none was tried; ask again when a job runs")]
    remedy = "add GPU nodes, or set cluster.teacher_gpus and worker_gpus to 0"
    return [*out, Finding("GPU", FAULT, asked, remedy)]


def _asked(config: Config, places: Mapping[str, str], output: str | None) -> tuple[Asked, list[Finding]]:
    """What the nodes are asked, and what the driver finds where it puts the probe: in the store at ``output``."""
    seen = {name: node_checks.description(place) for name, place in places.items() if "://" not in place}
    probe, findings = PROBE + uuid.uuid4().hex, list[Finding]()
    if output is not None:
        try:
            with patience.granted(node_checks.OUTAGE_S, "the doctor"):
                store = open_store(output)
                store.put(probe, b"probe")
                check_conditional(store)
        except node_checks.FAULTS as error:
            findings.append(Finding("output", FAULT, str(error), "correct the output, or what the driver may write"))
            output = None
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    asked = Asked(places, seen, output, probe, config.cluster.cache, endpoint, node_checks.versions())
    return asked, findings


def _examine(
    alive: Mapping[str, Mapping[str, Any]], asked: Asked, found: dict[str, list[Finding]], limit_s: float
) -> None:
    """Add what all nodes say, asked at the same time."""
    examiners = {
        name: Examiner.options(scheduling_strategy=_on(node)).remote()  # type: ignore[attr-defined]
        for name, node in alive.items()
    }
    futures = {
        examiners[name].examine.remote(asked, dict(node["Resources"])): name for name, node in alive.items()
    }  # fmt: skip
    ray.wait(list(futures), num_returns=len(futures), timeout=limit_s)
    for future, name in futures.items():
        try:
            found[name] += ray.get(future, timeout=0.1)
            found[name].append(_clock(examiners[name]))
        except ray.exceptions.RayError as error:
            found[name] = [_silent(error, limit_s)]
    for name, finding in _try_gpus(alive).items():
        found[name].append(finding)


def _silent(error: Exception, limit_s: float) -> Finding:
    remedy = "see its logs on the dashboard; if it is lost or overloaded, take it out of the cluster"
    if isinstance(error, ray.exceptions.GetTimeoutError):
        return Finding("node", FAULT, f"has not answered for {limit_s:g} s", remedy)
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return Finding("node", FAULT, f"cannot be examined: {lines[-1].strip()}", remedy)


def _clock(examiner: Any) -> Finding:
    """The node's clock beside the driver's, by the quickest of a few answers."""
    looks = []
    for _ in range(CLOCK_LOOKS):
        begun = time.time()
        there = ray.get(examiner.now.remote(), timeout=30)
        ended = time.time()
        looks.append(((ended - begun) / 2, there - (begun + ended) / 2))
    error_s, ahead_s = min(looks)
    return node_checks.clock("the driver", ahead_s, error_s)


def _try_gpus(alive: Mapping[str, Mapping[str, Any]]) -> dict[str, Finding]:
    """Node -> what one of its GPUs said, for nodes that have some."""
    names = [name for name, node in alive.items() if node["Resources"].get("GPU", 0) >= 1]
    futures = {name: try_gpu.options(scheduling_strategy=_on(alive[name])).remote() for name in names}
    if futures:
        ray.wait(list(futures.values()), num_returns=len(futures), timeout=GPU_S)
    out = {}
    for name, future in futures.items():
        try:
            fault = ray.get(future, timeout=0.1)
            remedy = "install a torch that fits the driver; nvidia-smi names its CUDA version"
            out[name] = Finding("GPU", FAULT, fault, remedy) if fault else Finding("GPU", OK, "torch can use it")
        except ray.exceptions.GetTimeoutError:
            ray.cancel(future)
            out[name] = Finding("GPU", NOTE, "all are in use; none was tried", "ask again when a job has ended")
        except ray.exceptions.RayError as error:
            out[name] = Finding("GPU", FAULT, str(error).strip().splitlines()[-1], "see the node's logs")
    return out


def _on(node: Mapping[str, Any]) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
