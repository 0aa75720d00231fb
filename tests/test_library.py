"""The public library: names, cheap import, networks from files, filter_clip as labelling judges, plain inputs."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from labelled import SMALL
from test_labels import SIZE, World

import hojoint
from hojoint import config as settings
from hojoint import geometry
from hojoint.config import (
    PAPER_RULES,
    THRESHOLDS,
    Config,
    CropConfig,
    FilterConfig,
    LabellingConfig,
    ManoConfig,
    ModelConfig,
    TtaConfig,
)  # fmt: skip
from hojoint.datasets import ycb
from hojoint.errors import InputError
from hojoint.hand.factory import hand_layer
from hojoint.hand.model import mirror_pose
from hojoint.hand.stand_in.model import save_model, stand_in_model
from hojoint.labelling import labels, quality, reasons
from hojoint.labelling.quality import Curve, QualityModel
from hojoint.model import checkpoint, released
from hojoint.records import Clip, Frames, PseudoLabels

ROOT = Path(__file__).resolve().parent.parent
PUBLIC = {
    "HOJoint", "load_network", "load_released", "HandPredictor", "ManoLayer", "load_mano", "hand_scores",
    "freihand_scores", "object_scores", "FilterConfig", "filter_clip",
}  # fmt: skip
MODEL = settings.from_tree({"model": SMALL}).model


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_names_are_these_and_each_is_loaded_on_use() -> None:
    assert set(hojoint.__all__) == PUBLIC == set(hojoint._MODULES)
    assert len(hojoint.__all__) == len(PUBLIC)
    assert set(dir(hojoint)) >= PUBLIC
    for name in PUBLIC:
        assert getattr(hojoint, name).__name__ == name
        assert getattr(hojoint, name).__doc__ or name == "FilterConfig"
    with pytest.raises(AttributeError, match="HOJiont"):
        hojoint.HOJiont  # noqa: B018


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    tree = ast.parse(Path(hojoint.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert {alias.name: node.module for node in imports for alias in node.names} == hojoint._MODULES
    assert (Path(hojoint.__file__).parent / "py.typed").is_file()


@pytest.mark.slow
def test_the_import_is_cheap_and_no_name_loads_ray() -> None:
    heavy = "{'torch', 'ray', 'numpy', 'cv2', 'pydantic', 'decord'}"
    assert python(f"import sys, hojoint; print({heavy} & set(sys.modules))").strip() == "set()"
    code = "from hojoint import *; import sys; print({'ray', 'boto3', 'decord', 'cluster', 'jobs'} & set(sys.modules))"
    assert python(code).strip() == "set()"


# ---------------------------------------------------------------------------------------------- networks from files


@pytest.fixture(scope="module")
def ours() -> bytes:
    torch.manual_seed(0)
    config = Config(model=MODEL, crop=CropConfig(hand_context=1.7), tta=TtaConfig(views=3))
    return checkpoint.save(hojoint.HOJoint(MODEL), config, progress={}, parents={})


@pytest.fixture(scope="module")
def theirs() -> bytes:
    buffer = io.BytesIO()
    state = {name: torch.zeros(shape) for name, shape in released.layout().items()}
    torch.save({"epoch": 1, "state_dict": state}, buffer)
    return buffer.getvalue()


def test_a_network_of_ours_is_loaded_in_evaluation_mode(ours: bytes, tmp_path: Path) -> None:
    (tmp_path / "c.pt").write_bytes(ours)
    for source in (ours, tmp_path / "c.pt", str(tmp_path / "c.pt")):
        network = hojoint.load_network(source)
        assert (type(network), network.training, network.config) == (hojoint.HOJoint, False, MODEL)
    with pytest.raises(InputError, match=r"nothing\.pt"):
        hojoint.load_network("nothing.pt")


def test_the_networks_call_is_the_contracts(ours: bytes) -> None:
    box = torch.tensor([[10.0, 10, 50, 50]])
    out = hojoint.load_network(ours)(torch.rand(1, 3, 64, 64), box, box + 4)
    cells = MODEL.roi_cells
    assert out.hand.joints_box.shape == (1, 21, 2)
    assert out.hand.rotations.shape == (1, 16, 3, 3)
    assert out.hand.betas.shape == (1, 10)
    assert out.object.control_box.shape == (1, cells, cells, 21, 2)
    assert out.object.confidence.shape == (1, cells, cells, 21)


@pytest.mark.slow
def test_a_network_of_ours_is_not_taken_for_a_released_one(ours: bytes, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(ours)
    with pytest.raises(InputError, match=r"with load_network, or with HandPredictor\.from_checkpoint"):
        hojoint.load_released(tmp_path / "checkpoint.pt")


def test_the_released_network_is_loaded_by_the_same_function(theirs: bytes) -> None:
    network = hojoint.load_network(theirs)
    assert (network.training, network.config) == (False, ModelConfig())
    with pytest.raises(InputError, match=r"MANO_RIGHT\.pkl .* as mano"):
        hojoint.HandPredictor.from_checkpoint(theirs)


@pytest.mark.slow
def test_a_released_network_is_cut_and_posed_as_its_preset_says(theirs: bytes, tmp_path: Path) -> None:
    save_model(stand_in_model(), tmp_path / "MANO_RIGHT.pkl")
    predictor = hojoint.HandPredictor.from_checkpoint(theirs, mano=tmp_path)
    preset = settings.load(ROOT / "configs" / "released.yaml")
    assert (predictor.crop, predictor.tta) == (preset.crop, preset.tta)


def test_a_predictor_brings_the_settings_of_its_checkpoint(ours: bytes, tmp_path: Path) -> None:
    predictor = hojoint.HandPredictor.from_checkpoint(ours, mano=tmp_path / "unused.pkl", batch_views=7)
    assert (predictor.crop.hand_context, predictor.tta.views, predictor.batch_views) == (1.7, 3, 7)


def test_one_image_is_predicted_from_plain_arrays(ours: bytes) -> None:
    predictor = hojoint.HandPredictor.from_checkpoint(ours)
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    one = predictor.predict_image(image, [20, 10, 60, 50])
    other = predictor.predict_image(image[..., ::-1][..., ::-1], np.array([20, 10, 60, 50.0]))
    assert one.joints_px.shape == (1, 21, 2)
    assert one.vertices.shape == (1, 778, 3)
    assert torch.equal(one.joints_px, other.joints_px)
    held = predictor.predict_image(image, [20, 10, 60, 50], [30, 10, 70, 50], flipped=True)
    assert held.flipped
    assert not torch.equal(held.joints_px, one.joints_px)
    one.joints_px.add_(1)  # an ordinary tensor, which may be changed in place


def _labelled(predictor: hojoint.HandPredictor, image: np.ndarray, box: list[float]) -> torch.Tensor:
    """The joints that labelling finds in the same image."""
    boxes, nowhere = np.float32([box]), np.full((1, 4), np.nan, np.float32)
    clip = Clip("image", "image", "", np.zeros(1, np.int32), boxes, nowhere, 1)
    pixels = Frames("image", image[None], boxes, nowhere)
    rules, labelling = FilterConfig(enabled=()), LabellingConfig(side="right")
    found = labels.label_clips(predictor, [clip], [pixels], filter_config=rules, labelling=labelling, teacher="")
    return found[0].prediction.joints_px


def test_a_box_beyond_the_image_is_cut_as_labelling_cuts_it(ours: bytes) -> None:
    predictor = hojoint.HandPredictor.from_checkpoint(ours)
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    for box in ([-20.0, 10, 40, 70], [0, 0, 1e9, 1e9], [20, 10, 60, 50]):
        assert torch.equal(predictor.predict_image(image, box).joints_px, _labelled(predictor, image, box))


def test_an_object_box_widens_the_crop_as_in_training(ours: bytes) -> None:
    """A network that looks at hand and object only through its crop tells the two crops apart."""
    predictor = hojoint.HandPredictor.from_checkpoint(ours)
    assert predictor.crop.unlabelled_region == "hand"
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    hand = [20, 10, 50, 40]
    inside = predictor.predict_image(image, hand, [24, 14, 46, 36])
    wide = predictor.predict_image(image, hand, [30, 20, 78, 58])
    assert not torch.equal(wide.joints_px, inside.joints_px)
    again = predictor.around_objects().predict_image(image, hand, [30, 20, 78, 58])
    assert torch.equal(again.joints_px, wide.joints_px)
    assert predictor.crop.unlabelled_region == "hand"
    with pytest.raises(InputError, match=r"the object box .* has no area inside the image of 80 x 60 px"):
        predictor.predict_image(image, hand, [5000, 5000, 5100, 5100])


def test_a_predictor_whose_views_turn_too_far_warns() -> None:
    config = settings.from_tree({"model": SMALL, "augment": {"rotation_deg": 30}})
    turned = checkpoint.save(hojoint.HOJoint(MODEL), config, progress={}, parents={})
    with pytest.warns(UserWarning, match=r"tta\.rotation_deg=180 turns views further"):
        hojoint.HandPredictor.from_checkpoint(turned)


@pytest.mark.parametrize(
    ("image", "box", "message"),
    [
        (np.zeros((60, 80, 3)), [20, 10, 60, 50], "uint8 RGB, found float64"),
        (np.zeros((60, 80), np.uint8), [20, 10, 60, 50], r"found uint8 \(60, 80\)"),
        (np.zeros((60, 80, 3), np.uint8), [20, 10, 20, 50], "hand box .* with an area"),
        (np.zeros((60, 80, 3), np.uint8), [20, 10, 60], "hand box"),
        (np.zeros((60, 80, 3), np.uint8), [20, 10, np.nan, 50], "hand box"),
        (np.zeros((60, 80, 3), np.uint8), "1,2,30,40", "found '1,2,30,40'; give four numbers"),
        (np.zeros((60, 80, 3), np.uint8), [[1, 2], 30, 40, 50], "give four numbers"),
    ],
)
def test_an_image_or_box_of_another_kind_is_refused(ours: bytes, image: Any, box: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        hojoint.HandPredictor.from_checkpoint(ours).predict_image(image, box)


def test_a_box_of_tensors_is_taken_and_a_side_by_name_refused(ours: bytes) -> None:
    predictor, image = hojoint.HandPredictor.from_checkpoint(ours), np.full((60, 80, 3), 90, np.uint8)
    box = torch.tensor([20.0, 10, 60, 50], requires_grad=True)
    expected = predictor.predict_image(image, [20, 10, 60, 50]).joints_px
    for given in (box, [*box]):
        assert torch.equal(predictor.predict_image(image, given).joints_px, expected)
    for side in ("left", None, 1):
        with pytest.raises(InputError, match="flipped must be True or False"):
            predictor.predict_image(image, box, flipped=side)


# ------------------------------------------------------------------------------------------------------- filter_clip


def shaken(joints: Any, rotations: Any, betas: Any) -> tuple[Any, Any, Any]:
    """The oracle's answers with an error that is the same in every run."""
    return joints + 0.08 * (997 * joints).sin(), rotations, betas + 0.3 * (997 * joints[:, :10, 0]).sin()


