"""A checkpoint of what is trained holds that, in bytes too, and can be resumed."""

import json

import pytest
import torch
from torch import nn

from mmvlm.config import load_config
from mmvlm.engine.runner import build_runner
from mmvlm.engine.runner.checkpoint import load_file, load_parts, omitted_keys
from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.registry import MODELS

LORA = "llava/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft-lora_llava-665k.py"


def kept(model):
    return set(model.state_dict()) - omitted_keys(model)


def language_model(**options):
    """A language model with LoRA as the only part of a model."""
    part = HFCausalLM.tiny(lora=dict(r=2, alpha=4), **options)
    for name, param in part.named_parameters():
        param.requires_grad_("lora_" in name)
    return nn.ModuleDict(dict(language_model=part))


def test_the_base_under_lora_is_left_out_under_its_plain_keys():
    model = language_model()

    assert kept(model) and all("lora_" in key for key in kept(model))
    head = "language_model.model.model.layers.0.mlp.up_proj.weight"
    assert head in omitted_keys(model)


def test_a_trained_copy_stays_and_its_frozen_original_goes():
    model = language_model()
    tower = model["language_model"].model
    original = tower.lm_head
    tower.lm_head = nn.ModuleDict(dict(original=original, copy=nn.Linear(48, 128)))

    keys = {key for key in kept(model) if "lora_" not in key}

    assert {key.rpartition("lm_head.")[2] for key in keys} == {
        "copy.weight",
        "copy.bias",
    }


def test_packed_weights_go_with_their_scales():
    pytest.importorskip("bitsandbytes", reason="needs the package bitsandbytes")
    model = language_model(quantization=dict(bits=4, compute_dtype="float32"))
    model.to("cpu")

    assert any("absmax" in key for key in model.state_dict())
    assert all("lora_" in key for key in kept(model))


def lora_config(work_dir, folder, resume=False):
    cfg = load_config(LORA, tiny=True)
    encoder = dict(cfg.model.vision_encoder)
    cfg.model.vision_encoder = dict(
        type="CachedVisionEncoder", encoder=encoder, folder=str(folder)
    )
    cfg.train_cfg.max_iters = 4
    cfg.param_scheduler = None
    cfg.default_hooks = dict(
        logger=dict(type="ProgressHook", interval=1),
        checkpoint=dict(
            type="VLMCheckpointHook", interval=2, max_keep=-1, trainable_only=True
        ),
        provenance=None,
        loss_plot=None,
    )
    cfg.visualizer = dict(type="Visualizer", vis_backends=[])
    cfg.work_dir, cfg.resume, cfg.randomness = str(work_dir), resume, dict(seed=1)
    return cfg


def losses(folder):
    rows = [json.loads(line) for line in (folder / "scalars.jsonl").open()]
    return [row["loss"] for row in rows]


@pytest.mark.slow
def test_lora_over_a_cached_tower_writes_what_it_trains_and_resumes(tmp_path):
    whole, again = tmp_path / "whole", tmp_path / "again"
    build_runner(lora_config(whole, tmp_path / "features")).train()
    cfg = lora_config(again, tmp_path / "features", resume=str(whole / "iter_2.pth"))
    build_runner(cfg).train()

    content, resumed = load_file(whole), load_file(again)["state_dict"]
    model = MODELS.build(cfg.model)
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    assert content["state_dict"].keys() == trained.keys()
    written = sum(value.nbytes for value in content["state_dict"].values())
    assert written == sum(p.nbytes for p in trained.values())
    assert losses(again) == losses(whole)[2:]
    assert all(torch.equal(v, resumed[k]) for k, v in content["state_dict"].items())
    text = str(load_parts(model, dict(content)))
    assert "loaded connector (4 tensors), language_model (28 tensors)" in text
    assert "frozen, from the config's own sources: language_model (" in text
