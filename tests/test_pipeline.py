"""The pipeline: what runs, with which settings, what is skipped, what is refused. The jobs themselves are stand-ins."""

from __future__ import annotations

import contextlib
import json

import pytest
from labelled import draw_world
from pipeline_jobs import hand, quality_file, stand_in_jobs

from cluster.labelling import commits, units
from cluster.store import open_store
from cluster.training.job import TERMS
from hojoint import config as settings
from hojoint.config import Config, LabellingConfig
from hojoint.errors import InputError
from jobs import (
    command,
    inputs,
    own_data,
    pipeline,
    plan,
    results,
    stage,
    stages,
    status,
    study,
    study_summary,
    synthesize,
)

SMALL = ["synthetic.wild_videos=4", "train.steps=7", "study.seeds=[3,4]"]


@pytest.fixture
def jobs(monkeypatch):
    return stand_in_jobs(monkeypatch)


def run(output, *overrides):
    return pipeline.main([f"output={output}", *SMALL, *overrides])


def test_stages_run_in_order_from_the_results_of_others(jobs, tmp_path, capsys):
    assert run(tmp_path) == 0
    assert jobs.names == [
        *("synthesize", "train:teacher", "pseudo_label", "train:student"),
        *("evaluate:teacher", "evaluate:student", "report"),
    ]  # fmt: skip
    by_name = {name: config for name, (_, config) in zip(jobs.names, jobs.calls, strict=True)}
    world = tmp_path / "world"
    assert by_name["synthesize"].output == str(world)
    assert by_name["train:teacher"].train.datasets == ("ho3d",)
    assert by_name["train:teacher"].data.ho3d.root == str(world / "HO3D_v2")
    assert by_name["pseudo_label"].teacher.checkpoint == f"{tmp_path}/teacher/checkpoint.pt"
    assert by_name["pseudo_label"].output == by_name["train:student"].data.pseudo.labels == f"{tmp_path}/labels"
    assert by_name["train:student"].train.datasets == ("ho3d", "pseudo")
    assert by_name["train:student"].train.init_checkpoint == f"{tmp_path}/teacher/checkpoint.pt"  # tiny.yaml
    assert by_name["evaluate:student"].evaluate.checkpoint == f"{tmp_path}/student/checkpoint.pt"
    out = capsys.readouterr().out
    assert "10 = kept 6 + rejected (box_iou 3, reprojection 1)" in out
    assert "15.00" in out


def test_by_default_both_phases_train_alike_from_scratch():
    by_name = {
        stage.name: stage for stage in plan.stages(settings.changed(settings.Config(), output="o", control=True))
    }
    first, second = (by_name[name].config.train for name in ("train", "retrain"))
    assert second == first.model_copy(update={"datasets": ("ho3d", "pseudo")})
    assert "train" not in by_name["retrain"].needs


def test_a_student_may_start_from_its_teacher_and_so_its_control():
    own = {"from_teacher": True, "epochs": 18, "learning_rate": 0.5}
    by_name = {
        stage.name: stage
        for stage in plan.stages(settings.changed(settings.Config(), output="o", control=True, student=own))
    }
    student, control = (by_name[name].config.train for name in ("retrain", "control"))
    assert (student.init_checkpoint, student.epochs, student.learning_rate) == ("o/teacher/checkpoint.pt", 18, 0.5)
    assert student.lr_decay_every_epochs == 3  # of 18, as 10 of 60
    assert control == student.model_copy(update={"datasets": ("ho3d",)})
    assert by_name["train"].config.train == settings.Config().train
    assert "train" in by_name["retrain"].needs
    assert by_name["retrain"].settings()["student.from_teacher"] is True
    assert (
        "train.init_checkpoint" not in by_name["retrain"].settings()
    )  # a path; the teacher's making is among the inputs


@pytest.mark.parametrize(("epochs", "every"), [(10, 3), (12, 3), (13, 4), (3, 1)])
def test_a_student_decays_as_often_as_a_teacher_to_its_plateau(epochs, every):
    first = {"plateau_epochs": 8, "plateau_decays": 3, "held_out": 2}
    config = settings.changed(settings.Config(), output="o", train=first, student={"epochs": epochs})
    second = next(stage.config.train for stage in plan.stages(config) if stage.name == "retrain")
    assert second.lr_decay_every_epochs == every
    assert (epochs - 1) // every == min(3, epochs - 1)  # decays before the last epoch


