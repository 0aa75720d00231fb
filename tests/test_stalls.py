"""cluster.labelling.stalls: limits from the times of units, and who is stalled."""

from __future__ import annotations

import pytest

from cluster.labelling import stalls
from cluster.labelling.commits import Commit
from hojoint.errors import Unavailable


def commit(seconds: float, started: float = 0.0) -> Commit:
    return Commit("u0", "a", {}, {}, None, started, started + seconds, {})


def test_the_limit_follows_the_longest_unit():
    assert stalls.limit_s(0.0) == stalls.FIRST_S < 6 * 3600
    assert stalls.limit_s(60.0) == stalls.LEAST_S
    assert stalls.limit_s(1000.0) == 3000.0
    assert stalls.limit_s(1000.0, gap_s=350.0) == 3500.0
    assert stalls.limit_s(1000.0, gap_s=500.0) == stalls.GAP_MOST_S
    assert stalls.limit_s(1000.0, reported=True) == stalls.LEAST_S  # actors report many times within such a unit
    assert stalls.longest_unit_s([commit(5.0), commit(8.0, 100.0)]) == 8.0
    assert stalls.longest_unit_s([]) == 0.0


def test_silence_is_a_stall_only_beyond_the_limit(capsys):
    now, signs = [0.0], [0]
    watch = stalls.Watch(lambda: signs[0], clock=lambda: now[0])
    now[0] = stalls.FIRST_S - 1
    watch.look()
    signs[0] = 1  # the first group of videos
    watch.look()
    now[0] += 200.0
    signs[0] = 2
    watch.look()
    now[0] += 10 * 200.0 - 1  # ten times the longest silence between signs
    watch.look()
    now[0] += 3
    with pytest.raises(Unavailable, match=r"nothing was finished for \d+ s, and no unit is done yet: .*ray status"):
        watch.look()
    assert capsys.readouterr().err.count("note: nothing was finished for") == 2  # once in each silence


def test_a_finished_unit_sets_the_limit():
    now = [0.0]
    watch = stalls.Watch(clock=lambda: now[0])
    now[0] = 1.0
    watch.finished(commit(500.0))
    assert watch.limit_s == 1500.0
    now[0] += 1501.0
    with pytest.raises(Unavailable, match="a unit took up to 500 s before"):
        watch.look()
    silent = stalls.Watch(clock=lambda: now[0], resumes="Again")
    silent.finished(None)
    now[0] += 60.0
    silent.finished(None)
    now[0] += 1801.0
    with pytest.raises(Unavailable, match=r"1801 s, and it took up to 60 s before: .* Again$"):
        silent.look()
    watch.finished(None)  # one that another driver committed is a sign too
    watch.look()


def test_a_slow_start_does_not_lengthen_the_limit_of_the_run():
    now, signs = [0.0], [0]
    watch = stalls.Watch(lambda: signs[0], clock=lambda: now[0])
    now[0], signs[0] = 1500.0, 1  # nodes took 25 min to start
    watch.look()
    now[0] += 60.0
    watch.finished(commit(60.0))
    assert watch.limit_s == stalls.LEAST_S


def test_one_long_silence_lengthens_the_limit_to_an_hour_at_most():
    now = [0.0]
    watch = stalls.Watch(lambda: now[0], clock=lambda: now[0])
    for seconds in (1.0, 1700.0):
        now[0] += seconds
        watch.look()
    assert watch.limit_s == 3600.0


def test_a_stall_after_one_unit_tells_no_time():
    now = [0.0]
    watch = stalls.Watch(clock=lambda: now[0])
    watch.finished(None)
    now[0] += 1801.0
    with pytest.raises(Unavailable, match=r"1801 s, and one unit is done: "):
        watch.look()


@pytest.mark.parametrize(("often", "limit"), [(True, stalls.LEAST_S), (False, 2700.0)])
def test_actors_have_time_to_start_before_their_first_sign(often, limit):
    """Also in a run that resumes, whose units' time is known: nodes start, and copy data sets."""
    signs = [0]
    watch = stalls.Watch(lambda: signs[0], 900.0, clock=lambda: 0.0, often=often)
    assert watch.limit_s == max(stalls.FIRST_S, limit)
    signs[0] = 1
    watch.look()
    assert watch.limit_s == limit
