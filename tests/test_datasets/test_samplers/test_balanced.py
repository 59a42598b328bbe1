"""The deal of random global batches by tokens."""

import time
from collections import Counter

import numpy as np
import pytest
from sampler_data import FixedData, TokenData, all_plans
from torch.utils.data import DataLoader

from mmvlm.datasets.mixture import MixtureDataset
from mmvlm.datasets.readers.llava import LLaVADataset
from mmvlm.datasets.samplers.balanced import (
    BalancedBatchSampler,
    NoRoom,
    deal_longest_first,
)
from mmvlm.datasets.samplers.simple import RandomBatchSampler


def slow_deal(sizes, num_bins):
    """One batch, sample by sample, as the rule says."""
    bins, loads = [0] * len(sizes), [0] * num_bins
    for sample in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        bins[sample] = loads.index(min(loads))
        loads[bins[sample]] += sizes[sample]
    return bins


def steps_of(plans, accumulation):
    """Samples of every optimizer step."""
    return [
        sorted(i for plan in plans for b in plan[k : k + accumulation] for i in b)
        for k in range(0, len(plans[0]), accumulation)
    ]


def test_deal_equals_the_rule_applied_one_by_one():
    sizes = np.random.default_rng(0).integers(1, 40, (50, 33))

    bins = deal_longest_first(sizes, 5)

    assert bins.tolist() == [slow_deal(row.tolist(), 5) for row in sizes]


@pytest.mark.parametrize("size", [640, 645, 700, 5])
@pytest.mark.parametrize(("world", "accumulation"), [(1, 1), (4, 1), (2, 3), (8, 2)])
def test_global_batches_are_those_of_the_random_sampler(size, world, accumulation):
    data = TokenData(size)

    plans = {}
    for kind in (RandomBatchSampler, BalancedBatchSampler):
        samplers, dealt = all_plans(kind, data, 4, world, 2, accumulation=accumulation)
        assert {len(plan) for plan in dealt} == {len(samplers[0])}
        assert all(batch for plan in dealt for batch in plan)
        plans[kind] = steps_of(dealt, accumulation)

    assert plans[BalancedBatchSampler] == plans[RandomBatchSampler]


@pytest.mark.parametrize("world", [8, 16])
def test_slowest_rank_has_three_percent_more_than_the_mean_at_most(world):
    data = TokenData(20_000)

    _, plans = all_plans(BalancedBatchSampler, data, 16, world)

    loads = np.array([[data.tokens[b].sum() for b in plan] for plan in plans])
    assert len({len(batch) for plan in plans for batch in plan}) > 1
    assert world * loads.max(0).sum() / loads.sum() <= 1.03
    dense = [[data.tokens[b].max() * len(b) for b in plan] for plan in plans]
    assert world * np.max(dense, 0).sum() / loads.sum() > 1.5


def test_accumulation_balances_micro_batches_and_ranks():
    data = TokenData(8 * 4 * 3 * 50)

    _, plans = all_plans(BalancedBatchSampler, data, 8, 4, accumulation=3)

    loads = np.array([[data.tokens[b].sum() for b in plan] for plan in plans])
    micro = loads.reshape(4, -1, 3)
    assert 4 * micro.max(0).sum() / micro.sum() <= 1.03
    assert 4 * micro.sum(2).max(0).sum() / micro.sum() <= 1.02


def test_plan_depends_on_seed_and_epoch_only():
    data = TokenData(300)

    def plan(seed, epoch):
        sampler = BalancedBatchSampler(data, 4, seed=seed, rank=1, world_size=2)
        return sampler.plan(epoch)

    assert plan(0, 1) == plan(0, 1)
    assert plan(0, 1) != plan(0, 0) != plan(1, 0)


def test_epoch_resumes_at_any_step_without_replay():
    data = TokenData(203)
    sampler = BalancedBatchSampler(data, 4, seed=1, rank=0, world_size=2)
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=list)
    sampler.set_epoch(3)
    whole = list(loader)

    for position in (0, 7, len(sampler)):
        sampler.set_position(position)
        assert list(loader) == whole[position:]


def test_limits_hold():
    data = TokenData(1024, seed=3)
    data.images = np.random.default_rng(0).integers(0, 4, 1024)

    _, plans = all_plans(
        BalancedBatchSampler, data, 16, 4, max_images=28, max_tokens=14_000
    )

    batches = [batch for plan in plans for batch in plan]
    assert max(data.images[b].sum() for b in batches) <= 28
    assert max(data.tokens[b].sum() for b in batches) <= 14_000
    free = all_plans(BalancedBatchSampler, data, 16, 4)[1]
    assert max(data.images[b].sum() for plan in free for b in plan) > 28
    counts = Counter(i for b in batches for i in b)
    assert set(counts) == set(range(1024)) and max(counts.values()) == 1


def test_limit_that_leaves_no_room_names_epoch_and_step():
    data = FixedData([10] * 8 + [30], images=[2] * 9)
    sampler = BalancedBatchSampler(
        data, 2, seed=0, rank=0, world_size=2, max_images=3, shuffle=False
    )

    message = (
        r"epoch 4, step 0 a sample fits into none of the 2 micro-batches: it needs "
        r"2 of the 3 .* the whole step 8 \(max_tokens=None, max_images=3\)"
    )
    with pytest.raises(ValueError, match=message):
        sampler.plan(4)
    with pytest.raises(NoRoom):
        deal_longest_first(np.array([[5]]), 2, [(np.array([[5]]), 4)])


def test_samples_without_tokens_are_dealt_too():
    data = FixedData([0] * 8)

    _, plans = all_plans(BalancedBatchSampler, data, 2, 4)

    assert sorted(i for plan in plans for b in plan for i in b) == list(range(8))
    assert [len(b) for plan in plans for b in plan] == [2] * 4


def test_data_that_do_not_know_their_tokens_are_refused():
    sampler = BalancedBatchSampler(list(range(8)), 2, seed=0, rank=0, world_size=1)

    with pytest.raises(TypeError, match=r"'list' \(list\) offers no token_lengths_at"):
        sampler.plan(0)


@pytest.mark.parametrize("limit", ["max_tokens", "max_images"])
def test_limit_below_one_is_refused(limit):
    with pytest.raises(ValueError, match=f"{limit}=0, expected 1 or more"):
        BalancedBatchSampler(TokenData(8), 2, seed=0, **{limit: 0})


def test_fingerprint_changes_with_lengths_and_seed():
    def facts(data, seed=0):
        return BalancedBatchSampler(data, 2, seed=seed).fingerprint(0)

    one = facts(FixedData([5, 6, 7]))
    assert one == facts(FixedData([5, 6, 7]))
    assert one != facts(FixedData([5, 6, 8])) and one != facts(FixedData([5, 6, 7]), 1)


@pytest.mark.slow
def test_plan_of_665k_samples_takes_at_most_three_seconds():
    sampler = BalancedBatchSampler(
        TokenData(665_000), 16, seed=0, rank=3, world_size=16, max_images=30
    )

    start = time.process_time()
    plan = sampler.plan(0)

    assert time.process_time() - start < 3 and len(plan) == len(sampler)


def test_readers_of_files_know_what_the_limits_need(llava, make):
    config = llava.write([make.record(i, images=i % 4) for i in range(12)])
    data = LLaVADataset(**config, indices=[3, 2, 1, 0, 7])
    mixture = MixtureDataset([data], [2])

    assert data.num_images_at(0).tolist() == [3, 2, 1, 0, 3]
    assert mixture.num_images_at(0).tolist() == [3, 3, 2, 2, 1, 1, 0, 0, 3, 3]