def test_a_student_has_a_fixed_length_after_a_plateau():
    first = {"epochs": 200, "plateau_epochs": 8, "plateau_decays": 3, "held_out": 2}
    config = settings.changed(settings.Config(), output="o", train=first, student={"epochs": 30})
    by_name = {stage.name: stage.config.train for stage in plan.stages(config)}
    second = by_name["retrain"]
    assert (second.epochs, second.plateau_epochs, second.lr_decay_every_epochs) == (30, None, 8)  # three decays
    assert by_name["train"].plateau_epochs == 8


def test_a_second_run_does_nothing(jobs, tmp_path, capsys):
    run(tmp_path)
    done = len(jobs.calls)
    assert run(tmp_path) == 0
    assert len(jobs.calls) == done
    assert "nothing to do" in capsys.readouterr().out


def test_after_a_failure_the_failed_stage_resumes(jobs, tmp_path):
    jobs.fails_at = "pseudo_label"
    assert run(tmp_path) == 1
    assert jobs.names == ["synthesize", "train:teacher"]
    jobs.fails_at = None
    assert run(tmp_path) == 0
    assert jobs.names.count("train:teacher") == 1
    assert jobs.names[-1] == "report"


def test_other_settings_of_an_expensive_stage_are_refused(jobs, tmp_path, capsys):
    run(tmp_path)
    assert run(tmp_path, "train.learning_rate=0.5") == 2
    error = capsys.readouterr().err
    assert "train.learning_rate" in error
    assert "0.5" in error


def test_other_settings_repeat_a_cheap_stage_and_the_report(jobs, tmp_path):
    run(tmp_path)
    before = len(jobs.calls)
    assert run(tmp_path, "evaluate.examples=3") == 0
    assert jobs.names[before:] == ["evaluate:teacher", "evaluate:student", "report"]


def test_resources_do_not_matter_to_what_is_complete(jobs, tmp_path):
    run(tmp_path)
    before = len(jobs.calls)
    how = ["cluster.workers=[2,2]", "cluster.threads=4", "train.cache=false", "labelling.decode_deadline_s=99"]
    assert run(tmp_path, *how) == 0
    assert len(jobs.calls) == before


def test_the_control_takes_the_students_steps_without_labels(jobs, tmp_path):
    assert run(tmp_path, "control=true") == 0
    name, control = next(call for call in jobs.calls if call[1].name == "control")
    assert name == "train"
    assert control.train.steps == 14
    assert control.train.datasets == ("ho3d",)
    assert "evaluate:control" in jobs.names


def test_a_control_may_be_added_later_and_only_it_is_trained(jobs, tmp_path):
    run(tmp_path)
    before = len(jobs.calls)
    assert run(tmp_path, "control=true") == 0
    assert jobs.names[before:] == [
        "train:control",
        "evaluate:teacher",
        "evaluate:student",
        "evaluate:control",
        "report",
    ]


def test_a_dry_run_writes_nothing_and_lists_the_stages(jobs, tmp_path, capsys):
    assert run(tmp_path, "cluster.cpus=4", "evaluate.actors=[3,4]", "--dry-run") == 0
    out = capsys.readouterr().out
    assert "6 of 6 stages would run" in out
    for actors in ("1 training workers x", "2 Teacher actors x", "3 evaluation actors x"):
        assert actors in out
    assert jobs.calls == []
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_counts_the_stages_that_follow_a_repeated_one(jobs, tmp_path, capsys):
    run(tmp_path)
    assert run(tmp_path, "evaluate.examples=3", "--dry-run") == 0
    assert "2 of 6 stages would run" in capsys.readouterr().out


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_steps_in_the_place_of_epochs_are_noted(jobs, tmp_path, capsys, dry):
    assert run(tmp_path, *dry) == 0
    note = capsys.readouterr().out.splitlines()[0]
    assert note.startswith("note: train.steps=7 sets the length of training")
    assert "student.epochs=11 has no effect" in note
    assert pipeline.main([f"output={tmp_path / 'epochs'}", *dry]) == 0
    assert "note: train.steps" not in capsys.readouterr().out


def test_an_output_is_required(jobs, capsys):
    assert pipeline.main([]) == 2
    assert "output=" in capsys.readouterr().err


def config_of(*overrides):
    return settings.load(command.DEFAULT_CONFIG, [*SMALL, *overrides])


