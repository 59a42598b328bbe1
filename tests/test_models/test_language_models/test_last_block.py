"""The last block's MLP on rows: equal where read, less work, safe in backward."""

import pytest
import torch

from mmvlm.models.language_models.hf_causal_lm import HFCausalLM

#: A model type and what its config wants beside the tiny one's fields.
KINDS = {
    "llama": {},
    "qwen2": {},
    "gemma": dict(head_dim=12),
    "phi3": {},
    "gpt2": dict(
        n_embd=48,
        n_layer=2,
        n_head=4,
        n_positions=512,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    ),
}


def tiny(kind="llama", **options):
    fields = KINDS[kind]
    if "n_embd" in fields:
        config = dict(model_type=kind, vocab_size=128, bos_token_id=1, eos_token_id=2)
        model = HFCausalLM(config={**config, **fields}, **options)
    else:
        model = HFCausalLM.tiny(model_type=kind, **fields, **options)
    return model.train()


def run(model, rows=None, seed=0):
    """Return the hidden states and the gradient at the input."""
    lens = (7, 4, 9)
    generator = torch.Generator().manual_seed(seed)
    embeds = torch.randn(20, 48, generator=generator, requires_grad=True)
    positions = torch.cat([torch.arange(n) for n in lens])
    offsets = torch.tensor([0, 7, 11, 20], dtype=torch.int32)
    return embeds, model(embeds, positions, offsets, lens, rows)


@pytest.mark.parametrize("attention", ["segment", "eager", "batched"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_gradients_equal_those_of_the_whole(kind, attention):
    torch.manual_seed(0)
    model = tiny(kind, attention=attention)
    rows = torch.tensor([2, 3, 9, 10, 19])
    grads = []
    outputs = []
    for chosen in (None, rows):
        model.zero_grad()
        embeds, out = run(model, chosen)
        outputs.append(out if chosen is not None else out[rows])
        outputs[-1].square().sum().backward()
        grads.append([embeds.grad, *(p.grad for p in model.model.parameters())])

    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-6, rtol=1e-6)
    for whole, some in zip(*grads, strict=True):
        if whole is not None:
            torch.testing.assert_close(some, whole, atol=1e-5, rtol=1e-5)


def inner_tokens(model):
    """Watch the tokens that the first linear of every MLP gets."""
    counts = []
    for block in model.blocks:
        block.mlp.gate_proj.register_forward_pre_hook(
            lambda _, args: counts.append(args[0].shape[-2])
        )
    return counts


def test_only_the_last_mlp_gets_the_rows():
    model = tiny()
    counts = inner_tokens(model)

    run(model, torch.tensor([4, 5]))
    run(model)

    assert counts == [20, 2, 20, 20]


def test_backward_of_a_checkpointed_block_uses_the_rows_of_its_forward():
    torch.manual_seed(0)
    model = tiny(gradient_checkpointing="all")
    first, second = torch.tensor([1, 2]), torch.tensor([4, 5, 12])
    one, out_one = run(model, first, seed=1)
    two, out_two = run(model, second, seed=2)  # before the first backward
    (out_one.sum() + out_two.sum()).backward()

    plain = tiny()
    plain.load_state_dict(model.state_dict())
    for embeds, rows, seed in ((one, first, 1), (two, second, 2)):
        again, out = run(plain, rows, seed=seed)
        out.sum().backward()
        torch.testing.assert_close(embeds.grad, again.grad, atol=1e-6, rtol=1e-6)


def test_an_error_in_the_decoder_leaves_no_rows_behind(monkeypatch):
    model = tiny()

    def broken(*args, **kwargs):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(model.blocks[0], "forward", broken)
        with pytest.raises(RuntimeError, match="out of memory"):
            run(model, torch.tensor([3]))

    counts = inner_tokens(model)
    run(model)
    assert counts == [20, 20]


def test_experts_are_left_alone():
    model = HFCausalLM.tiny(model_type="mixtral", num_local_experts=2)

    assert model._last_block is None
    assert run(model, torch.tensor([3, 8]))[1].shape == (2, 48)
