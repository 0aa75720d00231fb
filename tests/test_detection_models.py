"""Where the networks' files are found, and what is said where they are not: made-up files, no network runs."""

from __future__ import annotations

import hashlib
import io
import zipfile

import pytest

from hojoint.detection import mediapipe, models, regions
from hojoint.errors import InputError

PALM, HAND = b"\0\0\0\0TFL3 palm", b"\0\0\0\0TFL3 hand"
NAMES = {
    "mediapipe/modules/palm_detection/palm_detection_full.tflite": PALM,
    "mediapipe/modules/hand_landmark/hand_landmark_full.tflite": HAND,
}


def wheel(names):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in names.items():
            archive.writestr(name, data)
    return content.getvalue()


def unpack(folder, names):
    for name, data in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


@pytest.mark.parametrize("inside", ["", "mediapipe", "mediapipe/modules"])
def test_a_folder_of_the_unpacked_package_is_read(tmp_path, inside):
    unpack(tmp_path, NAMES)
    files = models.find(str(tmp_path / inside), "full")
    assert (files.palm, files.hand) == (PALM, HAND)


def test_a_folder_with_both_files_is_read(tmp_path):
    unpack(tmp_path, {name.rpartition("/")[2]: data for name, data in NAMES.items()})
    assert models.find(str(tmp_path), "full").hand == HAND


def test_a_wheel_is_read_in_place_and_named_by_content(tmp_path):
    path = tmp_path / "mediapipe-0.10.21-any.whl"
    path.write_bytes(wheel(NAMES))
    files = models.find(str(path), "full")
    assert (files.palm, files.hand) == (PALM, HAND)
    assert files.identity == {"palm": hashlib.sha256(PALM).hexdigest(), "hand": hashlib.sha256(HAND).hexdigest()}
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_an_installed_package_is_found_without_running_it(tmp_path, monkeypatch):
    unpack(tmp_path, NAMES | {"mediapipe/__init__.py": b"raise SystemExit"})
    monkeypatch.syspath_prepend(str(tmp_path))
    assert models.find(None, "full").palm == PALM


def refusal(place, variant="full"):
    with pytest.raises(InputError) as error:
        models.find(place, variant)
    message = str(error.value)
    assert "detect.models=FILE.whl" in message
    assert "--python-version 3.12 mediapipe==0.10.21" in message
    assert "0.10.14 and 0.10.21" in message
    return message


def test_no_package_says_what_to_download(monkeypatch):
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    assert "detect.models is not set" in refusal(None)


def test_a_later_package_without_files_says_so(tmp_path, monkeypatch):
    unpack(tmp_path, {"mediapipe/__init__.py": b""})
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "holds no palm_detection_full.tflite" in refusal(None)


def test_a_wheel_without_the_files_is_refused(tmp_path):
    path = tmp_path / "later.whl"
    path.write_bytes(wheel({"mediapipe/__init__.py": b""}))
    assert "lacks what is expected" in refusal(str(path))


def test_the_other_variant_is_another_file(tmp_path):
    unpack(tmp_path, NAMES)
    assert "palm_detection_lite.tflite" in refusal(str(tmp_path), "lite")


def test_a_missing_file_is_named(tmp_path):
    assert "No such file" in refusal(str(tmp_path / "gone.whl"))


@pytest.mark.parametrize("content", [b"", b"not a zip file", wheel(NAMES)[:200]])
def test_a_file_that_is_no_wheel_is_refused(tmp_path, content):
    path = tmp_path / "odd.whl"
    path.write_bytes(content)
    assert "neither a folder nor a wheel" in refusal(str(path))


def test_a_damaged_member_is_refused(tmp_path):
    content = bytearray(wheel(NAMES))
    content[content.index(PALM) + 9] ^= 255
    path = tmp_path / "damaged.whl"
    path.write_bytes(content)
    refusal(str(path))


def test_a_file_of_another_kind_is_refused(tmp_path):
    unpack(tmp_path, NAMES | {"mediapipe/modules/hand_landmark/hand_landmark_full.tflite": b"version https://git-lfs"})
    assert "hand network" in refusal(str(tmp_path))


def test_the_identity_covers_how_the_networks_look(monkeypatch):
    files = models.ModelFiles(PALM, HAND, "here")
    before = mediapipe.identity_of(files)
    assert before.items() > files.identity.items()
    monkeypatch.setattr(regions, "NUMBERS", (*regions.NUMBERS[:-1], 3))
    turned = mediapipe.identity_of(files)
    assert {name for name in before if before[name] != turned[name]} == {"regions"}
    monkeypatch.setattr(mediapipe, "FIT", 1.4)
    assert mediapipe.identity_of(files)["regions"] not in (before["regions"], turned["regions"])