def test_the_world_of_an_s3_output_is_a_local_folder():
    one, two = (inputs.world_of(config_of("output=s3://b/run", f"seed={seed}")) for seed in (1, 2))
    assert one != two
    assert one.is_absolute()
    assert inputs.world_of(config_of("output=s3://other/run", "seed=1")) == one


@pytest.mark.parametrize("main", [pipeline.main, study.main, synthesize.main])
def test_a_world_in_object_storage_is_refused(main, tmp_path, capsys):
    assert main([f"output={tmp_path}", "world=s3://bucket/world", "--dry-run"]) == 2
    assert "setting 'world': should be a local folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("others", "given", "refused"),
    [
        (["the node worker-3"], ["output=s3://b/o", "cluster.address=auto"], True),
        ([], ["output=s3://b/o", "cluster.address=auto"], False),  # nodes of this machine alone
        (["the node worker-3"], ["output=s3://b/o", "cluster.address=auto", "world=/shared"], False),
        (["the node worker-3"], ["output=/shared/o", "cluster.address=auto"], False),
        (["the node worker-3"], ["output=s3://b/o"], False),
    ],
)
@pytest.mark.parametrize("job", ["pipeline", "study"])
def test_a_world_that_other_machines_do_not_see_is_refused(job, others, given, refused, monkeypatch):
    monkeypatch.setattr(own_data.session, "start", lambda config: contextlib.nullcontext())
    monkeypatch.setattr(own_data.capacity, "other_machines", lambda: others)
    expected = pytest.raises(InputError, match=r"not seen by the node worker-3\. Give world=DIR") if refused else None
    with expected or contextlib.nullcontext():
        own_data.refuse_hidden_world_here(config_of(*given), job)


