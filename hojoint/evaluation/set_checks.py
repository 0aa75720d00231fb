"""One check per kind of labelled data: counts beside the published ones, faults, and a contact sheet.

The comparisons inside a set are those of ``datasets.audit``, which jobs run before they start; here all frames are
compared and images are decoded too. Each function takes the settings of the jobs and returns a ``health.Checked`` per
split. Not here: videos and labels of videos, whose files ``cluster`` knows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from hojoint.config import Config, ManoConfig
from hojoint.datasets import freihand, hand_checks, listing, regions, ycb
from hojoint.datasets.audit import ALL_THE_SAME, CONTRADICTIONS, audit, audit_models
from hojoint.datasets.findings import Audit
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.errors import InputError
from hojoint.evaluation import contact_sheets
from hojoint.hand.chosen import added_mean, hand_model
from hojoint.hand.layer import ManoLayer
from hojoint.model import checkpoint, opening
from hojoint.report import health
from hojoint.report.health import Checked, Count, Finding

Split = Literal["train", "evaluation"]
Progress = Callable[[str, int, int], None]
"""Called with what is read, and how many of how many."""

HO3D_FRAMES = {
    ("v2", "train"): 66_034,
    ("v2", "evaluation"): 11_524,
    ("v3", "train"): 83_325,
    ("v3", "evaluation"): 20_137,
}
HO3D_SEQUENCES = {("v2", "train"): 55, ("v2", "evaluation"): 13}
HO3D_OBJECTS = (
    *("003_cracker_box", "004_sugar_box", "006_mustard_bottle", "010_potted_meat_can", "011_banana"),
    *("019_pitcher_base", "021_bleach_cleanser", "025_mug", "035_power_drill", "037_scissors"),
)
FREIHAND_LABELS = {"train": 32_560, "evaluation": 3_960}
LEFT_OUT = {
    **dict.fromkeys(("sequence_missing", "image_missing", "meta_missing", "meta_empty"), "missing=leave_out"),
    "truth": "jobs.train alone (jobs.evaluate needs the truth)",
}
"""Kinds of faults that leave a use of the set."""


def ho3d(config: Config, progress: Progress) -> list[Checked]:
    """HO-3D, one result per split."""
    return _of_use([_ho3d(config, split, progress) for split in ("train", "evaluation")])


def _ho3d(config: Config, split: Split, progress: Progress) -> Checked:
    name, place = f"HO-3D {split}", str(config.data.ho3d.root)
    if not (Path(place) / f"{split}.txt").is_file() and Path(place).is_dir():
        return _absent(name, place, f"no {split}.txt in {place}", split)
    try:
        mano, unread = _hand(config)
        dataset = HO3D(config.data.ho3d, split, mean_pose=None if mano is None else added_mean(mano))
        found = audit(dataset, mano, progress=lambda done, total: progress(f"{name}: annotations", done, total))
    except InputError as error:
        return health.failed(name, place, error)
    there = (path for path, size in map(dataset.files.image, dataset.names) if size)
    version = "v3" if next(there, Path()).suffix == ".jpg" else "v2"
    counts = _counts(
        found,
        {
            "listed": _published(HO3D_FRAMES.get((version, split)), f"HO-3D {version}"),
            "sequences": _published(HO3D_SEQUENCES.get((version, split)), f"HO-3D {version}"),
        },
    )
    findings = _findings(found, "data.ho3d", config.data.ho3d.checks) + unread
    findings += _part(len(dataset.listed), HO3D_FRAMES[version, split], f"{split}.txt", f"HO-3D {version}")
    missing = dataset.files.missing(dataset.names)
    findings += _image_faults(dataset, [n for n in dataset.names if n not in missing], config, progress, name)
    layer = _fitting(found, mano)
    tiles = contact_sheets.of_ho3d(dataset, config.doctor.pictures, layer)
    return Checked(name, place, counts, findings, health.sheet(tiles), contact_sheets.LABELS)


def freihand_sets(config: Config, progress: Progress) -> list[Checked]:
    """FreiHAND, one result per split that exists.

    Its splits are two downloads: where only one is there, a note of it names the other one. Both are expected where the
    settings name both folders.
    """
    settings = config.data.freihand
    splits: tuple[Split, ...] = ("train", "evaluation")
    absent = {split: _without_labels(config, split) for split in splits}
    results = [_freihand(config, split, progress) for split in splits if absent[split] is None]
    if not results or (settings.root is not None and settings.evaluation_root is not None):
        return _of_use([_freihand(config, split, progress) for split in splits if absent[split] is not None] + results)
    use = {"train": "training needs it", "evaluation": "jobs.evaluate needs it"}
    notes = [
        Finding("split_missing", 1, found, f"{use[split]}; fetch it if you need it")
        for split, found in absent.items()
        if found is not None
    ]
    return [health.merged(results[0], notes), *results[1:]]


def _freihand_root(config: Config, split: Split) -> Path | None:
    settings = config.data.freihand
    if split == "evaluation":
        return freihand.evaluation_root(settings)
    return None if settings.root is None else Path(settings.root)


def _without_labels(config: Config, split: Split) -> str | None:
    """A sentence where the split's folder has no labels of it, or is not set; None where it has."""
    root, stem = _freihand_root(config, split), "training" if split == "train" else "evaluation"
    if root is None:
        return "data.freihand.root is not set"
    absent = root.is_dir() and not (root / f"{stem}_xyz.json").is_file()
    return f"no {stem}_xyz.json in {root}" if absent else None


