"""jobs.doctor: what it says and draws of healthy, incomplete and damaged sets, and its exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wild
from damage import edit_all, edit_points, image_of, metas
from labelled import draw_world
from test_refilter import label_here

from cluster import video_checks
from hojoint.config import Config, FreiHANDConfig
from hojoint.datasets.freihand import FreiHAND
from hojoint.errors import InputError
from hojoint.evaluation import contact_sheets
from hojoint.hand.layer import ManoLayer
from hojoint.hand.model import load_mano
from hojoint.hand.stand_in.model import save_model, stand_in_model
from hojoint.report import draw, health
from hojoint.report.health import Checked, Count, Finding
from jobs import doctor


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    draw_world(folder, frames=4)
    return folder


@pytest.fixture
def world(drawn: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(drawn, tmp_path / "world")


def examine(output: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code, and what doctor.json says, by name."""
    code = doctor.main([*words, f"output={output}", "doctor.pictures=3"])
    path = output / "doctor.json"
    return code, {checked["name"]: checked for checked in json.loads(path.read_text())} if path.is_file() else {}


def kinds(checked: dict[str, Any]) -> set[str]:
    return {finding["kind"] for finding in checked["findings"] if finding["fatal"]}


def sets_of(world: Path) -> list[str]:
    return [
        f"ho3d={world / 'HO3D_v2'}",
        f"freihand={world / 'FreiHAND_pub_v2_eval'}",
        f"objects={world / 'object_models'}",
        f"mano={world / 'mano'}",
    ]


@pytest.mark.slow
def test_a_healthy_world_is_healthy_and_drawn(drawn: Path, tmp_path: Path, capsys: Any) -> None:
    code, found = examine(tmp_path / "out", *sets_of(drawn))
    assert code == 0, found
    verdicts = {name: checked["verdict"] for name, checked in found.items()}
    assert "FreiHAND train" not in verdicts  # the world has no training images of it
    assert [note["kind"] for note in found["FreiHAND evaluation"]["findings"]] == ["another_size", "split_missing"]
    assert set(verdicts.values()) == {health.HEALTHY}, found
    counts = {count["name"]: (count["found"], count["published"]) for count in found["HO-3D train"]["counts"]}
    assert counts["listed"] == (8, "66,034 in HO-3D v2")
    assert counts["compared"][0] == counts["used"][0] == 8
    assert "HO-3D train" in capsys.readouterr().out
    page = (tmp_path / "out" / "doctor.html").read_text()
    for name, checked in found.items():
        assert name in page
        sheet = draw.open_jpeg((tmp_path / "out" / checked["sheet"]).read_bytes())
        assert sheet.shape[1] >= 2 * health.TILE_PX
        assert sheet.std() > 10  # something is drawn


@pytest.mark.slow
def test_what_leave_out_solves_is_incomplete(world: Path, tmp_path: Path, capsys: Any) -> None:
    root = world / "HO3D_v2"
    some = metas(root)
    some[1].unlink()
    image_of(some[2]).unlink()
    (root / "evaluation_xyz.json").unlink()
    (world / "FreiHAND_pub_v2_eval" / "evaluation" / "rgb" / "00000001.jpg").unlink()
    code, found = examine(tmp_path / "out", *sets_of(world))
    assert code == 0
    assert kinds(found["HO-3D train"]) == {"meta_missing", "image_missing"}
    printed = capsys.readouterr().out
    assert "HO-3D train" in printed
    assert "incomplete but usable with data.ho3d.missing=leave_out" in printed
    assert "incomplete but usable with data.freihand.missing=leave_out" in printed
    assert "incomplete but usable with jobs.train alone" in printed
    of_freihand = {count["name"]: count["found"] for count in found["FreiHAND evaluation"]["counts"]}
    assert of_freihand["used"] == of_freihand["compared"] == of_freihand["listed"] - 1
    code, found = examine(tmp_path / "out", sets_of(world)[0], "data.ho3d.missing=leave_out")
    assert found["HO-3D train"]["verdict"] == health.HEALTHY
    assert {count["name"]: count["found"] for count in found["HO-3D train"]["counts"]}["left_out"] == 2


