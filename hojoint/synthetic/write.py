"""The world as files: what pieces it has, where they lie, how they are put together, and when it is complete.

A piece (a sequence, a video, a handful of test images) is drawn and written on its own, so pieces can be made anywhere
and in any order; each leaves a small JSON note when it is done. ``finish`` gathers the notes into the list, box, label
and truth files and writes ``world.json`` last. How pieces are spread over machines is in ``cluster.synthesis``.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError
from hojoint.hand.stand_in.model import save_model, stand_in_model
from hojoint.synthetic import write_freihand, write_ho3d, write_something

EDITION = 6  # of the world's contents; another number means other pixels
IMAGES_PER_PIECE = 20
UNPAIRED_FROM = 8  # worlds with at least this many videos also hold boxes without a video, and a video without boxes
Kind = Literal["train", "evaluation", "video", "broken", "missing", "unboxed", "images"]


@dataclass(frozen=True)
class Piece:
    """A part of the world that is drawn and written in one go."""

    kind: Kind
    index: int
    name: str  # sequence, video id, or the number of the first image

    @property
    def note(self) -> str:
        return f"{self.kind}_{self.index}.json"


def seed_of(config: Config) -> int:
    """The world's seed: its own, or the run's."""
    return config.seed if config.synthetic.seed is None else config.synthetic.seed


def digest_of(config: Config) -> str:
    """Names a world: same digest, same bytes."""
    sizes = settings.to_tree(config.synthetic) | {"seed": seed_of(config)}
    if sizes["train_objects"] is None:  # as in the digests of existing worlds
        del sizes["train_objects"]
    return settings.digest(sizes, sizes.pop("ho3d_version"), EDITION)  # apart, as in the digests of existing worlds


def world_of(config: Config) -> Path:
    """The folder of the world.

    Raises:
        InputError: neither ``world`` nor ``output`` is given, or the output is no local folder and no world is given.
    """
    if config.world is None and config.output is None:
        raise InputError("the synthetic world needs a folder: give output=DIR (then it is DIR/world) or world=DIR")
    folder = config.world or f"{config.output}/world"
    if "://" in folder:
        raise InputError(f"the synthetic world needs a local folder, found {folder}; set world=DIR")
    return Path(folder)


def with_world(config: Config) -> Config:
    """The config with every data path that is not set pointing into the world."""
    world = world_of(config)
    ho3d, freihand = config.data.ho3d, config.data.freihand
    root = str(world / f"HO3D_{config.synthetic.ho3d_version}")
    data = config.data.model_copy(
        update={
            "ho3d": ho3d.model_copy(
                update={
                    "root": ho3d.root or root,
                    "object_models": ho3d.object_models or (str(world / "object_models") if not ho3d.root else None),
                }
            ),
            "freihand": freihand.model_copy(update={"root": freihand.root or str(world / "FreiHAND_pub_v2_eval")}),
        }
    )
    videos = config.videos.model_copy(
        update={
            "root": config.videos.root or str(world / "something" / "20bn-something-something-v2"),
            "boxes": config.videos.boxes or str(world / "something" / "boxes"),
        }
    )
    return config.model_copy(update={"data": data, "videos": videos})


def truth_path(world: Path) -> Path:
    """True poses of the wild videos, kept aside for evaluation and report."""
    return world / "something_truth.parquet"


def is_complete(config: Config) -> bool:
    """Whether the folder holds this world, finished.

    Raises:
        InputError: the folder holds a finished world made with different settings.
    """
    path = world_of(config) / "world.json"
    if not path.exists():
        return False
    try:
        content = json.loads(path.read_text())
        digest = content["digest"]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} does not describe a world; remove the folder or give another world=DIR") from None
    if digest != digest_of(config):
        raise InputError(
            f"{path.parent} holds a world made with different settings ({_difference(config, content)}): remove it, "
            "give another world=DIR, or use the settings it was made with"
        )
    return True


def _difference(config: Config, made: dict[str, Any]) -> str:
    """Which settings of a finished world differ, or that its program does."""
    now = settings.to_tree(config.synthetic) | {"seed": seed_of(config)}
    before = {**made.get("synthetic", {}), "seed": made.get("seed")}
    lines = [
        f"synthetic.{name}: {before[name]} before, {now[name]} now"
        for name in now
        if name in before and before[name] != now[name]
    ]
    return ", ".join(lines) or "another version of this program drew it"


def pieces(config: Config) -> list[Piece]:
    """All pieces, the long ones first."""
    size = config.synthetic
    result: list[Piece] = []
    splits: tuple[tuple[Kind, int], ...] = (("train", size.train_sequences), ("evaluation", size.evaluation_sequences))
    for split, count in splits:
        names = write_ho3d.sequence_names(split, count, size.train_objects)
        result += [Piece(split, index, name) for index, name in enumerate(names)]
    unpaired = 2 if size.wild_videos >= UNPAIRED_FROM else 0
    ids = write_something.video_ids(seed_of(config), size.wild_videos + size.broken_videos + unpaired)
    kinds: list[Kind] = ["video"] * size.wild_videos
    kinds += ["broken"] * size.broken_videos
    kinds += ["missing", "unboxed"] if unpaired else []
    result += [Piece(kind, index, ids[index]) for index, kind in enumerate(kinds)]
    starts = range(0, size.test_images, IMAGES_PER_PIECE)
    return result + [Piece("images", index, str(start)) for index, start in enumerate(starts)]


def missing_pieces(config: Config) -> list[Piece]:
    """Those that no earlier call has finished."""
    folder = notes_of(config)
    return [piece for piece in pieces(config) if not (folder / piece.note).exists()]


def frames_of(piece: Piece, config: Config) -> int:
    """How many pictures a piece takes; for progress bars and estimates."""
    size = config.synthetic
    if piece.kind == "images":
        return min(IMAGES_PER_PIECE, size.test_images - int(piece.name))
    if piece.kind in ("train", "evaluation"):
        frames = size.train_frames if piece.kind == "train" else size.evaluation_frames
        return frames + write_ho3d.EXTRA_FRAMES
    return size.wild_frames


def write_piece(piece: Piece, config: Config) -> None:
    """Draw and write one piece, then its note."""
    folder = notes_of(config)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{piece.note}.part"
    temporary.write_text(json.dumps(_written(piece, config)))
    temporary.rename(folder / piece.note)


def _written(piece: Piece, config: Config) -> Any:
    # vars() and not asdict(): its deep copy of a mesh takes a sixth of an image's time
    world, size, seed = world_of(config), config.synthetic, seed_of(config)
    if piece.kind in ("train", "evaluation"):
        version = size.ho3d_version
        sequence = write_ho3d.write_sequence(
            world / f"HO3D_{version}", piece.kind, piece.index, piece.name, seed=seed, version=version,
            frames=size.train_frames if piece.kind == "train" else size.evaluation_frames,
            size=(size.image_width, size.image_height),
        )  # fmt: skip
        return vars(sequence)
    if piece.kind == "images":
        root, start = world / "FreiHAND_pub_v2_eval", int(piece.name)
        images = [write_freihand.write_image(root, start + k, seed) for k in range(frames_of(piece, config))]
        return [vars(image) for image in images]
    videos = world / "something" / "20bn-something-something-v2"
    if piece.kind == "broken":
        first = size.wild_videos
        video = write_something.write_broken(
            videos, piece.index, piece.name, seed=seed, frames=size.wild_frames, fault=piece.index - first
        )
    else:
        video = write_something.write_video(videos, piece.index, piece.name, seed=seed, frames=size.wild_frames)
        if piece.kind == "missing":
            (videos / f"{piece.name}.webm").unlink()
        if piece.kind in ("missing", "unboxed"):
            video = dataclasses.replace(video, truth=[], boxes=video.boxes if piece.kind == "missing" else [])
    return vars(video)


def finish(config: Config) -> None:
    """Gather the notes of all pieces, write what lies beside the folders, and world.json last.

    Raises:
        InputError: pieces are not there.
    """
    world, folder = world_of(config), notes_of(config)
    if missing := missing_pieces(config):
        raise InputError(
            f"{len(missing)} pieces of the synthetic world (the first: {missing[0].kind} {missing[0].name}) were drawn "
            f"and are not in {world}: the nodes that drew them do not share that folder with this one. Set world to a "
            "folder that all nodes see under one path; the same command then draws what is missing"
        )
    notes = [(piece, json.loads((folder / piece.note).read_text())) for piece in pieces(config)]
    labelled = [write_ho3d.SequenceResult(**note) for piece, note in notes if piece.kind in ("train", "evaluation")]
    write_ho3d.write_lists(world / f"HO3D_{config.synthetic.ho3d_version}", labelled)
    write_ho3d.write_object_models(world / "object_models")
    of_video = ("video", "broken", "missing", "unboxed")
    videos = [write_something.VideoResult(**note) for piece, note in notes if piece.kind in of_video]
    write_something.write_boxes(world / "something" / "boxes", videos)
    write_something.write_truth(truth_path(world), videos)
    images = [write_freihand.ImageResult(**image) for piece, note in notes if piece.kind == "images" for image in note]
    write_freihand.write_labels(world / "FreiHAND_pub_v2_eval", images)
    save_model(stand_in_model(), world / "mano" / "MANO_RIGHT.pkl")
    description = {
        "digest": digest_of(config),
        "edition": EDITION,
        "seed": seed_of(config),
        "synthetic": settings.to_tree(config.synthetic),
        "ho3d_version": config.synthetic.ho3d_version,
        "labelled_frames": sum(len(sequence.frames) for sequence in labelled),
        "videos": len(videos),
        "test_images": len(images),
    }
    temporary = world / "world.json.part"
    temporary.write_text(json.dumps(description, indent=2))
    temporary.rename(world / "world.json")
    shutil.rmtree(folder)


def notes_of(config: Config) -> Path:
    """The folder of the pieces' notes; ``finish`` removes it."""
    return world_of(config) / f".pieces_{digest_of(config)}"
