"""CogVLM's visual expert and connector equal the official modules."""

import numpy as np
import pytest
import torch
import transformers

from mmvlm.engine.runner.checkpoint import load_parts
from mmvlm.models.connectors.glu import GLUConnector
from mmvlm.models.language_models.adapters.visual_expert import (
    VisualExpertAdapter,
    from_cogvlm,
    shared_positions,
    vision_mask,
)
from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.utils.token_context import FlatTokens, use_layout
from mmvlm.models.utils.token_types import IMAGE, TEXT
from mmvlm.structures import VisionEncoderSpec
from mmvlm.testing import tiny_batch, tiny_vlm
from mmvlm.testing.adapter_contract import make_tokens, run

TOLERANCE = dict(atol=1e-5, rtol=1e-4)
ROPE = dict(v1=10000.0, v2=500000.0)


@pytest.fixture
def arrays(goldens):
    with np.load(goldens / "cogvlm_visual_expert.npz") as file:
        return {key: torch.from_numpy(np.array(file[key])) for key in file.files}


def model_of(arrays, case, attention="segment"):
    """A Llama of one layer with the golden's weights."""
    sizes = {k: int(arrays[f"cfg/{k}"]) for k in ("hidden", "heads", "inter")}
    head = f"{case}/sd/"
    official = {
        f"model.layers.0.{k.removeprefix(head)}": v
        for k, v in arrays.items()
        if k.startswith(head)
    }
    biased = any(k.endswith("query_key_value.bias") for k in official)
    rows = official["model.layers.0.self_attn.language_expert_query_key_value.weight"]
    head_width = sizes["hidden"] // sizes["heads"]
    kv_heads = (len(rows) - sizes["hidden"]) // (2 * head_width)
    model = HFCausalLM.tiny(
        hidden_size=sizes["hidden"],
        num_attention_heads=sizes["heads"],
        num_key_value_heads=kv_heads,
        intermediate_size=sizes["inter"],
        num_hidden_layers=1,
        rope_theta=ROPE[case],
        rms_norm_eps=1e-5,
        attention=attention,
        adapters=[VisualExpertAdapter(qkv_bias=biased)],
    ).eval()
    state = from_cogvlm(official)
    rest = {k for k in model.state_dict() if ".layers." not in k}
    assert set(state) == set(model.state_dict()) - rest
    model.load_state_dict(state, strict=False)
    return model


def tokens_of(arrays, case):
    kinds = torch.where(arrays[f"{case}/token_type_ids"] == 1, IMAGE, TEXT)
    return FlatTokens(kinds.flatten(), (kinds.shape[1],) * len(kinds))


@torch.no_grad()
def layer_outputs(arrays, case, attention="segment"):
    """Return what the file's layer and its feed-forward part give."""
    model, tokens = model_of(arrays, case, attention), tokens_of(arrays, case)
    hidden, seen = arrays[f"{case}/hidden"], []
    model.blocks[0].register_forward_hook(
        lambda m, a, out: seen.append(out if isinstance(out, torch.Tensor) else out[0])
    )
    run(model, tokens, hidden.flatten(0, 1))
    with use_layout(tokens.padded("right")):
        return seen[0].reshape(hidden.shape), model.blocks[0].mlp(hidden)


@pytest.mark.golden
@pytest.mark.parametrize("case", ["v1", "v2"])
@pytest.mark.parametrize("side", [None, "left", "right"])
def test_positions_and_routing_equal_the_official_ones(arrays, case, side):
    tokens = tokens_of(arrays, case)
    layout = tokens.padded(side) if side else tokens.flat()
    wanted = arrays[f"{case}/position_ids"]

    assert torch.equal(shared_positions(layout).view_as(wanted), wanted)
    mask = arrays[f"{case}/vision_mask"]
    assert torch.equal(vision_mask(layout).view_as(mask), mask)


