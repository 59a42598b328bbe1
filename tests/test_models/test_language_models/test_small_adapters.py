"""PLoRA, LaVIN and MMCA equal the official modules, and what each promises."""

import json
import re

import numpy as np
import pytest
import torch

from mmvlm.models.connectors.layer_tokens import LayerTokensConnector
from mmvlm.models.language_models.adapters.lavin import LaVINAdapter, RoutedAdapter
from mmvlm.models.language_models.adapters.mmca import (
    MMCAAdapter,
    allowed_keys,
    two_softmaxes,
)
from mmvlm.models.language_models.adapters.plora import PartialLoRA, PLoRAAdapter
from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.structures import VisionEncoderSpec
from mmvlm.testing import tiny_batch, tiny_vlm
from mmvlm.testing.adapter_contract import build, make_tokens, run

TOLERANCE = dict(atol=1e-5, rtol=1e-4)


@pytest.fixture
def arrays(goldens):
    with np.load(goldens / "connectors_small.npz") as file:
        return {key: torch.from_numpy(np.array(file[key])) for key in file.files}


def state_of(arrays, case):
    head = f"{case}/sd/"
    return {k.removeprefix(head): v for k, v in arrays.items() if k.startswith(head)}


# ------------------------------------------------------------------- PLoRA
def partial_lora_outputs(arrays):
    """Return what the file's layer gives with its mask and without one."""
    state = state_of(arrays, "plora")
    weight = state.pop("weight")
    rank = len(state["Plora_A.weight"])
    alpha = rank * float(arrays["plora/alpha_over_r"])
    update = PartialLoRA(*weight.T.shape, r=rank, alpha=alpha).eval()
    update.load_state_dict(state, strict=True)
    x, mask = arrays["plora/in"], arrays["plora/im_mask"]
    out = x @ weight.T
    rows = mask.flatten().nonzero()[:, 0]
    return update(x, out, rows), update(x, out, rows[:0])


@pytest.mark.golden
def test_partial_lora_equals_the_official_one(arrays):
    masked, plain = partial_lora_outputs(arrays)

    torch.testing.assert_close(masked, arrays["plora/out"], **TOLERANCE)
    torch.testing.assert_close(plain, arrays["plora/out_nomask"], **TOLERANCE)


def plain_twin(model):
    plain = HFCausalLM.tiny().eval()
    plain.model.load_state_dict(model.model.state_dict())
    return plain


@pytest.mark.parametrize("official, same", [(False, True), (True, False)])
def test_partial_lora_starts_as_the_plain_model(official, same):
    torch.manual_seed(0)
    adapter = PLoRAAdapter(r=4, alpha=8, official_init=official)
    model = HFCausalLM.tiny(adapters=[adapter]).eval()
    tokens, ids = make_tokens(PLoRAAdapter)

    with torch.no_grad():
        embeds = model.embed(ids)
        wanted = run(plain_twin(model), tokens, embeds)
        assert torch.equal(run(model, tokens, embeds), wanted) is same


def test_partial_lora_shares_a_and_counts_right():
    model = HFCausalLM.tiny(adapters=[PLoRAAdapter(r=4)])
    layer = model.adapters["plora"].layers[0]

    first, second = layer["self_attn_q_proj"], layer["self_attn_v_proj"]
    assert first.Plora_A is second.Plora_A
    assert layer["mlp_up_proj"].Plora_A is not layer["mlp_gate_proj"].Plora_A
    # A of qkv, o, gate, up (48) and down (96); B of q 48, kv 2 x 24, o, mlp 2 x 96, 48.
    expected = 2 * 4 * (4 * 48 + 96 + 48 + 2 * 24 + 48 + 2 * 96 + 48)
    assert sum(p.numel() for p in model.adapters.parameters()) == expected
    with pytest.raises(ValueError, match=r"'wqkv' matches no linear layer"):
        HFCausalLM.tiny(adapters=[PLoRAAdapter(target_modules=["wqkv"])])


# ------------------------------------------------------------------- LaVIN
def routed_adapter(arrays, case):
    """Build the module of a case, whose name ends in the router's temperature."""
    state = state_of(arrays, case)
    hidden, width, _ = state["conv_A.weight"].shape
    groups = hidden // state["conv_B.weight"].shape[1]
    temperature = int(case.removeprefix("lavin_t"))
    adapter = RoutedAdapter(
        width, hidden=hidden, groups=groups, temperature=temperature
    ).eval()
    adapter.load_state_dict(state, strict=True)
    return adapter


@pytest.mark.golden
def test_routed_adapter_equals_the_official_one(arrays):
    cases = [k.split("/")[0] for k in arrays if re.fullmatch(r"lavin_t\d+/out", k)]
    assert cases

    for case in cases:
        adapter, x = routed_adapter(arrays, case), arrays["lavin/in"]

        out = adapter(x, adapter.route(x[:, 0])[:, None])

        torch.testing.assert_close(out, arrays[f"{case}/out"], **TOLERANCE, msg=case)


def test_routed_adapters_start_as_the_plain_model():
    model = HFCausalLM.tiny(adapters=[LaVINAdapter()]).eval()
    tokens, ids = make_tokens(LaVINAdapter)

    with torch.no_grad():
        embeds = model.embed(ids)
        wanted = run(plain_twin(model), tokens, embeds)
        assert torch.equal(run(model, tokens, embeds), wanted)


