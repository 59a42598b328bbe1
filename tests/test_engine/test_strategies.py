"""DDP, FSDP, ZeRO 2 and ZeRO 3 on two gloo processes, one without images."""

import json

import pytest
import torch

from mmvlm.engine.strategies.fsdp import VLMFSDPStrategy, tower_blocks
from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.vision_encoders.base import VisionEncoder
from mmvlm.registry import MODELS

ENCODERS = {
    name: cls
    for name, cls in MODELS.module_dict.items()
    if isinstance(cls, type) and issubclass(cls, VisionEncoder)
}


def losses(folder):
    rows = [json.loads(line) for line in (folder / "scalars.jsonl").open()]
    return [row["loss"] for row in rows]


def check_strategies(jobs, root, names):
    """Train, resume and load under each; compare with DDP without a strategy."""
    jobs.check(root, "train_strategies", str(root), ["none", *names], world=2)
    jobs.check(root, "load_in_one_process", str(root), ["none", *names])

    expected = losses(root / "none")
    assert len(expected) == 4 and len(set(expected)) == 4
    weights = torch.load(root / "weights.pth")
    for name in names:
        assert losses(root / name) == pytest.approx(expected, rel=2e-6), name
        assert losses(root / f"{name}-resumed") == pytest.approx(
            expected[2:], rel=2e-6
        ), name
        assert weights[name].keys() == weights["none"].keys()
        for key, value in weights["none"].items():
            torch.testing.assert_close(
                weights[name][key], value, rtol=1e-3, atol=2e-5, msg=f"{name} {key}"
            )
    assert losses(root / "none-resumed") == expected[2:]


@pytest.mark.slow
@pytest.mark.multiproc
def test_ddp_and_fsdp_train_save_resume_and_load(jobs, tmp_path):
    check_strategies(jobs, tmp_path, ["ddp", "fsdp"])


@pytest.mark.slow
@pytest.mark.multiproc
@pytest.mark.optional_deepspeed
def test_zero2_and_zero3_train_save_resume_and_load(jobs, tmp_path):
    pytest.importorskip("deepspeed", reason="needs the package deepspeed")
    check_strategies(jobs, tmp_path, ["deepspeed_zero2", "deepspeed_zero3"])


@pytest.mark.slow
@pytest.mark.multiproc
def test_non_finite_loss_on_one_rank_stops_all_and_names_the_sample(jobs, tmp_path):
    codes, logs = jobs.run(tmp_path, "poisoned", str(tmp_path / "run"), world=2)

    assert codes == [1, 1]
    for log in logs:
        assert "loss is nan in optimizer step" in log
        assert "toy-7" in log


def check_half_precision(jobs, root, names):
    jobs.check(root, "train_half_precision", str(root), names, world=2)

    for name in names:
        whole = losses(root / name)
        assert len(whole) == 4 and whole[-1] < whole[0]
        assert losses(root / f"{name}-resumed") == whole[2:], name
        state = torch.load(root / name / "iter_4.pth")["state_dict"]
        trained = [v for k, v in state.items() if k.startswith("connector.")]
        assert trained and all(v.dtype == torch.float32 for v in trained)


@pytest.mark.slow
@pytest.mark.multiproc
def test_bfloat16_resumes_exactly_under_ddp_and_fsdp(jobs, tmp_path):
    check_half_precision(jobs, tmp_path, ["none", "fsdp"])


@pytest.mark.slow
@pytest.mark.multiproc
@pytest.mark.optional_deepspeed
def test_bfloat16_resumes_exactly_under_zero2_and_zero3(jobs, tmp_path):
    pytest.importorskip("deepspeed", reason="needs the package deepspeed")
    check_half_precision(jobs, tmp_path, ["deepspeed_zero2", "deepspeed_zero3"])


def test_options_of_the_former_fsdp_wrapper_are_refused_with_the_new_ones():
    with pytest.raises(ValueError, match="reshard_after_forward=False"):
        VLMFSDPStrategy(model_wrapper=dict(sharding_strategy="SHARD_GRAD_OP"))


def test_what_cannot_be_spread_is_refused_by_name():
    model = torch.nn.Linear(2, 2)
    model.scale = torch.nn.Parameter(torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"without dimensions \(scale\).*ddp\.py"):
        VLMFSDPStrategy._wrap_model(None, model)
    model.weight = torch.nn.Parameter(torch.ones(2, 2).char(), requires_grad=False)
    with pytest.raises(ValueError, match=r"quantised weights \(weight\).*ddp\.py"):
        VLMFSDPStrategy._wrap_model(None, model)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_blocks_of_every_encoder_are_units(name):
    model = ENCODERS[name].tiny()

    assert set(model.blocks) <= set(tower_blocks(model)) <= set(model.modules())


def test_blocks_that_an_adapter_runs_ahead_are_no_units():
    assert tower_blocks(HFCausalLM.tiny())
    assert not tower_blocks(HFCausalLM.tiny(adapters=[dict(type="LaVINAdapter")]))
