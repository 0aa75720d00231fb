"""Which recordings of HO-3D a network has seen, in its own training and in those that it started from.

What ``train.held_out`` holds out is measured as unseen. So neither the weights that a training starts from nor a
teacher that is calibrated on these recordings may have seen them. A checkpoint names what its network has seen. One of
an earlier version does not: there the number that was held out counts, and the digest of these where it can be
compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cluster.training.data import HELD_OUT, TrainingData
from hojoint.datasets.recordings import recording_of
from hojoint.hand.identity import HAND
from hojoint.model import checkpoint, released
from hojoint.model.checkpoint import Checkpoint

SEEN = "seen"
"""Name of the list of recordings among a checkpoint's parents."""
SHOWN = 5  # recordings that a message names


@dataclass(frozen=True)
class Seen:
    """What is known of a network."""

    recordings: frozenset[str] | None  # seen in any training; None where an earlier version did not note them
    held_out: int | None  # train.held_out; None where HO-3D was in no training, or only in one before, whose are noted
    digest: str | None = None  # of the held-out recordings, where files of them can have the same


RELEASED = Seen(None, 0)
"""The authors' network: it was trained on the complete training split."""


@dataclass(frozen=True)
class Wanted:
    """Recordings that a network must not have seen."""

    count: int
    recordings: frozenset[str] = frozenset()  # empty where their list is not read yet
    digest: str | None = None  # as in ``Seen``


def of_checkpoint(saved: Checkpoint) -> Seen:
    """What the network of a checkpoint has seen."""
    train, noted, data = saved.config.train, saved.parents.get(SEEN), saved.parents.get("data", {})
    ho3d = "ho3d" in train.datasets
    if noted is None and not ho3d and train.init_checkpoint is None:
        noted = []
    # A digest of files differs from that of shards, and editions before the hand's covered less.
    alike = saved.config.data.ho3d.shards is None and HAND in data
    return Seen(
        None if noted is None else frozenset(noted),
        train.held_out if ho3d else 0 if noted is None else None,
        data.get(HELD_OUT) if alike else None,
    )


def of_file(content: bytes) -> Seen:
    """The same of a checkpoint's bytes, our own or the authors'; raises as ``checkpoint.load``."""
    read = released.read(content)
    return of_checkpoint(checkpoint.of_content(read, "the checkpoint")) if checkpoint.is_ours(read) else RELEASED


def after(data: TrainingData, before: Seen | None) -> list[str] | None:
    """The recordings that a network has seen after training on ``data``; None where those before it are not known.

    Args:
        before: what the initial weights have seen; None without such.
    """
    earlier = frozenset[str]() if before is None else before.recordings
    if earlier is None:
        return None
    own = (samples for name, samples in zip(data.names, data.sets, strict=True) if name == "ho3d")
    return sorted(earlier.union(*(recordings_of(samples.names) for samples in own)))


def recordings_of(names: Iterable[str]) -> frozenset[str]:
    """The recordings of some frames."""
    return frozenset(map(recording_of, names))


def fault(network: Seen, wanted: Wanted) -> str | None:
    """How the network was trained, where it has seen some of the recordings; None where nothing tells that."""
    if network.recordings is not None:
        both = sorted(network.recordings & wanted.recordings)
        more = f" and {len(both) - SHOWN} more" if len(both) > SHOWN else ""
        return f"on {', '.join(both[:SHOWN])}{more} of them (compared by name)" if both else None
    if network.held_out is not None and network.held_out < wanted.count:
        return f"with train.held_out={network.held_out}"
    compared = network.held_out == wanted.count and network.digest is not None and wanted.digest is not None
    if compared and network.digest != wanted.digest:
        return f"with others held out ({network.digest}, here {wanted.digest})"
    return None