def labelled(layer: Any, left: bool) -> tuple[PseudoLabels, FilterConfig, World]:
    """A clip as labelling judges it, with thresholds that split each rule's scores in two."""
    world = World(layer, lefts={"a": left})
    world.clips[0].hand_boxes[4] = (-90, 20, -30, 60)  # outside: no rule that needs a box can judge it
    world.network.learn(world.predictor, labels._work(world.clips[0], world.frames[0]).frames, world.clips[0].frames,
                        world.truths[0][0])  # fmt: skip
    world.network.noise = shaken
    side = "left" if left else "right"
    (first,) = world.label(side=side)
    middle = {}
    for rule in ("box_iou", "reprojection", "joint_step", "shape_spread"):
        ordered = np.sort(first.scores[rule].numpy()[np.isfinite(first.scores[rule].numpy())])
        at = len(ordered) // 3 if rule == "box_iou" else len(ordered) * 2 // 3
        middle[THRESHOLDS[rule]] = float(ordered[at - 1 : at + 1].mean())
    config = FilterConfig(**middle)
    (label,) = world.label(config, side=side)
    assert len(set(label.verdicts)) > 2
    return label, config, world


def arguments(label: PseudoLabels, world: World) -> dict[str, Any]:
    prediction = label.prediction
    return {
        "betas": prediction.betas,
        "joints_px": prediction.joints_px,
        "hand_boxes": world.clips[0].hand_boxes,
        "image_size": SIZE,
        "frames": world.clips[0].frames,
        "flipped": prediction.flipped,
    }


