"""Files in which data are missing: FFmpeg finds the next picture behind a hole, and would give it a lower number."""

from __future__ import annotations

from pathlib import Path

import pytest
from marked_videos import ffmpeg, number_in, write_marked

from hojoint.labelling import containers
from hojoint.labelling.video import VideoError, decode

CLUSTER, VOID = b"\x1f\x43\xb6\x75", b"\xec"


def fault_of(path: Path, content: bytes | bytearray) -> str | None:
    """The class of a file with this content; None where it is read."""
    path.write_bytes(content)
    try:
        decode(str(path))
    except VideoError as error:
        return error.kind
    return None


def with_hole(content: bytes, at: int, length: int) -> bytes:
    return content[:at] + bytes(length) + content[at + length :]


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clusters, with sound."""
    folder = tmp_path_factory.mktemp("clusters")
    plain = write_marked(folder / "plain.webm", "libvpx-vp9", 40, g="10")
    path = folder / "a.webm"
    words = ("-c:v", "copy", "-c:a", "libopus", "-cluster_time_limit", "800")
    ffmpeg("-i", plain, "-f", "lavfi", "-i", "sine=d=3", *words, path)
    return path


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8])
def test_a_hole_in_webm_is_damage(share: float, clusters: Path, tmp_path: Path) -> None:
    content = clusters.read_bytes()
    assert content.count(CLUSTER) >= 4
    hole = with_hole(content, int(len(content) * share), len(content) // 7)
    assert fault_of(tmp_path / "a.webm", hole) == "damaged"


def test_a_lost_cluster_header_is_damage(clusters: Path, tmp_path: Path) -> None:
    content = clusters.read_bytes()
    second = content.index(CLUSTER, content.index(CLUSTER) + 4)
    assert fault_of(tmp_path / "a.webm", with_hole(content, second, 16)) == "damaged"


def live(content: bytes, path: Path) -> bytearray:
    """The same recording as browsers write it: neither the segment nor a cluster tells its size."""
    path.write_bytes(content)
    out = path.with_suffix(".live.webm")
    ffmpeg("-i", path, "-c", "copy", "-cluster_time_limit", 800, "-live", 1, out)
    recorded = bytearray(out.read_bytes())
    at = recorded.find(CLUSTER)
    while at >= 0:
        width = 9 - recorded[at + 4].bit_length()
        recorded[at + 4 : at + 4 + width] = ((2 << 7 * width) - 1).to_bytes(width, "big")
        at = recorded.find(CLUSTER, at + 4)
    return recorded


def test_a_live_recording_is_read_and_its_holes_are_seen(clusters: Path, tmp_path: Path) -> None:
    content = live(clusters.read_bytes(), tmp_path / "a.webm")
    path = tmp_path / "b.webm"
    assert fault_of(path, content) is None
    assert [number_in(image) for image in decode(str(path)).rgb] == list(range(40))
    assert fault_of(path, content[:-5]) == "truncated"
    assert fault_of(path, with_hole(bytes(content), len(content) // 2, len(content) // 7)) == "damaged"


def test_elements_that_nobody_knows_are_no_damage(clusters: Path, tmp_path: Path) -> None:
    """Nor is junk after the end; an unknown element may stand between clusters and inside one."""
    path = tmp_path / "b.webm"
    assert fault_of(path, clusters.read_bytes() + b"junk appended \0\0") is None
    content = live(clusters.read_bytes(), tmp_path / "a.webm")
    second = content.index(CLUSTER, content.index(CLUSTER) + 4)
    unknown = VOID + b"\x85" + bytes(5) + b"\x42\xee\x83abc"
    assert fault_of(path, content[:second] + unknown + content[second:]) is None


@pytest.mark.parametrize("share", [0.02, 0.4, 0.7])
def test_a_hole_in_avi_is_damage(share: float, tmp_path: Path) -> None:
    path = write_marked(tmp_path / "a.avi", "mjpeg", 40, pixels="yuvj420p")
    content = path.read_bytes()
    assert fault_of(path, content) is None
    assert content.index(b"movi") > int(len(content) * 0.02) > 200
    assert fault_of(path, with_hole(content, int(len(content) * share), max(6000, len(content) // 20))) == "damaged"


def test_an_avi_index_that_lists_more_is_damage(tmp_path: Path) -> None:
    path = write_marked(tmp_path / "a.avi", "mpeg4", 40)
    content = path.read_bytes()
    at = content.index(b"00dc", content.index(b"movi"))
    assert fault_of(path, content[:at] + b"JUNK" + content[at + 4 :]) == "damaged"


def test_an_avi_with_later_pictures_first_has_its_rate(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    ffmpeg("-i", write_marked(tmp_path / "a.mp4", "libx264", 40), "-c:v", "libx264", "-bf", 3, "-g", 12, path)
    decoded = decode(str(path))
    assert [number_in(image) for image in decoded.rgb] == list(range(40))
    assert (decoded.footage.fps, decoded.times_s) == (12, None)


@pytest.fixture(scope="module")
def fragments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fragments")
    path = write_marked(folder / "plain.mp4", "libx264", 40, g="10")
    ffmpeg("-i", path, "-c", "copy", "-movflags", "frag_keyframe+empty_moov+default_base_moof", folder / "a.mp4")
    return folder / "a.mp4"


def test_a_fragmented_file_cut_in_its_first_boxes_is_truncated(fragments: Path, tmp_path: Path) -> None:
    content = fragments.read_bytes()
    start, end = content.index(b"moov") - 4, content.index(b"moof") - 4
    for at in range(start + 8, end, 37):
        assert fault_of(tmp_path / "a.mp4", content[:at]) == "truncated", at


def test_a_lost_fragment_that_the_index_lists_is_truncated(fragments: Path, tmp_path: Path) -> None:
    content = fragments.read_bytes()
    assert not containers.inspect(fragments).cut
    first = content.index(b"moof") - 4
    second = content.index(b"moof", first + 8) - 4
    third = content.index(b"moof", second + 8) - 4
    assert fault_of(tmp_path / "a.mp4", content[:second] + content[third:]) == "truncated"
