"""This machine's own addresses, and requests to them: through a proxy they reach another machine.

The environment of a company often names a proxy (HTTP_PROXY) and no exceptions. A tunnel's end on 127.0.0.1 would then
be asked for at the proxy, and the cluster's token would go there. Not here: the object store's proxy
(``store.connection``).
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

import requests

EXCEPTIONS = ("no_proxy", "NO_PROXY")
"""Variables that list hosts without a proxy; libraries read the one or the other first."""


def is_this_machine(host: str) -> bool:
    """Whether a host's name or address is that of this machine's loopback."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reach_directly(address: str) -> None:
    """Except the host of a loopback address from the proxies of this process, and of those that it starts.

    The environment is the one place that reaches requests made by libraries, as by Ray's job client.
    """
    host = urlsplit(address).hostname
    if host is None or not is_this_machine(host) or not requests.utils.get_environ_proxies(address):
        return
    kept = next(filter(None, map(os.environ.get, EXCEPTIONS)), "")
    for name in EXCEPTIONS:
        os.environ[name] = f"{kept},{host}".lstrip(",")