@pytest.mark.parametrize("left", [False, True])
def test_a_clip_is_judged_exactly_as_labelling_judges_it(layer: Any, left: bool) -> None:
    label, config, world = labelled(layer, left)
    given = arguments(label, world)
    exact = hojoint.filter_clip(pose=label.prediction.rotations, config=config, **given)
    assert exact.verdicts == label.verdicts
    assert list(exact.scores) == list(reasons.RULES)
    for rule in reasons.RULES:  # no network and no views: theirs are unknown
        known = label.scores[rule].numpy() if rule in PAPER_RULES else np.full(len(exact.kept), np.nan, np.float32)
        np.testing.assert_array_equal(exact.scores[rule], known, rule)
    np.testing.assert_array_equal(exact.camera, label.camera.numpy())
    np.testing.assert_array_equal(exact.kept, [verdict == "kept" for verdict in label.verdicts])
    near = hojoint.filter_clip(pose=label.prediction.pose, config=config, **given)  # through axis-angle: float noise
    assert near.verdicts == label.verdicts
    for rule in PAPER_RULES:
        expected = label.scores[rule].numpy()
        np.testing.assert_allclose(near.scores[rule], expected, atol=2e-3, rtol=1e-3, err_msg=rule)


def test_a_left_clip_is_judged_alike_from_vectors_and_matrices() -> None:
    given = plain()
    boxes, points = (np.array(given[name]) for name in ("hand_boxes", "joints_px"))
    given |= {"hand_boxes": 500 - boxes[:, [2, 1, 0, 3]] * [1, -1, 1, -1] + [0, -500, 0, -500], "flipped": True}
    given["joints_px"] = points * [-1, 1] + [500, 0]
    left = mirror_pose(np.array(given["pose"], np.float32))  # what a left hand's own model takes
    matrices = geometry.axis_angle_to_matrix(torch.from_numpy(left).reshape(-1, 16, 3))
    clips = [hojoint.filter_clip(**{**given, "pose": mirror_pose(pose)}) for pose in (left, matrices, matrices.numpy())]
    for clip in clips:
        assert clip.verdicts == clips[0].verdicts == ("kept",) * 8
        for rule in PAPER_RULES:
            np.testing.assert_allclose(clip.scores[rule], clips[0].scores[rule], atol=1e-4, err_msg=rule)


