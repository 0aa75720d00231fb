"""cluster.nodes: an operator reads which nodes come and go. A real cluster's are in ``test_ranges``."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cluster import nodes


def node(name: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeID": f"{name}-0123456789", "Alive": alive, "NodeManagerHostname": name, "Resources": resources}


def test_lost_and_joined_nodes_are_named_once() -> None:
    listed = [node("a", CPU=2.0), node("b", CPU=8.0, GPU=1.0)]
    node_changes = nodes.NodeChanges(lambda: listed)
    assert node_changes.changes() == []
    listed[1] = node("b", alive=False)
    listed.append(node("c"))
    lost, joined = node_changes.changes()
    assert lost == "a node is lost: b b-012345 (8 CPU, 1 GPU); what ran there starts again on other nodes (2 left)"
    assert joined == "a node has joined: c c-012345 (no CPU) (2 now)"
    assert node_changes.changes() == []


def test_many_nodes_make_one_line() -> None:
    listed: list[dict[str, Any]] = []
    node_changes = nodes.NodeChanges(lambda: listed)
    node_changes.changes()
    listed += [node(f"n{number}", CPU=1.0) for number in range(9)]
    [line] = node_changes.changes()
    assert line.startswith("9 nodes have joined: n0 ")
    assert line.endswith(" and 5 more (9 now)")


def test_a_cluster_that_does_not_answer_loses_no_node() -> None:
    answers: list[Any] = [[node("a")], ConnectionError("away"), [node("a")]]

    def listed() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    node_changes = nodes.NodeChanges(listed)
    assert [node_changes.changes(), node_changes.changes(), node_changes.changes()] == [[], [], []]


def test_changes_are_told_while_the_block_lasts(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    listed = [node("a"), node("b")]
    monkeypatch.setattr(nodes, "NodeChanges", lambda real=nodes.NodeChanges: real(lambda: listed))
    with nodes.reported(every_s=0.01):
        del listed[1]
        until, printed = time.monotonic() + 10, ""
        while "lost" not in printed and time.monotonic() < until:
            time.sleep(0.01)
            printed += capsys.readouterr().err
    assert printed.startswith("note: a node is lost: b")
    listed.append(node("c"))
    time.sleep(0.05)
    assert capsys.readouterr().err == ""
