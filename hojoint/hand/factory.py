"""Which hand the settings name: MANO from its file or the stand-in, the built-in layer or manopth's."""

from __future__ import annotations

from hojoint.config import ManoConfig
from hojoint.hand.layer import HandLayer, ManoLayer
from hojoint.hand.model import HandModel, load_mano
from hojoint.hand.stand_in.model import stand_in_model


def hand_model(config: ManoConfig) -> HandModel:
    """The model that the settings name: MANO from its file, or the stand-in hand."""
    if config.path is not None:
        return load_mano(config.path)
    return stand_in_model()


def hand_layer(config: ManoConfig) -> HandLayer:
    """The layer that the settings name; the two are interchangeable.

    Raises:
        InputError: the MANO file or the fingertip set does not exist, or manopth is asked for and not installed.
    """
    model = hand_model(config)
    if config.layer == "builtin":
        return ManoLayer(model, flat_hand_mean=config.flat_hand_mean, fingertips=config.fingertips)
    from hojoint.hand.manopth import ManopthLayer  # only here: manopth is optional

    return ManopthLayer(model, flat_hand_mean=config.flat_hand_mean, fingertips=config.fingertips)
