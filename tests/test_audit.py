"""datasets.audit: a healthy set has no fault, and each kind of damage is found, counted and explained."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from damage import edit_all, edit_meta, edit_points, image_of, metas
from labelled import draw_world

from hojoint.config import Config, ManoConfig
from hojoint.datasets.audit import audit, audit_models
from hojoint.datasets.camera_checks import camera_faults
from hojoint.datasets.freihand import FreiHAND
from hojoint.datasets.ho3d import HO3D
from hojoint.errors import InputError
from hojoint.hand.chosen import added_mean
from hojoint.hand.stand_in.model import save_model, stand_in_model
from jobs import sets

GL = np.array([1.0, -1.0, -1.0])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Config:
    return draw_world(tmp_path_factory.mktemp("world"), version="v3")


@pytest.fixture
def world(drawn, tmp_path) -> Config:
    """A copy to damage."""
    shutil.copytree(drawn.world, tmp_path / "world")
    groups = {name: getattr(drawn.data, name) for name in ("ho3d", "freihand")}
    moved = {
        name: group.model_copy(
            update={key: value.replace(str(drawn.world), str(tmp_path / "world"))
                    for key, value in group.model_dump().items() if isinstance(value, str)}
        )
        for name, group in groups.items()
    }  # fmt: skip
    return drawn.model_copy(update={"data": drawn.data.model_copy(update=moved)})


def root_of(world) -> Path:
    return Path(world.data.ho3d.root)


def faults(world, split="train", **options):
    """Kind -> fault."""
    reader = HO3D(world.data.ho3d, split, world.crop, mean_pose=added_mean(world.mano))
    found = audit(reader, world.mano, **options)
    return {fault.kind: fault for fault in found.faults}


def only(world, split="train"):
    found = faults(world, split)
    assert len(found) == 1, found
    return next(iter(found.values()))


def leaving_out(world) -> Config:
    changed = world.data.ho3d.model_copy(update={"missing": "leave_out"})
    return world.model_copy(update={"data": world.data.model_copy(update={"ho3d": changed})})


@pytest.mark.parametrize(("frames", "version"), [(None, "v2"), (None, "v3"), (3, "v3")])
@pytest.mark.parametrize("split", ["train", "evaluation"])
def test_a_healthy_set_has_counts_and_no_fault(drawn, split, frames, version, tmp_path):
    drawn = drawn if version == "v3" else draw_world(tmp_path)
    moves = []
    found = audit(
        HO3D(drawn.data.ho3d, split),
        drawn.mano,
        frames=frames,
        progress=lambda done, total: moves.append((done, total)),
    )
    assert found.faults == ()
    listed = {"train": 8, "evaluation": 2}[split]
    assert (found.counts["listed"], found.counts["used"], found.counts["missing"]) == (listed, listed, 0)
    assert found.counts["compared"] == (listed if frames is None else min(listed, 3))
    assert moves[-1] == (found.counts["compared"],) * 2
    assert audit(FreiHAND(drawn.data.freihand, "evaluation"), drawn.mano).faults == ()
    assert audit_models(drawn.data.ho3d.object_models).counts == {"models": 9, "meshes": 9}


@pytest.mark.parametrize(("what", "kind"), [("meta", "meta_missing"), ("image", "image_missing")])
def test_missing_files_are_counted_by_sequence(world, what, kind):
    paths = metas(root_of(world))
    gone = [paths[1], paths[2]]
    for path in gone:
        (path if what == "meta" else image_of(path)).unlink()
    sequence = gone[0].parent.parent.name
    fault = only(world)
    assert (fault.kind, fault.where, fault.count, fault.fatal) == (kind, sequence, 2, True)
    assert f"{sequence}: 2 of 4 listed frames are without" in fault.sentence
    assert "data.ho3d.missing=leave_out" in fault.remedy
    with pytest.raises(InputError, match=r"2 of the 8 frames of train\.txt cannot be used"):
        HO3D(world.data.ho3d).fingerprint()


def test_empty_files_count_as_missing(world):
    paths = metas(root_of(world))
    paths[0].write_bytes(b"")
    image_of(paths[1]).write_bytes(b"")
    assert set(faults(world)) == {"meta_missing", "image_missing"}
    assert len(HO3D(leaving_out(world).data.ho3d)) == 6


def test_a_missing_sequence_is_one_sentence(world):
    sequence = metas(root_of(world))[0].parent.parent
    shutil.rmtree(sequence)
    fault = only(world)
    assert (fault.kind, fault.count) == ("sequence_missing", 4)
    assert f"the sequence {sequence.name} is missing completely (4 frames of train.txt)" in fault.sentence
    assert f"unpack it as train/{sequence.name}" in fault.remedy
    with pytest.raises(InputError, match="4 in a sequence that is missing completely"):
        HO3D(world.data.ho3d).refuse_missing()


def test_left_out_frames_are_dropped_counted_and_told_apart(world):
    paths = metas(root_of(world))
    before = HO3D(leaving_out(world).data.ho3d)
    assert before.left_out == {}
    full = before.fingerprint()
    paths[0].unlink()
    image_of(paths[5]).unlink()
    edit_meta(paths[6], lambda meta: dict.fromkeys(meta))  # all values None, as HO-3D has them
    reader = HO3D(leaving_out(world).data.ho3d)
    assert list(reader.left_out.values()) == ["meta_missing", "image_missing", "meta_empty"]
    assert len(reader) == 5
    assert [reader[row].name for row in range(5)] == reader.names
    assert reader.fingerprint() != full
    note = reader.advice()[0]
    assert "3 of the 8 frames of train.txt cannot be used (1 without meta file, 1 without image, 1 with a meta" in note
    assert {kind: fault.fatal for kind, fault in faults(leaving_out(world)).items()} == {
        "meta_missing": False, "image_missing": False, "meta_empty": False,
    }  # fmt: skip


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_frames_without_annotation_are_found_in_any_pickle(world, protocol):
    paths = metas(root_of(world))
    for path in paths:
        path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()), protocol=protocol))
    for number, key in ((1, "objRot"), (4, "handJoints3D"), (7, "handPose")):
        content = pickle.loads(paths[number].read_bytes())
        paths[number].write_bytes(pickle.dumps({**content, key: None}, protocol=protocol))
    reader = HO3D(leaving_out(world).data.ho3d)
    assert [reader.listed.index(name) for name in reader.left_out] == [1, 4, 7]


def test_truth_stays_aligned_where_frames_are_left_out(world):
    root = root_of(world)
    joints, vertices = HO3D(world.data.ho3d, "evaluation").truth()
    metas(root, "evaluation")[0].unlink()
    reader = HO3D(leaving_out(world).data.ho3d, "evaluation")
    assert len(reader) == 1
    np.testing.assert_array_equal(reader.truth()[0], joints[1:])
    np.testing.assert_array_equal(reader.truth()[1], vertices[1:])
    np.testing.assert_allclose(reader.roots(), joints[1:, 0], atol=1e-5)


def test_leaving_out_everything_is_refused(world):
    shutil.rmtree(root_of(world) / "train")
    with pytest.raises(InputError, match=r"8 of the 8 frames.*leaves none; unpack HO-3D as train/SEQUENCE/rgb"):
        HO3D(leaving_out(world).data.ho3d)


def test_absent_keys_are_told_from_none(world):
    paths = metas(root_of(world))
    edit_meta(paths[0], lambda meta: {**meta, "handBeta": None})
    with pytest.raises(InputError, match=r"holds no annotation \(handBeta is None\).*missing=leave_out"):
        HO3D(world.data.ho3d).meta(0)
    edit_meta(paths[0], lambda meta: {key: value for key, value in meta.items() if key != "handBeta"})
    with pytest.raises(InputError, match=r"lacks the key handBeta; it has camIDList, camMat"):
        HO3D(world.data.ho3d).meta(0)
    assert only(world).kind == "meta_keys"


def test_a_set_with_two_hands_is_refused_by_its_keys(world):
    def two(meta):
        hands = {key: value for key, value in meta.items() if key.startswith("hand")}
        others = {key: value for key, value in meta.items() if key not in hands}
        return others | {
            f"{side}{key[0].upper()}{key[1:]}": v for key, v in hands.items() for side in ("left", "right")
        }

    edit_all(root_of(world), two)
    fault = faults(world)["meta_keys"]
    assert "lacks the keys handJoints3D, handPose, handBeta; it has camIDList, camMat, leftHandBeta" in fault.sentence
    assert "8 of 8 compared frames are like that" in fault.sentence
    assert "two hands (H2O-3D)" in fault.remedy
    with pytest.raises(InputError, match="two hands"):
        HO3D(world.data.ho3d)[0]
    assert len(HO3D(leaving_out(world).data.ho3d)) == 8  # only frames that hold nothing are dropped


def test_numbers_that_are_not_finite_are_refused(world):
    edit_meta(metas(root_of(world))[0], lambda meta: {**meta, "handBeta": meta["handBeta"] * np.nan})
    with pytest.raises(InputError, match="'handBeta' holds NaN"):
        HO3D(world.data.ho3d)[0]
    assert only(world).kind == "meta_damaged"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda points: 1.3 * points, "the size is wrong, so this is another object's model or one of another scale"),
        (lambda points: points + np.array([0.02, 0, 0]), "the size is right, so the model is in another frame"),
        (lambda points: points[:, [2, 0, 1]], "the size is right, so the model is in another frame"),
    ],
)
def test_other_points_of_the_same_object_are_found(world, change, cause):
    edit_points(Path(world.data.ho3d.object_models), change)
    fault = only_kind(world, "model_differs")
    assert fault.fatal
    assert "objCorners3DRest" in fault.sentence
    assert cause in fault.remedy


def only_kind(world, kind, split="train"):
    """The first fault of a kind, which must be the only kind."""
    found = faults(world, split)
    assert set(found) == {kind}, found
    return found[kind]


def test_points_that_differ_a_little_are_noted(world):
    edit_points(Path(world.data.ho3d.object_models), lambda points: points + np.array([0.005, 0, 0]))
    fault = only_kind(world, "model_differs")
    assert not fault.fatal
    assert "differ by 5 mm, in 4 of 4 compared frames" in fault.sentence


def test_a_model_that_a_frame_needs_is_named(world):
    name = pickle.loads(metas(root_of(world))[0].read_bytes())["objName"]
    shutil.rmtree(Path(world.data.ho3d.object_models) / name)
    fault = only_kind(world, "model_missing")
    assert f"4 compared frames show {name}" in fault.sentence


def test_an_object_pose_in_another_camera_frame_is_found(world):
    edit_all(root_of(world), lambda meta: {**meta, "objTrans": meta["objTrans"] * GL.astype(meta["objTrans"].dtype)})
    found = faults(world)
    assert set(found) == {"pose_differs", "object_outside", "hand_object_apart"}
    assert all(fault.fatal for fault in found.values())
    assert "apart in 8 of 8 compared frames" in found["hand_object_apart"].sentence
    assert "another camera frame" in found["pose_differs"].remedy


def test_corners_in_our_camera_frame_are_only_noted(world):
    edit_all(root_of(world), lambda meta: {**meta, "objCorners3D": meta["objCorners3D"] * GL})
    assert not only_kind(world, "pose_differs").fatal


def test_a_hand_in_another_camera_frame_is_found(world):
    edit_all(root_of(world), lambda meta: {**meta, "handJoints3D": meta["handJoints3D"] * GL})
    found = faults(world)
    assert "OpenGL: y up, looking along -z" in found["hand_behind"].remedy
    assert found["hand_behind"].count == 8
    assert found["hand_behind"].fatal


def test_intrinsics_of_another_image_size_are_found(world):
    def far(meta):
        camera = np.array(meta["camMat"])
        camera[:2, 2] += 2000
        return {**meta, "camMat": camera}

    edit_all(root_of(world), far)
    found = faults(world)
    assert {"hand_outside", "object_outside"} <= set(found)
    assert "images of another size or to another camera" in found["hand_outside"].remedy


@pytest.mark.parametrize("split", ["train", "evaluation"])
def test_intrinsics_of_half_size_images_are_found(world, split, capsys):
    """Projected labels still lie inside the image, so only the principal point tells."""

    def half(meta):
        return {**meta, "camMat": np.array(meta["camMat"]) * [[0.5], [0.5], [1]]}

    edit_all(root_of(world), half, split)
    fault = faults(world, split)["camera_size"]
    assert (fault.fatal, fault.count) == (True, {"train": 8, "evaluation": 2}[split])
    assert (
        f"camMat is (79, {60 if split == 'train' else 58}) px (median), expected near the middle (160, 120)"
        in fault.sentence
    )
    assert "images of 0.5 times this size (about 160 x 120 px)" in fault.remedy
    assert "multiply the first two rows of camMat by 2" in fault.remedy
    if split == "train":
        with pytest.raises(InputError, match=r"principal point.*set data\.ho3d\.checks=note"):
            sets.check(HO3D(world.data.ho3d, "train", world.crop), world)
        passed = world.data.ho3d.model_copy(update={"checks": "note"})
        changed = world.model_copy(update={"data": world.data.model_copy(update={"ho3d": passed})})
        sets.check(HO3D(passed, "train", world.crop), changed)
        assert "note: " in capsys.readouterr().out


def test_intrinsics_of_half_size_images_are_found_in_freihand(world):
    path = Path(world.data.freihand.root) / "evaluation_K.json"
    path.write_text(json.dumps([(np.array(k) * [[0.5], [0.5], [1]]).tolist() for k in json.loads(path.read_text())]))
    found = {fault.kind: fault for fault in audit(FreiHAND(world.data.freihand, "evaluation"), world.mano).faults}
    assert found["camera_size"].fatal
    assert "0.5 times this size" in found["camera_size"].remedy


@pytest.mark.parametrize(
    ("cx", "cy", "width", "height"), [(312, 235, 640, 480), (320, 250, 640, 480), (112, 112, 224, 224)]
)
def test_real_principal_points_are_healthy(cx, cy, width, height):
    camera = np.array([[614.6, 0, cx], [0, 614.6, cy], [0, 0, 1]])
    assert camera_faults([camera] * 3, [(width, height)] * 3, "set", key="camMat") == []
    other = camera * [[0.5], [1], [1]]
    (fault,) = camera_faults([camera, other, other], [(width, height)] * 3, "set", key="camMat")
    assert (fault.count, "cropped images or to another camera" in fault.remedy) == (2, True)


def test_one_wrong_frame_of_many_is_a_note(tmp_path):
    world = draw_world(tmp_path, frames=25)
    path = metas(root_of(world))[3]
    edit_meta(path, lambda meta: {**meta, "camMat": meta["camMat"] + np.array([[0, 0, 5e3], [0, 0, 0], [0, 0, 0]])})
    found = faults(world)
    assert {kind: (fault.count, fault.fatal) for kind, fault in found.items()} == {
        "object_outside": (1, False), "hand_outside": (1, False),
    }  # fmt: skip
    assert f"of 1 of 50 compared frames lies completely outside the image, first {path.parent.parent.name}/" in (
        found["hand_outside"].sentence
    )


def test_another_hand_model_is_found_with_its_cause(world, tmp_path):
    model = stand_in_model()
    save_model(dataclasses.replace(model, v_template=1.4 * model.v_template), tmp_path / "MANO_RIGHT.pkl")
    fault = only_kind(
        world.model_copy(update={"mano": ManoConfig(path=str(tmp_path / "MANO_RIGHT.pkl"))}), "hand_other"
    )
    assert fault.fatal
    assert "another hand" in fault.sentence
    assert "mano.path to" in fault.remedy


def test_labels_of_mano_are_a_note_without_mano(world, tmp_path, monkeypatch, capsys):
    """Real labels fit the stand-in hand in no reading; a run must not refuse them, and says so."""
    model = stand_in_model()
    other = dataclasses.replace(model, v_template=1.4 * model.v_template)
    save_model(other, tmp_path / "MANO_RIGHT.pkl")
    monkeypatch.setattr("hojoint.datasets.hand_checks.hand_model", lambda config: other)
    fault = only_kind(world, "hand_unknown")
    assert not fault.fatal
    assert "mano.path is not given" in fault.sentence
    sets.check(HO3D(world.data.ho3d, "train", world.crop), world)
    assert "would pose them with the stand-in" in capsys.readouterr().out
    given = world.model_copy(update={"mano": ManoConfig(path=str(tmp_path / "MANO_RIGHT.pkl"))})
    assert only_kind(given, "hand_other").fatal
    with pytest.raises(InputError, match="another hand model made the labels"):
        sets.check(HO3D(world.data.ho3d, "train", world.crop), given)


def test_labels_of_the_stand_in_are_compared_without_mano(world):
    """Some frames fit it, so the others are wrong labels."""
    for path in metas(root_of(world))[:5]:
        edit_meta(path, lambda meta: {**meta, "handPose": np.asarray(meta["handPose"]) + 0.3})
    assert only_kind(world, "hand_other").fatal


def test_one_label_far_off_is_a_note(tmp_path):
    world = draw_world(tmp_path, frames=25)
    joints = np.zeros((21, 3))
    joints[[1, 5, 13]] = 5.0
    edit_meta(metas(root_of(world))[3], lambda meta: {**meta, "handJoints3D": meta["handJoints3D"] + joints})
    fault = faults(world)["hand_differs"]
    assert (fault.count, fault.fatal) == (1, False)
    assert "by 32." in fault.sentence  # mm on average: 3 of 16 joints by 8.66 m, in one of 50 frames


def test_labels_of_left_hands_are_named(world, monkeypatch):
    # The same contradiction from its other end: MANO_LEFT itself is refused on loading.
    monkeypatch.setattr("hojoint.datasets.hand_checks.hand_model", lambda config: mirrored(stand_in_model()))
    fault = only_kind(world, "hand_mirrored")
    assert fault.fatal
    assert "these are left hands" in fault.sentence


def mirrored(model):
    """The left hand's file: every x negated, and with it the corrections by pose."""
    flip = np.array([-1.0, 1.0, 1.0])
    return dataclasses.replace(model, v_template=model.v_template * flip, shapedirs=model.shapedirs * flip[:, None])


