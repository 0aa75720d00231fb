"""Folders of pictures: numbered from 0 or 1, complete, turned by their EXIF orientation."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from marked_videos import marked, number_in

from hojoint.labelling.video import Limits, VideoError, decode


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


def orient(path: Path, value: int, order: str = "<") -> None:
    """Give a picture an EXIF orientation, 1 to 8."""
    data = path.read_bytes()
    tiff = struct.pack(f"{order}2sHIHHHIHHI", b"II" if order == "<" else b"MM", 42, 8, 1, 0x0112, 3, 1, value, 0, 0)
    if path.suffix == ".png":
        chunk = b"eXIf" + tiff
        chunk = struct.pack(">I", len(tiff)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        path.write_bytes(data[:33] + chunk + data[33:])  # behind the header
    else:
        exif = b"Exif\0\0" + tiff
        path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize(("value", "degrees", "mirrored"), [
    (1, 0, False), (2, 0, True), (3, 180, False), (4, 180, True), (5, 90, True), (6, 90, False), (7, 270, True),
    (8, 270, False),
])  # fmt: skip
def test_a_picture_is_turned_by_its_exif_orientation(
    value: int, degrees: int, mirrored: bool, suffix: str, order: str, tmp_path: Path
) -> None:
    folder = write_frames(tmp_path / "7", [f"1.{suffix}"])
    orient(folder / f"1.{suffix}", value, order)
    decoded = decode(str(folder))
    expected = np.rot90(marked(0), -degrees // 90)
    expected = expected[:, ::-1] if mirrored else expected
    assert np.abs(decoded.rgb[0].astype(int) - expected).mean() < 6
    assert decoded.footage.rotation_deg == degrees


def test_the_turn_is_null_where_pictures_differ(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "7", ["1.jpg", "2.jpg", "3.jpg", "4.jpg"])
    orient(folder / "2.jpg", 3)
    data = (folder / "3.jpg").read_bytes()
    (folder / "3.jpg").write_bytes(data[:2] + b"\xff\xe1\0\x10Exif\0\0II*\0\xff\xff\xff\xff" + data[2:])
    for numbers, degrees in (([0], 0), ([1], 180), ([0, 3], 0), ([0, 1], None), ([2], None), (None, None)):
        assert decode(str(folder), numbers).footage.rotation_deg == degrees


def test_pictures_of_several_sizes_are_refused(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "7", ["1.jpg", "2.jpg", "3.png"])
    height, width = marked(0).shape[:2]
    assert cv2.imwrite(str(folder / "2.jpg"), np.zeros((height * 4, width * 2, 3), np.uint8))
    limits = Limits(frame_px=height * width)
    message = (
        f"the picture 2.jpg has {width * 2} x {height * 4} px, and the first one, 1.jpg, {width} x {height} px; "
        "scale them, and their boxes, to one size"
    )
    assert fault_of(folder, numbers=[1], limits=limits) == ("not_video", message)
    assert decode(str(folder), [0, 2], limits=limits).numbers.tolist() == [0, 2]
    orient(folder / "3.png", 6)  # shown, it is as high as the first is wide
    assert fault_of(folder, numbers=[2])[0] == "not_video"


def test_pictures_of_one_size_once_turned_are_accepted(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "7", ["1.jpg", "2.jpg"])
    on_its_side = np.ascontiguousarray(np.rot90(cv2.cvtColor(marked(1), cv2.COLOR_RGB2BGR)))
    assert cv2.imwrite(str(folder / "2.jpg"), on_its_side)
    orient(folder / "2.jpg", 6)
    decoded = decode(str(folder))
    assert [number_in(image) for image in decoded.rgb] == [0, 1]
    assert decoded.footage.rotation_deg is None


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
