"""Files that the nodes of a cluster do not share: found where one is missing or is another, and named in the error.

The driver lists files and reads commits, actors on other nodes read and write them. A path that means another folder
on a node would otherwise look like broken videos, or like work that vanished; one that means another hand model or
other images would change results without a word. Not here: videos that are broken (cluster.labelling.decoding).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from cluster.labelling import commits, units
from cluster.labelling.decoding import Failure
from cluster.sources.naming import member_of
from cluster.store import Store
from hojoint.config import Config
from hojoint.errors import InputError


def check_video(uri: str, failure: Failure, then: str = "The same command then resumes") -> None:
    """Raise InputError if a file that was listed does not exist on this node: not the video's fault."""
    member = member_of(uri)
    path = uri if member is None else member.tar
    if failure.kind == "missing" and not path.startswith("s3://") and not os.path.lexists(path):  # a broken link exists
        raise InputError(
            f"{path} was listed by the driver and does not exist on the node {socket.gethostname()}: the nodes do not "
            f"share {os.path.dirname(path)}, or the file was removed meanwhile. Set videos.root to a folder that all "
            f"nodes see under one path, or to s3://bucket/prefix. {then}"
        )


def check_picture(uri: str, failure: Failure) -> None:
    """Raise InputError if a video may be readable later: labels committed without its pictures would stay so."""
    remedy = (
        "The same command then resumes; with videos.missing=leave_out the frames of such videos are counted and have "
        "no pictures"
    )
    if failure.kind == "unreachable":
        raise InputError(f"{uri} cannot be read: {failure.message}. Check rights, network and mounts. {remedy}")
    check_video(uri, failure, remedy)


def check_output(store: Store, key: str) -> None:
    """Raise InputError if a file that the driver has put into the output does not exist on this node."""
    if not store.exists(key):
        raise InputError(
            f"{store.uri(key)} was written by the driver and does not exist on the node {socket.gethostname()}: the "
            f"nodes do not share {store.root}, or the file was removed. Set output to a folder that all nodes see "
            "under one path, or to s3://bucket/prefix; the same command then resumes"
        )


def check_hand(config: Config, expected: str) -> None:
    """Raise InputError if ``mano.path`` is another hand model on this node; ``expected`` is the driver's digest.

    '' is not compared, nor is the stand-in hand: it has no file, and another machine may round it in another way.
    """
    if config.mano.path is not None and expected:
        check_same(f"mano.path={config.mano.path}", expected, units.hand_digest(config))


def check_same(what: str, expected: str | None, found: str | None) -> None:
    """Raise InputError if a file or a set of the driver has another digest on this node."""
    if expected != found:
        raise InputError(
            f"{what} is not the same on the node {socket.gethostname()} as on the driver: expected the digest "
            f"{str(expected)[:12]}, found {str(found)[:12]}. Give every node the same files; the same command then "
            "resumes"
        )


def check_source(store: Store, key: str) -> None:
    """Raise InputError if a file that the driver has seen in ``store`` does not exist on this node."""
    if not store.exists(key):
        raise InputError(
            f"{store.uri(key)} was listed by the driver and does not exist on the node {socket.gethostname()}: the "
            f"nodes do not share {store.root}. Set data.pseudo.labels to a folder that all nodes see under one path, "
            "or to s3://bucket/prefix; the same command then resumes"
        )


def check_commits(store: Store, missing: Sequence[str]) -> None:
    """Raise InputError if actors have committed units that the driver does not see."""
    if missing:
        raise InputError(
            f"{len(missing)} units (the first: {missing[0]}) are done and not in {store.root}: the nodes that did them "
            "do not share that folder with this one. Set output to a folder that all nodes see under one path, or to "
            "s3://bucket/prefix"
        )


def committed(store: Store, units: Sequence[str]) -> set[str]:
    """Ids of all committed units; ``units`` must be among them.

    Those that the listing lacks are asked for one by one: a mount may show a folder as it was some seconds ago.

    Raises:
        InputError: actors have committed some of ``units``, and the driver does not see them.
    """
    listed = commits.committed_units(store)
    late = {name for name in units if name not in listed and store.exists(commits.commit_key(name))}
    check_commits(store, [name for name in units if name not in listed and name not in late])
    return listed | late
