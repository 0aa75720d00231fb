"""Ids of videos: any name becomes a key that comes back and stays in its folder."""

import pytest

from cluster.store.base import checked
from hojoint import ids
from hojoint.errors import InputError

NAMES = ["4", "my video.1", "a=b", "dir%2Fx", "Ünïcode 手", "..x", "C:x", "=41", "é", "e\u0301", "0" * 200]


@pytest.mark.parametrize("name", NAMES)
def test_an_escaped_id_is_a_key_that_comes_back(name):
    key = ids.escaped(ids.checked(name, "test"))
    assert checked(key) == key
    assert ids.unescaped(key) == name


def test_no_two_ids_share_a_key():
    assert len({ids.escaped(name) for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\nb", "a\0", "x" * 201, "手" * 67])
def test_an_id_that_cannot_be_a_name_is_refused(name):
    with pytest.raises(InputError, match=r"boxes\.json: expected a video id"):
        ids.checked(name, "boxes.json")
