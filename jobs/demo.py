"""python -m jobs.demo image=FILE box=[x0,y0,x1,y1] evaluate.checkpoint=FILE output=FILE_OR_DIR [side=left] [--dry-run]
python -m jobs.demo video=FILE boxes=FILE evaluate.checkpoint=FILE output=FILE_OR_DIR [side=left] [limit=150]

Draws the hand mesh that a network predicts. The first form draws one image; box is the hand's and object_box=[...] the
held object's, both in px. The second form draws each frame of a short video (mp4 or webm) and the verdict of the rules
under it, and writes a webm; boxes is a file of docs/boxes.md, or a JSON list with [x0,y0,x1,y1] or null for each frame.
The output is a folder, or a file that ends in .jpg, .png or .webm. Short keys stand for those of the group demo:
image= is demo.image=. It runs in this process and on the GPU where there is one.
"""

from __future__ import annotations

import difflib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2

from cluster.sources import mirror
from cluster.store import check_writable, open_store, read_uri
from hojoint.config import Config, DemoConfig
from hojoint.errors import InputError
from hojoint.evaluation import demo
from hojoint.labelling import reasons
from hojoint.labelling.tta import HandPredictor
from hojoint.report import draw
from hojoint.synthetic.encode import encode
from jobs import command

USUAL_FPS = 12.0  # of a film of pictures without times
ENDINGS = {"image": (".jpg", ".jpeg", ".png"), "video": (".webm",)}


def job(config: Config, dry_run: bool) -> None:
    """Draw an image or a video."""
    if (config.demo.image is None) == (config.demo.video is None):
        raise InputError("give either image=FILE box=[x0,y0,x1,y1] or video=FILE boxes=FILE")
    config = mirror.localised(config, "mano", "demo.video", "demo.boxes")
    if config.demo.image is not None:
        _image(config, config.demo.image, dry_run)
    elif config.demo.video is not None:
        _video(config, config.demo.video, dry_run)


def _image(config: Config, path: str, dry_run: bool) -> None:
    if config.demo.box is None:
        raise InputError("an image needs the box of its hand; give it in px as box=[x0,y0,x1,y1]")
    folder, name = _target(config, "image")
    try:
        rgb = draw.open_jpeg(read_uri(path))
    except InputError as error:
        raise InputError(f"image={path}: {error}") from None
    hand = demo.check_box(config.demo.box, rgb, "box")
    held = None if config.demo.object_box is None else demo.check_box(config.demo.object_box, rgb, "object_box")
    predictor = _predictor(config)
    side = config.demo.side or "right"
    print(f"image    {path}, {rgb.shape[1]} x {rgb.shape[0]} px, a {side} hand")
    if dry_run:
        print(f"would write {name} to {folder}")
        return
    labelled = demo.label_image(predictor, rgb, hand, held, side, config)
    scores = [f"{rule} {float(labelled.scores[rule][0]):.2f}" for rule in reasons.SPATIAL_RULES]
    print(f"scores   {', '.join(scores)}")
    if not (labelled.camera.isfinite().all() and labelled.camera[0, 0] > 0):
        print(
            "note: no hand is drawn: the prediction is not finite, or no camera fits it. Is the box tight around the "
            "hand, and is it a right hand (side=left)?"
        )
    picture = demo.draw_image(rgb, labelled, predictor.mano_layer.faces)
    data = cv2.imencode(Path(name).suffix, picture[..., ::-1])[1].tobytes()
    _write(folder, name, data)
    print(f"written  {name} in {folder}")


def _video(config: Config, path: str, dry_run: bool) -> None:
    boxes = command.need(config.demo.boxes, "boxes", "FILE.json")
    folder, name = _target(config, "video")
    clips = demo.read_clips(path, boxes, config)
    predictor = _predictor(config)
    frames = sum(len(clip.frames) for clip in clips)
    print(f"video    {path}, hands {len(clips)}, frames with a hand box {frames}", flush=True)
    decoded, clips = demo.decode(path, clips, config)
    if dry_run:
        print(f"would write {name} with {len(decoded.numbers)} frames to {folder}")
        return
    labelled = demo.label_video(predictor, clips, decoded, config.demo.side, config)
    for hand in labelled:
        side = "left" if hand.prediction.flipped else "right"
        print(f"hand     {hand.clip.clip_id}, {side}, kept {hand.verdicts.count(reasons.KEPT)} of {len(hand.verdicts)}")
    pictures = demo.draw_video(decoded, labelled, predictor.mano_layer.faces)
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "demo.webm"
        encode(file, pictures, fps=decoded.footage.fps or USUAL_FPS)
        _write(folder, name, file.read_bytes())
    print(f"written  {name} in {folder}, {len(pictures)} frames")


def _predictor(config: Config) -> HandPredictor:
    path = command.need(config.evaluate.checkpoint, "evaluate.checkpoint", "runs/tiny/student/checkpoint.pt")
    predictor, sha256, notes = demo.open_predictor(read_uri(path), config, path)
    for note in notes:
        print(f"note: {note}")
    print(f"network  {path}, weights {sha256[:12]}, on {predictor.device}", flush=True)
    return predictor


def _target(config: Config, kind: str) -> tuple[str, str]:
    """Folder and file name that the output means."""
    output = command.need(config.output, "output", "runs/demo")
    folder, _, name = output.rpartition("/")
    suffix = Path(name).suffix.lower()
    if suffix in ENDINGS[kind]:
        if Path(output).is_dir():
            raise InputError(f"output={output} is a folder; give a file name, or a folder without {suffix} in its name")
        given = {"demo.image": config.demo.image, "demo.video": config.demo.video, "demo.boxes": config.demo.boxes}
        for setting, path in given.items():
            if path is not None and Path(output).exists() and Path(path).exists() and Path(output).samefile(path):
                raise InputError(f"output={output} is the file of {setting}, which would be overwritten; give another")
        folder = folder or ("/" if output.startswith("/") else ".")
        check_writable(folder)
        return folder, name
    if suffix in {".mp4", *ENDINGS["image"], *ENDINGS["video"]}:
        raise InputError(f"output={output}: the {kind} is written as {' or '.join(ENDINGS[kind])}, or into a folder")
    return command.output_of(config, "runs/demo"), f"demo{ENDINGS[kind][0]}"


def _write(folder: str, name: str, data: bytes) -> None:
    if "://" in folder:
        open_store(folder).put(name, data)
    else:  # a store would leave a folder for unfinished objects beside the picture
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / name).write_bytes(data)


def full_key(word: str) -> str:
    """``image=x`` as ``demo.image=x``; a key that is no setting goes to the group of its nearest neighbour."""
    key, equals, _ = word.partition("=")
    if not equals or key.startswith("-") or "." in key or key in Config.model_fields:
        return word
    near = difflib.get_close_matches(key, [*DemoConfig.model_fields, *Config.model_fields], n=1, cutoff=0.5)
    return f"demo.{word}" if near and near[0] in DemoConfig.model_fields else word


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    words = sys.argv[1:] if argv is None else argv
    return command.run(job, __doc__, [full_key(word) for word in words])


if __name__ == "__main__":
    sys.exit(main())
