"""A cluster of several nodes on this machine for benchmarks, and the environment that lets a driver attach to it.

Every node is a raylet of its own (``local_cluster``). They share the machine's CPUs, so only work that waits can show
how a job scales. Not here: what runs on it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster import local_cluster
from cluster.local_cluster import Running
from cluster.session import SOCKET_PATH_LIMIT
from hojoint.config import ClusterUpConfig, Config, changed

OBJECT_STORE_MB = 150


@dataclass(frozen=True)
class Simulated:
    """A cluster that is up, and what one of its nodes is like."""

    config: ClusterUpConfig
    made: Running

    def attached(self, config: Config) -> Config:
        """The settings with this cluster's address."""
        return changed(config, cluster={"address": self.made.gcs})

    def replace_node(self) -> bool:
        """Kill the last node at once and start another; False where only the head is left."""
        if local_cluster.lose_node(self.made.folder) is None:
            return False
        local_cluster.add_node(self.config, self.made)
        return True


@contextlib.contextmanager
def nodes(count: int, cpus: int) -> Iterator[Simulated]:
    """A cluster of so many nodes for the time of the block; drivers that this process starts can attach to it.

    Raises:
        Unavailable: a node did not start.
    """
    folder = _short_folder()
    config = ClusterUpConfig(
        nodes=count, cpus=cpus, object_store_mb=OBJECT_STORE_MB, port=local_cluster.free_ports(1)[0]
    )
    with local_cluster.running(config, folder) as made:
        access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(made.token)}
        before = {name: os.environ.get(name) for name in access}
        os.environ.update(access)
        try:
            yield Simulated(config, made)
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def _short_folder() -> Path:
    """A folder of this user that does not exist yet; its name leaves room for the sockets in it."""
    parent = tempfile.gettempdir()
    parent = parent if len(parent) + 20 <= SOCKET_PATH_LIMIT - 65 else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="hojoint-b-", dir=parent))
    shutil.rmtree(folder)
    return folder
