"""LoRA and quantisation by part."""

import copy
import importlib.util
import pickle
import sys

import pytest
import torch

from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.language_models.peft import is_lora_parameter
from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder
from mmvlm.testing import tiny_batch, tiny_vlm

LORA = dict(r=4, alpha=8, dropout=0.0)
LEAVES = {
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
}  # fmt: skip


def _adapted(module):
    return {
        name.split(".lora_")[0].rpartition(".")[2]
        for name, _ in module.named_parameters()
        if is_lora_parameter(name)
    }


def _shake(model):
    """Give the adapters' second half values; it starts at zero."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)


def test_all_linear_means_every_linear_but_the_head():
    model = HFCausalLM.tiny(lora=LORA)

    assert _adapted(model) == LEAVES
    adapters = [n for n, _ in model.named_parameters() if is_lora_parameter(n)]
    assert len(adapters) == 2 * 7 * 2


def test_lora_trains_adapters_and_connector_only():
    model = tiny_vlm(
        lm=dict(lora=LORA),
        train_parts=dict(vision_encoder=False, language_model="lora"),
    ).train()

    model(tiny_batch(), mode="loss")["loss"].backward()

    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {n for n, p in model.named_parameters() if p.grad is not None}
    for name in trained:
        assert name.startswith("connector.") or is_lora_parameter(name), name
    assert sum(map(is_lora_parameter, trained)) == 28


def test_lora_is_the_default_rule_and_true_is_refused():
    model = tiny_vlm(lm=dict(lora=LORA))
    llm = model.language_model

    for name, parameter in llm.named_parameters():
        assert parameter.requires_grad == is_lora_parameter(name)
    with pytest.raises(ValueError, match=r"train_parts\.language_model=True, but"):
        tiny_vlm(lm=dict(lora=LORA), train_parts=dict(language_model=True))


def test_fresh_adapters_change_nothing_and_trained_ones_do():
    plain, lora = tiny_vlm(), tiny_vlm(lm=dict(lora=LORA))
    batch = tiny_batch()
    lora.load_state_dict(plain.state_dict(), strict=False)

    fresh = lora(batch, mode="loss")["loss"]
    _shake(lora)

    expected = plain(batch, mode="loss")["loss"]
    torch.testing.assert_close(fresh, expected)
    assert not torch.allclose(lora(batch, mode="loss")["loss"], expected)


def test_keys_of_base_weights_are_those_without_adapters():
    plain, lora = HFCausalLM.tiny(), HFCausalLM.tiny(lora=LORA)

    keys = set(lora.state_dict())
    assert {k for k in keys if not is_lora_parameter(k)} == set(plain.state_dict())
    missing, unexpected = lora.load_state_dict(plain.state_dict(), strict=False)
    assert all(is_lora_parameter(k) for k in missing) and not unexpected
    for key, value in plain.state_dict().items():
        assert torch.equal(lora.state_dict()[key], value), key

    _shake(lora)
    twin = HFCausalLM.tiny(lora=LORA)
    twin.load_state_dict(lora.state_dict())
    for key, value in lora.state_dict().items():
        assert torch.equal(twin.state_dict()[key], value), key


def test_model_with_adapters_pickles_and_copies():
    lora = HFCausalLM.tiny(lora=LORA)

    for twin in (copy.deepcopy(lora), pickle.loads(pickle.dumps(lora))):
        assert set(twin.state_dict()) == set(lora.state_dict())


def test_named_targets_and_targets_that_match_nothing():
    model = HFCausalLM.tiny(lora=dict(LORA, target_modules=["q_proj", "v_proj"]))

    assert _adapted(model) == {"q_proj", "v_proj"}
    with pytest.raises(ValueError, match=r"'query' matches no linear.*'q_proj'"):
        HFCausalLM.tiny(lora=dict(LORA, target_modules=["query"]))


def test_vision_encoder_takes_adapters_too():
    encoder = HFVisionEncoder.tiny()
    adapted = HFVisionEncoder(config=encoder.config.to_dict(), lora=LORA)
    model = tiny_vlm(vision_encoder=adapted, train_parts=dict(vision_encoder="lora"))

    model.train()(tiny_batch(), mode="loss")["loss"].backward()

    assert _adapted(adapted) == {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"}
    assert set(encoder.state_dict()) <= set(adapted.state_dict())
    grads = {n for n, p in adapted.named_parameters() if p.grad is not None}
    # The last block lies behind the selected layer.
    assert grads and all(is_lora_parameter(n) and "layers.2" not in n for n in grads)


def test_lora_runs_under_checkpointing_with_the_same_gradients():
    grads = []
    for checkpointing in ("off", "all"):
        lm = dict(lora=LORA, gradient_checkpointing=checkpointing)
        model = tiny_vlm(lm=lm).train()
        torch.manual_seed(0)
        _shake(model)
        model(tiny_batch(), mode="loss")["loss"].backward()
        grads.append(
            {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        )

    assert set(grads[0]) == set(grads[1]) and grads[0]
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name])


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "peft", None)

    with pytest.raises(ImportError, match="needs the package 'bitsandbytes'"):
        HFCausalLM.tiny(quantization=dict(bits=4))
    with pytest.raises(ImportError, match="needs the package 'peft'"):
        HFCausalLM.tiny(lora=LORA)
    with pytest.raises(ValueError, match="bits=3"):
        HFCausalLM.tiny(quantization=dict(bits=3))


@pytest.mark.optional_bitsandbytes
@pytest.mark.parametrize("bits", [4, 8])
def test_qlora_trains_adapters_on_quantised_weights(bits):
    if importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("needs the package bitsandbytes")
    plain = tiny_vlm(lm=dict(hidden_size=64, intermediate_size=128))
    table = {row["part"]: row["params"] for row in plain.part_table()}
    model = tiny_vlm(
        lm=dict(
            hidden_size=64,
            intermediate_size=128,
            quantization=dict(bits=bits, compute_dtype="float32"),
            lora=LORA,
        )
    ).train()
    for part in ("vision_encoder", "connector"):
        state = plain.get_submodule(part).state_dict()
        model.get_submodule(part).load_state_dict(state)
    model.to("cpu")
    batch = tiny_batch()

    loss = model(batch, mode="loss")["loss"]
    loss.backward()

    grads = {n for n, p in model.named_parameters() if p.grad is not None}
    llm = {n for n in grads if n.startswith("language_model.")}
    assert len(llm) == 28 and all(is_lora_parameter(n) for n in llm)
    packed = {p.dtype for n, p in model.named_parameters() if "base_layer" in n}
    assert packed == {torch.uint8 if bits == 4 else torch.int8}
    # Weights are near what they were before quantisation, and counted in full.
    close = plain(batch, mode="loss")["loss"]
    assert abs(loss.item() - close.item()) < 0.02
    rows = {row["part"]: row for row in model.part_table()}
    extra = rows["language_model"]["trainable"]
    assert rows["language_model"]["params"] == table["language_model"] + extra


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (dict(modules_to_save=["embed_tokens"]), r"only=\['lora', 'embed_tokens'\]"),
        (dict(modules_to_save="lm_head"), r"only=\['lora', 'lm_head'\]"),
        (dict(bias="all"), r"only=\['lora', 'bias'\]"),
        (dict(trainable_token_indices=[3]), r"only=\['lora', 'embed_tokens'\]"),
        (dict(inference_mode=True), "has no effect"),
        (dict(task_type="CAUSAL_LM"), "has no effect"),
        (dict(layer_replication=[(0, 2)]), "has no effect"),
        (dict(init_lora_weights="pissa"), "changes the base weights"),
        (dict(rank_pattern={"qproj": 8}), "'qproj' matches no adapted layer"),
        (dict(alpha_pattern={"lm_head": 8}), "'lm_head' matches no adapted layer"),
        (dict(exclude_modules=".*"), "leaves no layer|excluded"),
        (dict(layers_to_transform=[1]), r"target_modules, such as 'layers\.1"),
    ],
)
def test_options_without_effect_are_refused_with_the_way_out(option, said):
    with pytest.raises(ValueError, match=said):
        HFCausalLM.tiny(lora=dict(**LORA, **option))


def test_modules_are_trained_by_name_where_peft_would_save_them():
    rule = dict(only=["lora", "embed_tokens", "lm_head"])
    model = tiny_vlm(
        lm=dict(lora=dict(**LORA, modules_to_save=None, bias="none")),
        train_parts=dict(language_model=rule),
    )
    llm = model.language_model

    trained = {n for n, p in llm.named_parameters() if p.requires_grad}
    tables = {n for n in trained if not is_lora_parameter(n)}
    assert tables == {"model.model.embed_tokens.weight", "model.lm_head.weight"}
    assert tables <= set(llm.state_dict())


@pytest.mark.parametrize(
    ("option", "count"),
    [
        (dict(target_modules=["layers.1.self_attn.q_proj"]), 1),
        (dict(exclude_modules=["q_proj"]), 12),
        (dict(rank_pattern={"q_proj": 2}, alpha_pattern={"q_proj": 2}), 14),
        (dict(use_rslora=True, init_lora_weights="gaussian"), 14),
        (dict(use_dora=True), 14),
    ],
)
def test_options_with_effect_are_trained_saved_and_merged(option, count):
    from mmvlm.export.merge_lora import merge_lora

    torch.manual_seed(0)
    model = tiny_vlm(lm=dict(lora=dict(**LORA, **option))).eval()
    _shake(model)
    adapted = [n for n, _ in model.named_modules() if n.endswith(".base_layer")]
    again = tiny_vlm(lm=dict(lora=dict(**LORA, **option))).eval()
    again.load_state_dict(model.state_dict())
    batch = tiny_batch()
    with torch.no_grad():
        expected = model(batch, mode="loss")["loss"]
        loaded = again(batch, mode="loss")["loss"]
        merge_lora(model)
        merged = model(batch, mode="loss")["loss"]

    assert len(adapted) == count
    assert loaded == expected
    torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-6)