def test_poses_read_from_the_wrong_mean_are_found(world):
    fault = only_kind(world.model_copy(update={"mano": ManoConfig(flat_hand_mean=False)}), "hand_mean")
    assert "with mano.flat_hand_mean=true they fit to 0.0 mm" in fault.sentence
    assert fault.remedy == "set mano.flat_hand_mean=true"


def relative_to_the_mean(meta):
    mean = stand_in_model().hands_mean
    return {**meta, "handPose": meta["handPose"].astype(np.float64) - np.concatenate([np.zeros(3), mean])}


def test_labels_relative_to_the_mean_fit_under_their_setting(world):
    """FreiHAND's poses are always relative to the mean, so both sets fit one setting."""
    edit_all(root_of(world), relative_to_the_mean)
    fault = only_kind(world, "hand_mean")
    assert fault.remedy == "set mano.flat_hand_mean=false"
    relative = world.model_copy(update={"mano": ManoConfig(flat_hand_mean=False)})
    assert faults(relative) == {}
    for mano in (world.mano, relative.mano):
        assert audit(FreiHAND(world.data.freihand, "evaluation"), mano).faults == ()


def test_poses_of_freihand_without_a_mean_are_found(world):
    path, mean = Path(world.data.freihand.root) / "evaluation_mano.json", stand_in_model().hands_mean
    values = np.array(json.loads(path.read_text()))
    values[:, 0, 3:48] += mean
    path.write_text(json.dumps(values.tolist()))
    found = {fault.kind: fault for fault in audit(FreiHAND(world.data.freihand, "evaluation"), world.mano).faults}
    assert "relative to the flat hand they fit to" in found["hand_mean"].sentence
    assert found["hand_mean"].fatal