def test_modality_token_ahead_equals_a_masked_first_column():
    """The official way: token 0 in the sequence, seen by no other token."""
    model = build(LaVINAdapter, attention="eager")
    adapter, ids = model.adapters["lavin"], torch.arange(3, 9)
    tokens, _ = make_tokens(LaVINAdapter, ((1, 2, 2, 1, 1, 1),))
    with torch.no_grad():
        embeds = model.embed(ids)
        ours = run(model, tokens, embeds)
        plain = HFCausalLM.tiny(attention="eager").eval()
        plain.model.load_state_dict(model.model.state_dict())
        for layer, block in zip(adapter.layers, plain.blocks, strict=True):
            attention = block.self_attn

            def pre(module, args, kwargs, layer=layer):
                x = kwargs["hidden_states"]
                weights = layer.route(x[:, 0])[:, None]
                return args, {**kwargs, "hidden_states": layer(x, weights)}

            attention.register_forward_pre_hook(pre, with_kwargs=True)
        kind = adapter.modality_embedding(torch.tensor([1]))
        mask = torch.full((7, 7), torch.finfo(torch.float32).min).triu(1)
        mask[1:, 0] = torch.finfo(torch.float32).min
        out = plain.decoder(
            inputs_embeds=torch.cat([kind, embeds])[None],
            attention_mask=mask[None, None],
            position_ids=torch.arange(7)[None],
            use_cache=False,
        )[0][0]

    torch.testing.assert_close(ours, out[1:], **TOLERANCE)


def test_text_and_image_samples_learn_in_one_step():
    model = tiny_vlm(
        connector=dict(type="LayerTokensConnector", hidden=16, every=1),
        lm=dict(adapters=[LaVINAdapter.tiny()]),
        train_parts=dict(vision_encoder=False, language_model="adapters"),
    ).train()
    batch = tiny_batch(num_images=(1, 0, 1), tokens_per_image=3)

    model.loss(batch)["loss"].backward()

    kinds = model.language_model.adapters["lavin"].modality_embedding.weight
    assert kinds.requires_grad and kinds.grad is not None
    assert model.connector.adapter_proj[0].weight.grad.any()


def test_class_tokens_of_every_fourth_layer():
    clip = VisionEncoderSpec(1024, 24, 14, 224, num_prefix_tokens=1)
    connector = LayerTokensConnector(vision_spec=clip, out_width=4096)

    assert connector.select_layers == (4, 8, 12, 16, 20, 24)
    with pytest.raises(ValueError, match="0 class tokens"):
        LayerTokensConnector(vision_spec=VisionEncoderSpec(8, 24, 8, 32), out_width=8)


# -------------------------------------------------------------------- MMCA
@pytest.fixture
def cases(goldens):
    return json.loads((goldens / "mmca_mask.json").read_text())["cases"]


@pytest.mark.golden
def test_masks_equal_the_official_ones(cases):
    for case in cases:
        types = torch.tensor([case["token_type"]])
        images, text, causal = allowed_keys(types, types.shape[1])

        for mask, name in ((images, "allow_img"), (text, "allow_text")):
            got = (mask & causal)[0].int().tolist()
            assert got == case[name], (case["name"], name)


@pytest.mark.golden
def test_a_new_text_token_sees_what_it_officially_sees(cases):
    for case in cases:
        types = torch.tensor([[*case["token_type"], 1]])
        images, text, causal = allowed_keys(types, 1)

        seen = (images & causal)[0, 0].int().tolist()[:-1]
        assert seen == case["decode_allow_img"], case["name"]
        seen = (text & causal)[0, 0].int().tolist()[:-1]
        assert seen == case["decode_allow_text"], case["name"]


@pytest.mark.golden
@pytest.mark.parametrize(
    "safe, key", [(True, "attn_sum_safe"), (False, "attn_sum_used")]
)
def test_weights_equal_the_official_ones(cases, safe, key):
    for case in cases:
        types = torch.tensor([case["token_type"]])
        scores = torch.tensor(case["scores"])[None, None]
        wanted = torch.tensor(case[key], dtype=torch.float32)
        both = zip(
            case["row_has_allowed_img"], case["row_has_allowed_text"], strict=True
        )
        rows = [n for n, flags in enumerate(both) if safe or all(flags)]

        weights = two_softmaxes(scores, types, safe)[0, 0]

        torch.testing.assert_close(weights[rows], wanted[rows], **TOLERANCE)


def test_released_weights_see_later_tokens_and_safe_ones_do_not():
    types, scores = torch.tensor([[1, 2, 2, 1]]), torch.randn(1, 1, 4, 4)

    released = two_softmaxes(scores, types, safe=False)[0, 0]
    safe = two_softmaxes(scores, types)[0, 0]

    assert released[0, 1:].any()
    assert torch.equal(safe, safe.tril())
    torch.testing.assert_close(safe.sum(-1), torch.tensor([1.0, 2, 2, 2]))


def test_other_attentions_are_refused():
    with pytest.raises(ValueError, match=r"sliding_attention.* layers"):
        HFCausalLM.tiny(
            model_type="gemma2",
            head_dim=12,
            attention="padded",
            adapters=[MMCAAdapter()],
        )
