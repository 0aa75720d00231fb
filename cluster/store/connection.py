"""How the object store is reached, resolved once from the environment and the profile, for boto3 and for Arrow alike.

| what | read from, first found first |
|---|---|
| endpoint | AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, ``endpoint_url`` of the profile; none means AWS itself |
| region | AWS_DEFAULT_REGION, ``region`` of the profile, AWS_REGION |
| certificates | AWS_CA_BUNDLE, ``ca_bundle`` of the profile, REQUESTS_CA_BUNDLE: one PEM file |
| proxy | HTTPS_PROXY or HTTP_PROXY, by the endpoint's scheme, unless NO_PROXY names its host |
| addressing | AWS_S3_ADDRESSING_STYLE, ``addressing_style`` under ``s3`` of the profile: auto, path or virtual |
| profile | AWS_PROFILE |

boto3 and Arrow's client each know some of these by themselves, and not the same ones; so both are told all of them.
Credentials are the exception: each client takes them from the environment, the profile or the role, and renews them. An
Arrow file system that is sent to another process is opened there anew, so it carries no credentials, no password of a
proxy and no path of this machine. Not here: requests (``bucket``).
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
import botocore.session
import pyarrow.fs
from botocore.config import Config
from botocore.httpsession import ProxyConfiguration
from botocore.utils import get_environ_proxies

from cluster.store.base import CHECKSUMS
from hojoint.errors import InputError

STYLES = ("auto", "path", "virtual")
STYLE = "AWS_S3_ADDRESSING_STYLE"
BUNDLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
AWS_ITSELF = re.compile(r"s3[.-]([a-z0-9.-]+\.)?amazonaws\.com(\.cn)?")
"""Hosts that boto3 chooses where no endpoint is set. A private endpoint of AWS begins with another word."""


@dataclass(frozen=True)
class Connection:
    """Everything but credentials."""

    region: str
    endpoint: str  # a URL
    style: str  # one of ``STYLES``
    ca_bundle: str | None
    proxy: str | None  # a URL
    takes_role: bool  # the profile names a role that is taken with the keys of another profile

    def arrow(self) -> dict[str, Any]:
        """Arguments for Arrow's S3FileSystem; buckets are addressed as boto3 does.

        Raises:
            InputError: Arrow cannot get the credentials.
        """
        if self.takes_role:
            raise InputError(
                f"the profile {os.environ.get('AWS_PROFILE', 'default')!r} takes a role with another profile's keys "
                "(role_arn), which Arrow's S3 client cannot do. Put the role's keys into the environment (aws "
                "configure export-credentials --format env), or use a profile with credential_process"
            )
        scheme, host = urlsplit(self.endpoint).scheme, urlsplit(self.endpoint).netloc
        of_aws = AWS_ITSELF.fullmatch(host) is not None
        out: dict[str, Any] = {"region": self.region, "scheme": scheme}
        if not (of_aws and self.style != "path"):
            out |= {"endpoint_override": host, "force_virtual_addressing": self.style == "virtual"}
        elif "fips" in host or "dualstack" in host:
            out |= {"endpoint_override": host, "force_virtual_addressing": True}
        if self.ca_bundle is not None:
            out["tls_ca_file_path"] = self.ca_bundle
        if self.proxy is not None:
            out["proxy_options"] = _proxy_options(self.proxy)
        return out


class BucketFileSystem(pyarrow.fs.S3FileSystem):
    """Arrow's S3 file system by this process's environment; a copy in another process goes by that one's."""

    def __init__(self) -> None:
        """Raises what ``connect`` and ``Connection.arrow`` raise."""
        # Arrow's client reads these from the environment only.
        for name, value in CHECKSUMS.items():
            os.environ.setdefault(name, value)
        super().__init__(**_known(variables()).arrow())

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return BucketFileSystem, ()


def variables() -> tuple[tuple[str, str], ...]:
    """The part of the environment that a connection depends on, in order."""
    names = {*PROXIES, *map(str.lower, PROXIES), *BUNDLES}
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_") or item[0] in names))


def connect(config: Config | None = None) -> tuple[Any, Connection]:
    """A boto3 client with ``config``, and the connection that it uses.

    Raises:
        InputError: the endpoint is no URL, the style is unknown, or there is no file of certificates.
        botocore.exceptions.BotoCoreError: the profile does not exist or is damaged.
    """
    core = botocore.session.get_session()
    session = boto3.session.Session(botocore_session=core)
    region = session.region_name or os.environ.get("AWS_REGION") or "us-east-1"
    bundle = _certificates(core.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE"))
    asked = Config(s3={"addressing_style": _style(os.environ[STYLE])}) if STYLE in os.environ else Config()
    try:
        client = session.client(
            "s3", region_name=region, verify=bundle, config=(config or Config()).merge(asked)
        )  # fmt: skip
    except ValueError as error:  # what botocore raises for an endpoint that is not a URL
        raise InputError(f"{error}; set AWS_ENDPOINT_URL to a URL such as http://host:port, or unset it") from None
    endpoint = client.meta.endpoint_url
    style = _style((client.meta.config.s3 or {}).get("addressing_style") or "auto")
    proxy = ProxyConfiguration(get_environ_proxies(endpoint)).proxy_url_for(endpoint)
    return client, Connection(region, endpoint, style, bundle, proxy, _takes_role(core.get_scoped_config()))


@functools.lru_cache(maxsize=8)
def _known(environment: tuple[tuple[str, str], ...]) -> Connection:
    """Resolved once, because that takes long; another ``environment`` may lead elsewhere."""
    return connect()[1]


def _takes_role(profile: Mapping[str, Any]) -> bool:
    """Whether the credentials come from a role and another profile; keys in the environment go before both."""
    from_token = "web_identity_token_file" in profile
    return "AWS_ACCESS_KEY_ID" not in os.environ and "role_arn" in profile and not from_token


def _style(asked: str) -> str:
    if asked not in STYLES:
        raise InputError(f"{STYLE} (or addressing_style of the profile) is {asked!r}; expected {', '.join(STYLES)}")
    return asked


def _certificates(path: str | None) -> str | None:
    """The path as both clients take it; boto3 alone would name a missing file only at the first request."""
    if not path:
        return None
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        raise InputError(
            f"no file of certificates at {file}; set AWS_CA_BUNDLE (or ca_bundle of the profile) to one PEM file with "
            "the certificate of the authority that signed the object store's"
        )
    return str(file)


def _proxy_options(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    out: dict[str, Any] = {"scheme": parts.scheme, "host": parts.hostname, "port": port}
    if parts.username:
        out |= {"username": unquote(parts.username), "password": unquote(parts.password or "")}
    return out
