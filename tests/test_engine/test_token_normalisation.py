"""However samples are dealt to ranks and micro-batches, the step is the same."""

import pytest
import torch


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
