"""Tables for the terminal."""

from __future__ import annotations

import pytest

from jobs import printing


def test_words_stand_left_and_numbers_right():
    text = printing.table(("stage", "time", "result"), [("train", "9.1 s", "30 steps"), ("all", "3 min 34 s", "")])
    assert text.splitlines() == [
        "stage        time  result",
        "-----  ----------  --------",
        "train       9.1 s  30 steps",
        "all    3 min 34 s",
    ]


@pytest.mark.parametrize("text", ["3", "-0.5", "+1.25", "9.1 s", "12 %", "1,200", "-1.20 ± 0.30", "", "-"])
def test_what_counts_as_a_number(text):
    assert printing._is_number(text)


@pytest.mark.parametrize("text", ["11 videos (3 quarantined)", "runs/tiny", "30 steps on 20 samples", "teacher"])
def test_what_does_not(text):
    assert not printing._is_number(text)


def test_markdown_has_a_rule_under_its_headers():
    assert printing.markdown(("a", "b"), [(1, 2)]).splitlines() == ["| a | b |", "| --- | --- |", "| 1 | 2 |"]