def test_a_prediction_alone_has_no_rule_of_a_network() -> None:
    for rule in ("view_spread", "side"):
        with pytest.raises(InputError, match=f"config.enabled names {rule}, which only a network"):
            hojoint.filter_clip(**plain(), config=FilterConfig(enabled=("box_iou", rule)))
    with pytest.raises(InputError, match=r"filters\.quality_model, which is not set"):
        hojoint.filter_clip(**plain(), config=FilterConfig(mode="quality"))


def test_a_prediction_alone_has_a_quality_by_its_scores(tmp_path: Path) -> None:
    part, readings = Curve((0.0, 1.0), (0.0, 5.0), 0.0), quality.readings_of(FilterConfig())
    model = QualityModel({"box_iou": part}, 0.0, (0.0, 5.0), (0.0, 1.0), readings)
    (tmp_path / "quality.json").write_bytes(model.to_bytes())
    config = FilterConfig(quality_model=str(tmp_path / "quality.json"), mode="quality", min_quality=0.9)
    clip = hojoint.filter_clip(**plain(), config=config)
    np.testing.assert_allclose(clip.quality, clip.scores["box_iou"], atol=1e-6)
    assert clip.verdicts == tuple("kept" if iou >= 0.9 else "quality" for iou in clip.quality)
    assert hojoint.filter_clip(**plain()).quality is None
    of_views = QualityModel({"view_spread": Curve((0.0, 1.0), (5.0, 0.0), 0.0)}, 0.0, (0.0,), (0.5,), readings)
    (tmp_path / "quality.json").write_bytes(of_views.to_bytes())
    with pytest.raises(InputError, match="needs the score view_spread, which nothing gives here"):
        hojoint.filter_clip(**plain(), config=config)


