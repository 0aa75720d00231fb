"""The synthetic world drawn in parallel: one Ray task per piece (a sequence, a video, a handful of test images).

A piece derives from the seed and its number, so the result does not depend on which worker draws it, or on how many
attempts that takes. What a piece is and how it is written: ``hojoint.synthetic.write``.
"""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

import ray

from cluster import locks, session, waiting
from cluster.labelling.stalls import Watch
from cluster.progress import Bar
from hojoint.config import Config
from hojoint.errors import InputError
from hojoint.synthetic import write
from hojoint.synthetic.write import Piece

ATTEMPTS = 3  # of a piece whose worker died


def synthesize(config: Config) -> int:
    """Write the world that ``config`` describes, or its missing pieces; returns the number of pieces drawn.

    Of several processes one draws and the others wait.

    Raises:
        InputError: a node does not see the world's folder.
        Unavailable: a disk is full, or nothing is drawn any more.
    """
    if write.is_complete(config):
        return 0
    with locks.alone(write.world_of(config), "draws the world", wait=True):
        if write.is_complete(config):  # the one that was waited for drew it
            return 0
        todo = write.missing_pieces(config)
        if todo:
            with session.start(config.cluster):
                _draw(config, todo)
        write.finish(config)
    return len(todo)


def _draw(config: Config, todo: list[Piece]) -> None:
    mark = _marked(config)
    pending = {_piece.remote(piece, config, mark): piece for piece in todo}
    total = sum(write.frames_of(piece, config) for piece in todo)
    watch = Watch(resumes="The same command draws what is missing")
    with Bar("drawing the world", "frame", total=total) as bar:
        while pending:
            for done in waiting.first_done(pending, watch.look):
                waiting.result(done)
                watch.finished(None)
                bar.advance(write.frames_of(pending.pop(done), config))


def _marked(config: Config) -> Path:
    """A file in the world's folder that a node sees only where it shares the folder; it goes with the notes."""
    folder = write.notes_of(config)
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / f"driver-{uuid.uuid4().hex}"
    mark.touch()
    return mark


@ray.remote(num_cpus=1, max_retries=ATTEMPTS)
def _piece(piece: Piece, config: Config, mark: Path) -> None:
    import cv2
    import torch

    if not mark.exists():
        raise InputError(
            f"{write.world_of(config)} is not the driver's folder on the node {socket.gethostname()}: the nodes do not "
            "share it. Set world to a folder that all nodes see under one path; the same command then draws the world "
            "there"
        )
    cv2.setNumThreads(1)  # the task asks for one CPU
    torch.set_num_threads(1)
    with waiting.full_disk_named():
        write.write_piece(piece, config)
