"""Flat tokens equal padded batches equal one sample at a time, per family."""

import copy
import pickle

import pytest
import torch
import transformers

from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.utils.checkpointing import is_checkpointed

_BASE = dict(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
_GEMMA = dict(_BASE, head_dim=8, sliding_window=4, query_pre_attn_scalar=8)
FAMILIES = {
    "llama": _BASE,
    "qwen2": _BASE,
    "qwen3": dict(_BASE, head_dim=8),
    "mistral": dict(_BASE, sliding_window=4),
    "gemma2": dict(
        _GEMMA,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
        num_hidden_layers=3,
    ),
    "gemma3_text": dict(_GEMMA, num_hidden_layers=3, sliding_window_pattern=2),
    "phi3": _BASE,
    "gpt2": dict(
        vocab_size=64,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=128,
        attn_pdrop=0.0,
        embd_pdrop=0.0,
        resid_pdrop=0.0,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "opt": dict(
        vocab_size=64,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        word_embed_proj_dim=32,
        pad_token_id=0,
        dropout=0.0,
    ),
    "olmo": _BASE,
    "olmo2": _BASE,
    "cohere": dict(_BASE, logit_scale=0.3),
    "granite": dict(
        _BASE,
        logits_scaling=3.0,
        embedding_multiplier=2.0,
        residual_multiplier=0.5,
        attention_multiplier=0.3,
    ),
    "mixtral": dict(_BASE, num_local_experts=2),
    "smollm3": _BASE,
}
# Their code does not hand the segments to its attention, in some version at least.
REFUSING = {
    "bloom": dict(vocab_size=64, hidden_size=32, n_layer=2, n_head=4),
    "falcon": dict(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4
    ),
    "stablelm": _BASE,
}
LENS = (9, 3, 6)
IDS = torch.randint(3, 64, (sum(LENS),), generator=torch.Generator().manual_seed(0))
POSITIONS = torch.cat([torch.arange(n) for n in LENS])
OFFSETS = torch.tensor([0, *LENS]).cumsum(0).int()


def _build(family, cfg, **options):
    known = transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES
    if family not in known:
        pytest.skip(f"transformers {transformers.__version__} has no {family}")
    torch.manual_seed(0)
    model = HFCausalLM(config=dict(cfg, model_type=family), **options)
    with torch.no_grad():  # initial weights are so small that attention is uniform
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
    return model.train()


def _logits_and_grad(model, embeds):
    embeds = embeds.detach().requires_grad_()
    logits = model.logits(model(embeds, POSITIONS, OFFSETS, LENS))
    weight = torch.linspace(-1, 1, logits.numel()).view_as(logits)
    return logits.detach(), torch.autograd.grad((logits * weight).sum(), embeds)[0]


def _one_by_one(model, embeds):
    """Plain transformers, its own eager attention, one sample at a time."""
    embeds = embeds.detach().requires_grad_()
    pieces = [
        model.model(inputs_embeds=piece[None], use_cache=False).logits[0]
        for piece in embeds.split(LENS)
    ]
    logits = torch.cat(pieces)
    weight = torch.linspace(-1, 1, logits.numel()).view_as(logits)
    return logits.detach(), torch.autograd.grad((logits * weight).sum(), embeds)[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_flat_equals_one_by_one_or_refuses(family):
    reference = _build(family, FAMILIES[family], attention="eager")
    embeds = reference.embed(IDS)
    expected, expected_grad = _one_by_one(reference, embeds)
    scale = expected_grad.abs().max()

    for checkpointing in ("off", "all"):
        model = _build(family, FAMILIES[family], gradient_checkpointing=checkpointing)
        model.load_state_dict(reference.state_dict())
        old = transformers.__version__.startswith("4.48.")
        if old and family in ("gpt2", "opt", "gemma2"):
            with pytest.raises(RuntimeError, match="attention='padded'"):
                _logits_and_grad(model, embeds)
            continue
        logits, grad = _logits_and_grad(model, embeds)

        torch.testing.assert_close(logits, expected, atol=2e-6, rtol=0)
        assert ((grad - expected_grad).abs().max() / scale) < 3e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_padded_equals_one_by_one(family):
    model = _build(family, FAMILIES[family], attention="eager")
    embeds = model.embed(IDS)

    logits, grad = _logits_and_grad(model, embeds)

    expected, expected_grad = _one_by_one(model, embeds)
    torch.testing.assert_close(logits, expected, atol=2e-6, rtol=0)
    assert (grad - expected_grad).abs().max() / expected_grad.abs().max() < 3e-6


@pytest.mark.parametrize("family", REFUSING)
def test_models_that_drop_the_segments_are_refused(family):
    model = _build(family, REFUSING[family])

    with pytest.raises(RuntimeError, match=r"attention='segment'.*attention='padded'"):
        model(model.embed(IDS), POSITIONS, OFFSETS, LENS)


def test_unknown_attention_arguments_are_refused():
    from mmvlm.models.language_models.attention import segment_attention

    q = torch.zeros(1, 2, 3, 4)

    with pytest.raises(RuntimeError, match=r"passes \['s_aux'\]"):
        segment_attention(torch.nn.Identity(), q, q, q, None, s_aux=torch.zeros(2))
    with pytest.raises(RuntimeError, match="do not cover"):
        segment_attention(torch.nn.Identity(), q, q, q, None, segment_lengths=(2,))


def test_attention_kinds_that_live_in_masks_are_refused():
    if "llama4_text" not in (
        transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES
    ):
        pytest.skip("this transformers version has no llama4")
    cfg = dict(
        _BASE, head_dim=8, num_local_experts=2, attention_chunk_size=4,
        intermediate_size_mlp=48,
    )  # fmt: skip

    with pytest.raises(ValueError, match="chunked_attention"):
        _build("llama4_text", cfg)


def test_segments_do_not_see_each_other():
    model = HFCausalLM.tiny().eval()
    embeds = model.embed(IDS)
    changed = embeds.clone()
    changed[: LENS[0]] += 1

    out = model(embeds, POSITIONS, OFFSETS, LENS)
    other = model(changed, POSITIONS, OFFSETS, LENS)

    assert torch.equal(out[LENS[0] :], other[LENS[0] :])
    assert not torch.allclose(out[: LENS[0]], other[: LENS[0]])


@pytest.mark.parametrize("lens", [(6, 6, 6), (18,), (1, 17), (1, 1, 16)])
def test_flat_equals_padded_for_other_lengths(lens):
    flat, padded = HFCausalLM.tiny(), HFCausalLM.tiny(attention="sdpa")
    padded.load_state_dict(flat.state_dict())
    positions = torch.cat([torch.arange(n) for n in lens])
    offsets = torch.tensor([0, *lens]).cumsum(0).int()

    out = flat(flat.embed(IDS), positions, offsets, lens)

    expected = padded(padded.embed(IDS), positions, offsets, lens)
    torch.testing.assert_close(out, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("every, count", [("off", 0), ("all", 4), (2, 2), (3, 1)])
def test_gradient_checkpointing_wraps_every_kth_block(every, count):
    model = HFCausalLM.tiny(num_hidden_layers=4, gradient_checkpointing=every)

    assert sum(map(is_checkpointed, model.blocks)) == count


@pytest.mark.parametrize("grad", [True, False])
def test_a_frozen_model_in_eval_mode_is_checkpointed_for_the_connectors_sake(grad):
    model = HFCausalLM.tiny(gradient_checkpointing="all").eval().requires_grad_(False)
    runs = []
    for number, block in enumerate(model.blocks):
        block.self_attn.register_forward_hook(
            lambda *_, number=number: runs.append(number)
        )
    lens = (len(IDS),)
    embeds = model.embed(IDS).requires_grad_()
    with torch.set_grad_enabled(grad):
        out = model(embeds, torch.arange(*lens), torch.tensor([0, *lens]).int(), lens)
    assert runs == [0, 1]

    if grad:
        out.sum().backward()
        assert sorted(runs) == [0, 0, 1, 1] and embeds.grad.abs().sum() > 0


def test_gradient_checkpointing_refuses_other_words():
    with pytest.raises(ValueError, match="gradient_checkpointing='some'"):
        HFCausalLM.tiny(gradient_checkpointing="some")


def test_model_pickles_and_copies_with_checkpointing():
    model = HFCausalLM.tiny(gradient_checkpointing="all").train()
    expected, _ = _logits_and_grad(model, model.embed(IDS))

    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        logits, _ = _logits_and_grad(twin, twin.embed(IDS))
        assert torch.equal(logits, expected)
        assert twin.blocks[0].forward.block is twin.blocks[0]


def test_load_from_a_folder_equals_what_was_saved(tmp_path):
    model = HFCausalLM.tiny()
    model.model.save_pretrained(tmp_path)

    loaded = HFCausalLM(str(tmp_path))
    both = HFCausalLM(str(tmp_path), dict(model_type="llama", hidden_size=48))
    half = HFCausalLM(str(tmp_path), torch_dtype="bfloat16")

    expected = model.state_dict()
    assert set(loaded.state_dict()) == set(expected)
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, expected[key]), key
        assert torch.equal(both.state_dict()[key], value)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


def test_tied_tables_load_and_stay_tied(tmp_path):
    HFCausalLM.tiny(tie_word_embeddings=True).model.save_pretrained(tmp_path)

    model = HFCausalLM(str(tmp_path)).model

    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_folder_that_lacks_tensors_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    HFCausalLM.tiny().model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, file, metadata=dict(format="pt"))

    with pytest.raises(ValueError, match=r"missing 1 tensors.*layers\.1\.mlp\.up"):
        HFCausalLM(str(tmp_path))


def test_path_and_config_that_disagree_are_refused(tmp_path):
    HFCausalLM.tiny().model.save_pretrained(tmp_path)

    with pytest.raises(ValueError, match=r"hidden_size=64.*has 48"):
        HFCausalLM(str(tmp_path), dict(model_type="llama", hidden_size=64))
    with pytest.raises(FileNotFoundError, match="no model there"):
        HFCausalLM(str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="give 'name_or_path', or 'config'"):
        HFCausalLM()
    with pytest.raises(ValueError, match="needs 'model_type'"):
        HFCausalLM(config=dict(hidden_size=8))
    with pytest.raises(ValueError, match="model_type='lama'"):
        HFCausalLM(config=dict(model_type="lama"))
    with pytest.raises(ValueError, match="attention='flush'"):
        HFCausalLM.tiny(attention="flush")


def test_config_builds_on_meta_without_weights():
    with torch.device("meta"):
        model = HFCausalLM(
            "nobody/never-there",
            dict(
                model_type="llama",
                hidden_size=4096,
                intermediate_size=11008,
                num_hidden_layers=32,
                num_attention_heads=32,
                vocab_size=32000,
                tie_word_embeddings=False,
            ),
        )

    assert all(p.is_meta for p in model.parameters())
    assert sum(p.numel() for p in model.parameters()) == 6_738_415_616


def test_head_arithmetic_that_is_not_known_is_refused():
    from mmvlm.models.language_models.output_head import check_head

    model = HFCausalLM.tiny().model
    model.config.lm_head_multiplier = 0.5

    with pytest.raises(ValueError, match="lm_head_multiplier"):
        check_head(model)
