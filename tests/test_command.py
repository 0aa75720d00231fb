"""The command line that all jobs share: overrides, words and exit codes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap

import pytest
import yaml

from cluster import ending
from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError, MachineError, NoRoom, Unavailable
from jobs import calibrate, command, evaluate, pipeline, pseudo_label, refilter, report, study, synthesize, train


def nothing(config: Config, dry_run: bool) -> None:
    """A job that does nothing."""


def test_overrides_may_stand_before_and_after_options():
    seen: list[tuple[int, bool]] = []

    def job(config: Config, dry_run: bool) -> None:
        seen.append((config.train.batch_size, dry_run))

    assert command.run(job, "doc", ["train.batch_size=3", "--dry-run", "seed=7"]) == 0
    assert seen == [(3, True)]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["mano.path=MANO_RIGHT.pkl"], True),
        (["mano.path=MANO_RIGHT.pkl", "model.input_px=256"], False),  # as a job that was sent gets its settings
        (["mano.path=MANO_RIGHT.pkl", "--config", str(command.DEFAULT_CONFIG.parent / "ho3d.yaml")], False),
        ([], False),
    ],
)
def test_the_hand_of_real_data_in_the_miniature_is_noted(words, told, capsys):
    assert command.run(nothing, "doc", words) == 0
    assert ("those of configs/tiny.yaml, the miniature" in capsys.readouterr().err) == told


def test_a_word_comes_before_the_settings():
    seen: list[str] = []

    def job(config: Config, dry_run: bool, word: str) -> None:
        seen.append(f"{word} {config.seed}")

    assert command.run_word(job, "doc", ["decode", "seed=5"], ["labelling", "decode"]) == 0
    assert seen == ["decode 5"]


def test_an_unknown_word_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as stop:
        command.run_word(lambda *_: None, "doc", ["sleep"], ["labelling", "decode"])
    assert stop.value.code == 2
    assert "labelling" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("train.batchsize=3", "did you mean 'train.batch_size'?"),
        ("train.batch_size=0", "train.batch_size"),
        ("filters.min_box_iou=1.5", "filters.min_box_iou"),
        ("just-a-word", "expected key=value"),
        ("seed.deeper=1", "seed"),
    ],
)
def test_a_wrong_setting_is_one_line_without_a_traceback(argument, message, capsys):
    assert command.run(nothing, "doc", [argument]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1


def test_a_missing_config_file_is_named(capsys, tmp_path):
    assert command.run(nothing, "doc", ["--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("give a path"), 2, "error: give a path"),
        (Unavailable("store unreachable"), 75, "failed: store unreachable"),
        (NoRoom("no room on the node n1"), 75, "failed: no room on the node n1"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 75, "failed: /x on the node"),
        (MachineError("the clock is off"), 1, "failed: the clock is off"),
        (ending.Ended("ended by SIGTERM"), 75, "ended by SIGTERM; run the same command again"),
        (command.RunFailed("too many videos failed"), 1, "failed: too many videos failed"),
        (ZeroDivisionError("our own fault"), 1, "Traceback"),
        (KeyboardInterrupt(), 1, "run the same command again to continue"),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error, code, message, capsys):
    def job(config: Config, dry_run: bool) -> None:
        raise error

    assert command.run(job, "doc", []) == code
    printed = capsys.readouterr().err
    assert message in printed
    assert ("Traceback" in printed) == isinstance(error, ZeroDivisionError)


def text_settings(group: type[settings.Settings], prefix: str = "") -> set[str]:
    """Dotted names of the settings that are a text or None."""
    names = set()
    for name, field in group.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, settings.Settings):
            names |= text_settings(field.annotation, f"{prefix}{name}.")
        elif field.annotation == str | None:
            names.add(prefix + name)
    return names


def test_every_setting_that_names_a_path_is_listed():
    assert set(command.PATH_SETTINGS) == text_settings(Config) - {
        "teacher.sha256",
        "cluster.address",
        "submit.job",
        "submit.id",
        "cluster.notify",
        "deploy.job",
        "deploy.image",
        "deploy.namespace",
        "deploy.service_account",
        "deploy.token_secret",
        "deploy.env_secret",
        "deploy.partition",
    }


def test_only_jobs_on_a_running_cluster_get_absolute_paths(tmp_path, monkeypatch):
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
    # which settings were given stays known: a note on replaced ones names no others
    assert attached.videos.model_fields_set == local.videos.model_fields_set == {"root"}


def test_a_missing_setting_is_named_with_an_example():
    with pytest.raises(InputError, match=r"output=runs/x"):
        command.need(None, "output", "runs/x")
    assert command.need("here", "output", "runs/x") == "here"


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    "job", [synthesize, train, pipeline, study, evaluate, calibrate, refilter, pseudo_label, report]
)
def test_every_job_refuses_an_output_that_is_a_file_first(job, dry, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    given = ["data.pseudo.labels=l", "teacher.checkpoint=c", "videos.root=v", "videos.boxes=b"]
    assert job.main([f"output={tmp_path / 'file'}", *given, *dry]) == 2
    error = capsys.readouterr().err
    assert "cannot write to" in error
    assert "Traceback" not in error


def test_a_missing_word_is_asked_for(capsys):
    with pytest.raises(SystemExit) as stop:
        command.run_word(lambda *_: None, "doc", [], ["labelling", "decode"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "expected one of: labelling, decode" in error
    assert "required" not in error


def test_a_value_may_begin_with_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert command.expand_home("output=~/runs/x") == "output=/home/me/runs/x"
    assert [command.expand_home(same) for same in ("output=~", "output=a~/b", "~/x")] == [
        "output=~",
        "output=a~/b",
        "~/x",
    ]


def test_a_config_file_may_name_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    file = tmp_path / "site.yaml"
    places = {"output": "~/runs/x", "cluster": {"cache": "~/cache"}, "model": {"pretrained": "imagenet"}}
    file.write_text(yaml.safe_dump(places))
    seen = []
    assert command.run(lambda config, dry: seen.append(config), "jobs.x", ["--config", str(file)]) == 0
    assert (seen[0].output, seen[0].cluster.cache) == ("/home/me/runs/x", "/home/me/cache")
    assert seen[0].model.pretrained == "imagenet"


def test_an_output_is_checked_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    assert command.output_of(Config(output=str(tmp_path / "new")), "runs/x") == str(tmp_path / "new")
    with pytest.raises(InputError, match="cannot write to"):
        command.output_of(Config(output=str(tmp_path / "file")), "runs/x")
    with pytest.raises(InputError, match="output=runs/x"):
        command.output_of(Config(), "runs/x")


@pytest.mark.parametrize(("lines", "unbuffered"), [(1, ""), (100_000, ""), (1, "1")])
def test_a_reader_that_stops_reading_is_one_sentence(lines, unbuffered):
    """As in ``jobs.status ... | head``: found while printing, or only when the last buffer is written."""
    script = textwrap.dedent(f"""
        import sys
        from jobs.command import run

        def job(config, dry_run):
            sys.stdin.readline()  # until the reader has gone
            for number in range({lines}):
                print("line", number)

        sys.exit(run(job, "python -m jobs.status", []))
    """)
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    child.stdout.close()
    _, errors = child.communicate("now\n", timeout=120)
    assert child.returncode == 1
    assert errors == "stopped: nobody reads this output any more (it was piped to a command that has ended)\n"


def test_an_interrupt_while_importing_has_no_traceback():
    child = subprocess.run(
        [sys.executable, "-c", "import jobs; raise KeyboardInterrupt"], capture_output=True, text=True, check=False
    )
    assert child.returncode != 0
    assert child.stderr == "interrupted\n"
    child = subprocess.run([sys.executable, "-c", "import jobs; 1 / 0"], capture_output=True, text=True, check=False)
    assert "ZeroDivisionError" in child.stderr
