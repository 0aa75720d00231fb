"""The command line that all jobs share: overrides, words and exit codes."""

from __future__ import annotations

import pytest

from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError
from jobs import calibrate, command, evaluate, pipeline, pseudo_label, refilter, report, study, synthesize, train


def nothing(config: Config, dry_run: bool) -> None:
    """A job that does nothing."""


def test_an_override_reaches_the_job_wherever_the_options_stand():
    seen: list[tuple[int, bool]] = []

    def job(config: Config, dry_run: bool) -> None:
        seen.append((config.train.batch_size, dry_run))

    assert command.run(job, "doc", ["train.batch_size=3", "--dry-run", "seed=7"]) == 0
    assert seen == [(3, True)]


def test_a_word_comes_before_the_settings_and_is_handed_on():
    seen: list[str] = []

    def job(config: Config, dry_run: bool, word: str) -> None:
        seen.append(f"{word} {config.seed}")

    assert command.run_word(job, "doc", ["decode", "seed=5"], ["labelling", "decode"]) == 0
    assert seen == ["decode 5"]


def test_a_word_that_is_not_known_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as stop:
        command.run_word(lambda *_: None, "doc", ["sleep"], ["labelling", "decode"])
    assert stop.value.code == 2
    assert "labelling" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("train.batchsize=3", "did you mean 'train.batch_size'?"),
        ("train.batch_size=0", "train.batch_size"),
        ("filters.min_box_iou=1.5", "filters.min_box_iou"),
        ("just-a-word", "expected key=value"),
        ("seed.deeper=1", "seed"),
    ],
)
def test_a_wrong_setting_is_the_users_fault_in_one_line_without_a_traceback(argument, said, capsys):
    assert command.run(nothing, "doc", [argument]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1


def test_a_missing_config_file_is_named(capsys, tmp_path):
    assert command.run(nothing, "doc", ["--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("give a path"), 2, "error: give a path"),
        (command.RunFailed("too many videos failed"), 1, "failed: too many videos failed"),
        (ZeroDivisionError("our own fault"), 1, "Traceback"),
        (KeyboardInterrupt(), 1, "run the same command again"),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error, code, said, capsys):
    def job(config: Config, dry_run: bool) -> None:
        raise error

    assert command.run(job, "doc", []) == code
    assert said in capsys.readouterr().err


def text_settings(group: type[settings.Settings], prefix: str = "") -> set[str]:
    """Dotted names of the settings that are a text or nothing."""
    found = set()
    for name, field in group.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, settings.Settings):
            found |= text_settings(field.annotation, f"{prefix}{name}.")
        elif field.annotation == str | None:
            found.add(prefix + name)
    return found


def test_every_setting_that_names_a_file_or_folder_is_known_as_one():
    assert set(command.PLACES) == text_settings(Config) - {"teacher.sha256", "cluster.address", "submit.job"}


def test_workers_of_a_running_cluster_get_absolute_paths_and_a_job_that_is_sent_keeps_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen: list[Config] = []
    given = ["videos.root=videos", "teacher.checkpoint=/t.pt", "output=s3://b/x", "data.ho3d.root=h"]
    given += ["model.pretrained=imagenet"]

    def job(config: Config, dry_run: bool) -> None:
        seen.append(config)

    for more in (["cluster.address=auto"], ["cluster.address=http://h:1", "submit.job=train"], []):
        assert command.run(job, "doc", [*given, *more]) == 0
    attached, sent, local = seen
    assert attached.videos.root == str(tmp_path / "videos")
    assert attached.data.ho3d.root == str(tmp_path / "h")
    assert (attached.teacher.checkpoint, attached.output) == ("/t.pt", "s3://b/x")
    assert (attached.model.pretrained, attached.mano.path) == ("imagenet", None)
    assert sent.videos.root == local.videos.root == "videos"


def test_a_needed_setting_that_is_missing_shows_how_to_give_it():
    with pytest.raises(InputError, match=r"output=runs/x"):
        command.need(None, "output", "runs/x")
    assert command.need("here", "output", "runs/x") == "here"


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    "job", [synthesize, train, pipeline, study, evaluate, calibrate, refilter, pseudo_label, report]
)
def test_every_job_refuses_an_output_that_is_a_file_before_anything_else(job, dry, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    given = ["data.pseudo.labels=l", "teacher.checkpoint=c", "videos.root=v", "videos.boxes=b"]
    assert job.main([f"output={tmp_path / 'file'}", *given, *dry]) == 2
    error = capsys.readouterr().err
    assert "cannot write to" in error
    assert "Traceback" not in error


def test_a_missing_word_is_asked_for_and_nothing_else(capsys):
    with pytest.raises(SystemExit) as stop:
        command.run_word(lambda *_: None, "doc", [], ["labelling", "decode"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "say what to do: labelling, decode" in said
    assert "required" not in said


def test_the_home_folder_is_meant_where_a_value_begins_with_it(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert command.at_home("output=~/runs/x") == "output=/home/me/runs/x"
    assert [command.at_home(same) for same in ("output=~", "output=a~/b", "~/x")] == ["output=~", "output=a~/b", "~/x"]


def test_an_output_that_cannot_be_written_ends_a_job_before_its_work(tmp_path):
    (tmp_path / "file").write_text("")
    assert command.output_of(Config(output=str(tmp_path / "new")), "runs/x") == str(tmp_path / "new")
    with pytest.raises(InputError, match="cannot write to"):
        command.output_of(Config(output=str(tmp_path / "file")), "runs/x")
    with pytest.raises(InputError, match="output=runs/x"):
        command.output_of(Config(), "runs/x")
