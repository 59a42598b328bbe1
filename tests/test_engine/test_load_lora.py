"""Whole checkpoints into models with LoRA, and the reverse, from any kind of file."""

import json

import pytest
import torch
from safetensors.torch import save_file

from mmvlm.engine.runner.checkpoint import load_parts, save_atomic
from mmvlm.engine.runner.setup import load_initial_weights
from mmvlm.export.merge_lora import merge_lora
from mmvlm.models.language_models.peft import is_lora_parameter
from mmvlm.testing import tiny_vlm

LORA = dict(r=4, alpha=8)


@pytest.fixture
def plain():
    torch.manual_seed(1)
    return tiny_vlm()


def lora_vlm():
    return tiny_vlm(lm=dict(lora=LORA))


def same_base(model, state):
    own = model.state_dict()
    return all(torch.equal(own[key], value) for key, value in state.items())


def save(state, folder, kind):
    if kind == "index":
        names = sorted(state)
        halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
        for name, keys in halves.items():
            save_file({k: state[k].contiguous() for k in keys}, folder / name)
        weight_map = {k: name for name, keys in halves.items() for k in keys}
        path = folder / "model.safetensors.index.json"
        path.write_text(json.dumps(dict(weight_map=weight_map)))
    elif kind == "safetensors":
        path = folder / "x.safetensors"
        save_file({k: v.contiguous() for k, v in state.items()}, path)
    else:
        path = folder / "x.pth"
        prefix = "module." if kind == "ddp" else ""
        save_atomic(dict(state_dict={prefix + k: v for k, v in state.items()}), path)
    return path


@pytest.mark.parametrize("kind", ["pth", "ddp", "safetensors", "index"])
def test_whole_checkpoint_starts_the_same_model_with_lora(tmp_path, plain, kind):
    path = save(plain.state_dict(), tmp_path, kind)
    model = lora_vlm()

    load_initial_weights(model, str(path))

    assert same_base(model, plain.state_dict())
    load_initial_weights(model, dict(path=str(path), parts=["language_model"]))


def test_other_missing_weights_stay_an_error(plain):
    state = plain.state_dict()
    state.pop("language_model.model.model.norm.weight")

    with pytest.raises(ValueError, match=r"missing in language_model \(1\)"):
        load_parts(lora_vlm(), dict(state_dict=state))


def test_half_of_the_adapters_is_not_taken_for_none():
    state = lora_vlm().state_dict()
    dropped = next(key for key in state if is_lora_parameter(key))
    state.pop(dropped)

    with pytest.raises(ValueError, match=r"missing in language_model \(1\)"):
        load_parts(lora_vlm(), dict(state_dict=state))


def test_adapters_into_a_model_without_are_refused_with_ways_that_work(plain):
    model = lora_vlm()
    state = model.state_dict()

    with pytest.raises(ValueError, match=r"the same lora, or merge it first"):
        load_parts(plain, dict(state_dict=state))
    load_parts(lora_vlm(), dict(state_dict=state))
    merge_lora(model)
    load_parts(plain, dict(state_dict=model.state_dict()))
