"""The two domains: what varies in the synthetic world, and how far.

The labelled domain is narrow, the wild one wide; the test images come from the wild one with separate seeds.
All settings of the domain gap are here, in ``LABELLED`` and ``WILD``.
"""

from __future__ import annotations

from dataclasses import dataclass

from hojoint.synthetic import looks
from hojoint.synthetic.motion import View


@dataclass(frozen=True, kw_only=True)
class Domain:
    """What varies, and how far."""

    name: str
    subjects: int
    rooms: int  # different backgrounds and lamps; 0 for a new one in every shot
    tones: tuple[float, float]  # skin, 0 light to 1 dark
    shape_spread: float
    objects: tuple[str, ...]  # YCB stand-ins that appear
    wild_objects: float  # share of objects that are none of them
    view: View
    focal: tuple[float, float]  # in picture heights
    hand_share: tuple[float, float]  # length of the hand as a share of the picture's height
    wander: float  # how far from the middle the action is, in picture heights
    backgrounds: tuple[str, ...]
    calm: tuple[float, float]  # of backgrounds: 0 garish, 1 grey
    lamp: tuple[float, float]
    tint: float
    cone: float  # rad, spread of the lamp
    exposure: tuple[float, float]
    noise: tuple[float, float]
    soft: tuple[float, float]
    shutter: float  # share of the frame's time that the exposure lasts
    whole_hand: bool  # keep every joint inside the picture


LABELLED = Domain(
    name="labelled",
    subjects=4,
    rooms=6,
    tones=(0.05, 0.50),
    shape_spread=0.8,
    objects=("003_cracker_box", "006_mustard_bottle", "010_potted_meat_can", "021_bleach_cleanser", "025_mug",
             "011_banana", "004_sugar_box", "035_power_drill"),
    wild_objects=0.0,
    view=View(centre=(-0.35, 0.75, 0.55), cone=0.6, roll=0.8, turn=0.35, drift=0.25, key_frames=(6, 10),
              grasp_frames=(6, 10)),
    focal=(1.26, 1.30),
    hand_share=(0.36, 0.50),
    wander=0.10,
    backgrounds=("desk", "gradient", "cloud"),
    calm=(0.5, 0.9),
    lamp=(0.55, 0.75),
    tint=0.03,
    cone=0.5,
    exposure=(0.95, 1.05),
    noise=(0.0, 0.0),
    soft=(0.5, 0.7),
    shutter=0.2,
    whole_hand=True,
)  # fmt: skip

WILD = Domain(
    name="wild",
    subjects=64,
    rooms=0,
    tones=(0.0, 1.0),
    shape_spread=1.0,
    objects=("003_cracker_box", "006_mustard_bottle", "010_potted_meat_can", "025_mug", "011_banana",
             "035_power_drill"),
    wild_objects=0.6,
    view=View(centre=(-0.35, 0.75, 0.55), cone=0.9, roll=0.8, turn=0.22, drift=0.25, key_frames=(9, 16),
              grasp_frames=(16, 30)),
    focal=(0.8, 2.2),
    hand_share=(0.38, 0.75),
    wander=0.16,
    backgrounds=looks.BACKGROUNDS,
    calm=(0.35, 0.9),
    lamp=(0.45, 0.9),
    tint=0.06,
    cone=0.8,
    exposure=(0.85, 1.15),
    noise=(0.0, 5.0),
    soft=(0.4, 1.0),
    shutter=0.35,
    whole_hand=False,
)  # fmt: skip
