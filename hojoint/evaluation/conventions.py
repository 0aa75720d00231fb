"""In which unit, camera frame and joint order a submission was written, found by comparing it with the truth.

A file in millimetres, in the other camera frame or joint order gets official scores that say nothing about the
predictions. Such a file is converted and the conversion is said; where the comparison leaves a doubt, it stays as is.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hojoint.evaluation.metrics import centred
from hojoint.hand.model import MANO_TO_SIMPLE, SIMPLE_TO_MANO
from hojoint.rows import evenly

Layout = Literal["ho3d", "freihand"]

# N samples, P points.

CLEAR = 2.0
"""A reading must fit the truth this many times better than every other one that changes as little."""
AGREEING = 0.9
"""And better in this share of the samples."""
_LOOKED_AT = 1000  # samples, evenly spaced; the convention is that of the file
_UNITS = {1000.0: "millimetres", 100.0: "centimetres"}
_FRAMES = {"y and z": (1.0, -1.0, -1.0), "x and y": (-1.0, -1.0, 1.0), "x and z": (-1.0, 1.0, -1.0)}
"""Axes that are turned round; two at a time, because one alone would be a mirrored hand."""
_MIRRORS = {"x": (-1.0, 1.0, 1.0), "y": (1.0, -1.0, 1.0), "z": (1.0, 1.0, -1.0), "x, y and z": (-1.0, -1.0, -1.0)}
"""Mirrored hands: named where they fit, never converted, for they are other hands and no other frame."""
_SIGNS = {**_FRAMES, **_MIRRORS}
_AXES = {"ho3d": "OpenGL's (y up, z backward)", "freihand": "OpenCV's (y down, z forward)"}
_ORDERS = {"ho3d": "MANO's (index, middle, pinky, ring, thumb, tips)", "freihand": "FreiHAND's (thumb to pinky)"}
_OTHER = {"ho3d": "freihand", "freihand": "ho3d"}
_REORDER = {"ho3d": SIMPLE_TO_MANO, "freihand": MANO_TO_SIMPLE}


@dataclass(frozen=True)
class _Reading:
    """One way to read points: which axes turn round, and whether the joints are in the other order."""

    frame: str | None  # of _FRAMES or _MIRRORS
    reordered: bool

    @property
    def changes(self) -> int:
        return (self.frame is not None) + self.reordered

    def apply(self, points: np.ndarray, order: Sequence[int]) -> np.ndarray:
        signs = np.array(_SIGNS[self.frame]) if self.frame else 1.0
        return (points[:, order] if self.reordered else points) * signs


_AS_IT_STANDS = _Reading(None, False)


def joints_as_meant(pred: np.ndarray, true: np.ndarray, layout: Layout) -> tuple[np.ndarray, list[str]]:
    """Joints (N, 21, 3) in the truth's metres, frame and order, and a sentence for each thing that was converted.

    Both are given as their files have them; the root is point 0 in either order.
    """
    unit, notes = _unit("joints", _sizes(_about_wrist(pred)), _sizes(_about_wrist(true)))
    pred, order, some = pred / unit, _REORDER[layout], evenly(len(pred), _LOOKED_AT)
    readings = [_Reading(frame, other) for frame, other in itertools.product((None, *_FRAMES), (False, True))]
    about = _about_wrist(pred[some]), _about_wrist(true[some])
    fits = _fits(*about, readings, order)
    chosen, doubt = _chosen(fits)
    fits |= _fits(*about, [_Reading(axes, other) for axes, other in itertools.product(_MIRRORS, (False, True))], order)
    return chosen.apply(pred, order), notes + _explained("joints", chosen, doubt, fits, layout)


def vertices_as_meant(pred: np.ndarray, true: np.ndarray, layout: Layout) -> tuple[np.ndarray, list[str]]:
    """As ``joints_as_meant`` for vertices (N, V, 3), about their centres; a frame is found only for one V."""
    unit, notes = _unit("vertices", _sizes(centred(pred)), _sizes(centred(true)))
    pred, some = pred / unit, evenly(len(pred), _LOOKED_AT)
    if pred.shape[1] != true.shape[1]:
        return pred, notes
    about = centred(pred[some]), centred(true[some])
    fits = _fits(*about, [_Reading(frame, False) for frame in (None, *_FRAMES)])
    chosen, doubt = _chosen(fits)
    fits |= _fits(*about, [_Reading(axes, False) for axes in _MIRRORS])
    return chosen.apply(pred, ()), notes + _explained("vertices", chosen, doubt, fits, layout)


def collapsed(joints: np.ndarray) -> str | None:
    """A sentence on samples whose joints (N, 21, 3) all lie at one point: nothing was predicted there; or None."""
    empty = (np.ptp(joints, axis=1) == 0).all(1)
    if not empty.any():
        return None
    zeros = " (zeros)" if not joints[empty].any() else ""
    return (
        f"{empty.sum()} of {len(joints)} samples have all joints at one point{zeros}, first sample {empty.argmax()}: "
        "nothing was predicted there; they are scored as they stand"
    )


def _sizes(points: np.ndarray) -> np.ndarray:
    """(N,) mean distance from the origin."""
    return np.linalg.norm(points, axis=-1).mean(1)


def _about_wrist(joints: np.ndarray) -> np.ndarray:
    return joints - joints[:, :1]


def _fits(
    pred: np.ndarray, true: np.ndarray, readings: Sequence[_Reading], order: Sequence[int] = ()
) -> dict[_Reading, np.ndarray]:
    """Reading -> mean distance of the points of each sample (N,), m, of points (N, P, 3) about their roots."""
    return {reading: np.linalg.norm(reading.apply(pred, order) - true, axis=-1).mean(1) for reading in readings}


def _unit(name: str, pred: np.ndarray, true: np.ndarray) -> tuple[float, list[str]]:
    """Units per metre, from the sizes (N,) of the hands, and a note where that is not 1."""
    ratios = pred[(pred > 0) & (true > 0)] / true[(pred > 0) & (true > 0)]
    if not len(ratios):
        return 1.0, []
    middle = float(np.median(ratios))
    for unit, word in _UNITS.items():
        if ((ratios > unit / 2) & (ratios < unit * 2)).mean() >= AGREEING:
            return unit, [
                f"{name} are in {word}, expected metres: predicted hands have {middle:.0f} times the size of the "
                f"true ones; divided by {unit:.0f}"
            ]
    if 0.5 < middle < 2:
        return 1.0, []
    return 1.0, [
        f"predicted hands have {middle:.3g} times the size of the true ones ({name}), which is no unit; expected "
        "metres; scored as it stands"
    ]


def _chosen(fits: Mapping[_Reading, np.ndarray]) -> tuple[_Reading, _Reading | None]:
    """The reading to use, and one that fits better but not clearly; from the errors (N,) of each."""
    typical = {reading: float(np.median(errors)) for reading, errors in fits.items()}
    best = min(typical, key=lambda reading: (typical[reading], reading.changes))
    for reading in sorted(typical, key=lambda one: (one.changes, typical[one])):
        others = [other for other in typical if other != reading]
        if any(typical[other] * CLEAR <= typical[reading] for other in others):
            continue  # clearly worse than another
        if reading == _AS_IT_STANDS:
            break
        rivals = [other for other in others if other.changes <= reading.changes]
        clear = all(typical[reading] * CLEAR <= typical[other] for other in rivals)
        if clear and float((fits[reading] < fits[_AS_IT_STANDS]).mean()) >= AGREEING:
            return reading, None
        break
    return _AS_IT_STANDS, best if typical[best] < 0.9 * typical[_AS_IT_STANDS] else None


def _mirror(fits: Mapping[_Reading, np.ndarray]) -> _Reading | None:
    """The mirrored reading that fits clearly better than every one that is not mirrored, if any."""
    typical = {reading: float(np.median(errors)) for reading, errors in fits.items()}
    mirrored = [reading for reading in fits if reading.frame in _MIRRORS]
    best = min(mirrored, key=lambda reading: (typical[reading], reading.changes))
    others = [typical[reading] for reading in fits if reading.frame not in _MIRRORS]
    return best if typical[best] * CLEAR <= min(others) and typical[best] < min(others) else None


def _explained(
    name: str, chosen: _Reading, doubt: _Reading | None, fits: Mapping[_Reading, np.ndarray], layout: Layout
) -> list[str]:
    """Sentences on what was converted or left in doubt, with how well each reading fits."""

    def fit(reading: _Reading) -> str:
        return f"{1000 * float(np.median(fits[reading])):.1f} mm"

    if chosen == _AS_IT_STANDS and (mirror := _mirror(fits)) is not None:
        order = " in another order" if mirror.reordered else ""
        return [
            f"{name} are mirrored{order}: they fit the truth to {fit(_AS_IT_STANDS)} as they stand and to "
            f"{fit(mirror)} with {mirror.frame} mirrored; they are left hands, or a sign is wrong where they were "
            "written; scored as they stand"
        ]
    if doubt is not None:
        what = " and ".join(
            [*([f"{doubt.frame} turned round"] if doubt.frame else []), *(["another order"] if doubt.reordered else [])]
        )
        return [
            f"{name} fit the truth to {fit(_AS_IT_STANDS)} as they stand and to {fit(doubt)} with {what}, which is not "
            "clearly better; scored as they stand"
        ]
    notes = []
    other = _OTHER[layout]
    numbers = f"root-aligned they fit the truth to {fit(chosen)}, {fit(_AS_IT_STANDS)} as they stand"
    if chosen.frame is not None:
        axes = f"{_AXES[other]}" if chosen.frame == "y and z" else f"those with {chosen.frame} turned round"
        notes.append(
            f"{name} are in another camera frame: the axes are {axes}, expected {_AXES[layout]}; turned ({numbers})"
        )
    if chosen.reordered:
        notes.append(f"{name} are in {_ORDERS[other]} order, expected {_ORDERS[layout]}; reordered ({numbers})")
    return notes
