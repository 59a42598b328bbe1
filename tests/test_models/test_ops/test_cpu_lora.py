"""Low-rank adapters on CPUs: the small products add to the large ones' results."""

from functools import partial

import pytest
import torch

pytest.importorskip("peft")

from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.ops import cpu_lora
from mmvlm.models.ops.cpu_lora import NarrowLoRA


def half():
    return torch.autocast("cpu", torch.bfloat16)


def adapted(attention="batched", torch_dtype=None, **options):
    """A model whose adapters are float32 and change what their layers return."""
    torch.manual_seed(0)
    lora = dict(r=4, alpha=8, dropout=0.0, **options)
    model = HFCausalLM.tiny(attention=attention, torch_dtype=torch_dtype, lora=lora)
    for name, weight in model.named_parameters():
        weight.requires_grad_("lora_" in name)
        if "lora_" in name:
            weight.data = torch.randn(weight.shape) / 4
    return model


def step(forward, layer, x):
    """Output and gradients of a layer for a fixed goal."""
    x = x.clone().requires_grad_()
    out = forward(x)
    goal = torch.linspace(-1, 1, out.numel()).view_as(out)
    layer.zero_grad()
    (out.float() * goal).sum().backward()
    return out, x.grad, *(p.grad.clone() for p in layer.parameters() if p.requires_grad)


@pytest.mark.parametrize("torch_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["self_attn.k_proj", "mlp.down_proj"])
def test_output_and_gradients_are_pefts(name, torch_dtype, monkeypatch):
    layer = adapted(torch_dtype=torch_dtype).blocks[0].get_submodule(name)
    assert isinstance(layer.forward, NarrowLoRA)
    x = torch.randn(2, 7, layer.in_features)
    calls = []
    apply = cpu_lora._LowRankLinear.apply
    monkeypatch.setattr(
        cpu_lora._LowRankLinear, "apply", lambda *args: calls.append(1) or apply(*args)
    )

    with half():
        expected = step(partial(type(layer).forward, layer), layer, x)
        assert not calls
        found = step(layer.forward, layer, x)

    assert calls == [1]
    assert len(found) == 4
    assert found[0].dtype == torch.bfloat16
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        scale = other.abs().max()
        torch.testing.assert_close(one / scale, other / scale, atol=2e-2, rtol=0)


def assert_left_to_peft(layer):
    """The layer's output is that of peft's forward, to the last bit."""
    assert isinstance(layer.forward, NarrowLoRA)
    x = torch.randn(3, layer.in_features)
    with half():
        torch.manual_seed(0)  # of a dropout
        found = layer(x)
        torch.manual_seed(0)
        expected = type(layer).forward(layer, x)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.lora_dropout.update({"default": torch.nn.Dropout(0.5)}),
        lambda layer: layer.enable_adapters(False),
        lambda layer: layer.merge(),
        lambda layer: layer.base_layer.weight.requires_grad_(True),
        lambda layer: setattr(layer, "use_dora", {"default": True}),  # peft 0.15
    ],
)
def test_other_adapters_are_left_to_peft(change, monkeypatch):
    layer = adapted().blocks[0].mlp.down_proj
    monkeypatch.delattr(cpu_lora, "_LowRankLinear")
    change(layer)
    assert_left_to_peft(layer)


def test_dora_is_left_to_peft(monkeypatch):
    layer = adapted(use_dora=True).blocks[0].mlp.down_proj
    monkeypatch.delattr(cpu_lora, "_LowRankLinear")
    assert_left_to_peft(layer)


def test_without_autocast_and_with_other_attention_nothing_changes():
    layer = adapted().blocks[0].mlp.down_proj
    x = torch.randn(3, layer.in_features)
    assert torch.equal(layer(x), type(layer).forward(layer, x))
    other = adapted(attention="segment").blocks[0].mlp.down_proj
    assert not isinstance(getattr(other, "forward", None), NarrowLoRA)