def plain(count: int = 8) -> dict[str, Any]:
    """A flat hand that turns slowly, as lists of numbers."""
    pose = torch.zeros(count, 48)
    pose[:, 0] = 1.7 + 0.02 * torch.arange(count)
    posed = hand_layer(ManoConfig())(pose, torch.zeros(count, 10))
    joints_px, vertices_px = (2000 * points[..., :2] + 250 for points in (posed.joints, posed.vertices))
    boxes = torch.cat([vertices_px.amin(1), vertices_px.amax(1)], 1)
    return {
        "pose": pose.tolist(), "betas": [[0.0] * 10] * count, "joints_px": joints_px.tolist(),
        "hand_boxes": boxes.tolist(), "image_size": (640, 480),
    }  # fmt: skip


def test_lists_arrays_and_tensors_give_the_same_clip() -> None:
    lists = plain()
    clips = [
        hojoint.filter_clip(**lists),
        hojoint.filter_clip(**{k: v if k == "image_size" else np.array(v) for k, v in lists.items()}),
        hojoint.filter_clip(**{k: v if k == "image_size" else torch.tensor(v) for k, v in lists.items()}),
        hojoint.filter_clip(**lists | {"betas": [*torch.zeros(8, 10, requires_grad=True)]}),
    ]
    for clip in clips:
        assert clip.verdicts == ("kept",) * 8
        assert clip.kept.all()
        np.testing.assert_array_equal(clip.camera, clips[0].camera)
        np.testing.assert_allclose(clip.camera, [[2000, 250, 250]] * 8, rtol=1e-3)


def test_the_hand_is_given_as_path_model_layer_or_not_at_all(tmp_path: Path) -> None:
    save_model(stand_in_model(), tmp_path / "MANO_RIGHT.pkl")
    model = hojoint.load_mano(tmp_path)
    hands = [None, tmp_path, str(tmp_path / "MANO_RIGHT.pkl"), model, hojoint.ManoLayer(model, center=False)]
    clips = [hojoint.filter_clip(**plain(), mano=hand) for hand in hands]
    for clip in clips:
        assert clip.verdicts == clips[0].verdicts
        np.testing.assert_allclose(clip.camera, clips[0].camera, rtol=1e-4)
    with pytest.raises(InputError, match=r"set mano\.path \(in Python mano=, or load_mano's argument\)"):
        hojoint.filter_clip(**plain(), mano=tmp_path / "nowhere")
    with pytest.raises(InputError, match="mano must be a path"):
        hojoint.filter_clip(**plain(), mano=3)


def test_a_layer_that_adds_a_mean_pose_takes_matrices_alone() -> None:
    model, given = stand_in_model(), plain()
    assert model.hands_mean.any()
    curled = hojoint.ManoLayer(model, flat_hand_mean=False)
    with pytest.raises(InputError, match="layer that adds a mean pose"):
        hojoint.filter_clip(**given, mano=curled)
    given["pose"] = geometry.axis_angle_to_matrix(torch.tensor(given["pose"]).reshape(-1, 16, 3))
    assert hojoint.filter_clip(**given, mano=curled).verdicts == ("kept",) * 8


def test_gaps_in_the_frames_are_no_steps_and_order_is_checked() -> None:
    apart = hojoint.filter_clip(**plain(), frames=range(0, 80, 10))
    assert apart.scores["joint_step"].shape == (8,)
    for wrong in ([0, 1, 1, 2, 3, 4, 5, 6], range(8, 0, -1)):
        with pytest.raises(InputError, match="frames must ascend"):
            hojoint.filter_clip(**plain(), frames=wrong)
    with pytest.raises(InputError, match="8 integers"):
        hojoint.filter_clip(**plain(), frames=np.arange(8) + 0.5)


