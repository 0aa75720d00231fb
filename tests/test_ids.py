"""Ids of videos: any name is one that cannot leave its folder."""

import pytest

from hojoint import ids
from hojoint.errors import InputError

NAMES = ["4", "my video.1", "a=b", "dir%2Fx", "Ünïcode 手", "..x", "C:x", "=41", "é", "e\u0301", "0" * 200]


@pytest.mark.parametrize("name", NAMES)
def test_any_other_name_is_an_id_as_it_is(name):
    assert ids.checked(name, "test") == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\nb", "a\0", "x" * 201, "手" * 67])
def test_an_id_that_cannot_be_a_name_is_refused(name):
    with pytest.raises(InputError, match=r"boxes\.json: expected a video id"):
        ids.checked(name, "boxes.json")
