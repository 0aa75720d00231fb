"""The labelling of a calibration: in this process or, on a cluster, in one task with the resources of a Teacher.

The driver of a job on a cluster runs on the head, which often has no GPU and is to do no work. Not here: how sequences
are labelled (hojoint.evaluation.sequence_labels), what their labels are worth (jobs.calibrate).
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import ray

from cluster import capacity, session, waiting
from cluster import progress as board
from cluster.capacity import Need
from cluster.labelling import sharing, stalls, units
from cluster.sources import mirror
from cluster.store import read_uri
from hojoint.config import Config
from hojoint.evaluation import sequence_labels
from hojoint.model import opening

RETRIES = 3  # of a task whose node is lost; it begins again

Labelled = tuple[pa.Table, pa.Table, Config]


def needs(config: Config) -> list[Need]:
    """What must fit into a cluster; in this process nothing must."""
    size = config.cluster
    return [] if size.address is None else [Need("calibrating tasks", 1, size.teacher_cpus, size.teacher_gpus)]


def label_sequences(config: Config, frames: int) -> Labelled:
    """``sequence_labels.label_sequences`` of ``frames`` frames; the settings that it returns name files of this node.

    Raises:
        InputError: the cluster cannot hold the task, or its node has another hand model.
        Unavailable: nothing was labelled for long, or the task's nodes were lost too often.
    """
    assert config.teacher.checkpoint is not None
    teacher = read_uri(config.teacher.checkpoint)
    if config.cluster.address is None:
        near = mirror.localised(config, "mano", "data.ho3d")
        with board.Bar("labelling", "frame", total=frames) as bar:
            return sequence_labels.label_sequences(near, teacher, bar.advance)
    # With paths of this node: those of the task's node mean nothing here.
    _, merged, _ = opening.open_teacher(teacher, config, near=mirror.with_hand)
    with session.start(config.cluster):
        predictions, truth = _on_a_node(config, teacher, frames, units.hand_digest(merged))
    return predictions, truth, mirror.localised(merged, "mano", "data.ho3d")


def _on_a_node(config: Config, teacher: bytes, frames: int, hand_sha256: str) -> tuple[pa.Table, pa.Table]:
    size = config.cluster
    capacity.feasibility(size, needs(config))
    watched = board.new_board()
    task = ray.remote(num_cpus=size.teacher_cpus, num_gpus=size.teacher_gpus, max_retries=RETRIES)(_label)
    watch = stalls.Watch(board.signs_of(watched), resumes=stalls.SAME_COMMAND)
    with board.Progress(watched, "labelling", "frame", total=frames, text=lambda state: ""):
        future = task.remote(config, teacher, hand_sha256, watched)
        (done,) = waiting.first_done([future], watch.look)
        predictions, truth = waiting.result(done)
    return predictions, truth


def _label(config: Config, teacher: bytes, hand_sha256: str, watched: Any) -> tuple[pa.Table, pa.Table]:
    """The task: predictions and truth. ``hand_sha256`` is the digest of the driver's hand, which poses them."""
    sharing.check_hand(config, hand_sha256)  # before the work, where the settings name the file
    with waiting.full_disk_named():
        near = mirror.localised(config, "mano", "data.ho3d")
        predictions, truth, merged = sequence_labels.label_sequences(
            near, teacher, lambda count: watched.add.remote(done=count)
        )
    sharing.check_hand(merged, hand_sha256)
    return predictions, truth
