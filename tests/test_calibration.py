"""Precision, yield and proposed thresholds on frames whose worth is known by construction."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from labelled import draw_world
from made_tables import labels as made_labels

from hojoint.config import THRESHOLDS, CalibrateConfig, Config, FilterConfig, ManoConfig, changed, from_tree
from hojoint.datasets import sequences
from hojoint.datasets.ho3d import HO3D
from hojoint.errors import InputError
from hojoint.evaluation import calibration, label_quality, precision, promise
from hojoint.hand.factory import hand_layer
from hojoint.hand.stand_in.model import save_model, stand_in_model
from hojoint.labelling import quality, reasons, rescoring, tables
from hojoint.model import checkpoint
from hojoint.model.network import HOJoint
from hojoint.model.released import layout
from hojoint.report import calibration as calibration_figure

RULES = ("box_iou", "reprojection", "bone_length", "joint_angle")
SPATIAL = FilterConfig(enabled=RULES)
UNMEASURED = {
    "right_when": {"aligned_mm": 15.0, "joints_2d": 0.15, "wrist_mm": None},
    "quality": {
        "auc": None, "min_quality": 0.5, "reached": False, "promised": None, "out_of_fold": True,
        "wanted_precision": 0.9,
    },
    "promise": None,
}  # fmt: skip
"""What the job adds to a calibration, without numbers."""


def judged(correct: Any, **scores: Any) -> precision.Judged:
    """Frames of clips of five, each in a video of its own; scores that are not given are perfect."""
    correct = np.asarray(correct, bool)
    clips = [made_labels(f"v{n}-h0-0000-0004", seed=n) for n in range(-(-len(correct) // 5))]
    table = tables.predictions_table(clips).slice(0, len(correct))
    perfect = {"box_iou": 1.0, "reprojection": 0.0, "bone_length": 1.0, "joint_angle": -10.0}
    for rule, best in perfect.items():
        values = np.asarray(scores.get(rule, np.full(len(correct), best)), np.float32)
        place = table.schema.get_field_index(f"score_{rule}")
        table = table.set_column(place, table.schema.field(place), pa.array(values))
    return precision.Judged(table, correct)


def test_a_curve_counts_what_each_threshold_keeps() -> None:
    frames = judged([1, 1, 0, 1, 0], box_iou=[0.9, 0.8, 0.8, 0.5, np.nan])
    line = precision.curve(frames, "box_iou")
    np.testing.assert_allclose(line.thresholds, [0.9, 0.8, 0.5], rtol=1e-6)
    np.testing.assert_allclose(line.precision, [1, 2 / 3, 3 / 4])
    np.testing.assert_allclose(line.share, [1 / 5, 3 / 5, 4 / 5])


def test_small_is_good_for_distances() -> None:
    frames = judged([1, 0, 1, 0], reprojection=[0.1, 0.4, 0.2, np.inf])
    line = precision.curve(frames, "reprojection")
    np.testing.assert_allclose(line.thresholds, [0.1, 0.2, 0.4], rtol=1e-6)
    np.testing.assert_allclose(line.precision, [1, 1, 2 / 3])


def test_a_rule_alone_needs_twenty_frames_to_prove_its_precision() -> None:
    correct = np.r_[np.ones(25), np.zeros(25)]
    frames = judged(correct, reprojection=np.linspace(0.01, 0.5, 50))
    assert precision.alone(frames, "reprojection", 1.0) == pytest.approx(0.25)
    assert precision.alone(judged(correct, reprojection=np.linspace(0.5, 0.01, 50)), "reprojection", 0.6) is None
    assert precision.alone(frames, "box_iou", 0.9) is None  # all alike: half of them correct
    few = judged(np.r_[np.ones(19), np.zeros(31)], reprojection=np.linspace(0.01, 0.5, 50))
    assert precision.alone(few, "reprojection", 1.0) is None


def test_worth_is_counted_by_hand() -> None:
    kept, correct = np.array([1, 1, 1, 0, 0], bool), np.array([1, 1, 0, 1, 0], bool)
    assert precision.selection_scores(kept, correct) == {
        "frames": 5, "kept": 3, "precision": 2 / 3, "yield": 3 / 5, "recall": 2 / 3,
    }  # fmt: skip
    nothing = precision.selection_scores(np.zeros(5, bool), np.zeros(5, bool))
    assert nothing["precision"] is None
    assert nothing["recall"] is None


@pytest.mark.slow
def test_a_telling_rule_is_found_and_the_others_stay_loose() -> None:
    random = np.random.default_rng(0)
    correct = random.random(400) < 0.4
    iou = np.where(correct, random.uniform(0.6, 1, 400), random.uniform(0, 0.58, 400))
    noise = {"reprojection": random.uniform(0, 1, 400), "bone_length": random.uniform(0.1, 1, 400)}
    frames = judged(correct, box_iou=iou, **noise)
    found = calibration.propose(frames, SPATIAL, 0.97)
    assert found is not None
    assert 0.5 < found.min_box_iou <= 0.62
    assert found.max_reprojection > 0.95
    assert found.min_bone_length == 0.1  # every bone is longer: the present threshold stays
    kept = calibration.kept_by(frames, found)
    assert correct[kept].mean() >= 0.97
    assert kept[correct].mean() > 0.95


@pytest.mark.slow
def test_two_rules_that_see_half_of_the_faults_are_both_needed() -> None:
    random = np.random.default_rng(1)
    fault = random.integers(0, 3, 600)  # 0 correct, 1 seen by the IoU, 2 by the re-projection
    iou = np.where(fault == 1, random.uniform(0, 0.5, 600), random.uniform(0.5, 1, 600))
    error = np.where(fault == 2, random.uniform(0.5, 1, 600), random.uniform(0, 0.5, 600))
    frames = judged(fault == 0, box_iou=iou, reprojection=error)
    for rule in ("box_iou", "reprojection"):
        assert precision.alone(frames, rule, 0.95) is None  # type: ignore[arg-type]
    found = calibration.propose(frames, SPATIAL, 0.95)
    assert found is not None
    kept = calibration.kept_by(frames, found)
    assert (fault[kept] == 0).mean() >= 0.95
    assert kept[fault == 0].mean() > 0.9


def test_a_met_aim_loosens_all_rules_and_an_unmet_has_none() -> None:
    random = np.random.default_rng(2)
    easy = judged(np.ones(50, bool), box_iou=random.random(50))
    found = calibration.propose(easy, SPATIAL, 0.9)
    assert found is not None
    assert calibration.kept_by(easy, found).all()
    blind = judged(np.arange(50) % 2 == 0)
    assert calibration.propose(blind, SPATIAL, 0.9) is None


def test_proposed_settings_are_settings() -> None:
    random = np.random.default_rng(3)
    frames = judged(random.random(60) < 0.5, joint_angle=random.uniform(-80, -40, 60), box_iou=random.random(60))
    found = calibration.propose(frames, FilterConfig(), 0.5)
    assert found is not None
    again = FilterConfig.model_validate(found.model_dump())
    assert again == found
    assert found.angle_tolerance_deg >= 0


@pytest.mark.parametrize(
    ("rule", "limit", "rounded"),
    [("box_iou", 0.61777, 0.617), ("reprojection", 0.61713, 0.618), ("pose_step", 0.0012341, 0.00124),
     ("joint_angle", 0.0, 0.0), ("joint_step", 0.0, 1e-6), ("shape_spread", 12.34, 12.4)],
)  # fmt: skip
def test_rounding_never_makes_a_threshold_stricter(rule: Any, limit: float, rounded: float) -> None:
    assert calibration._rounded(rule, limit) == pytest.approx(rounded)


def calibrated() -> dict[str, Any]:
    random = np.random.default_rng(4)
    correct = random.random(200) < 0.5
    iou = np.clip(np.where(correct, random.normal(0.8, 0.1, 200), random.normal(0.4, 0.15, 200)), 0, 1)
    return calibration.calibrate(judged(correct, box_iou=iou), FilterConfig(enabled=RULES), 0.9)


@pytest.mark.slow
def test_the_report_is_json_and_its_held_out_half_unseen() -> None:
    found = json.loads(json.dumps(calibrated()))
    assert list(found["rules"]) == list(reasons.RULES)
    assert found["together"]["proposed"]["precision"] >= 0.9
    held_out = found["together"]["held_out"]
    assert 0 < held_out["frames"] < found["frames"]
    assert held_out["precision"] > 0.8
    assert found["proposed"] == {
        THRESHOLDS[rule]: found["rules"][rule]["proposed"] for rule in RULES
    }  # fmt: skip
    assert not found["rules"]["joint_step"]["enabled"]
    shares = [share for _, _, share in found["together"]["curve"]]
    assert shares == sorted(shares)


def test_halves_never_part_a_recording_and_are_about_as_large() -> None:
    recordings = np.repeat([f"v{n}" for n in range(20)], 5)
    half = calibration._first_half(recordings)
    parts = half.reshape(20, 5)
    assert (parts.all(1) | ~parts.any(1)).all()
    assert half.mean() == 0.5
    shuffled = np.random.default_rng(0).permutation(100)
    np.testing.assert_array_equal(calibration._first_half(recordings[shuffled]), half[shuffled])


@pytest.mark.slow
def test_cameras_and_pieces_of_one_recording_are_one() -> None:
    clips = ["AP10-0000", "AP11-0048", "AP14-0000", "SM1-0000", "SB11-0000", "SB13-0096"]
    assert [sequences.recording_of(clip) for clip in clips] == ["AP1", "AP1", "AP1", "SM", "SB1", "SB1"]
    frames = judged(np.arange(90) % 2 == 0, box_iou=np.tile([1, 0], 45))
    one = dataclasses.replace(frames, recordings=np.repeat([sequences.recording_of(clip) for clip in clips[:3]], 30))
    found = calibration.calibrate(one, SPATIAL, 0.5)
    assert (found["recordings"], found["together"]["held_out"]) == (1, None)
    assert calibration.calibrate(frames, SPATIAL, 0.5)["together"]["held_out"] is not None
    assert one.take(np.arange(90) < 10).recording().tolist() == ["AP1"] * 10


@pytest.mark.slow
def test_thresholds_that_fall_short_are_sought_in_new_scores() -> None:
    random = np.random.default_rng(5)
    correct = random.random(300) < 0.5
    iou = np.where(correct, random.uniform(0.4, 1, 300), random.uniform(0, 0.7, 300))
    frames = judged(correct, box_iou=iou)
    # As if a hand had been learnt before that told all wrong frames: the one learnt anew tells none of them.
    place = frames.table.schema.get_field_index("score_shape_spread")
    spread = pa.array(np.where(correct, 0.5, 3).astype(np.float32))
    stale = dataclasses.replace(
        frames, table=frames.table.set_column(place, frames.table.schema.field(place), spread)
    )  # fmt: skip
    config = FilterConfig(enabled=("box_iou", "shape_spread"))
    first = calibration._search(stale, config, 0.9)
    assert first is not None
    assert correct[calibration.kept_by(stale, first)].mean() < 0.9
    found = calibration.propose(stale, config, 0.9)
    assert found is not None
    assert correct[calibration.kept_by(stale, found)].mean() >= 0.9
    assert calibration.calibrate(stale, config, 0.9)["reached"]


def test_what_rounding_lets_in_is_seen_by_the_search() -> None:
    correct = np.arange(200) % 2 == 0
    more = np.where(correct, np.repeat(np.linspace(0.6179, 0.8, 5), 40), 0.6175)  # 0.6179 would be written as 0.617
    found = calibration.propose(judged(correct, box_iou=more), SPATIAL, 0.95)
    assert found is not None
    assert 0.618 < found.min_box_iou <= 0.8
    assert found.min_box_iou == calibration._rounded("box_iou", found.min_box_iou + 1e-9)


@pytest.mark.slow
def test_thresholds_that_fall_short_come_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs import calibration_text

    short = FilterConfig(enabled=RULES, min_box_iou=0.5)
    monkeypatch.setattr(calibration, "_search", lambda *_: short)  # whatever is wanted, this is found
    found = {**calibration.calibrate(judged(np.arange(100) % 2 == 0), SPATIAL, 0.9), **UNMEASURED}
    assert not found["reached"]
    assert found["proposed"]["min_box_iou"] == 0.5
    words = "do not reach 90.0% with at least 20 frames: they keep 100, of which 50.0% are correct"
    assert words in calibration_text.summary({**found, "caution": None})
    assert words in calibration_text.proposal({**found, "caution": None}).splitlines()[0]


def test_a_teacher_that_is_never_right_cannot_be_calibrated() -> None:
    with pytest.raises(InputError, match="none of 10 predicted frames is correct"):
        calibration.calibrate(judged(np.zeros(10, bool)), FilterConfig(), 0.9)


@pytest.mark.parametrize("with_quality", [False, True])
def test_every_rule_has_a_panel_of_its_own(with_quality: bool) -> None:
    point = {"precision": 0.8, "yield": 0.5}
    rule = {"enabled": True, "curve": [[0.1, 0.6, 1.0], [0.2, 0.9, 0.5]], "alone": point, "current": 0.1}
    together = {"curve": rule["curve"], "current": point, "proposed": point, "held_out": None}
    result = {"rules": dict.fromkeys(reasons.RULES, rule), "together": together, "frames": 50}
    result |= {"base_precision": 0.6, "wanted_precision": 0.9}
    chances, correct = np.repeat([0.25, 0.75], [30, 20]), np.r_[np.arange(30) < 12, np.arange(20) < 18]
    quality = {"reliability": promise.reliability(chances, correct), "promised": None, "min_quality": None}
    figure = calibration_figure.figure_of({**result, **({"quality": quality} if with_quality else {})})
    shown = [axes for axes in figure.axes if axes.get_visible()]
    titles = [axes.get_title(loc="left") for axes in shown]
    assert titles == [*reasons.RULES, *(["quality"] if with_quality else []), "all together"]
    assert all(len(axes.lines) == len(shown[0].lines) for axes in shown[1 : len(reasons.RULES)])
    if with_quality:  # kept at 0.7 and at 0.2
        curve = shown[-2].lines[0]
        np.testing.assert_allclose([curve.get_xdata(), curve.get_ydata()], [[0.4, 1.0], [18 / 20, 30 / 50]])


@pytest.mark.slow
def test_the_picture_is_a_png_even_without_a_proposal() -> None:
    found = calibrated()
    for shown in (found, {**found, "together": {**found["together"], "proposed": None, "held_out": None}}):
        image = cv2.imdecode(np.frombuffer(calibration_figure.draw(shown), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape[1] > 1000


class List:
    """The part of a data set that cutting into clips needs."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)

    def __len__(self) -> int:
        return len(self.names)