def test_truth_of_another_version_is_found(world):
    path = root_of(world) / "evaluation_xyz.json"
    path.write_text(json.dumps(json.loads(path.read_text())[::-1]))
    edit_meta(metas(root_of(world), "evaluation")[0], lambda meta: {**meta, "handJoints3D": meta["handJoints3D"] + 0.1})
    fault = only_kind(world, "truth_differs", "evaluation")
    assert "one version of HO-3D and in one order" in fault.remedy
    path.write_text("[]")
    assert "expected the shape (2, 21, 3)" in only_kind(world, "truth", "evaluation").sentence
    path.unlink()
    assert "separate download" in only_kind(world, "truth", "evaluation").sentence


def test_boxes_that_are_not_corners_are_found(world):
    def sized(meta):
        x0, y0, x1, y1 = meta["handBoundingBox"]
        return {**meta, "handBoundingBox": [x0 / 640, y0 / 480, x1 / 640, y1 / 480]}

    edit_all(root_of(world), sized, "evaluation")
    fault = only_kind(world, "hand_box", "evaluation")
    assert fault.fatal
    assert "overlap by 0.00" in fault.sentence


def test_single_missing_masks_are_noted(world):
    reader = HO3D(world.data.ho3d)
    before = reader.objects_fingerprint()
    reader.mask_path(reader.names[3]).unlink()
    fault = only_kind(world, "segmentation_missing")
    assert not fault.fatal
    assert "1 of 8 frames have no segmentation" in fault.sentence
    assert HO3D(world.data.ho3d).objects_fingerprint() != before


