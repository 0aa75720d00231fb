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
from hojoint.config import Config, changed
from hojoint.evaluation import sequence_labels

RETRIES = 3  # of a task whose node is lost; it begins again

Labelled = tuple[pa.Table, pa.Table, Config]


def label_sequences(config: Config, frames: int) -> Labelled:
    """``sequence_labels.label_sequences`` of ``frames`` frames; the settings that it returns name files of this node.

    Raises:
        InputError: the cluster cannot hold the task, or its node has another hand model or other data.
        Unavailable: nothing was labelled for long, or the task's nodes were lost too often.
    """
    assert config.teacher.checkpoint is not None
    teacher = read_uri(config.teacher.checkpoint)
    if config.cluster.address is None:
        near = mirror.localised(config, "mano", "data.ho3d")
        with board.Bar("labelling", "frame", total=frames) as bar:
            return sequence_labels.label_sequences(near, teacher, bar.advance)
    with session.start(config.cluster):
        predictions, truth, merged = _on_a_node(config, teacher, frames)
    # The checkpoint's settings, with the user's places: those of that node mean nothing here.
    merged = changed(merged, mano={"path": config.mano.path}).model_copy(update={"data": config.data})
    return predictions, truth, mirror.localised(merged, "mano", "data.ho3d")


def _on_a_node(config: Config, teacher: bytes, frames: int) -> Labelled:
    size = config.cluster
    capacity.feasibility(size, [Need("calibrating tasks", 1, size.teacher_cpus, size.teacher_gpus)])
    watched = board.new_board()
    task = ray.remote(num_cpus=size.teacher_cpus, num_gpus=size.teacher_gpus, max_retries=RETRIES)(_label)
    watch = stalls.Watch(board.signs_of(watched), resumes=stalls.SAME_COMMAND)
    with board.Progress(watched, "labelling", "frame", total=frames, text=lambda state: ""):
        future = task.remote(config, teacher, units.hand_digest(config), watched)
        (done,) = waiting.first_done([future], watch.look)
        labelled: Labelled = waiting.result(done)
    return labelled


def _label(config: Config, teacher: bytes, hand_sha256: str, watched: Any) -> Labelled:
    """The task."""
    sharing.check_hand(config, hand_sha256)
    with waiting.full_disk_named():
        near = mirror.localised(config, "mano", "data.ho3d")
        return sequence_labels.label_sequences(near, teacher, lambda count: watched.add.remote(done=count))
