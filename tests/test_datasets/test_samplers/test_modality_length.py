import json

import pytest
import torch

from mmvlm.datasets.samplers.modality_length import (
    ModalityLengthSampler,
    length_grouped_indices,
    modality_length_grouped_indices,
    split_to_even_chunks,
)


@pytest.fixture
def golden(goldens):
    return json.loads((goldens / "modality_sampler.json").read_text())


def grouped(case, generator, **extra):
    function = (
        modality_length_grouped_indices
        if case["group_by_modality"]
        else length_grouped_indices
    )
    return function(
        case["lengths"], case["batch_size"], case["world_size"], generator, **extra
    )


@pytest.mark.golden
def test_split_to_even_chunks_equals_golden(golden):
    assert golden["split_to_even_chunks"]
    for case in golden["split_to_even_chunks"]:
        chunks = split_to_even_chunks(
            case["indices"], case["lengths"], case["num_chunks"]
        )
        assert chunks == case["chunks"]


@pytest.mark.golden
def test_order_equals_golden_with_its_draws(golden):
    assert golden["cases"]
    for case in golden["cases"]:
        torch.manual_seed(case["global_seed"])
        generator = None
        if case["generator_seed"] is not None:
            generator = torch.Generator().manual_seed(case["generator_seed"])

        assert grouped(case, generator) == case["indices"], case["name"]


@pytest.mark.golden
def test_order_equals_golden_with_injected_permutations(golden):
    for case in golden["cases"]:
        draws = iter(case["randperms"])

        def permute(n, generator, draws=draws):
            draw = next(draws)
            assert draw["n"] == n
            assert draw["uses_generator"] == (generator is not None)
            return draw["perm"]

        generator = None if case["generator_seed"] is None else torch.Generator()
        order = grouped(case, generator, permute=permute)

        assert order == case["indices"], case["name"]
        assert next(draws, None) is None, case["name"]


@pytest.mark.golden
def test_sampler_deals_consecutive_runs(golden):
    for case in golden["cases"]:
        lengths, ranks = case["lengths"], case["world_size"]

        class Data(list):
            pass

        data = Data(range(len(lengths)))
        data.lengths = lengths
        samplers = [
            ModalityLengthSampler(
                data, case["batch_size"], seed=5, rank=r, world_size=ranks
            )
            for r in range(ranks)
        ]
        order = samplers[0].order(2).tolist()
        assert sorted(order) == list(range(len(lengths)))
        assert all(s.order(2).tolist() == order for s in samplers[1:])
        plans = [s.plan(2) for s in samplers]
        runs = [run for step in zip(*plans, strict=True) for run in step]
        full = len(order) // (ranks * case["batch_size"]) * ranks
        size = case["batch_size"]
        expected = [order[i * size : (i + 1) * size] for i in range(full)]
        assert runs[:full] == expected, case["name"]


def test_zero_length_is_refused():
    with pytest.raises(ValueError, match=r"lengths\[1\] is 0; expected above 0"):
        modality_length_grouped_indices([3, 0, -2], 1, 1)


class Toy(list):
    def __init__(self, lengths):
        super().__init__(range(len(lengths)))
        self.lengths = lengths


def test_batches_hold_one_modality_but_for_the_last_block():
    data = Toy([(1 if i % 3 else -1) * (i % 17 + 1) for i in range(200)])
    sampler = ModalityLengthSampler(data, 4, seed=0, rank=0, world_size=2)

    plan = sampler.plan(0)

    signs = [{data.lengths[i] > 0 for i in batch} for batch in plan]
    assert all(len(s) == 1 for s in signs[:-2])


def test_order_is_private_and_changes_with_seed_and_epoch():
    data = Toy([(1 if i % 3 else -1) * (i % 17 + 1) for i in range(90)])

    def order(seed, epoch, **extra):
        sampler = ModalityLengthSampler(
            data, 4, seed=seed, rank=0, world_size=1, **extra
        )
        return sampler.order(epoch).tolist()

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = order(0, 0)
    torch.manual_seed(2)

    assert first == order(0, 0)
    assert len({tuple(o) for o in (first, order(0, 1), order(1, 0))}) == 3
    assert order(0, 0, by_modality=False) != first
    torch.manual_seed(1)
    order(0, 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_lengths_of_the_epoch_are_asked_for():
    class Data(Toy):
        def lengths_at(self, epoch):
            return [10 * epoch + 1 + i for i in range(len(self))]

    data = Data([1, 1, 1, 1])
    sampler = ModalityLengthSampler(data, 4, seed=0, rank=0, world_size=1)

    assert sampler.order(0).tolist() == [3, 2, 1, 0]


def test_unshuffled_order_is_refused():
    with pytest.raises(ValueError, match="shuffle=False is not possible"):
        ModalityLengthSampler(Toy([1]), 1, shuffle=False, seed=0)


@pytest.mark.slow
def test_plan_of_665k_samples_takes_seconds():
    import time

    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 800, (665_000,), generator=generator)
    lengths[:40_000] *= -1
    sampler = ModalityLengthSampler(
        Toy(lengths.tolist()), 16, seed=0, rank=0, world_size=8
    )

    start = time.process_time()
    plan = sampler.plan(0)

    assert time.process_time() - start < 10 and len(plan) == len(sampler)