@pytest.mark.golden
@pytest.mark.parametrize("case", ["v1", "v2"])
@pytest.mark.parametrize("attention", ["segment", "padded", "eager"])
def test_layer_equals_the_official_one(arrays, case, attention):
    layer, mlp = layer_outputs(arrays, case, attention)

    torch.testing.assert_close(layer, arrays[f"{case}/layer_out"], **TOLERANCE)
    torch.testing.assert_close(mlp, arrays[f"{case}/mlp_out"], **TOLERANCE)


def test_the_example_of_the_paper_s_code():
    types = torch.tensor([1, 2, 2, 2, 2, 2, 2, 1, 1])
    layout = FlatTokens(types, (9,)).flat()

    assert shared_positions(layout)[0].tolist() == [0, 1, 2, 2, 2, 2, 3, 4, 5]
    assert vision_mask(layout)[0].tolist() == [False, *[True] * 5, *[False] * 3]


def test_an_image_at_a_sample_s_end_is_not_joined_to_the_next_sample():
    types = torch.tensor([1, 2, 2, 2, 2, 2, 1])
    layout = FlatTokens(types, (4, 3)).flat()

    assert (
        vision_mask(layout)[0].tolist()
        == [False, True, True, False, True] + [False] * 2
    )
    assert shared_positions(layout)[0].tolist() == [0, 1, 2, 3, 0, 1, 2]


def pair(**options):
    torch.manual_seed(0)
    model = HFCausalLM.tiny(adapters=[VisualExpertAdapter(**options)]).eval()
    plain = HFCausalLM.tiny().eval()
    plain.model.load_state_dict(model.model.state_dict())
    return model, plain


def test_a_batch_without_images_is_the_plain_model_s():
    model, plain = pair()
    for parameter in model.adapters.parameters():
        parameter.data.add_(1.0)
    tokens, ids = make_tokens(VisualExpertAdapter, ((1, 1, 1), (1, 1)))

    with torch.no_grad():
        embeds = model.embed(ids)

        assert torch.equal(run(model, tokens, embeds), run(plain, tokens, embeds))


def test_experts_start_as_copies_of_the_language_weights():
    model, plain = pair(shared_positions=False, qkv_bias=True)
    tokens, ids = make_tokens(VisualExpertAdapter)
    adapter = model.adapters["visual_expert"]

    with torch.no_grad():
        embeds = model.embed(ids)
        wanted = run(plain, tokens, embeds)
        torch.testing.assert_close(run(model, tokens, embeds), wanted)
        for parameter in adapter.parameters():
            parameter.add_(1.0)
        assert not torch.allclose(run(model, tokens, embeds), wanted, atol=1e-2)
        adapter.copy_from_language()

        torch.testing.assert_close(run(model, tokens, embeds), wanted)


def test_a_checkpoint_without_experts_starts_them_as_copies():
    plain, model = tiny_vlm(seed=3), tiny_vlm(lm=dict(adapters=[VisualExpertAdapter()]))
    content = dict(state_dict=plain.state_dict())

    report = load_parts(model, content, ["language_model"])

    assert report.is_clean
    block = model.language_model.blocks[1]
    expert = model.language_model.adapters["visual_expert"].layers[1]
    assert torch.equal(expert["q_proj"].weight, block.self_attn.q_proj.weight)
    assert torch.equal(expert["mlp"].up_proj.weight, block.mlp.up_proj.weight)
    own = plain.language_model.blocks[1].mlp.up_proj.weight
    assert torch.equal(block.mlp.up_proj.weight, own)
    assert "adapters" not in "".join(content["state_dict"])


def test_rules_train_the_experts_alone():
    model = tiny_vlm(
        lm=dict(adapters=[VisualExpertAdapter()]),
        train_parts=dict(vision_encoder=False, language_model="adapters"),
    ).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.5
    )

    model.loss(tiny_batch())["loss"].backward()
    optimizer.step()

    after = model.state_dict()
    changed = {k for k in before if not torch.equal(after[k], before[k])}
    head = "language_model.adapters.visual_expert.layers"
    assert all(k.startswith(("connector.", head)) for k in changed)
    # In the last block only keys and values of images reach the text.
    reach = ("connector.", f"{head}.0", f"{head}.1.k_proj", f"{head}.1.v_proj")
    assert changed >= {k for k in before if k.startswith(reach)}