def _freihand(config: Config, split: Split, progress: Progress) -> Checked:
    name = f"FreiHAND {split}"
    place, stem = str(_freihand_root(config, split)), "training" if split == "train" else "evaluation"
    if (lacking := _without_labels(config, split)) is not None:
        return _absent(name, place, lacking, split)
    try:
        mano, unread = _hand(config)
        mean = None if mano is None else hand_model(mano).hands_mean
        dataset = FreiHAND(config.data.freihand, split, mean_pose=mean)
        found = audit(dataset, mano, progress=lambda done, total: progress(f"{name}: labels", done, total))
    except InputError as error:
        return health.failed(name, place, error)
    labels = FREIHAND_LABELS[split]
    images = labels * (4 if split == "train" else 1)
    counts = _counts(found, {"labels": f"{labels:,}", "listed": f"{images:,}"})
    findings = _findings(found, "data.freihand", config.data.freihand.checks) + unread
    findings += _part(len(dataset.cameras), labels, f"{stem}_xyz.json", "FreiHAND v2")
    missing = set(dataset.missing_images())
    findings += _image_faults(dataset, [n for n in dataset.names if n not in missing], config, progress, name)
    layer = _fitting(found, mano)
    tiles = contact_sheets.of_freihand(dataset, config.doctor.pictures, layer)
    return Checked(name, place, counts, findings, health.sheet(tiles), contact_sheets.LABELS)


def objects(config: Config, progress: Progress) -> list[Checked]:
    """A folder of object models."""
    place = str(config.data.ho3d.object_models)
    try:
        found = audit_models(place)
    except InputError as error:
        return [health.failed("object models", place, error, "no_models")]
    models = {}
    for number, name in enumerate(names := ycb.names_in(place)):
        progress("object models", number + 1, len(names))
        if not any(fault.where == name and fault.fatal for fault in found.faults):
            models[name] = ycb.load_model(Path(place) / name)
    findings = _findings(found, "")
    lacking = [name for name in HO3D_OBJECTS if name not in names]
    if lacking:
        sentence = f"{len(lacking)} of HO-3D's 10 objects have no model: {', '.join(lacking)}"
        findings.append(Finding("models_lacking", len(lacking), sentence, "sequences that show them cannot be read"))
    counts = _counts(found, {"models": f"{len(HO3D_OBJECTS)} in HO-3D"})
    sheet = health.sheet(contact_sheets.of_models(models, config.doctor.pictures))
    return [Checked("object models", place, counts, findings, sheet, contact_sheets.MODELS)]


def mano(config: Config, progress: Progress) -> list[Checked]:
    """A MANO file."""
    place = str(config.mano.path)
    try:
        model = hand_model(config.mano)
    except InputError as error:
        return [health.failed("MANO", place, error, "hand_refused")]
    progress("MANO", 1, 1)
    counts = [Count("vertices", len(model.v_template), "778"), Count("faces", len(model.faces), "1,538")]
    sheet = health.sheet(contact_sheets.of_hand(model, config.mano.fingertips))
    return [Checked("MANO", place, counts, (), sheet, contact_sheets.HANDS)]


