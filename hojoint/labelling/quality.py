"""The chance that a predicted frame's label is correct, from all its scores together; ours.

Each score has a curve: piecewise linear, never worse for a better score. The curves' values add up, and a last monotone
curve turns the sum into a chance; so a frame that is better in one score and as good in all others never has a lower
chance. A model is a plain JSON file with the knots of its curves. It holds for the readings with which its scores were
made, which it names, and for a teacher like the one it was fitted with. Not here: fitting one
(``evaluation.quality_fit``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from hojoint.config import HIGHER_IS_BETTER, THRESHOLDS, FilterConfig, Score, TtaConfig, to_tree
from hojoint.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

FORMAT, VERSION = "hojoint.quality", 1
READINGS = (
    *("reprojection_norm", "bone_reference", "min_angle_deg", "max_angle_deg", "joint_angle", "pose_step"),
    *("neighbour", "shape_rule", "shape_min_frames"),
)
"""Settings of FilterConfig that change what a score is."""
OF_VIEWS = ("tta.views", "tta.rotation_deg", "tta.scale", "tta.shift")
"""Beside them: the settings that change what a spread of the views is. Models of earlier versions do not name them."""
SPREADS = frozenset({"view_spread", "rotation_spread"})
"""Scores that depend on ``OF_VIEWS``."""
CONFIDENT = "confident"
"""Beside them: the rules and thresholds of the frames from which a clip's betas are learnt (``shape_spread``)."""
SCORES: tuple[Score, ...] = get_args(Score)
"""What a model may look at."""
NETWORK_ONLY = frozenset({"view_spread", "rotation_spread", "side"})
"""Scores that only a network and its views give."""


@dataclass(frozen=True)
class Curve:
    """What one score adds, in log odds."""

    scores: tuple[float, ...]  # knots in the score's own unit, ascending
    gains: tuple[float, ...]  # at the knots; constant beyond them
    missing: float  # where the score is NaN

    def of(self, score: np.ndarray) -> np.ndarray:
        """(T,) gains of scores (T,)."""
        known = ~np.isnan(score)
        return np.where(known, np.interp(np.where(known, score, 0.0), self.scores, self.gains), self.missing)