@pytest.mark.slow
def test_a_damaged_world_is_unusable_and_says_why(world: Path, tmp_path: Path, capsys: Any) -> None:
    root = world / "HO3D_v2"
    edit_points(world / "object_models", lambda points: points * 1.3)
    cut = image_of(metas(root)[5])
    cut.write_bytes(cut.read_bytes()[:2000])
    model = load_mano(world / "mano")
    left = model.v_template * [-1, 1, 1]
    save_model(type(model)(**{**vars(model), "v_template": left}), world / "mano" / "MANO_RIGHT.pkl")
    code, found = examine(tmp_path / "out", *sets_of(world))
    assert code == 2
    assert {"model_differs", "image_damaged"} <= kinds(found["HO-3D train"])
    assert kinds(found["MANO"]) == {"hand_refused"}
    captured = capsys.readouterr()
    assert "is a left hand" in captured.out
    assert "error: MANO is unusable: hand_refused; HO-3D train is unusable" in captured.err
    assert str(cut) in captured.out


@pytest.mark.slow
def test_labels_of_another_hand_are_no_fault_without_mano(world: Path, tmp_path: Path) -> None:
    def other(meta: dict[str, Any]) -> dict[str, Any]:
        return meta | {"handPose": np.asarray(meta["handPose"]) + np.float32(0.3)}

    edit_all(world / "HO3D_v2", other)
    _, found = examine(tmp_path / "out", sets_of(world)[0])
    notes = {finding["kind"]: finding for finding in found["HO-3D train"]["findings"]}
    assert found["HO-3D train"]["verdict"] == health.HEALTHY
    assert "mano=MANO_RIGHT.pkl for jobs.doctor" in notes["hand_unknown"]["remedy"]
    code, found = examine(tmp_path / "out2", sets_of(world)[0], f"mano={world / 'mano'}")
    assert code == 2
    assert any(kind.startswith("hand_") for kind in kinds(found["HO-3D train"]))


