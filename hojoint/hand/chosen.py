"""Which hand model the settings name; loads no torch, for a driver needs its digest and never poses it."""

from __future__ import annotations

import numpy as np

from hojoint.config import ManoConfig
from hojoint.hand.model import HandModel, load_mano
from hojoint.hand.stand_in.model import stand_in_model


def hand_model(config: ManoConfig) -> HandModel:
    """The model that the settings name: MANO from its file, or the stand-in hand.

    Raises:
        InputError: as ``load_mano``.
    """
    if config.path is not None:
        return load_mano(config.path)
    return stand_in_model()


def added_mean(config: ManoConfig) -> np.ndarray | None:
    """What the reader of HO-3D adds to the fingers of labelled poses, (45,) rad; None where they are complete.

    Raises:
        InputError: as ``load_mano``.
    """
    return None if config.flat_hand_mean else hand_model(config).hands_mean
