"""Systems whose parts lie inside the language model: sizes, trained sets, recipes."""

from pathlib import Path

import pytest
import torch

from mmvlm.config import load_config
from mmvlm.config.check import check_config
from mmvlm.config.components import list_components
from mmvlm.config.dry_run import dry_run
from mmvlm.config.meta_model import build_on_meta
from mmvlm.config.problems import ConfigError
from mmvlm.engine.optimizers.part_constructor import PartOptimWrapperConstructor
from mmvlm.registry import PARAM_SCHEDULERS

ROOT = Path(__file__).resolve().parents[2]
LLAMA_7B, CLIP_224 = 6_738_415_616, 303_179_776
EMBED_7B = 32000 * 4096
#: 4 attention matrices and 3 of the MLP in each of 32 blocks.
EXPERTS_7B = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
#: q, k, v, o of 32 blocks; q, kv, out, two feed-forward matrices of 8 layers.
GATED = 2 * 512 * (4096 + 1024) + 8 * 4096**2 + 4 * 4096 + 2
PERCEIVER = 64 * 1024 + 6 * (4 * 1024 * 512 + 8 * 1024**2 + 6 * 1024) + 2 * 1024
LORA = 16 * (32 * 4 * 2 * 4096 + 8 * (4096 + 512 + 1024 + 1024 + 512 + 4096))
LORA += 16 * 8 * 2 * (4096 + 4 * 4096)
GLU = 1792 * 4096 + 4 * 4096 + 3 * 4096 * 11008


def flat(folder):
    return sorted((ROOT / "configs" / folder).glob("*.py"))


def parts_of(path):
    """Return sizes and trained sizes by part, what is listed inside a part with it."""
    result = dry_run(load_config(path, check=False))
    rows = {}
    for row in result.parts:
        part = row.part.partition(".")[0]
        total, trained = rows.get(part, (0, 0))
        rows[part] = (total + row.parameters, trained + row.trainable)
    return rows, result.image_tokens


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def groups_of(path):
    """Return the tiny twin's trained weights that decay, and the others."""
    cfg = load_config(path, tiny=True, check=False)
    model = build_on_meta(cfg.model)
    settings = cfg.optim_wrapper.paramwise_cfg.to_dict()
    optimizer = dict(cfg.optim_wrapper.optimizer)
    built = PartOptimWrapperConstructor(dict(optimizer=optimizer), settings)(model)
    decays = {
        id(param): group["weight_decay"] > 0
        for group in built.optimizer.param_groups
        for param in group["params"]
    }
    named = {n: decays[id(p)] for n, p in model.named_parameters() if id(p) in decays}
    return [n for n in named if named[n]], [n for n in named if not named[n]]


def test_flamingo_lets_only_the_cross_attention_decay():
    (path,) = flat("flamingo")

    decayed, others = groups_of(path)

    assert decayed and all(".gated_cross_attention." in name for name in decayed)
    assert not any("gate" in n.split(".")[-1] or "norm" in n for n in decayed)
    assert any(name.endswith("attn_gate") for name in others)
    assert any(".embed_tokens." in name for name in others)
    assert any(name.startswith("connector.") for name in others)


def test_multimodal_gpt_lets_only_the_cross_attention_s_lora_decay():
    (path,) = flat("multimodal_gpt")

    decayed, others = groups_of(path)

    assert decayed and all(".gated_cross_attention." in name for name in decayed)
    assert others and all(".self_attn." in name for name in others)


@pytest.mark.parametrize("folder", ["flamingo", "multimodal_gpt"])
def test_the_rate_is_constant_behind_the_warm_up(folder):
    (path,) = flat(folder)
    (schedule,) = load_config(path, check=False).param_scheduler
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)

    built = PARAM_SCHEDULERS.build(dict(schedule, optimizer=optimizer, end=100))

    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        built.step()
    assert rates[0] == 0 and set(rates[10:]) == {2.0}


