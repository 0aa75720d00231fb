"""Which files of a listed HO-3D split exist: folders are listed once, no image is opened."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hojoint.datasets import ho3d_meta, listing
from hojoint.datasets.findings import Fault
from hojoint.errors import InputError
from hojoint.hand.pickles import load_restricted

SUFFIXES = (".png", ".jpg")  # v2, v3
SHOWN = 6  # sequences in one sentence
WHERE = "HO-3D comes from its authors' page (search 'HO-3D v2 download'); set data.ho3d.root to the unpacked folder"
REASONS = {
    "sequence_missing": "in a sequence that is missing completely",
    "image_missing": "without image",
    "meta_missing": "without meta file",
    "meta_empty": "with a meta file that holds no annotation",
}
"""Why a listed frame cannot be used."""


@dataclass(frozen=True, eq=False)
class SequenceFiles:
    """The files of one sequence: name -> bytes."""

    images: dict[str, int]
    metas: dict[str, int]


class Files:
    """The files of a split, by sequence."""

    def __init__(self, root: Path, split: str, names: Iterable[str]) -> None:
        """List the folders of every sequence that ``names`` mention."""
        self.root, self.split = root, split
        sequences = dict.fromkeys(name.partition("/")[0] for name in names)
        self.sequences = {name: self._sequence(root / split / name) for name in sequences}

    def image(self, name: str) -> tuple[Path, int]:
        """Path and bytes of a frame's image; v2's suffix and 0 where there is none."""
        sequence, frame = name.split("/")
        folder, there = self.root / self.split / sequence / "rgb", self.sequences[sequence].images
        found = next((frame + suffix for suffix in SUFFIXES if there.get(frame + suffix)), frame + SUFFIXES[0])
        return folder / found, there.get(found, 0)

    def meta(self, name: str) -> tuple[Path, int]:
        """Path and bytes of a frame's annotation; 0 where there is none."""
        sequence, frame = name.split("/")
        file = f"{frame}.pkl"
        return self.root / self.split / sequence / "meta" / file, self.sequences[sequence].metas.get(file, 0)

    def missing(self, names: Iterable[str]) -> dict[str, str]:
        """Frame -> reason, of the frames that lack a file."""
        out = {}
        for name in names:
            sequence = self.sequences[name.partition("/")[0]]
            if not sequence.images and not sequence.metas:
                out[name] = "sequence_missing"
            elif not self.image(name)[1]:
                out[name] = "image_missing"
            elif not self.meta(name)[1]:
                out[name] = "meta_missing"
        return out

    def unannotated(self, names: Sequence[str]) -> dict[str, str]:
        """Frame -> reason, of the frames whose annotation is None. Every meta file is read, few are unpickled."""
        return self.contents(names)[1]

    def contents(self, names: Sequence[str]) -> tuple[str, dict[str, str]]:
        """Digest of all metas, and ``unannotated``; each file is read once."""

        def look(data: bytes) -> tuple[bytes, bool]:
            return hashlib.sha256(data).digest(), self._empty(data)

        answers = listing.read_all([self.meta(name)[0] for name in names], look)
        empty = {name: "meta_empty" for name, answer in zip(names, answers, strict=True) if answer and answer[1]}
        return listing.combined(None if answer is None else answer[0] for answer in answers), empty

    def _empty(self, data: bytes) -> bool:
        if not ho3d_meta.may_lack_values(data, self.split):
            return False
        try:
            fault = ho3d_meta.fault_of(load_restricted(data), self.split)
        except InputError:  # damaged: its reader refuses it by name
            return False
        return fault is not None and fault[0] == "meta_empty"

    @staticmethod
    def _sequence(folder: Path) -> SequenceFiles:
        return SequenceFiles(listing.sizes_in(folder / "rgb"), listing.sizes_in(folder / "meta"))


def faults(missing: dict[str, str], listed: Sequence[str], split: str, *, left_out: bool) -> list[Fault]:
    """One fault per reason and sequence; no cause to refuse where the frames are left out."""
    sizes: dict[str, int] = defaultdict(int)
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in listed:
        sequence = name.partition("/")[0]
        sizes[sequence] += 1
        if name in missing:
            groups[missing[name], sequence].append(name)
    out = []
    for (kind, sequence), names in groups.items():
        many = f"{len(names)} of {sizes[sequence]} listed frames"
        if kind == "sequence_missing":
            found = f"the sequence {sequence} is missing completely ({len(names)} frames of {split}.txt)"
        else:
            found = f"{sequence}: {many} are {REASONS[kind]}, the first is {names[0]}"
        remedy = "they are left out" if left_out else _remedy(kind, split, sequence)
        out.append(Fault(kind, sequence, len(names), found, remedy, fatal=not left_out))
    return out


def summary(missing: dict[str, str], listed: Sequence[str], split: str) -> str:
    """One sentence with all numbers: how many frames, for which reasons, in which sequences."""
    reasons = ", ".join(f"{count} {REASONS[reason]}" for reason, count in Counter(missing.values()).items())
    by_sequence = Counter(name.partition("/")[0] for name in missing)
    some = ", ".join(f"{sequence} {count}" for sequence, count in list(by_sequence.items())[:SHOWN])
    more = f", and {len(by_sequence) - SHOWN} more" if len(by_sequence) > SHOWN else ""
    return (
        f"{len(missing)} of the {len(listed)} frames of {split}.txt cannot be used ({reasons}; by sequence: "
        f"{some}{more}; the first is {next(iter(missing))})"
    )


def _remedy(kind: str, split: str, sequence: str) -> str:
    drop = "set data.ho3d.missing=leave_out to drop and count them"
    if kind == "sequence_missing":
        return f"unpack it as {split}/{sequence}, or {drop}"
    if kind == "meta_empty":
        return f"take the {split}.txt of this version of the data, or {drop}"
    return f"fetch the sequence again, or {drop}"


def read_list(root: Path, split: str) -> list[str]:
    """The frames of ``train.txt`` or ``evaluation.txt``, as SEQUENCE/FRAME.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = root / f"{split}.txt"
    if not path.is_file():
        inner = sorted(entry.name for entry in root.iterdir())[:8] if root.is_dir() else []
        content = f"found {', '.join(inner) or 'nothing'}" if root.is_dir() else "no such folder"
        raise InputError(f"no {path}: expected HO-3D's folder with {split}.txt and {split}/, {content}. {WHERE}")
    return listing.read_frames(path)


def read_truth(root: Path, key: str, shape: tuple[int, int, int]) -> np.ndarray:
    """``evaluation_<key>.json``: (listed frames, points, 3) float32 m in HO-3D's own frame.

    Raises:
        InputError: the file is missing, damaged or of another length than ``evaluation.txt``.
    """
    path = root / f"evaluation_{key}.json"
    if not path.is_file():
        raise InputError(
            f"no {path}: the truth of HO-3D's evaluation set is public since November 2024 and is a separate "
            "download; put it beside evaluation.txt"
        )
    try:
        values = np.array(listing.read_json(path), dtype=np.float32)
    except (ValueError, TypeError):
        raise InputError(f"{path} is damaged: expected {shape[1]} x 3 numbers per image; fetch it again") from None
    if values.shape != shape:
        raise InputError(
            f"{path}: expected the shape {shape} for evaluation.txt, found {values.shape}; take list and truth of one "
            "version of HO-3D"
        )
    return values
