"""Whether a pipeline has the user's data or draws a synthetic world, and whether the nodes would see that world.

With an output in object storage and no ``world``, the world lies in the folder for temporary files, which nodes on
other machines do not share. Such a run is refused before any work, by the nodes of its cluster. Not here: what the data
are (``inputs``), a folder that turns out not to be shared (``cluster.synthesis``).
"""

from __future__ import annotations

from cluster import capacity, session
from hojoint.config import Config
from hojoint.errors import InputError

DRAWING = ("pipeline", "study")
"""Jobs that draw a world where no data are given."""


def labelled_sets(config: Config) -> tuple[str, ...]:
    """The labelled sets of ``train.datasets``; HO-3D where it names pseudo-labels alone."""
    return tuple(name for name in config.train.datasets if name != "pseudo") or ("ho3d",)


def has_own_data(config: Config) -> bool:
    """Whether labelled images and videos are given, so that no world is drawn.

    Raises:
        InputError: some are given and some are not: synthetic data beside real data would teach about neither.
    """
    sets = {name: getattr(config.data, name) for name in labelled_sets(config)}
    needed = {f"data.{name}.root": group.root for name, group in sets.items()}
    needed |= {"videos.root": config.videos.root, "videos.boxes": config.videos.boxes}
    missing = [name for name, value in needed.items() if value is None]
    # Shards are what a network trains on. They take no root's place: a pipeline measures and calibrates on files.
    given = [
        *(f"data.{name}.shards" for name, group in sets.items() if group.shards is not None),
        *(name for name in needed if name not in missing),
    ]
    if given and missing:
        raise InputError(
            f"{' and '.join(given)} given without {' and '.join(missing)}: a pipeline takes your labelled images and "
            f"your videos together. Give {' '.join(f'{name}=...' for name in missing)} too, or none of them for the "
            "synthetic world"
        )
    return not missing


def refuse_hidden_world(config: Config, job: str) -> None:
    """InputError where ``job`` would draw a world that only one node of a cluster of several machines sees."""
    if _hides_world(config, job):
        raise InputError(_message(config, "other nodes do not see it"))


def refuse_hidden_world_here(config: Config, job: str) -> None:
    """The same for a job at its start, by the nodes of the cluster that it is attached to."""
    if config.cluster.address is None or not _hides_world(config, job):
        return
    with session.start(config.cluster):
        others = capacity.other_machines()
    if others:
        raise InputError(_message(config, f"it is not seen by {', '.join(others[:3])}"))


def _hides_world(config: Config, job: str) -> bool:
    drawn = job in DRAWING and config.world is None and not has_own_data(config)
    return drawn and "://" in (config.output or "")


def _message(config: Config, why: str) -> str:
    roots = [f"data.{name}.root=..." for name in labelled_sets(config)]
    places, data = "world=DIR or output=DIR", f", or your own data ({' '.join(roots)} videos.root=... videos.boxes=...)"
    if config.study.own_worlds:  # a world per seed is neither one world nor the user's data
        places, data = "output=DIR", ""
    return (
        f"no data are given, so the synthetic world is drawn; with output={config.output} it lies in the folder for "
        f"temporary files of one node, and {why}. Give {places}, a folder that all nodes see under one path{data}"
    )