def network(config: Config, data: bytes | str, place: str) -> Checked:
    """A checkpoint, as bytes or as the path of a file."""
    try:
        opened, own = opening.open_network(data, config.mano.path or "MANO_RIGHT.pkl", check_hand=False)
    except InputError as error:
        return health.failed("checkpoint", place, error, "checkpoint_refused")
    weights = opened.state_dict()
    counts = [Count("tensors", len(weights)), Count("numbers", sum(value.numel() for value in weights.values()))]
    hand = "the stand-in hand" if own.mano.path is None else f"MANO (named {own.mano.path})"
    sentence = f"weights {checkpoint.weights_sha256(weights)[:12]}, {own.model.block} blocks, made for {hand}"
    broken = [key for key, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    findings = [Finding("network", 1, sentence)]
    if broken:
        text = f"{len(broken)} tensors hold NaN or infinite numbers, first {broken[0]}"
        findings.append(Finding("weights_not_finite", len(broken), text, "train again from an earlier one", fatal=True))
    return Checked("checkpoint", place, counts, findings)


def _absent(name: str, place: str, found: str, split: Split) -> Checked:
    """A split that does not exist at all: the other one may be all that is needed."""
    use = "jobs.evaluate alone" if split == "train" else "jobs.train alone"
    finding = Finding("split_missing", 1, found, "fetch it if you need it", fatal=True, usable_with=use)
    return Checked(name, place, (), (finding,))


def _of_use(splits: list[Checked]) -> list[Checked]:
    """The same; where no split exists at all, none is of use alone."""
    absent = [finding for checked in splits for finding in checked.findings if finding.kind == "split_missing"]
    if len(absent) < len(splits):
        return splits
    return [replace(checked, findings=[replace(one, usable_with="") for one in checked.findings]) for checked in splits]


def _hand(config: Config) -> tuple[ManoConfig | None, list[Finding]]:
    """The hand model to compare labels with; None and a note where its file cannot be read."""
    try:
        hand_model(config.mano)
    except InputError as error:
        return None, [Finding("hand_unread", 1, f"labels were not compared with a hand model: {error}")]
    return config.mano, []


def _fitting(found: Audit, mano: ManoConfig | None) -> ManoLayer | None:
    """The hand whose mesh is drawn; None where it does not fit the labels."""
    if mano is None or any(fault.kind in hand_checks.KINDS for fault in found.faults):
        return None
    return ManoLayer(hand_model(mano))


def _findings(found: Audit, group: str, checks: Literal["refuse", "note"] = "refuse") -> list[Finding]:
    """What an audit found; ``group`` has the set's settings, such as ``checks``, '' where there are none.

    Where labels contradict each other the set stays unusable, and the remedy names ``checks=note``: only a person can
    tell that labels which look wrong are right. Once it is set the contradictions are notes, as in the jobs. No use is
    left of a split without a single frame that can be read.
    """
    out: list[Finding] = []
    some = found.counts.get("compared") != 0
    for fault in found.faults:
        use = LEFT_OUT.get(fault.kind, "") if fault.fatal and group and some else ""
        use = f"{group}.{use}" if use.startswith("missing=") else use
        remedy, contradiction = fault.remedy, fault.fatal and bool(group) and fault.kind in CONTRADICTIONS
        if contradiction and checks == "refuse":
            remedy = f"{remedy.rstrip('.')}. {ALL_THE_SAME} {group}.checks=note".removeprefix(". ")
        fatal = fault.fatal and not (contradiction and checks == "note")
        out.append(Finding(fault.kind, fault.count, fault.sentence, remedy, fatal, use))
    return out


def _counts(found: Audit, published: dict[str, str]) -> list[Count]:
    return [Count(name, count, published.get(name, "")) for name, count in found.counts.items()]


def _published(count: int | None, name: str) -> str:
    return "" if count is None else f"{count:,} in {name}"


def _part(found: int, published: int, file: str, name: str) -> list[Finding]:
    """A note where a set has another size than the published one."""
    if found == published:
        return []
    sentence = f"{file} has {found:,} frames, {name} has {published:,}"
    remedy = "a part of it, or another set in its layout" if found < published else "a list of another version?"
    return [Finding("another_size", abs(found - published), sentence, remedy)]


def _image_faults(
    dataset: HO3D | FreiHAND, names: Sequence[str], config: Config, progress: Progress, title: str
) -> list[Finding]:
    """Images that do not decode, among ``doctor.images`` evenly spaced ones."""
    limit = config.doctor.images
    some = list(names) if limit is None else listing.evenly(names, limit)
    damaged: dict[str, list[str]] = defaultdict(list)
    for number, name in enumerate(some):
        if number % 100 == 0:
            progress(f"{title}: images", number, len(some))
        path = dataset.image_path(name)
        try:
            regions.read_image(path)
        except InputError:
            damaged[name.partition("/")[0] if "/" in name else ""].append(str(path))
    progress(f"{title}: images", len(some), len(some))
    return [
        Finding(
            "image_damaged",
            len(paths),
            f"{sequence + ': ' if sequence else ''}{len(paths)} of {len(some)} decoded images of the split are not "
            f"complete, the first is {paths[0]}",
            "fetch them again",
            fatal=True,
        )
        for sequence, paths in damaged.items()
    ]
