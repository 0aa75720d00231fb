"""Which layer poses the hand that the settings name: the built-in one or manopth's."""

from __future__ import annotations

from hojoint.config import ManoConfig
from hojoint.hand.chosen import hand_model
from hojoint.hand.layer import HandLayer, ManoLayer


def hand_layer(config: ManoConfig) -> HandLayer:
    """The layer that the settings name; the two are interchangeable.

    It is always flat: readers complete the poses that are labelled relative to the mean hand.

    Raises:
        InputError: the MANO file or the fingertip set does not exist, or manopth is asked for and not installed.
    """
    model = hand_model(config)
    if config.layer == "builtin":
        return ManoLayer(model, fingertips=config.fingertips)
    from hojoint.hand.manopth import ManopthLayer  # only here: manopth is optional

    return ManopthLayer(model, fingertips=config.fingertips)
