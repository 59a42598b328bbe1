"""Freezing, learning rates and checkpoints address adapters by name."""

import pytest
import torch

from mmvlm.engine.optimizers.part_constructor import PartOptimWrapperConstructor
from mmvlm.models.language_models.adapters.base import snake_case
from mmvlm.models.language_models.adapters.plora import PLoRAAdapter
from mmvlm.models.language_models.adapters.running import adapted_generation
from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.utils.token_context import FlatTokens, use_tokens
from mmvlm.testing import tiny_vlm
from mmvlm.testing.adapter_contract import build, make_tokens, run


def trained(model):
    return {n for n, p in model.named_parameters() if p.requires_grad}


def plora_vlm(rule, **lm):
    frozen = dict(vision_encoder=False, connector=False)
    return tiny_vlm(
        lm=dict(adapters=[PLoRAAdapter.tiny()], **lm),
        train_parts=dict(frozen, language_model=rule),
    )


@pytest.mark.parametrize(
    "rule, heads",
    [
        ("adapters", ("language_model.adapters.",)),
        (
            dict(only=["adapters", "embed_tokens"]),
            ("language_model.adapters.", "language_model.model.model.embed_tokens."),
        ),
        (dict(only="adapters.plora.layers.1"), ("language_model.adapters.plora.l",)),
    ],
)
def test_rules_train_what_they_name(rule, heads):
    names = trained(plora_vlm(rule))

    assert names and all(name.startswith(heads) for name in names)
    assert all(any(n.startswith(head) for n in names) for head in heads)


@pytest.mark.parametrize("rule", ["adapters", dict(only=["adapters"])])
def test_a_decoder_that_nothing_trains_stays_in_eval_mode(rule):
    model = plora_vlm(rule).train().language_model

    assert not any(module.training for module in model.model.modules())
    assert model.adapters.training


def test_lora_and_adapters_can_learn_together():
    lora = dict(r=2, alpha=2, dropout=0.0)
    model = plora_vlm(dict(only=["adapters", "lora"]), lora=lora)

    names = trained(model)

    assert all(".lora_" in name or ".adapters." in name for name in names)
    assert any(".lora_" in name for name in names)
    assert not any(".lora_" in n for n in names if ".adapters." in n)


def test_lora_reaches_named_layers_of_adapters():
    lora = dict(r=2, alpha=2, dropout=0.0, target_modules=["q_proj", "Plora_B"])
    model = plora_vlm("lora", lora=lora)

    names = trained(model)

    assert any(".adapters.plora." in name for name in names)
    assert any(".self_attn.q_proj." in name for name in names)
    assert all(".lora_" in name for name in names)
    before = model.state_dict()
    assert "language_model.model.model.layers.0.self_attn.q_proj.weight" in before


def test_a_name_that_nothing_has_is_refused():
    with pytest.raises(ValueError, match=r"no parameter lies below 'adaptors'"):
        plora_vlm(dict(only=["adaptors"]))
    with pytest.raises(ValueError, match=r"no parameter lies below 'adapters'"):
        tiny_vlm(train_parts=dict(language_model="adapters"))


def test_a_module_inside_a_part_has_its_own_rate():
    model = plora_vlm(True)
    parts = {"language_model.adapters": dict(lr=1.0), "language_model": dict(lr=0.1)}
    wrapper = dict(optimizer=dict(type="SGD", lr=0.01))

    groups = PartOptimWrapperConstructor(wrapper, dict(parts=parts)).groups(
        model, 0.01, 0.0
    )

    rates = {group["part"]: group["lr"] for group in groups}
    assert rates == {"language_model.adapters": 1.0, "language_model": 0.1}
    sizes = {g["part"]: sum(p.numel() for p in g["params"]) for g in groups}
    adapters = model.language_model.adapters.parameters()
    assert sizes["language_model.adapters"] == sum(p.numel() for p in adapters)
    with pytest.raises(ValueError, match=r"\.adaptor: the model has no such part"):
        PartOptimWrapperConstructor(
            wrapper, dict(parts={"language_model.adaptor": dict(lr=1.0)})
        ).groups(model, 0.01, 0.0)


def test_token_types_must_be_those_of_the_samples():
    model = build(PLoRAAdapter)
    tokens, ids = make_tokens(PLoRAAdapter)
    other = FlatTokens.text((len(ids),))

    with use_tokens(other), pytest.raises(ValueError, match="token types are given"):
        model(
            model.embed(ids),
            torch.arange(len(ids)),
            torch.tensor([0, 7, len(ids)]).int(),
            (7, len(ids) - 7),
        )
    with pytest.raises(RuntimeError, match="the decoder was called directly"):
        model.decoder(inputs_embeds=model.embed(ids)[None])
    assert run(model, tokens, model.embed(ids)).shape == (len(ids), 48)


def test_generation_by_several_tokens_at_once_is_refused():
    model = build(PLoRAAdapter)
    tokens, ids = make_tokens(PLoRAAdapter, ((1, 2, 1),))
    embeds = model.embed(ids)[None]

    with adapted_generation(model, tokens), pytest.raises(ValueError, match="a cache"):
        model.decoder(inputs_embeds=embeds)
        model.decoder(inputs_embeds=embeds[:, :2])
    with adapted_generation(model, tokens), pytest.raises(ValueError, match="chunked"):
        model.decoder(inputs_embeds=embeds[:, :2])


def test_adapters_stack():
    adapters = [dict(type="VisualExpertAdapter"), dict(type="MMCAAdapter")]
    adapters.append(dict(type="LaVINAdapter", hidden=4))
    model = HFCausalLM.tiny(adapters=adapters).eval()
    tokens, ids = make_tokens(PLoRAAdapter)

    out = run(model, tokens, model.embed(ids))
    out.sum().backward()

    assert list(model.adapters) == ["visual_expert", "mmca", "lavin"]
    assert out.shape == (len(ids), 48)


def test_a_layer_has_a_visual_expert_or_another_adapter():
    expert = dict(type="VisualExpertAdapter")
    tokens, ids = make_tokens(PLoRAAdapter)

    with pytest.raises(ValueError, match=r"another adapter changes 'q_proj'"):
        HFCausalLM.tiny(adapters=[PLoRAAdapter.tiny(), expert])
    model = HFCausalLM.tiny(adapters=[expert, PLoRAAdapter.tiny()])
    with pytest.raises(RuntimeError, match="nor can layers that have a visual expert"):
        run(model, tokens, model.embed(ids))


@pytest.mark.parametrize(
    "name, snake",
    [("VisualExpert", "visual_expert"), ("MMCA", "mmca"), ("GatedX", "gated_x")],
)
def test_names_are_snake_case(name, snake):
    assert snake_case(name) == snake
