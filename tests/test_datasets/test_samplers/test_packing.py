"""Whole samples in packs of a fixed number of tokens."""

import time

import numpy as np
import pytest
from sampler_data import FixedData, TokenData, all_plans
from torch.utils.data import DataLoader

from mmvlm.datasets.samplers.packing import PackedBatchSampler, best_fit, split_to


def slow_best_fit(lengths, capacity):
    """Search all packs for the tightest; the one filled last wins ties."""
    packs, rooms, touched = [], [], []
    for clock, item in enumerate(
        sorted(range(len(lengths)), key=lambda i: -lengths[i])
    ):
        fitting = [p for p, room in enumerate(rooms) if room >= lengths[item]]
        if not fitting:
            packs.append([])
            rooms.append(capacity)
            touched.append(clock)
            fitting = [len(packs) - 1]
        pack = min(fitting, key=lambda p: (rooms[p], -touched[p]))
        packs[pack].append(item)
        rooms[pack] -= lengths[item]
        touched[pack] = clock
    return packs


def rows_of(plans):
    return [i for plan in plans for batch in plan for i in batch]


@pytest.mark.parametrize("capacity", [20, 63, 64, 200])
def test_best_fit_equals_a_search_through_all_packs(capacity):
    lengths = np.random.default_rng(capacity).integers(1, 21, 300)

    assert best_fit(lengths, capacity) == slow_best_fit(lengths.tolist(), capacity)


@pytest.mark.parametrize("pack_length", [4096, 8192])
def test_waste_in_a_shuffled_buffer_is_six_percent_at_most(pack_length):
    data = TokenData(20_000)

    _, (plan,) = all_plans(
        PackedBatchSampler, data, 1, 1, pack_length=pack_length, buffer_size=512
    )

    loads = np.array([data.tokens[batch].sum() for batch in plan])
    assert loads.max() <= pack_length
    assert 1 - loads.sum() / (len(plan) * pack_length) <= 0.06
    assert sorted(rows_of([plan])) == list(range(len(data)))


@pytest.mark.parametrize("size", [1, 3, 7, 130, 131, 400])
@pytest.mark.parametrize(("world", "accumulation", "batch"), [(2, 1, 2), (4, 2, 1)])
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_every_sample_comes_once_and_ranks_stay_in_step(
    size, world, accumulation, batch, epoch
):
    data = TokenData(size, seed=4)

    samplers, plans = all_plans(
        PackedBatchSampler, data, batch, world, epoch, accumulation=accumulation
    )

    counts = {len(plan) for plan in plans} | {s.batches_at(epoch) for s in samplers}
    assert len(counts) == 1 and counts.pop() % accumulation == 0
    assert sorted(rows_of(plans)) == list(range(size))
    most = max(data.tokens[b].sum() for plan in plans for b in plan)
    assert most <= batch * samplers[0].pack_length
    if size >= world * accumulation:
        assert all(b for plan in plans for b in plan)


def test_length_is_that_of_the_epoch():
    data = TokenData(700)
    sampler = PackedBatchSampler(data, 1, seed=2, rank=0, world_size=1, buffer_size=64)

    lengths = {}
    for epoch in (0, 1, 2, 3, 0):
        sampler.set_epoch(epoch)
        lengths[epoch] = len(sampler)
        assert len(list(sampler)) == len(sampler) == sampler.batches_at(epoch)
    assert len(set(lengths.values())) > 1


def test_last_packs_are_halved_before_a_rank_stays_idle():
    lengths = np.array([10, 9, 8, 7, 6])

    packs = split_to([[0, 1, 2], [3, 4]], lengths, 4)

    assert sorted(i for pack in packs for i in pack) == [0, 1, 2, 3, 4]
    assert sorted(lengths[pack].sum() for pack in packs) == [8, 9, 10, 13]
    assert len(split_to(packs, lengths, 9)) == 5


def test_order_depends_on_seed_and_epoch_and_packs_are_shuffled():
    data = TokenData(300)

    def plan(seed, epoch):
        return PackedBatchSampler(data, 1, seed=seed, rank=0, world_size=1).plan(epoch)

    assert plan(0, 1) == plan(0, 1)
    assert plan(0, 1) != plan(0, 0) != plan(1, 0)
    longest = [data.tokens[pack].max() for pack in plan(0, 0)]
    assert longest != sorted(longest, reverse=True)


def test_epoch_resumes_at_any_pack_without_replay():
    data = TokenData(203)
    sampler = PackedBatchSampler(data, 1, seed=1, rank=0, world_size=2)
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=list)
    sampler.set_epoch(3)
    whole = list(loader)

    for position in (0, 5, len(sampler)):
        sampler.set_position(position)
        assert list(loader) == whole[position:]
    with pytest.raises(ValueError, match=r"position 99 outside 0\.\."):
        sampler.set_position(99)


def test_too_long_sample_is_an_error_that_names_it():
    data = FixedData([4, 11, 5])
    sampler = PackedBatchSampler(data, 1, seed=0, pack_length=10)

    message = r"1 of 3 samples of epoch 0 .*: position 1 of 'token-data' \(11 tokens\)"
    with pytest.raises(ValueError, match=message):
        len(sampler)


def test_too_long_samples_are_dropped_and_counted():
    data = FixedData([4, 11, 5, 12, 6])
    sampler = PackedBatchSampler(
        data, 1, seed=0, pack_length=10, too_long="drop", rank=0, world_size=1
    )

    assert sorted(rows_of([sampler.plan(0)])) == [0, 2, 4]
    assert sampler.dropped_at(0).tolist() == [1, 3]
    with pytest.raises(ValueError, match="2 of 2 samples of epoch 0 are longer"):
        PackedBatchSampler(
            FixedData([9, 9]), 1, seed=0, pack_length=8, too_long="drop"
        ).plan(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(pack_length=0), "pack_length=0"),
        (dict(buffer_size=0), "buffer_size=0"),
        (dict(too_long="cut"), r"too_long='cut', expected one of \['error', 'drop'\]"),
        (dict(repeat=True), "packs are not repeated"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        PackedBatchSampler(TokenData(8), 1, seed=0, **options)


@pytest.mark.slow
def test_plan_of_665k_samples_takes_seconds():
    sampler = PackedBatchSampler(TokenData(665_000), 1, seed=0, rank=0, world_size=8)

    start = time.process_time()
    plan = sampler.plan(0)

    assert time.process_time() - start < 10 and len(plan) == len(sampler)
