from collections import Counter

import numpy as np
import pytest
from torch.utils.data import DataLoader

from mmvlm.datasets.samplers.modality_length import ModalityLengthSampler
from mmvlm.datasets.samplers.simple import RandomBatchSampler, SequentialBatchSampler
from mmvlm.registry import DATA_SAMPLERS


class Data(list):
    def __init__(self, size):
        super().__init__(range(size))
        self.lengths = [(1 if i % 4 else -1) * (i % 11 + 1) for i in range(size)]


def plans(kind, size, batch, world, accumulation=1, epoch=0):
    samplers = [
        kind(
            Data(size),
            batch,
            seed=1,
            rank=rank,
            world_size=world,
            accumulation=accumulation,
        )
        for rank in range(world)
    ]
    return samplers, [s.plan(epoch) for s in samplers]


SHAPES = [(24, 4, 2, 1), (25, 4, 2, 1), (37, 3, 4, 2), (5, 2, 4, 1), (2, 3, 2, 4)]


@pytest.mark.parametrize("kind", [RandomBatchSampler, ModalityLengthSampler])
@pytest.mark.parametrize(("size", "batch", "world", "accumulation"), SHAPES)
def test_ranks_get_equally_many_batches_and_repeats_are_counted(
    kind, size, batch, world, accumulation
):
    samplers, dealt = plans(kind, size, batch, world, accumulation)

    lengths = {len(plan) for plan in dealt} | {len(s) for s in samplers}
    assert len(lengths) == 1 and lengths.pop() % accumulation == 0
    assert all(0 < len(b) <= batch for plan in dealt for b in plan)
    counts = Counter(i for plan in dealt for b in plan for i in b)
    assert set(counts) == set(range(size))
    assert sum(counts.values()) - size == samplers[0].num_repeated
    assert samplers[0].num_repeated < world * accumulation


@pytest.mark.parametrize(("size", "batch", "world", "accumulation"), SHAPES)
def test_sequential_gives_every_sample_exactly_once(size, batch, world, accumulation):
    samplers, dealt = plans(SequentialBatchSampler, size, batch, world)

    assert {len(plan) for plan in dealt} == {len(samplers[0])}
    assert sorted(i for plan in dealt for b in plan for i in b) == list(range(size))
    assert samplers[0].num_repeated == 0


def test_sequential_on_one_rank_keeps_the_order():
    _, (plan,) = plans(SequentialBatchSampler, 7, 3, 1)

    assert plan == [[0, 1, 2], [3, 4, 5], [6]]


def test_empty_batches_of_a_short_data_set_reach_the_collate_function():
    samplers, dealt = plans(SequentialBatchSampler, 2, 4, 3)

    loader = DataLoader(Data(2), batch_sampler=samplers[2], collate_fn=list)
    assert dealt == [[[0]], [[1]], [[]]] and list(loader) == [[]]


@pytest.mark.parametrize("kind", [RandomBatchSampler, SequentialBatchSampler])
def test_a_step_holds_the_same_samples_however_it_is_spread(kind):
    def steps(batch, world, accumulation):
        _, dealt = plans(kind, 28, batch, world, accumulation)
        result = []
        for step in range(len(dealt[0]) // accumulation):
            span = slice(step * accumulation, (step + 1) * accumulation)
            result.append(sorted(i for p in dealt for b in p[span] for i in b))
        return result

    assert steps(8, 1, 1) == steps(4, 2, 1) == steps(2, 1, 4) == steps(2, 2, 2)


@pytest.mark.parametrize(
    "kind", [RandomBatchSampler, ModalityLengthSampler, SequentialBatchSampler]
)
@pytest.mark.parametrize("workers", [0, 1])
def test_position_resumes_the_epoch_once(kind, workers):
    sampler = kind(Data(23), 4, seed=1, rank=0, world_size=1)
    loader = DataLoader(
        Data(23),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=list,
        persistent_workers=bool(workers),
    )
    sampler.set_epoch(3)
    whole = list(loader)

    for position in (0, 2, len(sampler)):
        sampler.set_position(position)
        assert list(loader) == whole[position:]
    assert list(loader) == whole and len(loader) == len(whole) == len(sampler)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("persistent", [False, True])
def test_first_iteration_of_a_loader_may_start_inside_the_epoch(workers, persistent):
    sampler = RandomBatchSampler(Data(23), 4, seed=1, rank=0, world_size=1)
    sampler.set_position(4)

    loader = DataLoader(
        Data(23),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=list,
        persistent_workers=persistent and workers > 0,
    )

    assert list(loader) == sampler.plan(0)[4:]


def test_position_outside_is_refused():
    sampler = RandomBatchSampler(Data(8), 4, seed=0, rank=0, world_size=1)

    with pytest.raises(ValueError, match=r"position 3 outside 0\.\.2, .*batch size"):
        sampler.set_position(3)


def test_random_order_depends_on_seed_and_epoch():
    def order(seed, epoch):
        sampler = RandomBatchSampler(Data(50), 5, seed=seed, rank=0, world_size=1)
        return sampler.order(epoch).tolist()

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(s, e)) for s in (0, 1) for e in (0, 1)}) == 4
    assert np.sort(order(0, 0)).tolist() == list(range(50))


def test_random_unshuffled_is_the_files_order():
    sampler = RandomBatchSampler(
        Data(5), 2, shuffle=False, seed=0, rank=0, world_size=1
    )

    assert sampler.plan(7) == [[0, 1], [2, 3], [4]]


def test_builds_by_name_and_takes_the_rank_from_mmengine():
    sampler = DATA_SAMPLERS.build(
        dict(type="RandomBatchSampler", dataset=Data(5), batch_size=2, seed=None)
    )

    assert sampler.world_size == 1 and sampler.rank == 0 and sampler.seed >= 0


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (dict(batch_size=0), "batch_size=0, expected an int of 1 or more"),
        (dict(dataset=Data(0)), r"len\(dataset\)=0"),
        (dict(accumulation=0), "accumulation=0"),
        (dict(world_size=0), "world_size=0"),
        (dict(rank=2, world_size=2), r"rank=2 outside 0\.\.1"),
    ],
)
def test_wrong_options_are_named(extra, message):
    with pytest.raises(ValueError, match=message):
        RandomBatchSampler(**{**dict(dataset=Data(4), batch_size=2, seed=0), **extra})


def test_repeating_sequential_is_refused():
    with pytest.raises(ValueError, match="repeat=True would count samples twice"):
        SequentialBatchSampler(Data(4), 2, repeat=True)