@pytest.mark.slow
def test_labels_are_drawn_where_they_belong(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hojoint.config import HO3DConfig
    from hojoint.datasets.ho3d import HO3D

    dataset = HO3D(HO3DConfig(root=str(drawn / "HO3D_v2")))
    meshes: list[np.ndarray] = []
    bones: list[np.ndarray] = []
    monkeypatch.setattr(draw, "mesh", lambda image, px, *_, **__: (meshes.append(px), image)[1])
    monkeypatch.setattr(draw, "skeleton", lambda image, px, **_: (bones.append(px), image)[1])
    model = load_mano(drawn / "mano")
    layer = ManoLayer(model)
    tiles = contact_sheets.of_ho3d(dataset, 3, layer)
    assert len(tiles) == len(meshes) == len(bones) == 3
    for mesh, joints in zip(meshes, bones, strict=True):
        regressed = model.J_regressor[0] @ mesh  # px of the wrist: a mean of vertices near it
        assert np.linalg.norm(regressed - joints[0]) < 0.02 * health.TILE_PX
        assert np.abs(mesh[728] - joints[4]).max() < 0.05 * health.TILE_PX  # the thumb's tip of ho3d_v2


@pytest.mark.slow
def test_meshes_of_training_images_are_posed_not_read(drawn: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """FreiHAND's file of training vertices has gigabytes, and a sheet shows sixteen hands."""
    given = drawn / "FreiHAND_pub_v2_eval"
    shutil.copytree(given / "evaluation" / "rgb", tmp_path / "training" / "rgb")
    for key in ("K", "xyz", "mano"):
        shutil.copy(given / f"evaluation_{key}.json", tmp_path / f"training_{key}.json")
    model = load_mano(drawn / "mano")
    meshes: list[np.ndarray] = []
    monkeypatch.setattr(draw, "mesh", lambda image, _, vertices, *__, **___: (meshes.append(vertices), image)[1])
    read = FreiHAND(FreiHANDConfig(root=str(given)), "evaluation", mean_pose=model.hands_mean)
    posed = FreiHAND(FreiHANDConfig(root=str(tmp_path)), "train", mean_pose=model.hands_mean)
    for dataset in (read, posed):
        assert len(contact_sheets.of_freihand(dataset, 3, ManoLayer(model))) == 3
    assert len(meshes) == 6
    np.testing.assert_allclose(meshes[3:], meshes[:3], atol=1e-4)
    monkeypatch.setattr(FreiHAND, "truth", lambda self: pytest.fail("vertices are read that nobody draws"))
    assert len(contact_sheets.of_freihand(read, 3, None)) == 3
    assert len(meshes) == 6


@pytest.mark.slow
def test_videos_are_decoded_and_their_faults_counted(tmp_path: Path, capsys: Any) -> None:
    wild.write_faulty(tmp_path / "wild")
    videos, boxes = tmp_path / "wild" / "videos", tmp_path / "wild" / "boxes.json"
    code, found = examine(tmp_path / "out", f"videos={videos}", f"boxes={boxes}")
    assert code == 0
    assert found["boxes"]["verdict"] == health.HEALTHY
    assert "1 of 17 videos with boxes have no file, first gone" in capsys.readouterr().out
    counts = {count["name"]: count["found"] for count in found["videos"]["counts"]}
    assert counts["videos"] == counts["decoded"] == 16
    assert counts["of these faulty"] == sum(f["count"] for f in found["videos"]["findings"] if f["fatal"]) == 6
    assert found["videos"]["sentence"] == "incomplete but usable with these videos in quarantine"
    assert found["videos"]["sheet"] == "videos_sheet.jpg"
    code, found = examine(tmp_path / "few", f"videos={videos}", f"boxes={boxes}", "doctor.videos=4")
    assert {count["name"]: count["found"] for count in found["videos"]["counts"]}["decoded"] < 8


@pytest.mark.slow
def test_boxes_in_shares_of_the_picture_are_unusable(tmp_path: Path) -> None:
    boxes = wild.write_wild(tmp_path / "wild", good=2)
    for frames in boxes.values():
        for label in (label for frame in frames for label in frame["labels"]):
            label["box2d"] = {key: value / 400 for key, value in label["box2d"].items()}
    wild.write_boxes(tmp_path / "wild", boxes)
    place = tmp_path / "wild"
    code, found = examine(tmp_path / "out", f"videos={place / 'videos'}", f"boxes={place / 'boxes.json'}")
    assert code == 2
    assert kinds(found["boxes"]) == {"boxes_refused"}


@pytest.mark.slow
def test_labels_and_checkpoints_are_checked(tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "wild"
    wild.write_wild(folder, good=3)
    (folder / "videos" / "101.webm").write_bytes(b"no video")
    wild.write_teacher(folder / "teacher.pt")
    label_here(wild.config_of(folder, tmp_path / "labels"))
    words = [f"pseudo={tmp_path / 'labels'}", f"checkpoint={folder / 'teacher.pt'}"]
    code, found = examine(tmp_path / "out", *words)
    assert code == 0
    counts = {count["name"]: count["found"] for count in found["pseudo"]["counts"]}
    assert (counts["listed"], counts["labelled"], counts["quarantined"]) == (3, 2, 1)
    assert 0 < counts["frames kept"] <= counts["frames predicted"] == 12
    assert found["pseudo"]["sheet"] is not None
    assert found["checkpoint"]["verdict"] == health.HEALTHY
    shutil.rmtree(tmp_path / "labels" / "commits")
    (folder / "teacher.pt").write_bytes(b"junk")
    code, found = examine(tmp_path / "out2", *words)
    assert code == 2
    assert kinds(found["pseudo"]) == {"not_complete", "nothing_kept"}
    assert "not a complete torch checkpoint" in capsys.readouterr().out


@pytest.mark.slow
def test_hands_far_from_their_objects_are_unusable(world: Path, tmp_path: Path) -> None:
    """Without mano.path too: no hand model is to blame."""
    edit_all(world / "HO3D_v2", lambda meta: meta | {"handJoints3D": np.asarray(meta["handJoints3D"]) * 2.5})
    code, found = examine(tmp_path / "out", sets_of(world)[0])
    assert code == 2
    assert "hand_object_apart" in kinds(found["HO-3D train"])
    contradictions = [finding for finding in found["HO-3D train"]["findings"] if finding["fatal"]]
    assert all(finding["remedy"].endswith("same, set data.ho3d.checks=note") for finding in contradictions)
    code, found = examine(tmp_path / "noted", sets_of(world)[0], "data.ho3d.checks=note")
    assert (code, found["HO-3D train"]["verdict"]) == (0, health.HEALTHY)
    assert "hand_object_apart" in {finding["kind"] for finding in found["HO-3D train"]["findings"]}


def test_a_set_that_cannot_be_copied_leaves_the_others(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    def localised(config: Config, *groups: str) -> Config:
        if "data.ho3d" in groups:
            raise InputError("no object at s3://bucket/HO3D")
        return config

    monkeypatch.setattr(doctor.mirror, "localised", localised)
    (tmp_path / "teacher.pt").write_bytes(b"junk")
    words = ["data.ho3d.root=s3://bucket/HO3D", f"evaluate.checkpoint={tmp_path / 'teacher.pt'}"]
    code, found = examine(tmp_path / "out", *words)
    assert code == 2
    assert set(found) == {"ho3d", "checkpoint"}
    assert found["ho3d"]["place"] == "s3://bucket/HO3D"
    assert kinds(found["ho3d"]) == {"cannot_be_opened"}
    assert "no object at s3://bucket/HO3D" in capsys.readouterr().out


@pytest.mark.slow
def test_labels_of_mano_are_a_note_without_mano(tmp_path: Path) -> None:
    folder = tmp_path / "wild"
    wild.write_wild(folder, good=2)
    wild.write_teacher(folder / "teacher.pt")
    label_here(wild.config_of(folder, tmp_path / "labels"))
    path = tmp_path / "labels" / "run.json"
    run = json.loads(path.read_text())
    path.write_text(json.dumps(run | {"fingerprint": run["fingerprint"] | {"hand_model": "a" * 64}}))
    code, found = examine(tmp_path / "out", f"pseudo={tmp_path / 'labels'}")
    assert code == 0, found
    assert "hand_unknown" in {finding["kind"] for finding in found["pseudo"]["findings"]}
    assert found["pseudo"]["sheet"] is None
    save_model(stand_in_model(), tmp_path / "MANO_RIGHT.pkl")
    _, found = examine(tmp_path / "out2", f"pseudo={tmp_path / 'labels'}", f"mano={tmp_path / 'MANO_RIGHT.pkl'}")
    assert kinds(found["pseudo"]) == {"labels_unread"}


def test_the_words_stand_for_settings() -> None:
    assert doctor.named(["ho3d=DIR", "mano=F", "doctor.pictures=3", "--dry-run", "data.ho3d.object_models=X"]) == [
        "data.ho3d.root=DIR",
        "mano.path=F",
        "doctor.pictures=3",
        "--dry-run",
        "data.ho3d.object_models=X",
    ]


def test_a_set_given_twice_is_refused(capsys: Any) -> None:
    for words in (["ho3d=/a", "ho3d=/b"], ["ho3d=/a", "seed=1", "data.ho3d.root=/b"]):
        assert doctor.main(words) == 2
        assert f"{words[0]} and {words[-1]} name one set" in capsys.readouterr().err
    assert doctor.named(["seed=1", "seed=2"]) == ["seed=1", "seed=2"]


def test_a_remedy_does_not_repeat_the_message(tmp_path: Path) -> None:
    assert video_checks.remedy_of("boxes_rate") == ""
    assert video_checks.remedy_of("encrypted") == "get the video without encryption"
    assert video_checks.remedy_of("unknown") == ""


@pytest.mark.slow
def test_a_cut_meta_file_has_one_remedy(world: Path, tmp_path: Path, capsys: Any) -> None:
    cut = metas(world / "HO3D_v2")[1]
    cut.write_bytes(cut.read_bytes()[:-20])
    assert examine(tmp_path / "out", sets_of(world)[0])[0] == 2
    printed = capsys.readouterr().out
    assert "Download it again\n" in printed
    assert "fetch this file again" not in printed


def test_no_set_and_no_such_place_are_refused(tmp_path: Path, capsys: Any) -> None:
    assert doctor.main([]) == 2
    assert "give one or more of ho3d=PLACE" in capsys.readouterr().err
    assert doctor.main([f"ho3d={tmp_path / 'none'}", f"boxes={tmp_path / 'none.json'}"]) == 2
    assert f"found none at ho3d={tmp_path / 'none'}, boxes={tmp_path / 'none.json'}" in capsys.readouterr().err
    assert doctor.main([f"ho3d={tmp_path}", "--dry-run"]) == 0
    assert "would check ho3d" in capsys.readouterr().out


def test_an_empty_folder_is_unusable(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "empty").mkdir()
    assert doctor.main([f"videos={tmp_path / 'empty'}", f"objects={tmp_path / 'empty'}"]) == 2
    printed = capsys.readouterr().out
    assert "no object models under" in printed
    assert "no_videos" in printed


@pytest.mark.parametrize("name", ["ho3d", "freihand"])
def test_a_folder_without_any_split_is_unusable(name: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "unpacked" / "HO3D_v2").mkdir(parents=True)  # the parent of the set is given
    code, found = examine(tmp_path / "out", f"{name}={tmp_path / 'unpacked'}")
    assert code == 2
    assert [checked["sentence"] for checked in found.values()] == ["unusable: split_missing"] * 2
    assert "usable with" not in capsys.readouterr().out


@pytest.mark.slow
def test_lists_and_labels_without_an_image_are_unusable(world: Path, tmp_path: Path, capsys: Any) -> None:
    for split in ("HO3D_v2/train", "HO3D_v2/evaluation", "FreiHAND_pub_v2_eval/evaluation"):
        shutil.rmtree(world / split)
    code, found = examine(tmp_path / "out", *sets_of(world)[:2])
    assert code == 2
    kept = {name: checked["verdict"] for name, checked in found.items()}
    assert kept == dict.fromkeys(("HO-3D train", "HO-3D evaluation", "FreiHAND evaluation"), health.UNUSABLE)
    assert "usable with" not in capsys.readouterr().out


@pytest.mark.slow
def test_the_version_is_that_of_the_images_that_exist(tmp_path: Path) -> None:
    draw_world(tmp_path / "world", version="v3", frames=2)
    image_of(metas(tmp_path / "world" / "HO3D_v3")[0]).unlink()
    _, found = examine(tmp_path / "out", f"ho3d={tmp_path / 'world' / 'HO3D_v3'}")
    counts = {count["name"]: count["published"] for count in found["HO-3D train"]["counts"]}
    assert counts["listed"] == "83,325 in HO-3D v3"


def test_a_verdict_follows_from_its_findings() -> None:
    note, fatal = Finding("a", 1, "one"), Finding("b", 2, "two", "do it", fatal=True)
    usable = Finding("c", 3, "three", fatal=True, usable_with="x=y")
    cases = {
        (): (health.HEALTHY, "healthy"),
        (note,): (health.HEALTHY, "healthy, with 1 note"),
        (note, usable, usable): (health.INCOMPLETE, "incomplete but usable with x=y"),
        (usable, fatal, note): (health.UNUSABLE, "unusable: b"),
    }
    for findings, expected in cases.items():
        checked = Checked("A set", "place", (), findings)
        assert (checked.verdict, checked.sentence) == expected


def test_the_page_escapes_and_fetches_nothing() -> None:
    tile = np.zeros((health.TILE_PX, health.TILE_PX, 3), np.uint8)
    name = "<script>x</script>"
    checked = Checked(name, name, (Count(name, 1234),), (Finding("k", 1, name),), health.sheet([(tile, [name])]))
    page = health.render([checked])
    assert "<script" not in page
    assert "1,234" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "1,234" in health.text(checked)
    assert health.sheet([]) is None
    assert health.sheet_name(checked) == "script_x__script_sheet.jpg"
