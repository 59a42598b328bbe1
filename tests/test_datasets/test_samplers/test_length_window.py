"""Windows of a shuffle, sorted by length."""

import numpy as np
import pytest
from sampler_data import TokenData, all_plans

from mmvlm.datasets.samplers.length_window import LengthWindowSampler


def spans(data, sampler, window):
    tokens = data.tokens[sampler.order(0)]
    return [tokens[i : i + window] for i in range(0, len(tokens), window)]


def test_windows_are_random_and_steps_inside_sorted():
    data = TokenData(1600)
    sampler = LengthWindowSampler(data, 4, seed=0, rank=0, world_size=2, window=10)

    for part in spans(data, sampler, 80):
        steps = part.reshape(-1, 8)
        assert (steps.min(1)[:-1] >= steps.max(1)[1:]).all()
    means = [part.mean() for part in spans(data, sampler, 80)]
    assert np.std(means) < 60
    assert sorted(sampler.order(0).tolist()) == list(range(1600))


def test_padding_of_a_step_is_small_and_ranks_are_as_full():
    data = TokenData(8 * 16 * 200)

    _, plans = all_plans(LengthWindowSampler, data, 16, 8)

    padded = np.array([[data.tokens[b].max() * len(b) for b in p] for p in plans])
    loads = np.array([[data.tokens[b].sum() for b in p] for p in plans])
    assert 8 * padded.max(0).sum() / data.tokens.sum() < 1.06
    assert 8 * loads.max(0).sum() / data.tokens.sum() < 1.02


def test_shuffled_steps_do_not_descend():
    data = TokenData(1600)
    options = dict(seed=0, rank=0, world_size=2, window=10)
    plain = LengthWindowSampler(data, 4, **options)
    mixed = LengthWindowSampler(data, 4, shuffle_steps=True, **options)

    one, two = (s.order(0).reshape(-1, 8) for s in (plain, mixed))
    assert one.tolist() != two.tolist()
    for start in range(0, 200, 10):
        steps = [sorted(x[start : start + 10].tolist()) for x in (one, two)]
        assert steps[0] == steps[1]


def test_window_is_a_quarter_of_a_short_epoch():
    data = TokenData(64)
    sampler = LengthWindowSampler(data, 4, seed=0, rank=0, world_size=1, window=50)

    first = data.tokens[sampler.order(0)][:16].reshape(-1, 4)
    assert (first.min(1)[:-1] >= first.max(1)[1:]).all()
    assert not np.array_equal(np.sort(data.tokens)[::-1], data.tokens[sampler.order(0)])


def test_epoch_changes_the_order_and_wrong_window_is_refused():
    data = TokenData(100)
    sampler = LengthWindowSampler(data, 4, seed=0, rank=0, world_size=1)

    assert sampler.order(0).tolist() != sampler.order(1).tolist()
    with pytest.raises(ValueError, match="window=0, expected 1 step or more"):
        LengthWindowSampler(data, 4, window=0, seed=0)
