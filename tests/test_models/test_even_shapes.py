"""Rows that fill up a matrix change no number, and shapes stay few."""

from functools import partial

import pytest
import torch

from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.ops.cpu_kernels import NarrowAttention, NarrowNorm
from mmvlm.models.ops.small_attention import small_attention
from mmvlm.models.utils.even_shapes import fill_rows, on_even_rows, round_up


def half():
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("count", [1, 255, 256, 257])
def test_rows_are_filled_up_for_the_product_and_cut_behind_it(count):
    linear, seen = torch.nn.Linear(8, 4), []
    rows = torch.randn(count, 8, requires_grad=True)

    def run(x):
        seen.append(len(x))
        return linear(x)

    with half():
        out, plain = on_even_rows(run, rows), linear(rows)

    assert seen == [round_up(count, 256)]
    torch.testing.assert_close(out, plain)
    out.float().square().sum().backward()
    filled, weight = rows.grad.clone(), linear.weight.grad.clone()
    rows.grad = linear.weight.grad = None
    plain.float().square().sum().backward()
    torch.testing.assert_close(filled, rows.grad)
    torch.testing.assert_close(weight, linear.weight.grad, atol=2e-2, rtol=2e-2)


def test_nothing_is_filled_up_in_float32():
    rows = torch.randn(3, 8)
    assert fill_rows(rows) is rows
    assert on_even_rows(lambda x: x, rows) is rows
    with half():
        assert len(fill_rows(rows)) == 128


def test_batches_of_many_lengths_meet_few_shapes():
    model, seen = HFCausalLM.tiny(attention="batched"), set()
    model.blocks[0].self_attn.q_proj.register_forward_hook(
        lambda module, args, out: seen.add(tuple(args[0].shape))
    )
    for lengths in [(9, 14), (10, 16), (12, 13), (4, 11)]:
        total = sum(lengths)
        positions = torch.cat([torch.arange(n) for n in lengths])
        offsets = torch.tensor([0, lengths[0], total], dtype=torch.int32)
        with half():
            model(torch.randn(total, 48), positions, offsets, lengths)
    assert seen == {(2, 16, 48)}


def test_small_attention_is_causal_attention():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, 19, 8) for _ in range(3))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(small_attention(q, k, v, None), expected)


def test_the_narrow_norm_is_the_norm_with_its_gradients():
    torch.manual_seed(0)
    model = HFCausalLM.tiny()
    norm = model.blocks[0].input_layernorm
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
    x = torch.randn(3, 5, 48, requires_grad=True)
    goal = torch.randn(3, 5, 48)

    def step(forward):
        out = forward(x)
        (out.float() * goal).sum().backward()
        grads = x.grad.clone(), norm.weight.grad.clone()
        x.grad = norm.weight.grad = None
        return out, *grads

    expected = step(norm.forward)
    with half():
        found = step(NarrowNorm(norm))

    assert found[0].dtype == torch.bfloat16
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.float(), other, atol=3e-2, rtol=1e-2)
    torch.testing.assert_close(NarrowNorm(norm)(x), norm(x))  # without autocast


def test_the_narrow_norm_takes_half_precision_and_leaves_frozen_weights_alone():
    torch.manual_seed(0)
    norm = HFCausalLM.tiny(torch_dtype="bfloat16").blocks[0].input_layernorm
    norm.weight.requires_grad_(False).uniform_(0.5, 2)
    x, goal = torch.randn(3, 5, 48).bfloat16().requires_grad_(), torch.randn(3, 5, 48)

    def step(forward):
        out = forward(x)
        (out.float() * goal).sum().backward()
        grad, x.grad = x.grad, None
        return out, grad

    expected = step(norm.forward)
    with half():
        found = step(NarrowNorm(norm))

    assert norm.weight.grad is None
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.bfloat16
        torch.testing.assert_close(one, other, atol=3e-2, rtol=1e-2)


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_narrow_attention_is_the_modules_own(kv_heads):
    torch.manual_seed(0)
    config = dict(
        model_type="llama",
        vocab_size=64,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
    )
    model = HFCausalLM(config=config, attention="batched")
    attention = model.blocks[0].self_attn
    assert isinstance(attention.forward, NarrowAttention)
    x = torch.randn(2, 7, 48)
    positions = torch.stack([torch.arange(7), torch.arange(3, 10)])
    goal = torch.randn(2, 7, 48)

    def step(forward):
        inputs = x.clone().requires_grad_()
        tables = model.decoder.rotary_emb(x, positions)
        out = forward(inputs, tables, None, segment_lengths=(7, 7))[0]
        model.zero_grad()
        (out.float() * goal).sum().backward()
        weights = [p.grad.clone() for p in attention.parameters()]
        return out, inputs.grad, *weights

    expected = step(partial(type(attention).forward, attention))
    plain = step(attention.forward)  # without autocast
    with half():
        found = step(attention.forward)

    assert found[0].dtype == torch.bfloat16
    for own, mine, narrow in zip(expected, plain, found, strict=True):
        assert torch.equal(own, mine)
        scale = own.abs().max()
        torch.testing.assert_close(
            narrow.float() / scale, own / scale, atol=2e-2, rtol=0
        )


@pytest.mark.parametrize("lengths", [(5, 9, 12), (3, 16, 16, 7), (8, 8), (4,)])
@pytest.mark.parametrize("some", [False, True])
def test_rows_padded_inside_attention_only_give_the_same_gradients(
    lengths, some, monkeypatch
):
    torch.manual_seed(0)
    monkeypatch.setattr("mmvlm.models.ops.cpu_kernels.ROWS", 8)
    model = HFCausalLM.tiny(attention="batched")
    total = sum(lengths)
    embeds, goal = torch.randn(total, 48), torch.randn(total, 48)
    positions = torch.cat([torch.arange(length) for length in lengths])
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    rows = torch.tensor([0, 2, total - 1]) if some else None
    seen = set()
    model.blocks[0].mlp.register_forward_hook(
        lambda module, args, out: seen.add(tuple(args[0].shape))
    )

    def step(ragged):
        model._takes_ragged_rows = ragged
        model.zero_grad()
        inputs = embeds.clone().requires_grad_()
        with half():
            out = model(inputs, positions, offsets, lengths, rows)
        (out.float() * (goal if rows is None else goal[rows])).sum().backward()
        weights = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        return out.float(), inputs.grad, *weights

    assert model._takes_ragged_rows
    padded, ragged = step(False), step(True)

    assert len(padded) == len(ragged) > 10
    for one, other in zip(padded, ragged, strict=True):
        scale = one.abs().max()
        torch.testing.assert_close(other / scale, one / scale, atol=2e-2, rtol=0)
    count, longest = round_up(total + 1, 8), round_up(max(lengths), 8)
    if count < len(lengths) * longest:  # else a padded batch has no more rows
        assert (1, count, 48) in seen
    else:
        assert (len(lengths), longest, 48) in seen