def test_flamingo_trains_resampler_layers_and_embeddings():
    (path,) = flat("flamingo")

    rows, tokens = parts_of(path)

    assert tokens == 1
    assert rows["vision_encoder"] == (CLIP_224, 0)
    assert rows["connector"] == (PERCEIVER + 4096,) * 2
    # One more row for <|endofchunk|>, in embedding and head; the former learns.
    trained = 8 * GATED + 4096
    assert rows["language_model"] == (LLAMA_7B + 2 * 4096 + 8 * GATED, trained)


def test_multimodal_gpt_trains_the_expected_lora_alone():
    (path,) = flat("multimodal_gpt")

    rows, _ = parts_of(path)

    assert rows["vision_encoder"][1] == rows["connector"][1] == 0
    assert rows["language_model"][1] == LORA
    cfg = load_config(path, check=False)
    lora = cfg.model.language_model.lora
    assert (lora.r, lora.alpha, lora.dropout) == (16, 16, 0.0)
    assert cfg.optim_wrapper.optimizer.lr == 1e-5
    assert cfg.base_batch_size == 128


def test_cogvlm_trains_connector_and_experts():
    first, second = flat("cogvlm")

    rows, tokens = parts_of(first)
    assert tokens == 258
    assert rows["vision_encoder"][1] == 0
    assert rows["connector"] == (GLU, GLU)
    assert rows["language_model"] == (LLAMA_7B + EXPERTS_7B, EXPERTS_7B)
    rows, tokens = parts_of(second)
    assert tokens == 1227
    assert rows["vision_encoder"][0] == rows["vision_encoder"][1]
    assert rows["language_model"] == (LLAMA_7B + EXPERTS_7B, EXPERTS_7B)


def test_xcomposer2_has_an_update_beside_every_linear_layer():
    (path,) = flat("internlm_xcomposer2")

    rows, tokens = parts_of(path)

    assert tokens == 1225
    down = 4096 + 4096 + 4096 + 4096 + 14336  # qkv, o, gate, up, down
    up = 4096 + 2 * 1024 + 4096 + 2 * 14336 + 4096
    plain = 7_737_708_544
    assert rows["language_model"] == (plain + 32 * 256 * (down + up),) * 2


def test_lavin_trains_adapters_and_connector():
    (path,) = flat("lavin")

    rows, tokens = parts_of(path)

    assert tokens == 6
    routed = 4096 * 8 + 8 + 2 * (4096 * 4 + 4096) + 2 * 4096 + 2
    assert rows["language_model"][1] == 32 * routed + 2 * 4096
    assert rows["connector"][1] == 1024 * 128 + 128 + 128 * 4096 + 4096
    in_clip = 1024 * 8 + 8 + 2 * (1024 * 4 + 1024) + 2 * 1024 + 2
    assert rows["vision_encoder"][1] == 24 * in_clip
    assert round(sum(trained for _, trained in rows.values()) / 1e6, 1) == 3.8


def test_visualchat_trains_projection_and_embeddings():
    (path,) = flat("deepspeed_visualchat")

    rows, tokens = parts_of(path)

    assert tokens == 257
    assert rows["language_model"] == (LLAMA_7B, EMBED_7B)
    assert rows["connector"] == (1024 * 4096 + 3 * 4096,) * 2


def test_the_doctor_knows_adapters():
    names = {component.name for component in list_components("adapters")}
    assert names >= {"VisualExpertAdapter", "GatedCrossAttentionAdapter", "MMCAAdapter"}

    cfg = load_config(flat("cogvlm")[0], check=False)
    cfg.model.language_model.adapters[0].type = "VisualExprtAdapter"
    with pytest.raises(
        ConfigError, match=r"no such language model adapter.*'VisualExpertAdapter'"
    ):
        check_config(cfg).raise_on_problems()
    cfg.model.language_model.adapters[0].type = "MLPConnector"
    with pytest.raises(ConfigError, match="MLPConnector is no LanguageModelAdapter"):
        check_config(cfg).raise_on_problems()
    cfg.model.language_model.adapters[0] = dict(type="PLoRAAdapter", rank=4)
    with pytest.raises(ConfigError, match="unexpected keyword 'rank' for PLoRAAdapter"):
        check_config(cfg).raise_on_problems()