def test_sequences_are_thinned_and_cut_where_frames_are_missing() -> None:
    names = [f"A/{n:04d}" for n in range(10)] + [f"A/{n:04d}" for n in range(21, 25)] + ["B/0000", "B/0001"]
    found = sequences.sequence_clips(List(*names), CalibrateConfig(stride=2, clip_frames=3))  # type: ignore[arg-type]
    assert [(clip.clip_id, clip.indices) for clip in found] == [
        ("A-0000", (0, 2, 4)),
        ("A-0006", (6, 8)),
        ("A-0021", (10, 12)),
        ("B-0000", (14,)),
    ]
    few = sequences.sequence_clips(List(*names), CalibrateConfig(clip_frames=3, limit=6))  # type: ignore[arg-type]
    assert [clip.clip_id for clip in few] == ["A-0000", "B-0000"]


def test_remainders_that_labelling_never_makes_are_left_out() -> None:
    listed = List(*(f"A/{n:04d}" for n in range(7)), "B/0000")
    config = CalibrateConfig(stride=1, clip_frames=3)
    found = sequences.sequence_clips(listed, config, least=2)  # type: ignore[arg-type]
    assert [clip.indices for clip in found] == [(0, 1, 2), (3, 4, 5)]
    assert sequences.too_short(listed, config, 2) == 2  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"labelling\.min_clip_frames=4 leaves no clip .* has 3 frames; lower it"):
        sequences.sequence_clips(listed, config, least=4)  # type: ignore[arg-type]


