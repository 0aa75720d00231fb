"""What one node of a cluster looks like from inside: places, credentials, clock, disk, shared memory, versions, GPUs.

``examine`` runs on the node and returns findings; what it compares with comes from the driver (``Asked``). Not here:
reaching every node and what differs between them (``checkup``), data sets (hojoint.evaluation.set_checks).
"""

from __future__ import annotations

import email.utils
import importlib.metadata
import itertools
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import boto3

from cluster import patience
from cluster.store import open_store
from cluster.store.bucket import Bucket, Refused, split
from hojoint.errors import InputError, MachineError, Unavailable

OK, NOTE, FAULT = "ok", "note", "FAULT"
CHECKS = ("node", "versions", "mounts", "output", "credentials", "endpoint", "clock", "disk", "shared memory", "GPU")
"""In the order of the table."""
PACKAGES = (
    *("ray", "torch", "torchvision", "numpy", "pyarrow", "av", "decord", "opencv-python-headless", "scipy"),
    *("boto3", "pydantic"),
)
MUST_AGREE = ("python", "ray", "torch", "pyarrow")
"""What else differs is a note."""
ENTRIES = 10_000  # of a folder that are counted
FULL = 0.95  # share of a disk from which on Ray makes no objects
LITTLE_GB, TOO_LITTLE_GB = 10.0, 1.0  # of free disk
SKEW_S, REFUSED_SKEW_S = 5.0, 300.0  # S3 refuses requests that are 15 minutes off
OUTAGE_S = 10.0  # of a store
SLOW_S = 5.0  # for a small file written to the output and removed
SMI_S = 20.0  # for nvidia-smi
GB = 1e9
FAULTS = (InputError, MachineError, Unavailable, OSError)
"""Of a store, in one sentence each."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at on one node."""

    check: str  # one of CHECKS
    state: str  # OK, NOTE or FAULT
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Asked:
    """What the driver wants to know, and what it sees itself."""

    places: Mapping[str, str]  # setting -> file, folder or URI that a job reads
    seen: Mapping[str, str]  # setting -> the driver's ``description`` of a local one
    output: str | None
    probe: str  # key of an object that the driver has put into the output
    cache: str | None  # cluster.cache
    endpoint: str  # the driver's
    versions: Mapping[str, str]  # the driver's


def examine(asked: Asked, resources: Mapping[str, float]) -> list[Finding]:
    """All findings on this node; ``resources`` are those that Ray counts here."""
    checks = (
        versions_of(asked.versions),
        _mounts(asked),
        _output(asked),
        _storage(asked),
        _disks(asked.cache),
        _shared_memory(resources.get("object_store_memory", 0.0)),
        _gpus(resources.get("GPU", 0.0)),
    )
    with patience.granted(OUTAGE_S, "the doctor"):  # a store that does not answer is a finding, nothing to wait for
        return list(itertools.chain(*checks))


def versions() -> dict[str, str]:
    """Python and packages here; '' for one that is not installed."""
    out = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            out[name] = ""
    return out