def test_models_that_cannot_be_read_are_each_a_fault(world):
    folder = Path(world.data.ho3d.object_models)
    (folder / "025_mug" / "points.xyz").write_text("1 2\n")
    off = folder / "011_banana" / "points.xyz"
    off.write_text("".join(f"{x + 0.2} {y} {z}\n" for x, y, z in np.loadtxt(off)))
    found = {fault.kind: fault for fault in audit_models(folder).faults}
    assert set(found) == {"model_damaged", "model_off_centre"}
    assert found["model_damaged"].where == "025_mug"


def test_the_faults_of_a_set_are_one_message(world):
    for path in metas(root_of(world))[3:5]:
        path.unlink()
    found = audit(HO3D(world.data.ho3d), world.mano)
    with pytest.raises(InputError) as raised:
        found.refuse()
    lines = str(raised.value).splitlines()
    assert lines[0].endswith("has 2 faults:")
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("key", "change", "kind"),
    [
        (
            "K",
            lambda value: (np.array(value) * [[1], [1], [1]] + [[0, 0, 900], [0, 0, 0], [0, 0, 0]]).tolist(),
            "hand_outside",
        ),
        ("xyz", lambda value: (np.array(value) * [-1, 1, 1]).tolist(), "hand_flipped"),
        ("verts", lambda value: (np.array(value) + 0.05).tolist(), "truth_differs"),
        ("mano", lambda value: [[*value[0][:58], value[0][58] + 40, *value[0][59:]]], "labels_differ"),
    ],
)
def test_freihand_labels_that_disagree_are_found(world, key, change, kind):
    path = Path(world.data.freihand.root) / f"evaluation_{key}.json"
    path.write_text(json.dumps([change(value) for value in json.loads(path.read_text())]))
    found = {fault.kind: fault for fault in audit(FreiHAND(world.data.freihand, "evaluation"), world.mano).faults}
    assert found[kind].fatal