@pytest.mark.parametrize(("limit", "frames"), [(10, 10), (50, 50), (150, 96), (192, 128)])
def test_no_more_frames_than_the_limit_are_taken(limit: int, frames: int) -> None:
    listed = List(*(f"A/{n:04d}" for n in range(400)))
    config = CalibrateConfig(stride=1, clip_frames=48, limit=limit)
    found = sequences.sequence_clips(listed, config, (False, True))  # type: ignore[arg-type]
    assert sum(len(clip.indices) for clip in found) == frames


def test_named_sequences_are_taken_in_order_of_time() -> None:
    listed = List("B/0002", "A/0001", "A/0000", "C/0000", "B/0001")
    config = CalibrateConfig(stride=1, sequences=("A", "B"))
    found = sequences.sequence_clips(listed, config)  # type: ignore[arg-type]
    assert [(clip.clip_id, clip.indices) for clip in found] == [("A-0000", (2, 1)), ("B-0001", (4, 0))]
    with pytest.raises(InputError, match=r"calibrate\.sequences names AP10, which .*choose among A, B, C"):
        sequences.sequence_clips(listed, CalibrateConfig(sequences=("A", "AP10")))  # type: ignore[arg-type]


def test_a_frame_without_a_number_is_no_neighbour_of_any() -> None:
    listed = List("A/0000", "A/0001", "B/frame_0000", "B/frame_0001")
    with pytest.raises(InputError, match=r"named by their numbers in time, as in MC1/0000; found B/frame_0000 in the"):
        sequences.sequence_clips(listed, CalibrateConfig(stride=1))  # type: ignore[arg-type]
    found = sequences.sequence_clips(listed, CalibrateConfig(stride=1, sequences=("A",)))  # type: ignore[arg-type]
    assert [clip.indices for clip in found] == [(0, 1)]