def test_with_given_data_no_world_is_drawn():
    config = config_of("output=o", "data.ho3d.root=/data/HO3D", "videos.root=/data/videos", "videos.boxes=/data/boxes")
    all_stages = plan.stages(config)
    assert [stage.name for stage in all_stages] == ["train", "pseudo_label", "retrain", "evaluate", "report"]
    assert all_stages[0].config.data.ho3d.root == "/data/HO3D"
    assert all_stages[1].config.videos.root == "/data/videos"


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (["data.ho3d.root=/d"], "videos.root=... videos.boxes=..."),
        (["videos.root=/v", "videos.boxes=/b"], "data.ho3d.root=..."),
        (["data.ho3d.root=/d", "videos.root=/v"], "videos.boxes=..."),
        (["train.datasets=[ho3d,freihand]", "data.ho3d.root=/d", "videos.root=/v", "videos.boxes=/b"], "freihand.root"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_half_of_the_data_is_refused_and_the_other_half_named(jobs, tmp_path, capsys, given, missing, dry):
    assert run(tmp_path, *given, *dry) == 2
    assert missing in capsys.readouterr().err
    assert jobs.calls == []


def test_a_dry_run_counts_the_given_data(jobs, tmp_path, capsys):
    world = draw_world(tmp_path / "w", frames=2)
    given = [f"data.ho3d.root={world.data.ho3d.root}", f"data.ho3d.object_models={world.data.ho3d.object_models}"]
    given += [f"videos.root={tmp_path / 'w' / 'something' / '20bn-something-something-v2'}"]
    given += [f"videos.boxes={tmp_path / 'w' / 'something' / 'boxes'}"]
    assert run(tmp_path / "out", *given, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "labelled ho3d: 4 images" in said
    assert "measured on ho3d: 2 images" in said
    assert "videos: 1 with 1 clips" in said
    assert "synthetic" not in said
    assert run(tmp_path / "out", given[0].replace("HO3D", "nowhere"), *given[1:], "--dry-run") == 2
    assert run(tmp_path / "out", *given, f"mano.path={tmp_path / 'none.pkl'}", "--dry-run") == 2
    assert run(tmp_path / "out", "--dry-run") == 0
    assert f"the synthetic world is drawn under {tmp_path / 'out' / 'world'}" in capsys.readouterr().out


def test_a_pipeline_notes_its_settings(jobs, tmp_path):
    run(tmp_path, "control=true", "synthetic.ho3d_version=v3")
    assert results.pipeline_settings(open_store(str(tmp_path))) == config_of(
        f"output={tmp_path}", "control=true", "synthetic.ho3d_version=v3"
    )


@pytest.mark.parametrize("given", ["[ho3d,freihand]", "[pseudo,ho3d,freihand]"])
def test_only_the_student_sees_pseudo_labels_beside_given_sets(given):
    all_stages = plan.stages(config_of("output=o", "control=true", f"train.datasets={given}"))
    sets = {stage.name: stage.config.train.datasets for stage in all_stages if isinstance(stage, stages.Training)}
    labelled = ("ho3d", "freihand")
    assert sets == {"train": labelled, "retrain": (*labelled, "pseudo"), "control": labelled}


def test_each_student_labels_for_the_next(jobs, tmp_path, capsys):
    assert run(tmp_path, "student.rounds=2", "control=true", "student.augment.blur_px=3") == 0
    by_output = {str(config.output).removeprefix(f"{tmp_path}/"): config for _, config in jobs.calls}
    assert by_output["labels-2"].teacher.checkpoint == f"{tmp_path}/student/checkpoint.pt"
    first, second, control = (by_output[name].train for name in ("student", "student-2", "control"))
    assert by_output["student-2"].data.pseudo.labels == f"{tmp_path}/labels-2"
    assert (second.steps, second.init_checkpoint) == (14, f"{tmp_path}/teacher/checkpoint.pt")
    assert second.model_copy(update={"steps": first.steps}) == first
    assert control.steps == 14
    assert first.pseudo_augment.blur_px == 3
    assert by_output["teacher"].train.pseudo_augment is None
    assert jobs.names[-2:] == ["evaluate:student-2", "report"]
    assert "student-2" in capsys.readouterr().out
    assert list(results.markers(open_store(str(tmp_path)))) == [
        *("synthesize", "train", "pseudo_label", "retrain", "control", "pseudo_label-2", "retrain-2"),
        *("evaluate", "evaluate-2", "report"),
    ]  # fmt: skip


def test_another_round_may_be_added_later(jobs, tmp_path):
    run(tmp_path)
    before = len(jobs.calls)
    assert run(tmp_path, "student.rounds=2") == 0
    assert jobs.names[before:] == ["pseudo_label", "train:student-2", "evaluate:student-2", "report"]


CALIBRATED = ("calibrate.enabled=true", "train.held_out=2")


@pytest.mark.parametrize(
    ("mode", "limits"), [("thresholds", {"max_reprojection": 0.25}), ("quality", {"min_quality": 0.7})]
)
def test_labels_take_what_calibration_proposes(jobs, tmp_path, mode, limits):
    assert run(tmp_path, *CALIBRATED, f"filters.mode={mode}") == 0
    by_name = {name: config for name, (_, config) in zip(jobs.names, jobs.calls, strict=True)}
    measured = by_name["calibrate"]
    assert (measured.calibrate.split, measured.train.held_out) == ("held_out", 2)
    assert measured.teacher.checkpoint == f"{tmp_path}/teacher/checkpoint.pt"
    judged = by_name["pseudo_label"].filters
    assert {name: getattr(judged, name) for name in limits} == limits
    assert judged.quality_model == f"{tmp_path}/calibration/quality.json"
    assert judged.mode == mode
    assert by_name["train:student"].train.held_out == 2


def test_the_wanted_precision_may_change_before_labelling(jobs, tmp_path, capsys):
    jobs.fails_at = "pseudo_label"
    run(tmp_path, *CALIBRATED)
    jobs.fails_at = None
    assert run(tmp_path, *CALIBRATED, "calibrate.precision=0.8") == 0
    assert jobs.names.count("calibrate") == 2
    assert jobs.names.count("train:teacher") == 1
    done = len(jobs.calls)
    assert run(tmp_path, *CALIBRATED, "calibrate.precision=0.7") == 2
    assert "calibrate.precision: 0.8 before, 0.7 now" in capsys.readouterr().err
    assert len(jobs.calls) == done  # the calibration of the labels is still there
    assert run(tmp_path, *CALIBRATED, "calibrate.precision=0.8") == 0
    assert len(jobs.calls) == done


def test_a_calibration_with_the_same_result_leaves_the_labels(jobs, tmp_path, capsys):
    assert run(tmp_path, *CALIBRATED) == 0
    done = len(jobs.calls)
    (tmp_path / "calibration" / "calibration.json").unlink()
    assert run(tmp_path, *CALIBRATED) == 0
    assert jobs.names[done:] == ["calibrate"]
    (tmp_path / "calibration" / "calibration.json").unlink()
    jobs.promised = 0.8
    assert run(tmp_path, *CALIBRATED) == 2
    assert "result of calibrate: made again since" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["calibrate.enabled=true"], "give train.held_out=N"),
        (["filters.mode=quality"], "needs a model of the quality"),
        ([*CALIBRATED, "filters.quality_model=q.json"], "Leave filters.quality_model out"),
        ([*CALIBRATED, "calibrate.split=train"], "Leave calibrate.split out"),
        ([*CALIBRATED, "calibrate.predictions=labels"], "Leave calibrate.predictions out"),
        ([*CALIBRATED, "calibrate.truth=t.parquet"], "Leave calibrate.truth out"),
        ([*CALIBRATED, "calibrate.rules=[reprojection,side]"], "calibrate.rules names the rule 'side'"),
    ],
)
def test_calibration_without_recordings_is_refused(jobs, tmp_path, capsys, given, told):
    assert run(tmp_path, *given) == 2
    assert told in capsys.readouterr().err
    assert jobs.calls == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["teacher.sha256=abc"], "Leave teacher.sha256 out"),
        ([*CALIBRATED, "filters.mode=quality", "filters.min_quality=0.8"], "Leave filters.min_quality out"),
        ([*CALIBRATED, "filters.mode=quality", "calibrate.rules=[reprojection]"], "Leave calibrate.rules out"),
        ([*CALIBRATED, "filters.enabled=[]"], "leaves no rule to search"),
        ([*CALIBRATED, "calibrate.rules=[]"], "calibrate.rules"),
        (["mano.fingertips=foo"], "unknown fingertip set 'foo'"),
        (["synthetic.train_objects=[foo]"], "synthetic.train_objects holds foo"),
        (["evaluate.attention_cells=[[100,100]]"], "evaluate.attention_cells: expected"),
        (["loss.quality_power=1"], "weighs labels by their quality"),
        (["loss.pseudo_2d=0", "loss.pseudo_3d=0"], "leave nothing to learn from pseudo-labels"),
        (["train.pseudo_share=0"], "draws no pseudo-label"),
        (["loss.pseudo_side=1"], "loss.pseudo_side is of the head"),
        (["train.side_augment.blur_px=1"], "train.side_augment is of the head"),
        (["model.side_head=true", "loss.side=0"], "decide by chance"),
        (["model.side_head=true", "train.pseudo_share=1", "student.from_teacher=false"], "pseudo-labels alone"),
        ([f"loss.{name}=0" for name in TERMS], "nothing would be learned"),
        (["labelling.retry=quarantined"], "a pipeline does not add to them"),
        (["labelling.extend=true"], "a pipeline does not add to them"),
        (["student.rounds=101"], "student.rounds"),
        (["tta.rotation_deg=180"], "turns views further than training"),
        (["augment.enabled=false"], "give at most 0"),
        (["filters.enabled=[view_spread]", "tta.views=1"], "set tta.views to 2 or more, or leave the rule out"),
        (["filters.enabled=[box_iou,box_iou]"], "name each once"),
    ],
)
def test_what_could_have_no_effect_is_refused_at_once(jobs, tmp_path, capsys, given, told):
    assert run(tmp_path, *given) == 2
    assert told in capsys.readouterr().err
    assert jobs.calls == []


