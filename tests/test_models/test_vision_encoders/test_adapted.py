"""PINK's bottlenecks: identity at first, in front of the attentions that are read."""

import pytest
import torch

from mmvlm.models.language_models.adapters.bottleneck import Bottleneck
from mmvlm.models.vision_encoders.adapted import AdaptedVisionEncoder
from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder


@pytest.fixture
def pair():
    torch.manual_seed(0)
    plain = HFVisionEncoder.tiny().eval()
    torch.manual_seed(0)
    return plain, AdaptedVisionEncoder(HFVisionEncoder.tiny(), hidden=3).eval()


def test_at_first_the_encoder_is_unchanged_and_keeps_its_names(pair):
    plain, adapted = pair
    pixels = torch.randn(2, 3, plain.spec.image_size, plain.spec.image_size)

    for found, expected in zip(
        adapted(pixels, (-2, -1)).hidden_states,
        plain(pixels, (-2, -1)).hidden_states,
        strict=True,
    ):
        torch.testing.assert_close(found, expected)
    assert set(plain.state_dict()) <= set(adapted.state_dict())
    width, blocks = plain.spec.width, plain.spec.num_layers - 1
    count = sum(p.numel() for p in adapted.adapters.parameters())
    assert count == blocks * (2 * width * 3 + 3 + width)


def test_all_bottlenecks_change_what_is_selected_and_learn(pair):
    plain, adapted = pair
    pixels = torch.randn(1, 3, plain.spec.image_size, plain.spec.image_size)
    with torch.no_grad():
        for weight in adapted.adapters.parameters():
            weight.normal_(std=0.1)

    state = adapted(pixels, (-2,)).hidden_states[0]

    assert not torch.allclose(state, plain(pixels, (-2,)).hidden_states[0])
    state.sum().backward()
    assert all(p.grad is not None for p in adapted.adapters.parameters())


def test_the_bottleneck_is_its_formula():
    layer = Bottleneck(5, hidden=2).eval()
    torch.nn.init.normal_(layer.tune_adapter_b.weight)
    x = torch.randn(3, 5)
    narrow = x @ layer.tune_adapter_a.weight.T
    expected = x + narrow @ layer.tune_adapter_b.weight.T
    torch.testing.assert_close(layer(x), expected)
    assert layer(x.half()).dtype == torch.float16


def test_blocks_to_skip_must_be_fewer_than_there_are():
    with pytest.raises(ValueError, match="skip_last=9 of 3 blocks"):
        AdaptedVisionEncoder(HFVisionEncoder.tiny(), skip_last=9)