@pytest.mark.slow
def test_training_frames_have_the_truth_and_boxes_of_training(tmp_path: Path) -> None:
    config = draw_world(tmp_path, frames=2)
    dataset = HO3D(config.data.ho3d, "train", config.crop)
    clip = sequences.sequence_clips(dataset, CalibrateConfig(split="train", stride=1))[0]
    record, frames, truth = next(sequences.load(dataset, [clip]))
    sample = dataset[clip.indices[0]]
    assert len(frames.rgb) == len(clip.indices)
    low, high = record.hand_boxes[0].reshape(2, 2)
    px = np.array(truth["joints_px"].to_pylist())[0].reshape(21, 2)
    # The sample's pixels are those of a cut region; within the hand's box they are the same.
    in_box = (sample.joints_px - sample.hand_box[:2]) / (sample.hand_box[2:] - sample.hand_box[:2])
    np.testing.assert_allclose((px - low) / (high - low), in_box, atol=1e-4)
    joints = np.array(truth["joints"].to_pylist())[0].reshape(21, 3)
    posed = label_quality.hand_joints(hand_layer(config.mano), sample.pose[None], sample.betas[None])[0]
    np.testing.assert_allclose(joints - joints[0], posed, atol=1e-4)


@pytest.mark.slow
def test_a_mirrored_clip_shows_a_left_hand_of_the_same_truth(tmp_path: Path) -> None:
    config = draw_world(tmp_path, frames=2)
    dataset = HO3D(config.data.ho3d, "train", config.crop)
    plain, mirrored = sequences.sequence_clips(dataset, CalibrateConfig(stride=1), (False, True))[:2]
    assert mirrored.clip_id == f"{plain.clip_id}-left"
    assert sequences.recording_of(mirrored.clip_id) == sequences.recording_of(plain.clip_id)
    (clip, frames, truth), (other, turned, same) = sequences.load(dataset, [plain, mirrored])
    np.testing.assert_array_equal(turned.rgb, frames.rgb[:, :, ::-1])
    assert set(same["side"].to_pylist()) == {"left"}
    assert same["joints"].to_pylist() == truth["joints"].to_pylist()  # of the right-hand model
    right = frames.rgb.shape[2] - 1
    px, turned_px = (np.array(table["joints_px"].to_pylist()).reshape(-1, 21, 2) for table in (truth, same))
    np.testing.assert_allclose(turned_px, np.stack([right - px[..., 0], px[..., 1]], -1))
    low, high = other.hand_boxes[:, None, :2], other.hand_boxes[:, None, 2:]
    before = (px - clip.hand_boxes[:, None, :2]) / (clip.hand_boxes[:, None, 2:] - clip.hand_boxes[:, None, :2])
    flipped = np.stack([1 - before[..., 0], before[..., 1]], -1)
    np.testing.assert_allclose((turned_px - low) / (high - low), flipped, atol=1e-4)