def test_terms_that_are_off_may_be_those_of_others(jobs, tmp_path):
    assert run(tmp_path / "2d", "loss.pseudo_3d=0") == 0
    by_quality = quality_file(tmp_path / "q.json")
    assert run(tmp_path / "weighted", "loss.quality_power=1", by_quality) == 0
    sides = ["model.side_head=true", "loss.pseudo_side=1", "loss.pseudo_2d=0", "loss.pseudo_3d=0"]
    assert run(tmp_path / "sides", *sides) == 0
    of_teacher = ["model.side_head=true", "train.pseudo_share=1", "student.from_teacher=true"]
    assert run(tmp_path / "teacher", *of_teacher) == 0


def test_what_could_not_judge_is_refused_before_any_training(jobs, tmp_path, capsys):
    by_side, by_joints = quality_file(tmp_path / "s.json", "side"), quality_file(tmp_path / "q.json")
    refused = {
        "filters.enabled names the rule 'side'": ["filters.enabled=[side]"],
        "needs the score side": [by_side],
        "was fitted on scores with filters.bone_reference=palm": [by_joints, "filters.bone_reference=span"],
    }
    for message, given in refused.items():
        assert run(tmp_path / "out", *given) == 2
        assert message in capsys.readouterr().err
    assert jobs.calls == []
    for number, given in enumerate((["labelling.side=right"], ["model.side_head=true"])):
        assert run(tmp_path / str(number), "filters.enabled=[side]", by_side, *given) == 0


