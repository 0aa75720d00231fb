"""The new part of a log, found in its last lines: nothing twice, nothing lost, little asked for."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("aiohttp", reason="Ray's job client is not installed (pip install -e '.[cluster]')")
tails = pytest.importorskip("cluster.tails")


class Log:
    """A growing log that counts what is asked of it."""

    def __init__(self, text=""):
        self.text, self.asked = text, []

    def __call__(self, lines):
        self.asked.append(lines)
        return self.text if lines == tails.COMPLETE else "".join(self.text.splitlines(keepends=True)[-lines:])


@pytest.mark.parametrize("seed", range(6))
def test_a_log_that_grows_in_pieces_is_handed_on_once(seed):
    rng = random.Random(seed)
    said, log = [], Log()
    reader = tails.Reader(said.append)
    for _ in range(30):
        for _ in range(rng.choice([0, 1, 3, 50, 700])):
            log.text += f"{rng.random()} äöü" * rng.choice([0, 1, 3]) + rng.choice(["\n", "", "\n\n"])
        reader.read(log)
        whole = "".join(said) == log.text  # without pytest's comparison of long texts
        assert whole


def test_few_lines_are_asked_for():
    said, log = [], Log("".join(f"line {number}\n" for number in range(5_000)))
    reader = tails.Reader(said.append)
    reader.read(log)
    for number in range(100):
        log.text += f"new {number}\n"
        reader.read(log)
    assert log.asked == [tails.COMPLETE] + [tails.LINES] * 100
    assert "".join(said) == log.text


def test_a_burst_longer_than_the_end_asks_for_more():
    said, log = [], Log("a" * 300 + "\n")
    reader = tails.Reader(said.append)
    reader.read(log)
    log.text += "".join(f"line {number}\n" for number in range(30_000))
    reader.read(log)
    assert "".join(said) == log.text
    assert log.asked[-1] == tails.COMPLETE


def test_equal_lines_of_a_short_log_are_all_handed_on():
    said, log = [], Log("a\n")
    reader = tails.Reader(said.append)
    for _ in range(50):
        reader.read(log)
        log.text += "a\n"
    reader.read(log)
    assert "".join(said) == log.text


def test_it_can_begin_with_the_last_lines():
    said, log = [], Log("".join(f"line {number}\n" for number in range(1000)))
    reader = tails.Reader(said.append, shown_lines=3)
    reader.read(log)
    log.text += "more\n"
    reader.read(log)
    assert "".join(said) == "line 997\nline 998\nline 999\nmore\n"
    assert log.asked == [3, tails.LINES]


def test_an_open_connection_may_have_begun_it():
    said, log = [], Log("".join(f"line {number}\n" for number in range(1000)))
    reader = tails.Reader(said.append)
    reader.take(log.text[:5000])
    reader.read(log)
    assert "".join(said) == log.text


def test_another_log_is_handed_on_from_its_beginning():
    said = []
    reader = tails.Reader(said.append, shown_lines=1)
    reader.read(Log("".join(f"old {number}\n" for number in range(9))))
    reader.read(Log("new\n"))
    assert "".join(said) == "old 8\nnew\n"


def test_cut_characters_and_returns_are_read_as_ray_does():
    assert tails._text("ä\r\nb\rc".encode() + "ö".encode()[:1]) == "ä\nb\nc"
