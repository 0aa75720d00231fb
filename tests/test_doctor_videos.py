"""jobs.doctor on videos and their boxes: which are decoded, and that its verdict is the one that the run would give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import wild

from cluster import video_checks
from cluster.labelling import listing
from cluster.labelling.decoding import Failure
from cluster.labelling.units import Video
from hojoint import config as settings
from hojoint.config import Config
from hojoint.errors import InputError
from hojoint.report import health
from hojoint.report.health import Checked


def checked(config: Config) -> dict[str, Checked]:
    return {result.name: result for result in video_checks.check(config, lambda *_: None)}


def config_of(folder: Path, *, root: bool = True, **groups: Any) -> Config:
    places = {"boxes": str(folder / "boxes.json")} | ({"root": str(folder / "videos")} if root else {})
    tree = {"videos": places | groups.pop("videos", {}), **groups}
    return settings.from_tree(tree)


def listed_alone(folder: Path, ids: list[str], boxes: dict[str, Any]) -> None:
    """Files that hold nothing, with boxes: enough where nothing is decoded."""
    (folder / "videos").mkdir()
    for video_id in ids:
        (folder / "videos" / f"{video_id}.webm").touch()
    wild.write_boxes(folder, boxes)


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nothing is decoded; the ids of what would be, each with boxes or not."""
    seen: list[str] = []

    def decode(config: Config, chosen: Any, listed: Any, progress: Any) -> Any:
        for entry in chosen:
            known = listed is not None and listed.kept.get(entry.video_id) is not None
            seen.append(f"{entry.video_id}{'' if known else ' without boxes'}")
        return video_checks._Decoding(tried=len(chosen))

    monkeypatch.setattr(video_checks, "_decode", decode)
    return seen


def test_every_decoded_video_has_its_boxes(tmp_path: Path, undecoded: list[str]) -> None:
    ids = [f"{100 + number}" for number in range(8)]
    listed_alone(tmp_path, ids, wild.boxes_of(ids[4:]))
    checked(config_of(tmp_path, doctor={"videos": 3}))
    assert undecoded == ["104", "106", "107"]


@pytest.mark.slow
def test_boxes_of_other_pictures_are_found_in_a_sample(tmp_path: Path) -> None:
    boxes = wild.write_wild(tmp_path, good=8)
    some = {video_id: frames for video_id, frames in boxes.items() if video_id >= "104"}
    for label in (label for frames in some.values() for frame in frames for label in frame["labels"]):
        label["box2d"] = {key: 3 * value for key, value in label["box2d"].items()}
    wild.write_boxes(tmp_path, some)
    found = checked(config_of(tmp_path, doctor={"videos": 4}))["videos"]
    assert found.verdict == health.UNUSABLE
    assert [(finding.kind, finding.count) for finding in found.findings if finding.fatal] == [("boxes_outside", 4)]


@pytest.mark.parametrize("root", [True, False])
def test_nothing_to_decode_is_no_crash(tmp_path: Path, root: bool, undecoded: list[str]) -> None:
    listed_alone(tmp_path, ["other"] if root else [], wild.boxes_of(["100"]))
    for videos in (None, 200):
        found = checked(config_of(tmp_path, root=root, doctor={"videos": videos}))
        assert found["boxes"].verdict == (health.UNUSABLE if root else health.HEALTHY)
    (tmp_path / "videos" / "other.webm").unlink(missing_ok=True)
    found = checked(config_of(tmp_path, doctor={"videos": None}))
    assert [finding.kind for finding in found["videos"].findings] == ["no_videos"]
    assert not undecoded


def test_missing_files_beyond_the_budget_are_a_fault(tmp_path: Path, undecoded: list[str]) -> None:
    ids = [f"{100 + number}" for number in range(100)]
    listed_alone(tmp_path, ids[:60], wild.boxes_of(ids, frames=2))
    found = checked(config_of(tmp_path))["boxes"]
    assert found.sentence == "incomplete but usable with videos.missing=leave_out"
    assert [finding.count for finding in found.findings if finding.fatal] == [40]
    with pytest.raises(InputError, match="40 of 100 annotated videos are not in"):  # as the run says
        listing.listed(config_of(tmp_path))
    for groups in ({"videos": {"missing": "leave_out"}}, {"labelling": {"error_budget_count": 40}}):
        assert checked(config_of(tmp_path, **groups))["boxes"].verdict == health.HEALTHY
        assert listing.listed(config_of(tmp_path, **groups)).manifest.videos


@pytest.mark.parametrize(
    ("failed", "tried", "usable", "missing", "sentence"),
    [
        (10, 200, 100_000, 0, "these videos in quarantine"),  # 5 %
        (24, 200, 100_000, 0, None),  # few in the sample, 12,000 in the run
        (3, 4, 30, 0, "these videos in quarantine"),  # 22
        (3, 4, 36, 0, None),  # 27
        (3, 4, 30, 5, "these videos in quarantine and videos.missing=leave_out"),
        (1, 1, 1, 0, None),  # all that were tried
    ],
)
def test_a_samples_faults_are_judged_as_those_of_all(
    failed: int, tried: int, usable: int, missing: int, sentence: str | None
) -> None:
    failures = [Failure(f"{number}", "decode", "truncated", "cut") for number in range(failed)]
    decoding = video_checks._Decoding(tried, {"truncated": failures})
    found = Checked("videos", "", (), video_checks._faults(Config(), decoding, usable, missing))
    if sentence is not None:
        assert found.sentence == f"incomplete but usable with {sentence}"
    else:
        assert found.verdict == health.UNUSABLE


def test_pictures_without_boxes_are_as_many_as_fit() -> None:
    def asked(**labelling: int) -> list[int]:
        request = video_checks._request(Video("a", "a.webm", ()), settings.from_tree({"labelling": labelling}))
        assert request.numbers is not None
        return list(request.numbers)

    assert asked() == list(range(0, 3000, 30))
    few = asked(decode_memory_mb=128)  # eight pictures of the largest size in three quarters of it
    assert (len(few), few[0], few[-1]) == (8, 0, 2970)
    assert asked(max_frames=1) == [0]


def test_names_in_two_unicode_forms_are_told(tmp_path: Path, undecoded: list[str]) -> None:
    composed, apart = "caf\xe9", "cafe\u0301"
    listed_alone(tmp_path, [apart], wild.boxes_of([composed]))
    said = "a file has the same name in another Unicode form: 'caf\\xe9' has boxes, 'cafe\\u0301' is the file"
    findings = checked(config_of(tmp_path))["boxes"].findings
    assert [finding.kind for finding in findings] == ["missing", "other_form"]
    assert said in findings[1].sentence
    assert "--nfc" in findings[1].sentence
    with pytest.raises(InputError, match=r"none of the 1 videos .*another Unicode form.*'NFC'"):
        listing.listed(config_of(tmp_path))
    wild.write_boxes(tmp_path, wild.boxes_of([composed, "100", "101"]))
    (tmp_path / "videos" / "100.webm").touch()
    for missing in ("quarantine", "leave_out"):
        notes = listing.listed(config_of(tmp_path, videos={"missing": missing})).notes
        assert [said in note for note in notes].count(True) == 1
    wild.write_boxes(tmp_path, wild.boxes_of(["100", apart]))
    assert not any("Unicode" in note for note in listing.listed(config_of(tmp_path)).notes)