def test_a_marker_without_a_new_setting_holds(jobs, tmp_path):
    """A setting that the marker does not know counts as its default, that of the code and not of the preset."""
    assert run(tmp_path, "train.ema=0.0") == 0
    path = tmp_path / "stages" / "train.json"
    marker = json.loads(path.read_text())
    del marker["settings"]["train.ema"]
    path.write_text(json.dumps(marker))
    before = len(jobs.calls)
    assert run(tmp_path, "train.ema=0.0") == 0
    assert len(jobs.calls) == before
    assert run(tmp_path, "train.ema=0.9") == 2


def test_labels_of_another_precision_are_no_result(jobs, tmp_path, capsys):
    """Also where the marker is of a version that did not note it: then it counts as float32."""
    assert run(tmp_path) == 0
    path = tmp_path / "stages" / "pseudo_label.json"
    marker = json.loads(path.read_text())
    assert marker["settings"].pop("labelling.precision") == "float32"
    path.write_text(json.dumps(marker))
    done = len(jobs.calls)
    assert run(tmp_path) == 0
    assert len(jobs.calls) == done
    assert run(tmp_path, "labelling.precision=bfloat16") == 2
    assert "labelling.precision: None before, bfloat16 now" in capsys.readouterr().err


def test_how_a_part_refines_counts_only_where_one_does(jobs, tmp_path, capsys):
    """Also where the marker is of a version that noted it: then it says nothing about labels that nothing refined."""
    assert run(tmp_path / "off") == 0
    done, path = len(jobs.calls), tmp_path / "off" / "stages" / "pseudo_label.json"
    assert run(tmp_path / "off", "refine.max_turn_deg=20") == 0
    marker = json.loads(path.read_text())
    marker["settings"] |= {"refine.max_turn_deg": 45.0, "refine.fit_smooth_weight": 3.0}
    path.write_text(json.dumps(marker))
    assert run(tmp_path / "off", "refine.fit_smooth_weight=1") == 0
    assert len(jobs.calls) == done
    assert run(tmp_path / "off", "refine.smooth_frames=3") == 2
    assert run(tmp_path / "on", "refine.smooth_frames=3") == 0
    capsys.readouterr()
    assert run(tmp_path / "on", "refine.smooth_frames=3", "refine.max_turn_deg=20") == 2
    assert "refine.max_turn_deg: 30.0 before, 20.0 now" in capsys.readouterr().err
    assert run(tmp_path / "on") == 2
    assert "refine.smooth_frames: 3 before, 0 now" in capsys.readouterr().err


def test_stages_and_labels_are_told_apart_by_the_same_settings():
    """All of ``labelling`` but its limit, whose effect, the list of videos, is in a fingerprint as a digest."""
    other = {"precision": "bfloat16"}  # named where it is not as it always was
    config = settings.changed(Config(), labelling=other)
    named = units.fingerprint(config, "teacher", "hand", units.KnownDigests("", ""))
    group = {name.removeprefix("labelling.") for name in named if name.startswith("labelling.")}
    assert set(LabellingConfig.model_fields) - stage.HOW["labelling"] == group | {"limit"}


@pytest.mark.parametrize("group", ["train.side_augment", "train.pseudo_augment", "student.augment"])
def test_an_optional_group_counts_given_and_left_out(jobs, tmp_path, capsys, group):
    given, head = f"{group}.blur_px=3", "model.side_head=true"
    assert run(tmp_path / "with", head, given) == 0
    assert run(tmp_path / "without", head) == 0
    done = len(jobs.calls)
    assert run(tmp_path / "with", head, given) == 0
    assert len(jobs.calls) == done
    capsys.readouterr()
    assert run(tmp_path / "with", head) == 2
    assert f"{group}: given before, None now" in capsys.readouterr().err
    assert run(tmp_path / "without", head, given) == 2
    assert "augment." in capsys.readouterr().err  # every setting of the group was None
    assert len(jobs.calls) == done


