"""The labelling of Sec. 5.1 run on HO-3D's sequences, where the truth is known: predictions and their truth.

The steps are exactly those of unlabelled videos (views, camera, rules, the vote on the side), so what is measured here
holds for them. One process, clip after clip; ``cluster.labelling`` spreads the labelling of videos over a cluster.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import torch

from hojoint.config import Config
from hojoint.datasets import sequences
from hojoint.datasets.ho3d import HO3D
from hojoint.hand.factory import hand_layer
from hojoint.labelling import labels, tables, tta
from hojoint.model import opening


def open_split(config: Config) -> HO3D:
    """The split of ``calibrate.split``. Raises InputError where its list is missing, or no recordings are held out."""
    return HO3D(config.data.ho3d, config.calibrate.split, config.crop, held_out=config.train.held_out)


def label_sequences(
    config: Config, teacher: bytes, progress: Callable[[int], None]
) -> tuple[pa.Table, pa.Table, Config]:  # fmt: skip
    """Predictions table, truth table (columns of ``label_quality``), and the config with the checkpoint's settings.

    Args:
        config: ``data.ho3d`` and ``calibrate`` select the frames; ``cluster.teacher_gpus`` above 0 takes the GPU.
        teacher: content of a checkpoint.
        progress: called with the number of frames of each finished clip.
    """
    network, config, sha256 = opening.open_teacher(teacher, config)
    torch.set_num_threads(config.cluster.threads or max(1, int(config.cluster.teacher_cpus)))
    predictor = tta.HandPredictor(
        network,
        hand_layer(config.mano),
        config.crop,
        config.tta,
        "cuda" if config.cluster.teacher_gpus > 0 else "cpu",
        config.labelling.batch_views,
        precision=config.labelling.precision,
    )
    dataset = open_split(config)
    rules = config.filters.model_copy(update={"mode": "thresholds"})  # scores do not depend on it
    least = config.labelling.min_clip_frames
    clips = sequences.sequence_clips(dataset, config.calibrate, sequences.copies_of(config), least)
    predictions, truths = [], []
    for clip, frames, truth in sequences.load(dataset, clips):
        labelled = labels.label_clips(
            predictor, [clip], [frames], filter_config=rules, labelling=config.labelling, teacher=sha256
        )
        predictions.append(tables.predictions_table(labelled))
        truths.append(truth)
        progress(len(clip.frames))
    return pa.concat_tables(predictions), pa.concat_tables(truths), config