def test_a_side_that_is_given_is_not_asked_for() -> None:
    given = {side: sequences.copies_of(from_tree({"labelling": {"side": side}})) for side in ("both", "right", "left")}
    assert given == {"both": (False, True), "right": (False,), "left": (True,)}
    assert sequences.copies_of(from_tree({"calibrate": {"mirrored": False}})) == (False,)


def test_a_teacher_that_saw_the_held_out_recordings_is_refused() -> None:
    from cluster.training.seen import Seen, Wanted
    from jobs import calibrate

    wanted = from_tree({"calibrate": {"split": "held_out"}, "train": {"held_out": 2}})
    apart = Wanted(2, frozenset({"MC2", "SS1"}))
    calibrate._refuse_seen(wanted, Seen(frozenset({"BB2"}), 2), apart)
    with pytest.raises(
        InputError, match=r"held_out=2 recordings .* trained with train\.held_out=1; set train\.held_out=1"
    ):
        calibrate._refuse_seen(wanted, Seen(None, 1), apart)
    of_them = r"trained on MC2 of them \(compared by name\); give calibrate\.split=evaluation"
    with pytest.raises(InputError, match=of_them):
        calibrate._refuse_seen(wanted, Seen(frozenset({"BB2", "MC2"}), 2), apart)
    assert calibrate._caution(wanted) is None


@pytest.mark.slow
def test_the_released_teacher_is_calibrated_and_held_out_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs import calibrate

    world = draw_world(tmp_path / "world", frames=2)
    teacher, hand = tmp_path / "theirs.pth.tar", tmp_path / "MANO_RIGHT.pkl"
    torch.save({"epoch": 1, "state_dict": {name: torch.zeros(shape) for name, shape in layout().items()}}, teacher)
    save_model(stand_in_model(), hand)
    preset = Path(__file__).resolve().parents[1] / "configs" / "released.yaml"
    arguments = [
        "--config", str(preset), f"data.ho3d.root={world.data.ho3d.root}", f"mano.path={hand}",
        f"teacher.checkpoint={teacher}", "calibrate.stride=1", f"output={tmp_path / 'out'}", "--dry-run",
    ]  # fmt: skip
    assert calibrate.main(arguments) == 0
    assert "of HO-3D's evaluation split" in capsys.readouterr().out
    assert calibrate.main([*arguments, "calibrate.split=held_out", "train.held_out=1"]) == 2
    said = "trained with train.held_out=0; give calibrate.split=evaluation, or train"
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_rule_of_ours_without_a_score_cannot_be_calibrated() -> None:
    frames = judged(np.arange(40) % 2 == 0)
    place = frames.table.schema.get_field_index("score_side")
    table = frames.table.set_column(place, frames.table.schema.field(place), pa.nulls(40, pa.float32()))
    with pytest.raises(InputError, match="no frame has a score of the rule side"):
        calibration.calibrate(dataclasses.replace(frames, table=table), FilterConfig(enabled=("side",)), 0.9)


