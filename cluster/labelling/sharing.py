"""Folders that the nodes of a cluster do not share: found out where a file is missing, and said as what it is.

The driver lists files and reads commits, Teachers on other nodes read and write them; a path that means another folder
there would otherwise look like broken videos, or like work that vanished. Not here: videos that are broken
(cluster.labelling.decoding).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from cluster.labelling.decoding import Failure
from cluster.store import Store
from hojoint.errors import InputError


def check_video(path: str, failure: Failure) -> None:
    """Raise InputError where a file that the driver listed is not on this node: that is no fault of the video."""
    if failure.kind == "missing" and not os.path.lexists(path):  # a link to nowhere is there
        raise InputError(
            f"{path} was listed by the driver and is not there on the node {socket.gethostname()}: the nodes do not "
            f"share {os.path.dirname(path)}, or the file was removed meanwhile. Give a videos.root that all nodes see "
            "under one path; the same command then goes on from here"
        )


def check_commits(store: Store, missing: Sequence[str]) -> None:
    """Raise InputError where there are units that a Teacher has committed and the driver does not see."""
    if missing:
        raise InputError(
            f"{len(missing)} units (as {missing[0]}) are done and not in {store.root}: the nodes that did them do not "
            "share that folder with this one. Give an output that all nodes see under one path, or s3://bucket/prefix"
        )
