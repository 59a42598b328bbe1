"""However samples are dealt to ranks and micro-batches, the step is the same."""

import pytest
import torch
from engine_toys import ToyBatchSampler, ToyDataset, ToyVLM, toy_collate

from mmvlm.engine.runner.loops import VLMTrainLoop


@pytest.mark.slow
@pytest.mark.multiproc
def test_batch_ranks_and_accumulation_give_equal_loss_and_gradients(jobs, tmp_path):
    cases_alone = [("eight", 8, 1), ("four_micro", 2, 4), ("single", 1, 8)]
    cases_two = [("two_ranks", 4, 1), ("two_ranks_micro", 2, 2)]

    jobs.check(tmp_path, "many_gradients", str(tmp_path), cases_alone)
    jobs.check(tmp_path, "many_gradients", str(tmp_path), cases_two, world=2)

    for step in (0, 1):
        files = [
            f"{case[0]}/grads-{step}-rank0.pth" for case in cases_alone + cases_two
        ]
        files.append(f"two_ranks/grads-{step}-rank1.pth")
        expected, *others = [torch.load(tmp_path / file) for file in files]
        assert expected["grads"]
        for name, other in zip(files[1:], others, strict=True):
            assert other["loss"] == pytest.approx(expected["loss"], rel=1e-6), name
            assert other["grads"].keys() == expected["grads"].keys()
            for key, grad in expected["grads"].items():
                torch.testing.assert_close(
                    other["grads"][key], grad, rtol=1e-4, atol=1e-6, msg=f"{name} {key}"
                )


def mean_of_means(weights, world, accumulation):
    """By hand: each micro-batch of each rank averages its own tokens."""
    model, data, targets = ToyVLM(), ToyDataset(), []
    model.load_state_dict(weights)
    plans = []
    for rank in range(world):
        sampler = ToyBatchSampler(data, 2)
        sampler.rank, sampler.world = rank, world
        plans += sampler.plan(0)[:accumulation]
    mean = 0.0
    for plan in plans:
        inputs = toy_collate([data[index] for index in plan])["inputs"]
        targets.append(inputs.text.num_targets)
        loss = model(inputs)["loss"] / len(plans)
        loss.backward()
        mean += float(loss.detach())
    assert len(set(targets)) > 1, "equal counts: both norms are the same"
    return mean, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.multiproc
@pytest.mark.parametrize("world", [1, 2])
def test_device_norm_is_the_mean_of_the_micro_batches_means(jobs, tmp_path, world):
    jobs.check(tmp_path, "device_norm_gradients", str(tmp_path), world=world)

    for rank in range(world):
        found = torch.load(tmp_path / f"grads-0-rank{rank}.pth")
        loss, grads = mean_of_means(found["weights"], world, accumulation=2)
        assert found["loss"] == pytest.approx(loss, rel=1e-5)
        assert found["grads"].keys() == grads.keys()
        for name, grad in grads.items():
            torch.testing.assert_close(found["grads"][name], grad, msg=name)


def test_an_unknown_loss_norm_is_refused():
    with pytest.raises(ValueError, match=r"train_cfg.loss_norm='gpu': expected one of"):
        VLMTrainLoop(None, None, max_iters=1, loss_norm="gpu")
