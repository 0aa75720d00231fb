"""datasets.listing: lists and JSON as different tools save them are read, or refused by their line."""

from __future__ import annotations

import codecs
import hashlib
import json

import pytest

from hojoint.datasets import listing
from hojoint.errors import InputError

NAMES = ["MC1/0000", "MC1/0001", "ABF10/0012"]


@pytest.mark.parametrize(
    "data",
    [
        b"MC1/0000\nMC1/0001\nABF10/0012\n",
        b"MC1/0000\r\nMC1/0001\r\nABF10/0012",
        codecs.BOM_UTF8 + b"MC1/0000\nMC1/0001\nABF10/0012\n",
        "MC1/0000\nMC1/0001\nABF10/0012\n".encode("utf-16"),
        "MC1/0000\r\nMC1/0001\r\nABF10/0012\r\n".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "MC1/0000\nMC1/0001\nABF10/0012\n".encode("utf-16-be"),
        "MC1/0000\nMC1/0001\nABF10/0012\n".encode("utf-32"),
        b"  MC1/0000  \n\nMC1/0001\t\nABF10/0012 \n\n",
        b"MC1\\0000\nMC1\\0001\nABF10\\0012\n",
        b"MC1/0000.png\n./MC1/0001.jpg\nABF10/0012.PNG\n",
    ],
)
def test_a_list_is_read_however_a_tool_saved_it(tmp_path, data):
    (tmp_path / "train.txt").write_bytes(data)
    assert listing.read_frames(tmp_path / "train.txt") == NAMES


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"MC1/0000\nMC1/0001\nMC1/0000\n", r"lists MC1/0000 twice, in lines 1 and 3"),
        (b"MC1/0000\nMC1/0000.png\n", r"lists MC1/0000 twice, in lines 1 and 2"),
        (b"MC1/0000\n../../etc/passwd\n", r"found '\.\./\.\./etc/passwd' in line 2"),
        (b"MC1/0000 MC1/0001\n", r"found 'MC1/0000 MC1/0001' in line 1"),
        (b"0000\n", r"one SEQUENCE/FRAME per line, as in MC1/0000, found '0000' in line 1"),
        (b"MC1/\n", r"found 'MC1/' in line 1"),
        (b" \n\n", "found nothing"),
        (codecs.BOM_UTF8, "found nothing"),
        (b"MC1/\xff\xe9000\n", "must be text in UTF-8 or UTF-16, and byte 4 fits neither"),
    ],
)
def test_any_other_list_is_refused_by_its_line(tmp_path, data, said):
    (tmp_path / "train.txt").write_bytes(data)
    with pytest.raises(InputError, match=said):
        listing.read_frames(tmp_path / "train.txt")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_json_is_read_in_every_encoding(tmp_path, encoding):
    (tmp_path / "xyz.json").write_bytes(json.dumps([[0.5, -1]]).encode(encoding))
    assert listing.read_json(tmp_path / "xyz.json") == [[0.5, -1]]


def test_damaged_json_and_missing_files_are_one_sentence(tmp_path):
    (tmp_path / "xyz.json").write_text("[[1, 2")
    with pytest.raises(InputError, match=r"xyz\.json is not complete JSON"):
        listing.read_json(tmp_path / "xyz.json")
    with pytest.raises(InputError, match=r"cannot read .*nothing\.json: No such file"):
        listing.read_json(tmp_path / "nothing.json")


def test_the_digest_of_files_is_that_of_their_contents(tmp_path):
    def digest_of(paths):
        return listing.combined(listing.read_all(paths, lambda data: hashlib.sha256(data).digest()))

    paths = [tmp_path / str(number) for number in range(200)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]))
    expected = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)).hexdigest()
    assert digest_of(paths) == expected
    paths[150].unlink()
    assert digest_of(paths) != expected
    assert digest_of(paths[::-1]) != digest_of(paths)


@pytest.mark.parametrize(("length", "count"), [(399, 200), (5, 8), (1, 3), (0, 3), (0, 0), (4, 1)])
def test_evenly_spaced_items_are_at_most_so_many(length, count):
    some = listing.evenly([f"{number}" for number in range(length)], count)
    assert len(some) == min(length, count)
    assert [some[0], some[-1]] == ["0", f"{length - 1}"] if count > 1 and length else True


def test_the_images_that_a_fingerprint_covers_stay_the_same():
    assert listing.stepped(list(range(40)), 16) == list(range(0, 40, 2))
    assert listing.stepped([3], 16) == [3]
