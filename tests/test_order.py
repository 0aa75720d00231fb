"""training.order: windows hold whole shards, every sample comes once a pass, nothing depends on what came before."""

from __future__ import annotations

import numpy as np
import pytest

from hojoint.training.order import Shuffled, Windowed

SIZES = [7, 1, 30, 12, 12, 5, 9, 20, 3, 11]


def passed(order, number):
    return [order.at(number, inside) for inside in range(order.count)]


@pytest.mark.parametrize("window", [1, 8, 25, 60, 1000])
def test_a_pass_shows_each_sample_once_window_by_window(window):
    order = Windowed(3, 0, SIZES, window)
    shard_of = np.repeat(range(len(SIZES)), SIZES)
    for number in range(3):
        samples = passed(order, number)
        assert sorted(samples) == list(range(sum(SIZES)))
        place, shards = 0, []
        while place < order.count:
            part = order.window(number, place)
            assert (part.start, order.window(number, part.stop - 1).stop) == (place, part.stop)
            assert set(shard_of[samples[part.start : part.stop]]) == set(part.shards)
            assert part.stop - part.start <= window + max(SIZES)
            shards += part.shards.tolist()
            place = part.stop
        assert sorted(shards) == list(range(len(SIZES)))  # each shard is read once


def test_passes_seeds_and_streams_differ_and_repeat():
    orders = {
        key: passed(Windowed(key[0], key[1], SIZES, 25), key[2]) for key in [(3, 0, 0), (3, 0, 1), (4, 0, 0), (3, 1, 0)]
    }
    assert len({tuple(order) for order in orders.values()}) == 4
    later = Windowed(3, 0, SIZES, 25)
    assert later.at(1, 100) == orders[3, 0, 1][100]  # without what comes before
    assert passed(later, 0) == orders[3, 0, 0]


def test_samples_are_shuffled_within_a_window():
    order = Windowed(0, 0, [50] * 40, 500)
    samples = np.array(passed(order, 0))
    for start in range(0, 2000, 500):
        part = samples[start : start + 500]
        assert len(set(part // 50)) == 10
        assert len(set(part[:24] // 50)) >= 5  # a batch mixes shards
        assert (np.diff(part) == 1).sum() < 10


def test_windows_are_of_equal_size_and_none_is_left_small():
    order = Windowed(0, 0, [10] * 101, 100)
    sizes, place = [], 0
    while place < order.count:
        sizes.append(order.window(0, place).stop - place)
        place += sizes[-1]
    assert len(sizes) == 11
    assert set(sizes) <= {90, 100}


def test_without_windows_a_pass_is_a_permutation():
    order = Shuffled(0, 0, 50)
    assert sorted(passed(order, 2)) == list(range(50))
    assert passed(order, 2) != passed(order, 1)