def versions_of(expected: Mapping[str, str], here: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """What differs from the driver's versions, or that nothing does."""
    here = versions() if here is None else here
    missing = [name for name, version in here.items() if not version and expected.get(name)]
    if missing:
        yield Finding("versions", FAULT, f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    for state in (FAULT, NOTE):
        other = [
            f"{name} {here[name]} (driver: {version})"
            for name, version in expected.items()
            if here.get(name) and here[name] != version and (name in MUST_AGREE) == (state == FAULT)
        ]
        if other:
            yield Finding("versions", state, ", ".join(other), "install the same versions on all nodes: one image")
    if all(here.get(name) == version for name, version in expected.items()):
        yield Finding("versions", OK, f"python {here['python']}, ray {here['ray']}, torch {here['torch']}")


def description(path: str) -> str:
    """A file with its size, a folder with its number of entries, or 'missing': equal where nodes share it."""
    place = Path(path)
    try:
        if place.is_dir():
            with os.scandir(place) as entries:
                count = sum(1 for _ in itertools.islice(entries, ENTRIES))
            return f"a folder of {count}{' or more' if count == ENTRIES else ''} entries"
        return f"a file of {place.stat().st_size} bytes" if place.exists() else "missing"
    except OSError as error:
        return f"not readable ({error.strerror})"


def _mounts(asked: Asked) -> Iterator[Finding]:
    for setting, place in asked.places.items():
        if "://" in place:
            continue
        here, there = description(place), asked.seen[setting]
        named = f"{setting}={place}"
        if here == there and not here.startswith(("missing", "not readable")):
            yield Finding("mounts", OK, f"{named}: {here}")
        else:
            compared = "" if here == there else f" (driver: {there})"
            yield Finding(
                "mounts", FAULT, f"{named}: {here}{compared}",
                "mount the same folder under this path on every node, readable, or use an s3:// URI",
            )  # fmt: skip


def _output(asked: Asked) -> Iterator[Finding]:
    """Whether this node sees what the driver wrote, and can write."""
    if asked.output is None:
        return
    remedy = "set output to a folder that all nodes see under one path and may write to, or to s3://bucket/prefix"
    own = f"{asked.probe}-{os.getpid()}"
    begun = time.monotonic()
    try:
        store = open_store(asked.output)
        if not store.exists(asked.probe):
            yield Finding("output", FAULT, f"{asked.output} here is not the driver's: they do not share it", remedy)
            return
        store.put(own, b"probe")
        store.delete(own)
    except FAULTS as error:
        yield Finding("output", FAULT, patience.first_line(error), remedy)
        return
    slow = time.monotonic() - begun
    state = NOTE if slow > 5 else OK
    yield Finding(
        "output", state, f"{asked.output} is shared and writable" + (f", in {slow:.0f} s" if slow > 5 else "")
    )


def _storage(asked: Asked) -> Iterator[Finding]:
    """Credentials, endpoint and the store's clock, where a place lies in object storage."""
    uris = {setting: place for setting, place in asked.places.items() if place.startswith("s3://")}
    if asked.output is not None and asked.output.startswith("s3://"):
        uris["output"] = asked.output
    if not uris:
        return
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint != asked.endpoint:
        yield Finding(
            "endpoint", FAULT, f"{endpoint or 'AWS itself'} (driver: {asked.endpoint or 'AWS itself'})",
            "export the same AWS_ENDPOINT_URL on every node before ray start",
        )  # fmt: skip
    else:
        yield Finding("endpoint", OK, endpoint or "AWS itself")
    yield _credentials()
    for setting, uri in uris.items():
        yield from _bucket(setting, uri)


def _credentials() -> Finding:
    """Where credentials come from; never what they are."""
    credentials = boto3.session.Session().get_credentials()
    if credentials is None:
        return Finding(
            "credentials", FAULT, "none",
            "export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) before ray start on this node, or "
            "give it a role",
        )  # fmt: skip
    return Finding("credentials", OK, f"from {credentials.method}")


def _bucket(setting: str, uri: str) -> Iterator[Finding]:
    """Whether the place answers, whether something lies there, and how far its clock is."""
    try:
        begun = time.time()
        answer = Bucket(uri, setting=setting).call("list_objects_v2", Prefix=split(uri)[1], MaxKeys=1)
        now = (begun + time.time()) / 2
    except (Refused, *FAULTS) as error:
        yield Finding(
            "endpoint",
            FAULT,
            f"{setting}={uri}: {patience.first_line(error)}",
            "correct the place, or what this node may read",
        )
        return
    if setting != "output" and not answer.get("KeyCount"):
        yield Finding("mounts", FAULT, f"{setting}={uri}: nothing lies there", "correct the URI")
    else:
        yield Finding("mounts", OK, f"{setting}={uri} answers")
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if date:
        yield clock("the store", now - email.utils.parsedate_to_datetime(date).timestamp(), 1.0)


def clock(other: str, ahead_s: float, error_s: float) -> Finding:
    """How far this node's clock is ahead of another one, known to within ``error_s``."""
    off = max(0.0, abs(ahead_s) - error_s)
    state = FAULT if off > REFUSED_SKEW_S else NOTE if off > SKEW_S else OK
    if state == OK:
        return Finding("clock", OK, f"within {SKEW_S:g} s of {other}")
    way = "ahead of" if ahead_s > 0 else "behind"
    return Finding("clock", state, f"{off:.0f} s {way} {other}", "let this node's clock be set (chrony or ntpd)")


def _disks(cache: str | None) -> Iterator[Finding]:
    """The disks of temporary files, of Ray and of copies; those of one file system once."""
    places = {"temporary files": Path(tempfile.gettempdir()), "cluster.cache": Path(cache) if cache else None}
    seen = set[int]()
    for name, place in places.items():
        if place is None:
            continue
        while not place.exists():
            place = place.parent
        if place.stat().st_dev in seen:
            continue
        seen.add(place.stat().st_dev)
        total, _, free = shutil.disk_usage(place)
        yield disk(f"{name} in {place}", total, free)


def disk(what: str, total: int, free: int) -> Finding:
    """Whether a disk has room; sizes in bytes."""
    used = 1 - free / max(total, 1)
    found = f"{what}: {free / GB:.1f} of {total / GB:.0f} GB free"
    if used > FULL or free < TOO_LITTLE_GB * GB:
        remedy = f"free some: above {FULL:.0%} Ray makes no objects, and videos are fetched to it"
        return Finding("disk", FAULT, found, remedy)
    if free < LITTLE_GB * GB:
        return Finding("disk", NOTE, found, "free some, or set TMPDIR and cluster.cache to a larger disk")
    return Finding("disk", OK, f"{what}: {LITTLE_GB:g} GB free or more")


def _shared_memory(object_store: float) -> Iterator[Finding]:
    place = Path("/dev/shm")
    if place.exists():
        yield shared_memory(shutil.disk_usage(place).total, object_store)


def shared_memory(total: float, object_store: float) -> Finding:
    """Whether /dev/shm holds Ray's object store; sizes in bytes."""
    found = f"/dev/shm has {total / GB:.2f} GB, the object store {object_store / GB:.2f} GB"
    if total >= object_store:
        return Finding("shared memory", OK, "/dev/shm holds the object store")
    return Finding(
        "shared memory", FAULT, found,
        "give the container more (docker run --shm-size, a memory volume on /dev/shm), or ray start a smaller "
        "--object-store-memory: objects lie on disk now, and training's loaders may crash",
    )  # fmt: skip


def _gpus(counted: float) -> Iterator[Finding]:
    try:
        command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=SMI_S, check=True).stdout
        cards = [line.strip() for line in said.splitlines() if line.strip()]
    except (OSError, subprocess.SubprocessError):
        cards = []
    yield gpus(counted, cards)


def gpus(counted: float, cards: list[str]) -> Finding:
    """What Ray counts against the ``cards`` that the driver lists."""
    if counted > len(cards):
        return Finding(
            "GPU", FAULT, f"Ray counts {counted:g}, nvidia-smi lists {len(cards)}",
            "install the driver and pass the cards to the container (--gpus all), or do not start Ray with --num-gpus",
        )  # fmt: skip
    if counted < len(cards):
        return Finding("GPU", NOTE, f"Ray counts {counted:g} of {len(cards)} cards", "ray start --num-gpus=N uses them")
    return Finding("GPU", OK, f"{len(cards)} x {cards[0]}" if cards else "none")
