"""cluster.loopback: requests to this machine pass no proxy, and those to others still do."""

from __future__ import annotations

import os

import pytest
import requests

from cluster import local_cluster, loopback
from hojoint.config import ClusterUpConfig

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def proxy(monkeypatch):
    """A proxy for everything, as a company sets it."""
    for name in PROXIES:
        for spelling in (name, name.upper()):  # an empty one in small letters would hide the other
            monkeypatch.setenv(spelling, "")
            monkeypatch.delenv(spelling)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")


def proxied(address):
    return bool(requests.utils.get_environ_proxies(address))


@pytest.mark.parametrize("kept", ["", "internal.example,10.0.0.4"])
@pytest.mark.parametrize("variable", loopback.EXCEPTIONS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.9.1"])
def test_this_machine_is_reached_without_a_proxy(proxy, monkeypatch, host, variable, kept):
    monkeypatch.setenv(variable, kept)
    assert proxied(f"http://{host}:8265")
    loopback.reach_directly(f"http://{host}:8265")
    assert not proxied(f"http://{host}:8265")
    assert not any(proxied(f"http://{name}:1") for name in kept.split(",") if name)
    assert proxied("http://10.0.0.5:8265")
    before = [os.environ[name] for name in loopback.EXCEPTIONS]
    loopback.reach_directly(f"http://{host}:8265")
    assert [os.environ[name] for name in loopback.EXCEPTIONS] == before


def test_another_machine_is_reached_as_before(proxy, monkeypatch):
    for address in ("http://head.example:8265", "http://10.0.0.4:8265"):
        loopback.reach_directly(address)
        assert proxied(address)
    monkeypatch.setenv("NO_PROXY", "*")
    loopback.reach_directly("http://127.0.0.1:8265")
    assert os.environ["NO_PROXY"] == "*"


def test_a_cluster_on_this_machine_is_asked_directly(proxy, monkeypatch, tmp_path):
    monkeypatch.setattr(local_cluster, "_start_node", lambda *given: None)
    monkeypatch.setattr(local_cluster, "_wait", lambda *given: None)
    made = local_cluster._start(ClusterUpConfig(nodes=1), tmp_path, {})
    assert not proxied(made.dashboard)
