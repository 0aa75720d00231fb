"""Settings that name files in object storage: hand model, boxes, labelled sets, weights; readers need them as files.

``localised`` returns the settings with paths of copies on this node, under ``cluster.cache``. Every process calls it
where it opens such data; the node copies once. Not here: copying (``copies``), videos, which are fetched one by one
(``fetching``).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from hojoint.config import Config

SETTINGS = (
    *("mano.path", "model.pretrained", "videos.boxes"),
    *("data.ho3d.root", "data.ho3d.segmentations", "data.ho3d.object_models"),
    *("data.freihand.root", "data.freihand.evaluation_root"),
    *("score.predictions", "score.truth", "demo.video", "demo.boxes"),
)
"""Settings whose value is copied where it begins with s3://."""
SIBLINGS = {
    "data.ho3d.segmentations": ("data.ho3d.root", "{root}_segmentations_rendered", None),
    "data.ho3d.object_models": ("data.ho3d.root", "{parent}/object_models", None),
    "data.freihand.evaluation_root": ("data.freihand.root", "{root}_eval", "evaluation_xyz.json"),
}
"""Setting -> the one whose neighbour it is where it is not set, the neighbour's name, and the file that makes the
neighbour needless where the other one holds it."""


def localised(config: Config, *groups: str) -> Config:
    """The settings with local paths in place of ``s3://`` URIs, for this process alone.

    Args:
        config: as the user set it; the settings that were given stay known as such.
        groups: beginnings of the names of settings that are needed, as in 'mano' or 'data.ho3d'.

    Raises:
        InputError: an object does not exist or cannot be read, or the cache cannot hold it.
    """
    near = config
    for name in SETTINGS:
        if name.startswith(groups):
            uri = operator.attrgetter(name)(config) or _sibling(name, config)
            if uri is not None and uri.startswith("s3://"):
                from cluster.sources import copies  # what lies in folders needs no boto3

                near = _with(near, name.split("."), copies.copy_of(uri, name, config.cluster.cache))
    return near


def with_hand(config: Config) -> Config:
    """``localised`` for the hand model alone."""
    return localised(config, "mano")


def _sibling(name: str, config: Config) -> str | None:
    """The neighbour that stands for a setting that is not set; None where object storage has none."""
    if name not in SIBLINGS:
        return None
    owner, pattern, unless = SIBLINGS[name]
    root = operator.attrgetter(owner)(config)
    if root is None or not root.startswith("s3://"):
        return None
    from cluster.sources import copies

    root = root.rstrip("/")
    if "/" not in root.removeprefix("s3://"):
        return None  # a complete bucket has no neighbour that these credentials and this rule could mean
    uri = pattern.format(root=root, parent=root.rpartition("/")[0])
    return copies.sibling(root, uri, name, unless)


def _with(group: Any, names: Sequence[str], value: str) -> Any:
    """A copy with one setting changed; which settings were given stays known."""
    first, *others = names
    return group.model_copy(update={first: _with(getattr(group, first), others, value) if others else value})