@dataclass(frozen=True)
class QualityModel:
    """Curves of the scores, and the curve from their sum to a chance."""

    parts: Mapping[str, Curve]  # score -> its curve
    bias: float
    logits: tuple[float, ...]  # knots, ascending
    chances: tuple[float, ...]  # at the knots, in [0, 1]; constant beyond them
    readings: Mapping[str, Any]  # settings of READINGS and OF_VIEWS with which the scores were made
    about: Mapping[str, Any] = field(default_factory=dict)  # what it was fitted on and what it promises; plain numbers

    def logit(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        """(T,) sums of the curves; ``scores`` maps each score of ``parts``, and maybe others, to (T,)."""
        total = np.full(len(next(iter(scores.values()))), self.bias)
        for name, part in self.parts.items():
            total += part.of(scores[name])
        return total

    def quality(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        """(T,) chances in [0, 1]; arguments as for ``logit``."""
        return np.interp(self.logit(scores), self.logits, self.chances)

    def to_bytes(self) -> bytes:
        """The JSON file."""
        return json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, indent=1, sort_keys=True).encode()

    def check(
        self,
        config: FilterConfig,
        *,
        network: bool = True,
        side_head: bool = True,
        views: Mapping[str, Any] | None = None,
    ) -> None:
        """Raise InputError where the model cannot tell anything about scores made so.

        Args:
            config: readings of the scores.
            network: whether a network and its views gave the scores; ``filter_clip`` knows a prediction alone.
            side_head: whether that network tells the side, or every side is given.
            views: ``views_of`` the scores; what it does not name is not compared.
        """
        used = readings_of(config)
        for name, fitted in self.readings.items():
            if name in READINGS and used[name] != fitted:
                raise InputError(
                    f"filters.quality_model was fitted on scores with filters.{name}={fitted}, and these are made with "
                    f"{used[name]}; set filters.{name}={fitted}, or fit another model with jobs.calibrate"
                )
        self._check_confident(config, used[CONFIDENT])
        self._check_views(views or {})
        absent = NETWORK_ONLY if not network else frozenset() if side_head else frozenset({"side"})
        if needed := sorted(absent & self.parts.keys()):
            others = ",".join(name for name in SCORES if name not in absent)
            raise InputError(
                f"filters.quality_model needs the score{'s'[: len(needed) > 1]} {', '.join(needed)}, which nothing "
                f"gives here; fit a model without {'it' if len(needed) == 1 else 'them'} by jobs.calibrate "
                f"calibrate.quality_scores=[{others}], or label with a network that gives "
                f"{'it' if len(needed) == 1 else 'them'}"
            )

    def _check_views(self, used: Mapping[str, Any]) -> None:
        """The spread of other views is another score."""
        if not SPREADS & self.parts.keys():
            return
        for name in OF_VIEWS:
            if name in self.readings and name in used and used[name] != self.readings[name]:
                raise InputError(
                    f"filters.quality_model looks at the spread of the views and was fitted with {name}="
                    f"{self.readings[name]}, and these frames have {name}={used[name]}; label with {name}="
                    f"{self.readings[name]}, or fit another model with jobs.calibrate"
                )

    def _check_confident(self, config: FilterConfig, used: Mapping[str, float]) -> None:
        """Where the quality decides, the scores that depend on thresholds must come from those of the fit."""
        fitted = self.readings.get(CONFIDENT, used)  # models of earlier versions do not tell
        asked = {"shape_spread"} | ({"joint_step", "pose_step"} if config.neighbour == "valid" else set())
        if config.mode != "quality" or fitted == used or not asked & self.parts.keys():
            return
        names = sorted(name for name in {*fitted, *used} if fitted.get(name) != used.get(name))
        was, now = (", ".join(f"{name} {side.get(name, 'off')}" for name in names) for side in (fitted, used))
        raise InputError(
            "filters.quality_model was fitted on clips whose betas were learnt from frames that pass other rules or "
            f"thresholds than these: then {was}; now {now}. Set filters.enabled and those thresholds as they were, "
            "or fit another model with jobs.calibrate"
        )


def read(data: bytes, name: str) -> QualityModel:
    """A model from the content of its file; ``name`` stands in messages.

    Raises:
        InputError: it is no such file, of another version, or damaged: its curves must be finite and monotone.
    """
    try:
        tree = json.loads(data)
        known = tree["format"] == FORMAT
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise InputError(f"filters.quality_model={name} is not a quality.json of jobs.calibrate")
    if tree.get("version") != VERSION:
        raise InputError(
            f"filters.quality_model={name} has version {tree.get('version')}, expected {VERSION}; make it again with "
            "jobs.calibrate"
        )
    try:
        parts = {
            name: Curve(_numbers(part["scores"]), _numbers(part["gains"]), float(part["missing"]))
            for name, part in tree["parts"].items()
        }
        model = QualityModel(
            parts=parts,
            bias=float(tree["bias"]),
            logits=_numbers(tree["logits"]),
            chances=_numbers(tree["chances"]),
            readings=dict(tree["readings"]),
            about=dict(tree["about"]),
        )
        fault = _fault(model)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        fault = f"{type(error).__name__}: {error}"
    if fault is not None:
        raise InputError(f"filters.quality_model={name} is damaged ({fault}); make it again with jobs.calibrate")
    return model


def load(path: str | Path) -> QualityModel:
    """A model from a local file. Raises InputError as ``read``, and where the file is missing."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read filters.quality_model={path}: {error.strerror}") from None
    return read(data, str(path))


def without_model() -> InputError:
    """What is raised where ``filters.mode=quality`` has no model to decide by."""
    return InputError(
        "filters.mode=quality decides by filters.quality_model, which is not set; give the quality.json that "
        "jobs.calibrate writes, or set filters.mode=thresholds"
    )


def readings_of(config: FilterConfig) -> dict[str, Any]:
    """The settings of ``READINGS``, and under ``CONFIDENT`` the threshold of each rule that counts there."""
    tree = to_tree(config)
    confident = {rule: tree[THRESHOLDS[rule]] for rule in config.enabled if rule != "shape_spread"}
    return {**{name: tree[name] for name in READINGS}, CONFIDENT: confident}


def views_of(config: TtaConfig) -> dict[str, Any]:
    """The settings of ``OF_VIEWS``."""
    return {f"tta.{name}": value for name, value in to_tree(config).items()}


def inputs_of(scores: Mapping[str, Tensor], rotation_spread: Tensor) -> dict[str, np.ndarray]:
    """What a model takes, (T,) float64 each: the scores of the rules, and the spread of the views' rotations."""
    named = {**scores, "rotation_spread": rotation_spread}
    return {name: score.detach().cpu().double().numpy() for name, score in named.items()}


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _fault(model: QualityModel) -> str | None:
    """What is wrong with the curves; None where nothing is."""
    for name, part in model.parts.items():
        if name not in SCORES:
            return f"{name} is no score"
        sign = 1 if name in HIGHER_IS_BETTER else -1
        if not _is_curve(part.scores, [sign * gain for gain in part.gains]) or not np.isfinite(part.missing):
            return f"the curve of {name} is not monotone"
    chances_fit = all(0 <= chance <= 1 for chance in model.chances)
    if not _is_curve(model.logits, model.chances) or not chances_fit or not np.isfinite(model.bias):
        return "the curve of the chances is not monotone in [0, 1]"
    if set(model.readings) - {CONFIDENT, *OF_VIEWS} != set(READINGS):
        return "it does not name the readings of its scores"
    return None


def _is_curve(across: Any, up: Any) -> bool:
    """Whether both have one length, all is finite, ``across`` ascends and ``up`` never descends."""
    a, b = np.asarray(across, float), np.asarray(up, float)
    ordered = len(a) == len(b) > 0 and bool((np.diff(a) > 0).all() and (np.diff(b) >= 0).all())
    return ordered and bool(np.isfinite(a).all() and np.isfinite(b).all())
