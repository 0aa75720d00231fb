"""All settings of a run as one ``Config``: frozen, typed; an unknown key is refused and its neighbour named.

Every number of the paper is in a file under ``configs/`` with its section beside it. The defaults are the paper's or
the released code's; ``configs/ho3d.yaml`` is the paper as printed, ``configs/released.yaml`` the released code. The
groups are declared in ``settings_method``, ``settings_training``, ``settings_jobs``, ``settings_clusters`` and
``settings_tools``, former names in ``settings_renamed``.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError, field_validator, model_validator

from hojoint import settings_file, settings_renamed
from hojoint.settings_clusters import ClusterUpConfig, DeployConfig, SubmitConfig
from hojoint.settings_file import ConfigError
from hojoint.settings_jobs import (
    ClusterConfig,
    DataConfig,
    FreiHANDConfig,
    HO3DConfig,
    LabellingConfig,
    Precision,
    PseudoConfig,
    SyntheticConfig,
    TeacherConfig,
    VideosConfig,
)
from hojoint.settings_method import (
    HIGHER_IS_BETTER,
    PAPER_RULES,
    THRESHOLDS,
    CropConfig,
    FileName,
    FilterConfig,
    ManoConfig,
    ModelConfig,
    RefineConfig,
    Rule,
    Score,
    Seed,
    Settings,
    TtaConfig,
)
from hojoint.settings_tools import (
    BenchConfig,
    CalibrateConfig,
    DemoConfig,
    DetectConfig,
    DoctorConfig,
    EvaluateConfig,
    GcConfig,
    IngestConfig,
    RefilterConfig,
    ReportConfig,
    ScoreConfig,
    StudyConfig,
)
from hojoint.settings_training import AugmentConfig, LossConfig, StudentConfig, TrainConfig

__all__ = [
    "HIGHER_IS_BETTER",
    "PAPER_RULES",
    "THRESHOLDS",
    "AugmentConfig",
    "BenchConfig",
    "CalibrateConfig",
    "ClusterConfig",
    "ClusterUpConfig",
    "Config",
    "ConfigError",
    "CropConfig",
    "DataConfig",
    "DemoConfig",
    "DeployConfig",
    "DetectConfig",
    "DoctorConfig",
    "EvaluateConfig",
    "FilterConfig",
    "FreiHANDConfig",
    "GcConfig",
    "HO3DConfig",
    "IngestConfig",
    "LabellingConfig",
    "LossConfig",
    "ManoConfig",
    "ModelConfig",
    "Precision",
    "PseudoConfig",
    "RefilterConfig",
    "RefineConfig",
    "ReportConfig",
    "Rule",
    "Score",
    "ScoreConfig",
    "Settings",
    "StudentConfig",
    "StudyConfig",
    "SubmitConfig",
    "SyntheticConfig",
    "TeacherConfig",
    "TrainConfig",
    "TtaConfig",
    "VideosConfig",
    "changed",
    "digest",
    "from_stored",
    "from_tree",
    "load",
    "renamed",
    "to_tree",
]


class Config(Settings):
    """All settings of a run."""

    name: FileName = "run"
    """Names the run, and begins the names of its files."""
    seed: Seed = 0
    output: str | None = None
    """A folder or an s3:// URI."""
    world: str | None = None
    """Where jobs.synthesize writes; None means '<output>/world'."""
    model: ModelConfig = ModelConfig()
    mano: ManoConfig = ManoConfig()
    crop: CropConfig = CropConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    student: StudentConfig = StudentConfig()
    tta: TtaConfig = TtaConfig()
    filters: FilterConfig = FilterConfig()
    refine: RefineConfig = RefineConfig()
    labelling: LabellingConfig = LabellingConfig()
    videos: VideosConfig = VideosConfig()
    teacher: TeacherConfig = TeacherConfig()
    data: DataConfig = DataConfig()
    cluster: ClusterConfig = ClusterConfig()
    synthetic: SyntheticConfig = SyntheticConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    score: ScoreConfig = ScoreConfig()
    refilter: RefilterConfig = RefilterConfig()
    gc: GcConfig = GcConfig()
    ingest: IngestConfig = IngestConfig()
    calibrate: CalibrateConfig = CalibrateConfig()
    report: ReportConfig = ReportConfig()
    submit: SubmitConfig = SubmitConfig()
    deploy: DeployConfig = DeployConfig()
    cluster_up: ClusterUpConfig = ClusterUpConfig()
    study: StudyConfig = StudyConfig()
    demo: DemoConfig = DemoConfig()
    detect: DetectConfig = DetectConfig()
    doctor: DoctorConfig = DoctorConfig()
    bench: BenchConfig = BenchConfig()
    control: bool = False
    """jobs.pipeline also trains a compute-matched control on labelled data alone."""

    @model_validator(mode="before")
    @classmethod
    def _noise_is_complete(cls, tree: Any) -> Any:
        """What augmentations of pseudo-labels leave out is that of ``augment``, and not the default of their class."""
        own = tree.get("augment") if isinstance(tree, Mapping) else None
        own = own.model_dump() if isinstance(own, AugmentConfig) else own
        if not isinstance(own, Mapping):
            return tree
        for group, name in (("train", "pseudo_augment"), ("student", "augment")):
            outer = tree.get(group)
            if isinstance(outer, Mapping) and isinstance(outer.get(name), Mapping):
                tree = {**tree, group: {**outer, name: {**own, **outer[name]}}}
        return tree

    @field_validator("world")
    @classmethod
    def _world_is_local(cls, world: str | None) -> str | None:
        if world is not None and "://" in world:
            raise ValueError(f"should be a local folder, because decoders and readers need files; found {world}")
        return world


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply ``key=value`` overrides with dotted keys.

    Raises:
        ConfigError: the file is missing, is not YAML, or a setting is unknown or out of range.
    """
    tree = settings_file.read(path)
    for override in overrides:
        settings_file.override(tree, override, Config)
    return from_tree(tree)


def from_tree(tree: Mapping[str, Any]) -> Config:
    """Build a Config from nested mappings; see ``load``."""
    settings_file.refuse_unknown(tree, Config, settings_renamed.advice)
    return _checked(tree)


def _checked(tree: Mapping[str, Any]) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(settings_file.explained(error, Config)) from None


def from_stored(tree: Mapping[str, Any]) -> Config:
    """Build a Config from settings that an earlier version of this project may have stored (``settings_renamed``).

    Raises:
        ConfigError: a key is unknown under today's names and under former ones, or a value is out of range.
    """
    if not isinstance(tree, Mapping):
        raise ConfigError(f"expected stored settings by name, found {settings_file.shown(tree)}")
    return from_tree(settings_renamed.current_tree(tree))


def renamed(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Stored settings with dotted keys, under today's names (``settings_renamed``)."""
    return settings_renamed.current(flat)


def to_tree(settings: Settings) -> dict[str, Any]:
    """Plain dicts, lists and scalars, as JSON holds them."""
    return settings.model_dump(mode="json")


def changed(config: Config, **changes: Any) -> Config:
    """A copy with some settings changed and all checked; a mapping changes some of a group and leaves the others."""
    settings_file.refuse_unknown(changes, Config, settings_renamed.advice)
    tree = to_tree(config)
    _merge(tree, changes)
    return _checked(tree)


def flattened(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted name."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            out |= {f"{key}.{name}": inner for name, inner in flattened(value).items()}
        else:
            out[key] = value
    return out


@functools.cache
def defaults() -> Mapping[str, Any]:
    """Every setting's default by dotted name, as ``to_tree`` has it."""
    return flattened(to_tree(Config()))


def digest(*parts: Any) -> str:
    """Twelve hex digits that name a combination of settings and other plain values."""
    plain = [to_tree(part) if isinstance(part, Settings) else part for part in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def _merge(tree: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and tree[key] is not None:
            _merge(tree[key], value)
        else:
            tree[key] = value
