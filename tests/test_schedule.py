"""schedule: every sample once per pass, exact shares, workers that split a batch, the paper's learning rate."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from hojoint.config import TrainConfig
from hojoint.errors import InputError
from hojoint.training.schedule import Schedule


def schedule(labelled=10, pseudo=0, seed=0, **changes):
    return Schedule(
        TrainConfig(**{"batch_size": 4, "epochs": 6, **changes}), labelled=labelled, pseudo=pseudo, seed=seed
    )


def test_each_pass_shows_every_sample_once_in_a_new_order():
    stream = [pick for step in range(15) for pick in schedule().picks(step)]
    passes = [[index for number, index in stream if number == k] for k in range(6)]
    assert all(sorted(order) == list(range(10)) for order in passes)
    assert len({tuple(order) for order in passes}) == 6
    assert [number for number, _ in stream] == sorted(number for number, _ in stream)


def test_a_batch_depends_on_seed_and_step_alone():
    assert schedule().picks(7) == schedule().picks(7)
    assert schedule().picks(7) != schedule(seed=1).picks(7)
    shared = schedule()
    assert sorted(shared.share(7, 0, 3) + shared.share(7, 1, 3) + shared.share(7, 2, 3)) == sorted(shared.picks(7))


def test_an_epoch_is_rounded_up_and_steps_replace_epochs():
    assert schedule(labelled=10, pseudo=3).steps_per_epoch == 4
    assert schedule(labelled=10, pseudo=3).steps == 24
    assert schedule(steps=7).steps == 7


def test_without_a_share_all_samples_are_equally_frequent():
    counts = Counter(index for step in range(13) for _, index in schedule(labelled=10, pseudo=3).picks(step))
    assert set(counts.values()) == {4}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_a_share_is_exact_over_the_run_and_near_in_each_batch(share):
    mixed = schedule(labelled=10, pseudo=5, pseudo_share=share)
    counts = [sum(index >= 10 for _, index in mixed.picks(step)) for step in range(50)]
    assert sum(counts) == round(200 * share)
    assert max(counts) - min(counts) <= 1
    assert all(len(mixed.picks(step)) == 4 for step in range(50))


def test_with_a_share_each_kind_is_shown_evenly():
    mixed = schedule(labelled=10, pseudo=5, pseudo_share=0.5)
    counts = Counter(index for step in range(25) for _, index in mixed.picks(step))
    assert {counts[index] for index in range(10)} == {5}
    assert {counts[index] for index in range(10, 15)} == {10}


def test_a_share_needs_both_kinds_and_a_run_needs_samples():
    with pytest.raises(InputError, match=r"pseudo_share=0\.5 .* 10 and 0; give train\.pseudo_share=null"):
        schedule(pseudo_share=0.5)
    with pytest.raises(InputError, match="nothing to train on"):
        schedule(labelled=0)


def test_the_rate_falls_by_0_7_every_ten_of_sixty_epochs():
    paper = Schedule(TrainConfig(batch_size=1, epochs=60), labelled=5, pseudo=0, seed=0)
    factors = [paper.learning_rate(5 * epoch) for epoch in (0, 9, 10, 59)]
    assert factors == pytest.approx([1, 1, 0.7, 0.7**5])
    matched = Schedule(TrainConfig(batch_size=1, epochs=60, steps=30), labelled=5, pseudo=0, seed=0)
    assert [matched.learning_rate(step) for step in (4, 5, 29)] == pytest.approx([1, 0.7, 0.7**5])


def test_the_scheduler_sets_the_rate_of_each_step():
    made = schedule(labelled=4, epochs=4, lr_decay_every_epochs=2)
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = made.scheduler(optimizer)
    rates = []
    for _ in range(made.steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.1, 0.1, 0.07, 0.07])
