"""Folders of pictures: numbered from 0 or 1, complete, turned by their EXIF orientation."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from marked_videos import marked, number_in

from hojoint.labelling.video import VideoError, decode


def write_frames(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for number, name in enumerate(names):
        assert cv2.imwrite(str(folder / name), cv2.cvtColor(marked(number), cv2.COLOR_RGB2BGR))
    return folder


def fault_of(folder: Path, **options) -> tuple[str, str]:
    with pytest.raises(VideoError) as caught:
        decode(str(folder), **options)
    return caught.value.kind, str(caught.value)


@pytest.mark.parametrize("names", [
    [f"{n:06d}.jpg" for n in range(1, 13)], [f"{n}.jpg" for n in range(12)], [f"{n:04d}.PNG" for n in range(1, 13)],
    [f"frame_{n}.jpeg" for n in range(1, 13)],
], ids=str)  # fmt: skip
def test_frame_n_is_the_nth_picture(names: list[str], tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "7", names)
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / ".000003.jpg").write_bytes(b"x")
    decoded = decode(str(folder), [11, 2, 12])
    assert decoded.numbers.tolist() == [2, 11]
    assert [number_in(image) for image in decoded.rgb] == [2, 11]
    assert (decoded.times_s, decoded.footage.fps, decoded.footage.pictures) == (None, None, 12)
    assert decoded.footage.codec == ("png" if names[0].endswith("PNG") else "mjpeg")


def test_a_folder_with_a_gap_or_two_series_is_refused(tmp_path: Path) -> None:
    gap = write_frames(tmp_path / "gap", ["1.jpg", "2.jpg", "5.jpg"])
    assert fault_of(gap) == ("truncated", "2 pictures between the first and the last are missing: 3, ...")
    late = write_frames(tmp_path / "late", ["0005.jpg", "0006.jpg"])
    assert fault_of(late)[0] == "truncated"
    assert fault_of(write_frames(tmp_path / "two", ["a1.jpg", "b2.jpg"]))[0] == "not_video"
    assert fault_of(write_frames(tmp_path / "same", ["1.jpg", "01.jpg"]))[0] == "not_video"
    assert fault_of(write_frames(tmp_path / "none", []))[0] == "no_pictures"


def test_a_name_with_a_huge_number_costs_no_memory(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "7", ["1.jpg", "2.jpg", "1699999999999.jpg"])
    expected = "1699999999996 pictures between the first and the last are missing: 3, ..."
    assert fault_of(folder) == ("truncated", expected)


def test_times_cannot_be_asked_of_a_folder(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "7", ["1.jpg", "2.jpg"])
    assert fault_of(folder, times_s=[0.1])[0] == "boxes_rate"


def test_a_picture_is_turned_by_its_exif_orientation(tmp_path: Path) -> None:
    """Orientation 6: the coded picture is shown turned clockwise by a quarter."""
    folder = write_frames(tmp_path / "7", ["1.jpg"])
    data = (folder / "1.jpg").read_bytes()
    tiff = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x0112, 3, 1, 6) + bytes(4)
    exif = b"Exif\0\0" + tiff
    stream = io.BytesIO()
    stream.write(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    (folder / "1.jpg").write_bytes(stream.getvalue())
    [image] = decode(str(folder)).rgb
    assert np.abs(np.rot90(image).astype(int) - marked(0)).mean() < 6


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_picture_without_its_end_is_refused(suffix: str, tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "7", [f"1.{suffix}", f"2.{suffix}"])
    data = (folder / f"2.{suffix}").read_bytes()
    (folder / f"2.{suffix}").write_bytes(data[: len(data) - 20])
    assert fault_of(folder)[0] == "truncated"
    assert decode(str(folder), [0]).numbers.tolist() == [0]
    (folder / f"2.{suffix}").write_bytes(b"no picture")
    assert fault_of(folder)[0] == "damaged"


@pytest.mark.parametrize("kind", ["cut and closed", "hole"])
def test_a_jpeg_with_a_grey_lower_part_is_damaged(kind: str, tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "7", ["0.jpg", "1.jpg", "2.jpg"])
    data = (folder / "1.jpg").read_bytes()
    half = len(data) * 2 // 3
    rest = b"" if kind == "cut and closed" else bytes(len(data) - half - 2)
    (folder / "1.jpg").write_bytes(data[:half] + rest + b"\xff\xd9")
    assert fault_of(folder) == ("damaged", "the picture 1.jpg does not decode completely")
    assert decode(str(folder), [0, 2]).numbers.tolist() == [0, 2]


@pytest.mark.parametrize("choice", [
    [], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 4], [cv2.IMWRITE_JPEG_QUALITY, 100],
    [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
], ids=str)  # fmt: skip
def test_every_usual_kind_of_jpeg_is_read(choice: list[int], tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "7", ["0.jpg"])
    assert cv2.imwrite(str(folder / "1.jpg"), cv2.cvtColor(marked(1, 161, 97), cv2.COLOR_RGB2GRAY), choice)
    assert cv2.imwrite(str(folder / "0.jpg"), cv2.cvtColor(marked(0, 161, 97), cv2.COLOR_RGB2BGR), choice)
    (folder / "1.jpg").write_bytes((folder / "1.jpg").read_bytes() + bytes(100))  # some cameras append
    assert [number_in(image) for image in decode(str(folder)).rgb] == [0, 1]


def test_a_folder_inside_is_no_picture(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "7", ["1.jpg", "2.jpg"])
    (folder / "000.jpg").mkdir()
    assert len(decode(str(folder)).rgb) == 2