def test_a_study_shares_one_world_between_a_folder_per_seed(jobs, tmp_path, capsys):
    assert study.main([f"output={tmp_path}", *SMALL]) == 0
    trained = [config for _, config in jobs.calls if config.name == "teacher" and "teacher" in str(config.output)]
    assert [config.seed for config in trained] == [3, 4]
    drawn = [config for module, config in jobs.calls if module == "synthesize"]
    assert len({config.output for config in drawn}) == 1
    assert len({config.synthetic.seed for config in drawn}) == 1
    found = json.loads((tmp_path / "study.json").read_text())
    joints = found["summary"]["domains"]["freihand"]["PA-MPJPE, joints aligned (mm)"]
    assert joints["student"]["mean"] == 18.5  # 15 + 3 and 15 + 4
    assert joints["student - teacher"] == {
        "mean": -5.0,
        "std": 0.0,
        "low": -5.0,
        "high": -5.0,
        "seeds": 2,
        "interval": [-5.0, -5.0],
    }
    assert "-5.00 ± 0.00 [-5.00, -5.00]" in capsys.readouterr().out


def test_a_study_may_draw_a_world_per_seed(jobs, tmp_path):
    assert study.main([f"output={tmp_path}", *SMALL, "study.own_worlds=true"]) == 0
    drawn = [config for module, config in jobs.calls if module == "synthesize"]
    assert [config.synthetic.seed for config in drawn] == [3, 4]
    assert len({config.output for config in drawn}) == 2


def test_the_spread_is_the_sample_standard_deviation():
    found = study_summary.spread([1.0, 3.0])
    assert found == {"mean": 2.0, "std": pytest.approx(2**0.5), "low": 1.0, "high": 3.0, "seeds": 2}
    assert study_summary.spread([1.0])["std"] is None  # nothing is known of it, and it is not 0
    assert study_summary.spread([]) is None


def test_a_network_missing_in_one_seed_is_told_of_the_others():
    def scores(**errors):
        return {name: {"ho3d": {"hand": hand(error), "images": 1}} for name, error in errors.items()}

    both, alone = scores(teacher=2.0, student=1.0), scores(teacher=4.0)
    runs = {seed: {"evaluation": made, "quality": None, "frames": {}} for seed, made in enumerate((both, alone, both))}
    found = study_summary.summary(runs)
    (headers, rows), *_ = study.tables(found).values()
    row = next(row for row in rows if row[0].startswith("PA-MPJPE"))
    assert row[headers.index("teacher")] == "2.67 ± 1.15"
    assert row[headers.index("student")] == "1.00 ± 0.00 (2 of 3 seeds)"
    assert row[headers.index("student - teacher")] == "-1.00 ± 0.00 (2 of 3 seeds) [-1.00, -1.00]"


def test_a_studys_table_of_labels_tells_of_how_many_units_it_is():
    group = {"frames": 6, "precision": 0.5, "aligned_mm_median": 9.0, "joints_2d_median": 0.1}
    worth = {"kept": group, "rejected": group}
    runs = {seed: {"evaluation": {}, "quality": worth, "frames": {}} for seed in (0, 1)}
    assert list(study.tables(study_summary.summary(runs))) == ["Labels against the held-out truth"]
    runs[1] = runs[1] | {"quality": worth | {"units": {"read": 24, "all": 63}}}
    title = "Labels against the held-out truth, 24 of 63 units"
    assert list(study.tables(study_summary.summary(runs))) == [title]


def test_a_marker_of_another_world_is_refused(jobs, tmp_path):
    run(tmp_path)
    drawn = plan.stages(config_of(f"output={tmp_path}", "synthetic.wild_videos=9"))[0]
    with pytest.raises(InputError, match=r"synthetic\.wild_videos"):
        drawn.complete(open_store(str(tmp_path)))


def test_the_status_of_a_pipelines_output_is_that_of_its_labels(tmp_path, capsys):
    commits.open_run(open_store(str(tmp_path / "labels")), {}, {"units": 2, "videos": 9})
    assert status.main([f"output={tmp_path}"]) == 0
    assert "0 of 2 committed, 0 of 9 videos" in capsys.readouterr().out
    assert status.main([f"output={tmp_path / 'other'}"]) == 2
