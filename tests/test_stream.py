"""training.stream: the batches of the schedule, whatever step or worker starts; shards are read ahead and let go."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections import Counter

import numpy as np
import pytest

from hojoint.config import TrainConfig
from hojoint.datasets import regions
from hojoint.errors import InputError
from hojoint.training import stream
from hojoint.training.schedule import Schedule

SIZES = (6, 9, 4, 12, 7, 8, 5, 9)  # 60 samples
PIXELS = np.zeros((4, 4, 3), np.uint8)
BOX = np.array([0.0, 0, 4, 4])


def sample(name, value):
    made = {"camera": np.full((3, 3), np.nan), "joints_px": np.full((21, 2), float(value))}
    return regions.Sample(
        name=name, image=PIXELS, hand_box=BOX, object_box=BOX, pose=np.zeros(48), betas=np.zeros(10), has_object=False,
        control_px=np.zeros((21, 2)), object_mask=PIXELS[..., 0], object_name="", object_pose=np.zeros((3, 4)), **made,
    )  # fmt: skip


class Shard:
    """Samples that know their number."""

    def __init__(self, kind, start, count):
        self.kind, self.start, self.count = kind, start, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        assert 0 <= index < self.count
        return sample(f"{self.kind}{self.start + index}", self.start + index)


class Shards:
    """Counts what is read, and what is held at once."""

    def __init__(self, kind, sizes=SIZES, fail=None):
        self.kind, self.sizes, self.fail = kind, list(sizes), fail
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.reads = Counter()
        self.held = weakref.WeakSet()
        self.most = 0
        self.lock = threading.Lock()

    def __len__(self):
        return sum(self.sizes)

    def read(self, shard):
        if shard == self.fail:
            raise InputError(f"shard {shard} is damaged")
        made = Shard(self.kind, int(self.starts[shard]), self.sizes[shard])
        with self.lock:
            self.reads[shard] += 1
            self.held.add(made)
            self.most = max(self.most, sum(len(one) for one in list(self.held)))
        return made


def setup(*sets, pseudo=0, steps=40, **train):
    data = stream.Concatenated(sets)
    config = TrainConfig(**{"batch_size": 6, "steps": steps, "window_samples": 15, "epochs": 4, **train})
    schedule = Schedule(config, labelled=len(data) - pseudo, pseudo=pseudo, seed=5, shards=data.sizes)
    return data, schedule


def names(data, schedule, **where):
    return [batch.names for batch in stream.loader(data, schedule, start=where.pop("start", 0), **where)]


@pytest.mark.parametrize("share", [None, 0.3, 0.02])
def test_each_batch_holds_the_samples_of_its_picks(share):
    data, schedule = setup(Shards("a"), stream.Parts(Shard("b", 0, 37)), Shards("p"), pseudo=60, pseudo_share=share)
    expected = [f"a{k}" for k in range(60)] + [f"b{k}" for k in range(37)] + [f"p{k}" for k in range(60)]
    for step, batch in enumerate(stream.loader(data, schedule, start=0, threads=2)):
        picks = schedule.picks(step)
        assert batch.keys == tuple(picks)
        assert batch.names == tuple(expected[number] for _, number in picks)
    assert step == 39


def test_each_pass_shows_each_sample_once():
    data, schedule = setup(Shards("a"), Shards("p"), pseudo=60)
    shown = [name for batch in names(data, schedule) for name in batch]
    assert len(shown) == 240
    assert set(Counter(shown[:120]).values()) == {1}
    assert shown[:120] != shown[120:]


@pytest.mark.parametrize("share", [0.3, 0.02])
def test_a_share_is_exact_over_the_run(share):
    data, schedule = setup(Shards("a"), Shards("p"), pseudo=60, pseudo_share=share, steps=50)
    counts = [sum(name.startswith("p") for name in batch) for batch in names(data, schedule)]
    assert sum(counts) == round(300 * share)
    assert max(counts) - min(counts) <= 1


def test_a_resumed_or_resized_run_sees_the_same_samples():
    make = lambda: setup(Shards("a"), Shards("p"), pseudo=60, pseudo_share=0.5)  # noqa: E731
    unbroken = names(*make())
    assert names(*make(), start=17) == unbroken[17:]
    shares = [names(*make(), start=20, rank=rank, workers=3) for rank in range(3)]
    for step, parts in enumerate(zip(*shares, strict=True), start=20):
        assert sorted(name for part in parts for name in part) == sorted(unbroken[step])


def test_memory_is_that_of_the_windows_whatever_the_size():
    most = []
    for count in (20, 100):
        shards = Shards("a", [10] * count)
        data, schedule = setup(shards, steps=count * 10 // 6, window_samples=50)
        names(data, schedule)
        most.append(shards.most)
        assert set(shards.reads.values()) == {1}  # once a pass, nothing is dropped too early
    # The window, the one ahead, and of the one before it what the batches on their way still hold.
    assert max(most) <= 3 * (50 + 10)
    gc.collect()
    assert not shards.held


def test_a_kind_that_few_steps_take_is_not_read_again():
    pseudo = Shards("p", [10] * 4)
    data, schedule = setup(Shards("a"), pseudo, pseudo=40, pseudo_share=0.05, steps=100, window_samples=20)
    names(data, schedule)
    assert sum(pseudo.reads.values()) <= 4  # thirty of forty samples are shown


def test_the_next_window_is_read_while_steps_are_taken():
    shards = Shards("a", [10] * 10)
    data, schedule = setup(shards, steps=16, window_samples=50)
    batches = stream.loader(data, schedule, start=0)
    next(batches)
    end = time.monotonic() + 10
    while sum(shards.reads.values()) < 10 and time.monotonic() < end:
        time.sleep(0.01)
    assert sum(shards.reads.values()) == 10
    batches.close()


def test_nothing_beyond_the_last_step_is_read():
    shards = Shards("a", [10] * 10)
    data, schedule = setup(shards, steps=5, window_samples=50)
    assert len(names(data, schedule)) == 5
    assert sum(shards.reads.values()) == 5


def test_a_shard_that_cannot_be_read_raises_its_message():
    data, schedule = setup(Shards("a", fail=3))
    with pytest.raises(InputError, match=r"^shard 3 is damaged$"):
        names(data, schedule)


def test_a_shard_of_two_kinds_is_refused():
    config = TrainConfig(batch_size=6, steps=4, pseudo_share=0.5)
    with pytest.raises(AssertionError, match="two kinds"):
        Schedule(config, labelled=5, pseudo=5, seed=0, shards=[4, 6])
