"""Ranks whose batches hold other kinds of input make the same gathers."""

import pytest
import torch
from even_gathers_job import batch_of, model_of_many_readers

from mmvlm.models.utils.assembly import untouched

#: What two ranks see.
CASES = [
    (("image", "again", "image_hi", "spot", "view"), ()),
    ((), ("image",)),
    (("image", "again"), ("image_hi", "spot")),
    (("image_hi",), ("image", "image_hi", "spot")),
    (("view",), ("image",)),
]


@pytest.mark.slow
@pytest.mark.multiproc
def test_fsdp_gives_the_gradients_of_each_rank_alone(jobs, tmp_path):
    jobs.check(tmp_path, "gradients_of_shards", str(tmp_path), CASES, world=2)


@pytest.fixture(scope="module")
def model():
    found = model_of_many_readers()
    found.touch_all_parts = found.is_sharded = True
    return found


def test_every_encoder_runs_once_and_is_learnt_alike(model):
    calls, seen = [], {}
    for number, encoder in enumerate(model.encoders.values()):
        for depth, one in enumerate((encoder, *encoder.blocks)):
            hook = one.register_forward_pre_hook
            hook(lambda *_, key=(number, depth): calls.append(key))

    for kinds in {("video",), *(kinds for pair in CASES for kinds in pair)}:
        calls.clear()
        model.zero_grad()
        model(batch_of(kinds), mode="loss")["loss"].backward()
        towers = [encoder.named_parameters() for encoder in model.encoders.values()]
        learnt = [name for own in towers for name, w in own if w.grad is not None]
        seen[kinds] = (list(calls), learnt)

    expected, _ = seen[()]
    # The image's encoder is read up to its last layer, and so are both others.
    assert expected == [(n, depth) for n in range(3) for depth in range(4)]
    assert all(one == seen[()] for one in seen.values()), seen


def test_kinds_that_an_encoder_would_run_for_one_by_one_are_refused(model):
    with pytest.raises(ValueError, match=r"'sample-0'.*\['image', 'video'\] in one"):
        model(batch_of(["image", "video"]), mode="loss")


def test_weights_that_only_a_run_gathers_are_not_touched():
    part = torch.nn.Linear(2, 2)
    assert not untouched(part)
    part.weight.ds_numel, part.weight.data = 4, torch.empty(0)  # as ZeRO-3 does

    with pytest.raises(ValueError, match=r"run all of Linear .*ZeRO-3.*fsdp\.py"):
        untouched(part)


@pytest.mark.slow
@pytest.mark.multiproc
@pytest.mark.optional_deepspeed
def test_deepspeed_refuses_a_batch_that_skips_a_part(jobs, tmp_path):
    pytest.importorskip("deepspeed", reason="needs the package deepspeed")

    logs = jobs.check(tmp_path, "refused_under_zero3", str(tmp_path), world=2)

    cure = "waiting under ZeRO-3. Take configs/_base_/strategies/fsdp.py."
    assert all("refused: " in log and cure in log for log in logs), logs
