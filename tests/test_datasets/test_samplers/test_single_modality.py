"""Steps of one modality each, whatever the ranks and the order."""

import itertools

import numpy as np
import pytest

from mmvlm.datasets.samplers.single_modality import SingleModalitySampler

SIZES = dict(audio=14, image=30, rgbd=9)


class _Data:
    def __init__(self, sizes=None):
        sizes = sizes or SIZES
        self.kinds = np.repeat(list(sizes), list(sizes.values()))
        self.words = np.random.default_rng(0).integers(1, 50, len(self.kinds))

    def __len__(self):
        return len(self.kinds)

    def modalities_at(self, epoch):
        return self.kinds

    def lengths_at(self, epoch):
        return self.words


def _plans(data, epoch=0, ranks=2, batch_size=2, **options):
    options = dict(dict(seed=1, accumulation=1), **options)
    samplers = [
        SingleModalitySampler(data, batch_size, rank=r, world_size=ranks, **options)
        for r in range(ranks)
    ]
    assert len({len(s) for s in samplers}) == 1
    return [s.plan(epoch) for s in samplers]


@pytest.mark.parametrize("order", ["round_robin", "shuffled"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_global_step_never_mixes(order, accumulation):
    data = _Data()

    plans = _plans(data, order=order, accumulation=accumulation)

    assert len(plans[0]) == len(plans[1])
    for start in range(0, len(plans[0]), accumulation):
        rows = [i for p in plans for b in p[start : start + accumulation] for i in b]
        assert len(rows) == 4 * accumulation
        assert len(set(data.kinds[rows])) == 1


def test_round_robin_takes_turns_until_the_smallest_is_spent():
    data = _Data()

    (plan,) = _plans(data, ranks=1, batch_size=4)

    kinds = [data.kinds[batch[0]] for batch in plan]
    assert kinds == ["audio", "image", "rgbd"] * (9 // 4)
    flat = [i for batch in plan for i in batch]
    assert len(set(flat)) == len(flat)


def test_shuffled_keeps_similar_lengths_together():
    data = _Data()

    (plan,) = _plans(data, ranks=1, batch_size=4, order="shuffled")

    assert len(plan) == 14 // 4 + 30 // 4 + 9 // 4
    for name in SIZES:
        batches = [b for b in plan if data.kinds[b[0]] == name]
        spans = sorted((data.words[b].min(), data.words[b].max()) for b in batches)
        for before, after in itertools.pairwise(spans):
            assert before[1] <= after[0]
    names = [data.kinds[b[0]] for b in plan]
    assert names != sorted(names)


def test_epochs_differ_and_repeat_by_seed():
    data = _Data()

    first = _plans(data, 0)

    assert _plans(data, 0) == first
    assert _plans(data, 1) != first
    assert _plans(data, 0, seed=2) != first


def test_modality_without_a_whole_step_is_refused():
    with pytest.raises(ValueError, match=r"\['rgbd'\] have fewer samples than the 10"):
        _plans(_Data(), ranks=1, batch_size=10)
    with pytest.raises(ValueError, match="order='any'"):
        _plans(_Data(), order="any")