@pytest.mark.slow
@pytest.mark.parametrize(("split", "frames"), [("evaluation", 2), ("train", 4)])
def test_the_job_labels_the_given_split_of_ho3d(split: str, frames: int, tmp_path: Path) -> None:
    from jobs import calibrate

    config = draw_world(tmp_path / "world", frames=2)
    teacher = tmp_path / "teacher.pt"
    teacher.write_bytes(checkpoint.save(HOJoint(config.model), config, progress={}, parents={}))
    arguments = [
        f"data.ho3d.root={config.data.ho3d.root}", f"teacher.checkpoint={teacher}", f"output={tmp_path / 'out'}",
        f"calibrate.split={split}", "calibrate.stride=1", "tta.views=1", "cluster.threads=1",
        # An untrained teacher is never correct; here every hand of the right side is.
        "calibrate.max_aligned_mm=1000", "calibrate.max_joints_2d=1000", "labelling.side=right",
    ]  # fmt: skip
    assert calibrate.main(["--config", _empty(tmp_path), *arguments]) == 0
    found = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert (found["frames"], found["right"]) == (frames, frames)
    assert found["caution"] == calibrate._caution(from_tree({"calibrate": {"split": split}}))


@pytest.mark.slow
@pytest.mark.parametrize(("split", "words"), [("evaluation", "do not report scores"), ("train", "too good to be true")])
def test_thresholds_from_ho3d_come_with_a_caution(
    split: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs import calibrate, calibration_text

    config = from_tree({"calibrate": {"split": split}})
    found = {**calibrated(), **UNMEASURED, "caution": calibrate._caution(config)}
    assert words in calibration_text.summary(found)
    for text in (calibration_text.proposal(found), calibration_text.quality_proposal(found, "q.json")):
        assert words in text.splitlines()[0]
    assert yaml.safe_load(calibration_text.proposal(found)) == {"filters": found["proposed"]}


def test_the_job_turns_a_labelling_run_into_loadable_settings(tmp_path: Path) -> None:
    from cluster.labelling import commits
    from cluster.labelling.counts import Counts
    from cluster.store import open_store
    from jobs import calibrate

    run, truth_file, out = tmp_path / "labels", tmp_path / "truth.parquet", tmp_path / "out"
    frames = judged(np.ones(40, bool), box_iou=np.linspace(1, 0.2, 40))
    table = frames.table
    store = open_store(str(run))
    store.put(commits.RUN, json.dumps({"fingerprint": {}, "units": 1}).encode())
    commits.commit(
        store, "u0", "a0", {name: table if name == "predictions" else table.slice(0, 0) for name in commits.TABLES},
        counts=Counts(), started=0.0, seconds={},
    )  # fmt: skip
    joints = label_quality.hand_joints(
        hand_layer(ManoConfig()), tables.array_of(table, "mano_pose"), tables.array_of(table, "mano_shape")
    )
    joints[20:] = np.random.default_rng(0).normal(size=(20, 21, 3)) * 0.1  # the latter half is labelled wrongly
    import pyarrow.parquet as pq

    truth = {"video_id": table["video_id"], "frame": table["frame"], "side": ["left"] * 40}
    pq.write_table(
        pa.table({**truth, "joints_px": table["joints_px"], "joints": list(joints.reshape(40, 63))}), truth_file
    )
    arguments = [
        f"calibrate.predictions={run}",
        f"calibrate.truth={truth_file}",
        f"output={out}",
        "filters.enabled=[box_iou]",
    ]
    assert calibrate.main(["--config", _empty(tmp_path), *arguments]) == 0
    found = json.loads((out / "calibration.json").read_text())
    assert found["right"] == 20
    assert found["together"]["proposed"]["precision"] >= 0.9
    text = (out / "filters.yaml").read_text()
    settings = from_tree(yaml.safe_load(text))
    assert isinstance(settings, Config)
    said, merged = text.splitlines()[:3], "Merge them into the 'filters:' of your own config"
    assert all(line.startswith("# ") for line in said)
    assert merged in said[0]
    assert said[2] == f"# filters.min_box_iou={settings.filters.min_box_iou:g}"
    assert 0.55 < settings.filters.min_box_iou < 0.7
    assert (out / "calibration.png").stat().st_size > 10_000
    store = open_store(str(out))
    assert found["promise"] is None  # these labels have no quality
    assert calibrate.proposed_filters(store, "thresholds", "")["min_box_iou"] == settings.filters.min_box_iou
    by_quality = calibrate.proposed_filters(store, "quality", "")
    assert yaml.safe_load((out / "quality.yaml").read_text()) == {"filters": by_quality}
    judge = from_tree({"filters": by_quality}).filters
    model = quality.load(str(judge.quality_model))
    again = rescoring.rescored(table, judge, model)
    kept = np.array(again["verdict"].to_pylist()) == "kept"
    assert kept[:20].mean() > 0.8 > 0.2 > kept[20:].mean()
    blind = ["calibrate.precision=1", "filters.enabled=[joint_angle]"]  # whose scores are alike in all frames
    assert calibrate.main(["--config", _empty(tmp_path), *arguments[:3], *blind]) == 0
    assert json.loads((out / "calibration.json").read_text())["proposed"] is None
    assert not (out / "filters.yaml").exists()  # that of the call before


def test_a_model_is_fitted_on_the_readings_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever readings the run was made with: its temporal scores are computed again."""
    from cluster.labelling import commits
    from cluster.labelling.counts import Counts
    from cluster.store import open_store
    from hojoint.evaluation import quality_fit
    from jobs import calibrate

    table = tables.predictions_table([made_labels(f"{name}-h0-0000-0019", numbers=tuple(range(20))) for name in "ab"])
    literal = FilterConfig(pose_step="literal", shape_rule="mad", shape_min_frames=2)
    made, asked = (rescoring.rescored(table, rules) for rules in (literal, FilterConfig()))
    store = open_store(str(tmp_path / "labels"))
    store.put(commits.RUN, json.dumps({"fingerprint": {"filters.pose_step": "literal"}, "units": 1}).encode())
    commits.commit(
        store, "u0", "a0", {name: made if name == "predictions" else made.slice(0, 0) for name in commits.TABLES},
        counts=Counts(), started=0.0, seconds={},
    )  # fmt: skip
    import pyarrow.parquet as pq

    truth = {name: made[name] for name in ("video_id", "frame", "joints_px")}
    joints = label_quality.hand_joints(
        hand_layer(ManoConfig()), tables.array_of(made, "mano_pose"), tables.array_of(made, "mano_shape")
    )
    joints[::2] = np.random.default_rng(0).normal(size=(20, 21, 3))
    side = ["left" if flipped else "right" for flipped in made["flipped"].to_pylist()]
    pq.write_table(pa.table({**truth, "side": side, "joints": list(joints.reshape(40, 63))}), tmp_path / "t.parquet")
    fitted, fit = [], quality_fit.fit
    monkeypatch.setattr(quality_fit, "fit", lambda *given: fitted.append(given) or fit(*given))
    arguments = [
        f"calibrate.predictions={tmp_path / 'labels'}", f"calibrate.truth={tmp_path / 't.parquet'}",
        f"output={tmp_path / 'out'}",
    ]  # fmt: skip
    assert calibrate.main(["--config", _empty(tmp_path), *arguments]) == 0
    judged_table = fitted[0][0].table
    for rule in ("pose_step", "shape_spread"):
        found, wanted, run = (tables.array_of(one, f"score_{rule}") for one in (judged_table, asked, made))
        np.testing.assert_array_equal(found, wanted)
        assert not np.allclose(found, run, equal_nan=True)
    assert quality.load(tmp_path / "out" / "quality.json").readings["pose_step"] == "mean_square"


def test_labels_are_judged_with_the_fingertips_of_their_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cluster.labelling import commits
    from cluster.store import open_store
    from jobs import calibrate

    run = {"fingerprint": {"mano.fingertips": "smplx"}, "units": 0}
    open_store(str(tmp_path / "labels")).put(commits.RUN, json.dumps(run).encode())
    judged = []

    def given(config: Config) -> None:
        judged.append(config.mano.fingertips)
        raise InputError("that is all")

    monkeypatch.setattr(calibrate, "_given", given)
    words = [f"calibrate.predictions={tmp_path / 'labels'}", "calibrate.truth=t.parquet", f"output={tmp_path / 'out'}"]
    assert calibrate.main(["--config", _empty(tmp_path), *words]) == 2
    assert judged == ["smplx"]
    assert "made with mano.fingertips=smplx, so they are judged with it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "data.ho3d.root"),
        (["data.ho3d.root=/nowhere"], "teacher.checkpoint"),
        (["calibrate.predictions=/nowhere"], "truth"),
        (
            ["calibrate.predictions=x", "calibrate.truth=x", "calibrate.limit=3"],
            "calibrate.limit: calibrate.predictions",
        ),
        (["calibrate.predictions=x", "calibrate.truth=x", "calibrate.split=train"], "calibrate.split: calibrate"),
        (["calibrate.predictions=/nowhere/labels", "calibrate.truth=x"], "no labels at"),
    ],
)
def test_what_is_missing_is_named_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    from jobs import calibrate

    assert calibrate.main(["--config", _empty(tmp_path), f"output={tmp_path / 'out'}", *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "reading",
    ["reprojection_norm=mean", "bone_reference=span", "joint_angle=unsigned", "min_angle_deg=-5", "max_angle_deg=95"],
)
def test_readings_other_than_those_of_the_scores_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reading: str
) -> None:
    from cluster.labelling import commits, units
    from cluster.store import open_store
    from jobs import calibrate

    made = units.fingerprint(Config(), "teacher", units.hand_digest(Config()), units.Digests())
    open_store(str(tmp_path / "labels")).put(commits.RUN, json.dumps({"fingerprint": made, "units": 0}).encode())
    arguments = [
        f"calibrate.predictions={tmp_path / 'labels'}",
        "calibrate.truth=t.parquet",
        f"output={tmp_path / 'out'}",
    ]
    assert calibrate.main(["--config", _empty(tmp_path), *arguments, f"filters.{reading}"]) == 2
    name = reading.partition("=")[0]
    there = getattr(FilterConfig(), name)
    error = capsys.readouterr().err
    assert f"set filters.{name}={there}" in error
    assert not (tmp_path / "out").exists()


def _empty(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text("{}\n")
    return str(path)


@pytest.mark.ray
def test_a_cluster_labels_on_a_node_as_this_process_does(tmp_path: Path, ray_session: Any) -> None:
    """The driver's own process, on a head without a GPU, labels nothing."""
    from cluster import calibrating

    world = draw_world(tmp_path / "world", frames=2)
    teacher = tmp_path / "teacher.pt"
    teacher.write_bytes(checkpoint.save(HOJoint(world.model), world, progress={}, parents={}))
    small = {"teacher": {"checkpoint": str(teacher)}, "tta": {"views": 1}}
    here = changed(
        world, calibrate={"stride": 1, "mirrored": False}, cluster={"threads": 1, "teacher_cpus": 1}, **small
    )
    there = changed(here, cluster={"address": "auto"})
    alone, _, merged = calibrating.label_sequences(here, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrating.sequence_labels, "label_sequences", None)  # a worker imports its own
        spread, truth, returned = calibrating.label_sequences(there, 2)
    assert spread.num_rows == truth.num_rows == 2
    assert spread["frame"].equals(alone["frame"])
    np.testing.assert_allclose(tables.array_of(spread, "joints_px"), tables.array_of(alone, "joints_px"), atol=1e-3)
    assert (returned.model, returned.mano) == (merged.model, merged.mano)


def test_a_node_that_is_too_small_for_calibration_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster import calibrating

    asked = []

    def refused(size: Any, needs: Any) -> None:
        asked.extend(needs)
        raise InputError("too small")

    monkeypatch.setattr(calibrating, "read_uri", lambda uri: b"")
    monkeypatch.setattr(calibrating.opening, "open_teacher", lambda data, base, near: (None, base, ""))
    monkeypatch.setattr(calibrating.session, "start", lambda size: contextlib.nullcontext())
    monkeypatch.setattr(calibrating.capacity, "feasibility", refused)
    size = {"address": "auto", "teacher_cpus": 4, "teacher_gpus": 1}
    config = changed(Config(), cluster=size, teacher={"checkpoint": "t.pt"})
    with pytest.raises(InputError, match="too small"):
        calibrating.label_sequences(config, 2)
    assert [(need.processes, need.cpus, need.gpus) for need in asked] == [(1, 4, 1)]


def test_the_driver_judges_with_the_hand_of_the_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node labels with the hand that the checkpoint names, where the settings name none."""
    from cluster import calibrating

    mano = tmp_path / "MANO_RIGHT.pkl"
    save_model(stand_in_model(), mano)
    trained = changed(Config(), mano={"path": str(mano)})
    teacher = tmp_path / "teacher.pt"
    teacher.write_bytes(checkpoint.save(HOJoint(trained.model), trained, progress={}, parents={}))
    digests = []

    def on_a_node(config: Config, content: bytes, frames: int, hand_sha256: str) -> tuple[None, None]:
        digests.append(hand_sha256)
        return None, None

    monkeypatch.setattr(calibrating, "_on_a_node", on_a_node)
    monkeypatch.setattr(calibrating.session, "start", lambda size: contextlib.nullcontext())
    config = changed(Config(), cluster={"address": "auto"}, teacher={"checkpoint": str(teacher)})
    merged = calibrating.label_sequences(config, 2)[2]
    assert merged.mano.path == str(mano)
    assert digests == [calibrating.units.hand_digest(trained)]
