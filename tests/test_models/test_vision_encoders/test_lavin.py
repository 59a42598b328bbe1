"""LaVIN's adapters in the tower: identity at first, the formula, routing, refusals."""

import pytest
import torch

from mmvlm.models.utils.freezing import freeze_part
from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder
from mmvlm.models.vision_encoders.lavin import LaVINVisionEncoder
from mmvlm.models.vision_encoders.monkey import MonkeyVisionEncoder
from mmvlm.models.vision_encoders.timm_vision import TimmVisionEncoder
from mmvlm.models.vision_encoders.tiny import TinyVisionEncoder

TOWERS = [HFVisionEncoder, TimmVisionEncoder]


def _pair(tower=HFVisionEncoder, *, shaken=True, **options):
    """Return a tower and its adapted twin."""
    torch.manual_seed(0)
    plain = tower.tiny().eval()
    inner = tower.tiny().eval()
    inner.load_state_dict(plain.state_dict())
    adapted = LaVINVisionEncoder(inner, hidden=4, temperature=1.0, **options).eval()
    if shaken:
        for parameter in adapted.adapters.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return plain, adapted


def _official(adapter, x, first):
    """Apply the released router: ``x`` (A, B, C), weights from ``first`` (A, C)."""
    weights = (adapter.expert_weights(first) / adapter.temperature).softmax(-1)
    x = x.transpose(1, 2)
    narrow = adapter.conv_A(x)
    mixed = adapter.conv_B(narrow) * weights[:, 0, None, None]
    mixed = mixed + adapter.conv_D(narrow) * weights[:, 1, None, None]
    return (mixed + x).transpose(1, 2)


@pytest.mark.parametrize("tower", TOWERS)
def test_nothing_changes_at_first_and_names_stay(tower):
    plain, adapted = _pair(tower, shaken=False)
    side = plain.spec.image_size
    views = torch.randn(3, 3, side, side)

    for state, expected in zip(
        adapted(views, (-1, 1)).hidden_states,
        plain(views, (-1, 1)).hidden_states,
        strict=True,
    ):
        assert torch.equal(state, expected)
    own = {k for k in adapted.state_dict() if not k.startswith("adapters.")}
    assert own == set(plain.state_dict())


def test_a_block_equals_the_released_one_on_one_image():
    plain, adapted = _pair()
    view = torch.randn(1, 3, 32, 32)

    out = adapted(view, (1,)).hidden_states[0]

    block, hidden = plain.blocks[0], plain(view, (0,)).hidden_states[0]
    # The released tower has positions first: (N, V, C), routed by [:, 0].
    normed = block.layer_norm1(hidden).transpose(0, 1)
    read = _official(adapted.adapters[0], normed, normed[:, 0]).transpose(0, 1)
    middle = hidden + block.self_attn(hidden_states=read, attention_mask=None)[0]
    expected = middle + block.mlp(block.layer_norm2(middle))
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("route_by", ["token", "first"])
def test_an_image_does_not_see_the_batch(route_by):
    plain, adapted = _pair(route_by=route_by)
    views = torch.randn(3, 3, 32, 32)

    together = adapted(views, (-1,)).hidden_states[0]

    alone = [adapted(view[None], (-1,)).hidden_states[0] for view in views]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)
    assert (together - plain(views, (-1,)).hidden_states[0]).abs().max() > 1e-2


def test_the_two_ways_to_route_differ():
    view = torch.randn(1, 3, 32, 32)

    by_token, by_first = (
        _pair(route_by=way)[1](view, (-1,)).hidden_states[0]
        for way in ("token", "first")
    )

    assert (by_token - by_first).abs().max() > 1e-4


@pytest.mark.parametrize("checkpointing", ["off", "all"])
def test_only_adapters_learn_and_all_of_them(checkpointing):
    tower = HFVisionEncoder(
        config=HFVisionEncoder.tiny().config.to_dict(),
        gradient_checkpointing=checkpointing,
    )
    adapted = LaVINVisionEncoder(tower, hidden=4)
    freeze_part(adapted, "adapters", "vision_encoder")
    for name, parameter in adapted.adapters.named_parameters():
        if name.endswith(("conv_B.weight", "conv_D.weight")):
            torch.nn.init.normal_(parameter)

    adapted.train()(torch.randn(2, 3, 32, 32), (-1,)).hidden_states[0].sum().backward()
    loss = adapted(torch.randn(2, 3, 32, 32), (-1,)).hidden_states[0].square().sum()
    loss.backward()

    for name, parameter in adapted.named_parameters():
        learns = name.startswith("adapters.")
        assert parameter.requires_grad is learns, name
        assert (parameter.grad is not None and parameter.grad.any()) == learns, name


def test_a_tower_in_half_precision_takes_adapters_in_full():
    _, adapted = _pair(shaken=False)
    adapted.vision_model.bfloat16()

    out = adapted(torch.randn(1, 3, 32, 32), (-1,)).hidden_states[0]

    assert out.dtype == torch.bfloat16 and out.isfinite().all()
    assert adapted.adapters[0].conv_A.weight.dtype == torch.float32


def test_wrong_towers_and_options_are_refused():
    with pytest.raises(ValueError, match=r"has none of \['norm1', 'layer_norm1'\]"):
        tower = HFVisionEncoder.tiny()
        for block in tower.blocks:
            block.norm_in_front = block.layer_norm1
            del block.layer_norm1
        LaVINVisionEncoder(tower)
    with pytest.raises(ValueError, match="route_by='class'"):
        LaVINVisionEncoder(HFVisionEncoder.tiny(), route_by="class")


@pytest.mark.parametrize("wrapper", [LaVINVisionEncoder, MonkeyVisionEncoder])
def test_what_would_be_lost_is_refused(wrapper):
    with pytest.raises(ValueError, match=r"TinyVisionEncoder holds \['position'\]"):
        wrapper(TinyVisionEncoder.tiny())
    tower = HFVisionEncoder(
        config=HFVisionEncoder.tiny().config.to_dict(), lora=dict(r=2)
    )
    with pytest.raises(ValueError, match=r"has lora=.*cannot be wrapped"):
        wrapper(tower)