def test_quantised_and_repeated_adapters_are_refused():
    with pytest.raises(ValueError, match="has two 'visual_expert'"):
        HFCausalLM.tiny(adapters=[VisualExpertAdapter(), VisualExpertAdapter()])
    with pytest.raises(TypeError, match="GLUConnector is no LanguageModelAdapter"):
        HFCausalLM.tiny(adapters=[GLUConnector.tiny()])


@pytest.mark.parametrize("kind", ["gpt2", "opt", "qwen2", "phi"])
def test_experts_attach_to_other_families(kind):
    sizes = dict(vocab_size=128, hidden_size=48, num_hidden_layers=2)
    sizes |= dict(num_attention_heads=4, intermediate_size=96)
    if kind == "gpt2":
        sizes = dict(vocab_size=128, n_embd=48, n_layer=2, n_head=4)
    elif kind == "opt":
        sizes |= dict(ffn_dim=96, word_embed_proj_dim=48)
    elif kind == "qwen2":
        sizes["num_key_value_heads"] = 2
    torch.manual_seed(0)
    adapter = dict(type="VisualExpertAdapter", shared_positions=False)
    config = dict(model_type=kind, **sizes)
    model = HFCausalLM(config=config, attention="padded", adapters=[adapter]).eval()
    plain = HFCausalLM(config=config, attention="padded").eval()
    plain.model.load_state_dict(model.model.state_dict())
    tokens, ids = make_tokens(VisualExpertAdapter)

    with torch.no_grad():
        embeds = model.embed(ids)
        wanted = run(plain, tokens, embeds)
        torch.testing.assert_close(run(model, tokens, embeds), wanted, **TOLERANCE)
        for parameter in model.adapters.parameters():
            parameter.add_(0.1)

        assert not torch.allclose(run(model, tokens, embeds), wanted, atol=1e-3)


def test_a_mixture_of_experts_is_refused_where_its_layers_give_a_tuple():
    sizes = dict(model_type="mixtral", num_local_experts=2)
    adapter = VisualExpertAdapter(shared_positions=False)
    model = HFCausalLM.tiny(**sizes, adapters=[adapter]).eval()
    tokens, ids = make_tokens(VisualExpertAdapter)
    embeds = model.embed(ids).detach()

    if int(transformers.__version__.split(".")[0]) < 5:
        with pytest.raises((TypeError, RuntimeError), match="VisualExpertAdapter"):
            run(model, tokens, embeds)
        return
    plain = HFCausalLM.tiny(**sizes).eval()
    plain.model.load_state_dict(model.model.state_dict())
    with torch.no_grad():
        wanted = run(plain, tokens, embeds)
        torch.testing.assert_close(run(model, tokens, embeds), wanted, **TOLERANCE)


def connector_output(arrays):
    """Return what the file's connector gives, its marks apart."""
    head = "cogvlm_glu/"
    arrays = {k.removeprefix(head): v for k, v in arrays.items() if head in k}
    state = {k.removeprefix("sd/"): v for k, v in arrays.items() if k.startswith("sd/")}
    given = arrays["in"]
    hidden, width = state["gate_proj.weight"].shape
    spec = VisionEncoderSpec(given.shape[-1], 3, 8, 32)
    connector = GLUConnector(vision_spec=spec, out_width=width, hidden_width=hidden)
    marks = {k: torch.zeros(1, 1, width) for k in ("boi", "eoi")}
    connector.load_state_dict({**state, **marks}, strict=True)

    return connector.project(given)


@pytest.mark.golden
def test_connector_equals_the_official_adapter(goldens):
    with np.load(goldens / "connectors_small.npz") as file:
        arrays = {key: torch.from_numpy(np.array(file[key])) for key in file.files}

    out = connector_output(arrays)

    torch.testing.assert_close(out, arrays["cogvlm_glu/out"], **TOLERANCE)