def test_a_hand_behind_the_camera_hides_no_other_fault(world):
    """Its joints have no px, which is no distance."""
    root = Path(world.data.freihand.root)
    joints, mano = (json.loads((root / f"evaluation_{key}.json").read_text()) for key in ("xyz", "mano"))
    joints[0] = [[x, y, -z] for x, y, z in joints[0]]
    (root / "evaluation_xyz.json").write_text(json.dumps(joints))
    moved = [[[*row[0][:58], row[0][58] + 40, *row[0][59:]]] for row in mano]
    (root / "evaluation_mano.json").write_text(json.dumps(moved))
    found = {fault.kind: fault for fault in audit(FreiHAND(world.data.freihand, "evaluation"), world.mano).faults}
    assert found["hand_behind"].count == 1
    assert found["labels_differ"].count == 2


@pytest.mark.parametrize("labelled", [True, False])
def test_truth_of_mano_in_freihand_is_a_note_without_mano(world, tmp_path, monkeypatch, labelled):
    """The stand-in's wrist is another than MANO's, whose joints and vertices agree all the same."""
    model = stand_in_model()
    regressor = np.roll(model.J_regressor, 200, axis=1)
    other = dataclasses.replace(model, J_regressor=regressor, v_template=1.3 * model.v_template)
    save_model(other, tmp_path / "MANO_RIGHT.pkl")
    for module in ("hand_checks", "freihand_checks"):
        monkeypatch.setattr(f"hojoint.datasets.{module}.hand_model", lambda config: other)
    if not labelled:
        (Path(world.data.freihand.root) / "evaluation_mano.json").unlink()
    dataset = FreiHAND(world.data.freihand, "evaluation")
    found = {fault.kind: fault for fault in audit(dataset, world.mano).faults}
    assert set(found) == ({"hand_vertices", "hand_unknown"} if labelled else {"hand_vertices"})
    assert not any(fault.fatal for fault in found.values())
    assert "they were not compared with MANO" in found["hand_vertices"].sentence
    found = {fault.kind: fault for fault in audit(dataset, ManoConfig(path=str(tmp_path / "MANO_RIGHT.pkl"))).faults}
    assert found["truth_differs"].fatal


def test_truth_files_in_another_order_need_no_hand_model(world):
    path = Path(world.data.freihand.root) / "evaluation_verts.json"
    path.write_text(json.dumps(json.loads(path.read_text())[::-1]))
    found = {fault.kind: fault for fault in audit(FreiHAND(world.data.freihand, "evaluation"), world.mano).faults}
    assert "fingertips of the xyz file and the verts file are" in found["truth_differs"].sentence
    assert found["truth_differs"].fatal
