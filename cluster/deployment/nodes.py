"""How many nodes of which size a job asks for: the same settings that size its actors size the machines under them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hojoint.config import Config
from hojoint.errors import InputError

SPARE_CPUS = 1
"""On each node, for Ray's own processes and for reading ahead."""


@dataclass(frozen=True)
class Nodes:
    """Equal nodes of a job: from ``least`` to ``most`` of them."""

    least: int
    most: int
    cpus: int  # of each
    gpus: int  # of each; 0 means nodes without


def nodes_of(config: Config, job: str) -> Nodes:
    """The nodes under the largest pool of processes that ``job`` starts (``cluster.*``, ``deploy.node_gpus``).

    Raises:
        InputError: one process of the job does not fit on a node.
    """
    size, least, most = config.cluster, 1, 1
    cpus, gpus = size.teacher_cpus, size.teacher_gpus
    if job in ("train", "retrain"):
        (least, most), cpus, gpus = size.workers, size.worker_cpus, size.worker_gpus
    elif job == "evaluate":
        least, most = config.evaluate.actors
    elif job in ("refilter", "detect", "ingest"):
        (least, most), gpus = getattr(config, job).actors, 0.0
    elif job == "synthesize":  # tasks of one CPU, as many as there is room for
        (least, most), gpus = size.teachers, 0.0
    elif job == "calibrate":  # one process
        pass
    elif job == "pseudo_label":
        least, most = size.teachers
    else:  # a job of several stages: the largest of its pools, each process as large as the largest one
        least = max(size.teachers[0], size.workers[0], config.evaluate.actors[0])
        most = max(size.teachers[1], size.workers[1], least)  # evaluation, a short stage, asks for no more than it must
        cpus, gpus = max(cpus, size.worker_cpus), max(gpus, size.worker_gpus)
    of_node = config.deploy.node_gpus if gpus > 0 else 0
    if gpus > of_node:
        raise InputError(
            f"each process of {job} takes {gpus:g} GPUs and a node has deploy.node_gpus={of_node}; raise it, or lower "
            "cluster.teacher_gpus or cluster.worker_gpus"
        )
    together = max(1, math.floor(of_node / gpus + 1e-9)) if gpus > 0 else 1  # processes on one node
    return Nodes(
        least=math.ceil(least / together),
        most=math.ceil(most / together),
        cpus=math.ceil(together * cpus) + SPARE_CPUS,
        gpus=of_node,
    )