def test_a_prediction_that_is_not_finite_is_rejected() -> None:
    given = plain()
    given["pose"][3][5] = float("nan")
    clip = hojoint.filter_clip(**given)
    assert clip.verdicts[3] == "box_iou"
    assert not clip.kept[3]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("pose", np.zeros((8, 45)), r"pose must be \(T, 48\).*found \(8, 45\)"),
        ("pose", np.zeros((0, 48)), "T at least 1"),
        ("pose", 3.0, "pose must be"),
        ("pose", "words", "pose must be an array of numbers"),
        ("betas", np.zeros(10), r"betas must be \(8, 10\).*found \(10,\)"),
        ("joints_px", np.zeros((8, 21, 3)), r"joints_px must be \(8, 21, 2\)"),
        ("hand_boxes", np.zeros((7, 4)), r"hand_boxes must be \(8, 4\)"),
        ("hand_boxes", np.full((8, 4), np.nan), "finite x0, y0, x1, y1.*row 0"),
        ("hand_boxes", np.tile([300, 200, 100, 90], (8, 1)), "x0 <= x1"),
        ("hand_boxes", np.tile([0.25, 0.25, 0.75, 1.0], (8, 1)), "y1 in px; all numbers lie within"),
        ("image_size", 640, "width, height"),
        ("image_size", (0, 480), "width, height"),
        ("image_size", (np.inf, 480), "width, height"),
    ],
)
def test_an_input_of_another_shape_is_refused_by_name(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        hojoint.filter_clip(**{**plain(), name: value})


# ------------------------------------------------------------------------------------------------------------ scores


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, np.ndarray.tolist])
def test_hands_are_scored_from_any_kind_of_array(kind: Any) -> None:
    random = np.random.default_rng(0)
    joints, vertices = random.normal(size=(3, 21, 3)), random.normal(size=(3, 778, 3))
    given = [kind(points) for points in (joints + 0.01, vertices + 0.01, joints, vertices)]
    ho3d, freihand = hojoint.hand_scores(*given), hojoint.freihand_scores(*given)
    assert (len(ho3d), len(freihand)) == (14, 12)
    assert ho3d["xyz_mean3d"] == pytest.approx(100 * 0.01 * 3**0.5)  # cm
    assert ho3d["xyz_procrustes_al_mean3d"] == pytest.approx(0, abs=1e-6)
    assert freihand["mesh_al_auc3d"] > 0.99  # float noise is above the first threshold, zero


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, np.ndarray.tolist])
def test_objects_are_scored_from_any_kind_of_array(kind: Any) -> None:
    models = {"box": ycb.object_model(np.random.default_rng(0).uniform(-0.1, 0.1, (50, 3)))}
    pose = np.tile(np.concatenate([np.eye(3), [[0], [0], [0.5]]], 1), (2, 1, 1))
    camera = np.tile(np.array([[500.0, 0, 256], [0, 500, 256], [0, 0, 1]]), (2, 1, 1))
    moved = pose + np.array([0, 0, 0, 0.01])
    found = hojoint.object_scores(models, ["box", "box"], kind(moved), kind(pose), kind(camera))
    assert found["mean"]["add_median_mm"] == pytest.approx(10 * 3**0.5)
    assert found["box"]["samples"] == 2
    with pytest.raises(InputError, match="names: expected objects among box; found mug"):
        hojoint.object_scores(models, ["box", "mug"], kind(moved), kind(pose), kind(camera))
    with pytest.raises(InputError, match=r"pred_pose: expected \(2, 3, 4\)"):
        hojoint.object_scores(models, ["box", "box"], kind(moved[:, :2]), kind(pose), kind(camera))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"flipped": "right"}, "flipped must be True or False"),
        ({"flipped": [False]}, "flipped must be True or False"),
        ({"pose": torch.eye(3).expand(3, 16, 3, 3) * torch.tensor([1.0, 1.0, -1.0])}, "row 0, joint 0 is no rotation"),
        ({"pose": 3 * torch.eye(3).expand(3, 16, 3, 3)}, "is no rotation"),
        ({"frames": ["0", "1", "2"]}, "frames must be 3 integers"),
        ({"config": {"enabled": []}}, "config must be a FilterConfig"),
    ],
)
def test_a_clip_of_another_kind_is_refused(given: dict, message: str) -> None:
    clip = {
        "pose": torch.zeros(3, 48), "betas": torch.zeros(3, 10), "joints_px": torch.zeros(3, 21, 2),
        "hand_boxes": torch.tensor([[10.0, 10, 50, 50]] * 3), "image_size": (64, 64),
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        hojoint.filter_clip(**{**clip, **given})
    frames = np.array([0, 1, 2], dtype=object)  # as a column of pandas holds them
    assert len(hojoint.filter_clip(**clip, frames=frames).verdicts) == 3


def test_a_box_outside_the_image_is_refused(ours: bytes) -> None:
    predictor = hojoint.HandPredictor.from_checkpoint(ours)
    with pytest.raises(InputError, match="has no area inside the image of 80 x 60 px"):
        predictor.predict_image(np.zeros((60, 80, 3), np.uint8), [500, 500, 600, 600])
