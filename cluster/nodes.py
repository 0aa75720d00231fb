"""Which nodes of a cluster come and go while a driver works, in lines that its log shows.

Ray moves the work of a lost node by itself; an operator only sees fewer actors. For display only: nothing depends on
it. Not here: whether the cluster answers at all (``session``).
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ray

EVERY_S = 5.0  # between two looks
NAMED = 4  # of several nodes that come or go at once
SHOWN = ("CPU", "GPU")

Nodes = Sequence[Mapping[str, Any]]


class NodeChanges:
    """Follows the nodes from one look to the next."""

    def __init__(self, listed: Callable[[], Nodes] = ray.nodes) -> None:
        """``listed`` returns what ``ray.nodes`` does."""
        self._listed = listed
        self._alive: dict[str, str] | None = None  # id -> what it is, of the last look

    def changes(self) -> list[str]:
        """A line for the nodes that were lost since the last look, and one for those that joined; none at the first.

        A cluster that does not answer has none either.
        """
        try:
            alive = {node["NodeID"]: _described(node) for node in self._listed() if node["Alive"]}
        except Exception:  # Ray raises many kinds, plain Exception among them; ``session`` tells of a lost cluster
            return []
        before, self._alive = self._alive, alive
        if before is None:
            return []
        lost = [what for node, what in before.items() if node not in alive]
        joined = [what for node, what in alive.items() if node not in before]
        lines = []
        if lost:
            lines.append(f"{_counted(lost, 'lost')}; what ran there starts again on other nodes ({len(alive)} left)")
        if joined:
            lines.append(f"{_counted(joined, 'joined')} ({len(alive)} now)")
        return lines


@contextlib.contextmanager
def reported(every_s: float = EVERY_S) -> Iterator[None]:
    """Print the changes on stderr, by a thread, for the time of the block; Ray must be connected."""
    over = threading.Event()
    node_changes = NodeChanges()

    def follow() -> None:
        while not over.wait(every_s):
            for line in node_changes.changes():
                print(f"note: {line}", file=sys.stderr, flush=True)

    node_changes.changes()
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(every_s)  # before Ray is shut down; a look that hangs holds nothing up


def _described(node: Mapping[str, Any]) -> str:
    resources = node.get("Resources", {})
    parts = [f"{resources[name]:g} {name}" for name in SHOWN if resources.get(name)]
    name = node.get("NodeManagerHostname") or node.get("NodeManagerAddress") or "?"
    return f"{name} {node['NodeID'][:8]} ({', '.join(parts) or 'no CPU'})"


def _counted(nodes: Sequence[str], what: str) -> str:
    if len(nodes) == 1:
        return f"a node has {what}: {nodes[0]}" if what == "joined" else f"a node is {what}: {nodes[0]}"
    more = f" and {len(nodes) - NAMED} more" if len(nodes) > NAMED else ""
    verb = "have" if what == "joined" else "are"
    return f"{len(nodes)} nodes {verb} {what}: {', '.join(nodes[:NAMED])}{more}"
