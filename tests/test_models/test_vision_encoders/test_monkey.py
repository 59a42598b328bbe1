"""Monkey's crop adapters: identity at first, own set per crop, sizes, refusals."""

import numpy as np
import pytest
import torch

from mmvlm.datasets.transforms.grid_windows import GridWindows
from mmvlm.models.utils.merge import unique_views
from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder
from mmvlm.models.vision_encoders.monkey import CropLoRA, MonkeyVisionEncoder
from mmvlm.models.vision_encoders.timm_vision import TimmVisionEncoder
from mmvlm.registry import MODELS

TOWERS = [HFVisionEncoder, TimmVisionEncoder]


def _pair(tower, **options):
    torch.manual_seed(0)
    inner = tower.tiny().eval()
    plain = tower.tiny().eval()
    plain.load_state_dict(inner.state_dict())
    return plain, MonkeyVisionEncoder(inner, rank=2, mlp_rank=3, **options).eval()


def _shake(encoder):
    for name, parameter in encoder.adapters.named_parameters():
        if name.endswith("lora_b"):
            torch.nn.init.normal_(parameter, std=0.1)


@pytest.mark.parametrize("tower", TOWERS)
def test_nothing_changes_at_first(tower):
    plain, monkey = _pair(tower)
    views = torch.randn(10, 3, 32, 32)

    found = monkey(views, (-1, 1)).hidden_states

    for state, expected in zip(found, plain(views, (-1, 1)).hidden_states, strict=True):
        assert torch.equal(state, expected)


@pytest.mark.parametrize("tower", TOWERS)
def test_every_crop_has_its_own_set_and_the_whole_none(tower):
    plain, monkey = _pair(tower, crops=2)
    _shake(monkey)
    view = torch.randn(1, 3, 32, 32).expand(6, -1, -1, -1)

    out = monkey(view, (-1,)).hidden_states[0]

    expected = plain(view[:1], (-1,)).hidden_states[0][0]
    torch.testing.assert_close(out[2], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out[:3], out[3:], atol=1e-5, rtol=1e-5)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (out[one] - out[other]).abs().max() > 1e-3


def test_one_block_equals_the_formula():
    plain, monkey = _pair(TimmVisionEncoder, crops=1)
    _shake(monkey)
    monkey.adapters[0].mlp.lora_scale.data.fill_(0.5)
    views = torch.randn(2, 3, 32, 32)

    out = monkey(views, (1,)).hidden_states[0][0]

    block, sets = plain.blocks[0], monkey.adapters[0]
    hidden = plain(views[:1], (0,)).hidden_states[0][0]

    def low(adapter, x):
        return x @ adapter.lora_a[0].T @ adapter.lora_b[0].T * adapter.lora_scale[0]

    normed = block.norm1(hidden)
    qkv = block.attn.qkv(normed) + low(sets.attention[0], normed)
    heads = qkv.view(len(hidden), 3, 4, 8).permute(1, 2, 0, 3)
    mixed = torch.nn.functional.scaled_dot_product_attention(*heads)
    mixed = mixed.transpose(0, 1).flatten(1)
    middle = hidden + block.attn.proj(mixed) + low(sets.attention[1], mixed)
    expected = middle + block.mlp(block.norm2(middle)) + low(sets.mlp, middle)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("checkpointing", ["off", "all"])
def test_every_adapter_learns(checkpointing):
    inner = TimmVisionEncoder("vit_tiny_patch16_224", **_SMALL)
    reference = MonkeyVisionEncoder(inner, dropout=0.0)
    _shake(reference)
    config = dict(type="TimmVisionEncoder", model_name="vit_tiny_patch16_224", **_SMALL)
    encoder = MonkeyVisionEncoder(
        dict(config, gradient_checkpointing=checkpointing), dropout=0.0
    )
    encoder.load_state_dict(reference.state_dict())
    views = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    for model in (encoder.train(), reference.train()):
        model(views, (-1,)).hidden_states[0].square().sum().backward()

    pairs = zip(
        encoder.adapters.named_parameters(),
        reference.adapters.named_parameters(),
        strict=True,
    )
    for (name, parameter), (_, expected) in pairs:
        assert parameter.grad.reshape(4, -1).any(1).all(), name
        torch.testing.assert_close(parameter.grad, expected.grad, atol=1e-4, rtol=1e-3)


_SMALL = dict(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4)


@pytest.mark.parametrize("tower", TOWERS)
def test_weights_of_the_tower_alone_fit(tower):
    plain, monkey = _pair(tower)
    state = plain.state_dict()

    result = monkey.load_state_dict(state, strict=False)

    assert not result.unexpected_keys
    assert all(key.startswith("adapters.") for key in result.missing_keys)
    assert set(state) == {k for k in monkey.state_dict() if k[:9] != "adapters."}


def test_sizes_of_the_published_adapters():
    with torch.device("meta"):
        block = [CropLoRA(4, 1664, out, rank=16) for out in (3 * 1664, 1664)]
        block.append(CropLoRA(4, 1664, 1664, rank=32))

    count = sum(p.numel() for part in block for p in part.parameters())

    assert count == 4 * (16 * 6 * 1664 + 32 * 2 * 1664 + 3)


def test_incomplete_images_are_refused():
    with pytest.raises(ValueError, match="4 views, expected 5 for every image"):
        MonkeyVisionEncoder.tiny()(torch.zeros(4, 3, 32, 32))


def test_blocks_of_another_make_are_refused():
    encoder = HFVisionEncoder.tiny(model_type="dinov2")

    with pytest.raises(ValueError, match="has none of"):
        MonkeyVisionEncoder(encoder)


def test_windows_are_row_by_row_and_the_whole_comes_last():
    image = np.zeros((4, 8, 3), np.uint8)
    image[:2, 4:], image[2:, :4], image[2:, 4:] = 80, 160, 240

    views, layout = GridWindows(size=4, resample="nearest").view(image)

    assert [int(view.mean()) for view in views] == [0, 80, 160, 240, 120]
    assert (layout.num_views, layout.extra, layout.scale) == (5, (2, 2), (0.5, 1.0))
    with pytest.raises(ValueError, match="grid=0"):
        GridWindows(grid=0)


def test_equal_crops_at_other_places_are_not_one_view():
    same = torch.zeros(5, 3, 2, 2)
    other = torch.arange(60.0).view(5, 3, 2, 2)
    views = torch.cat([same, other, same])

    first, place = unique_views(views, 5)

    assert first == list(range(10))
    assert place == [*range(10), *range(5)]
    assert unique_views(views)[0] == [0, *range(5, 10)]


def test_a_model_of_five_views_per_image_counts_and_merges():
    config = dict(
        type="ResamplerConnector", grid=2, vision_spec=None, out_width=48, heads=4
    )
    encoder = MonkeyVisionEncoder.tiny().eval()
    connector = MODELS.build(dict(config, vision_spec=encoder.spec)).eval()
    _, layout = GridWindows(size=32, resample="bicubic").view(
        np.zeros((20, 30, 3), np.uint8)
    )

    features = encoder(torch.randn(10, 3, 32, 32), connector.select_layers)
    rows = connector.merge_views(connector(features), (layout, layout))

    assert len(rows) == 2 * connector.num_output_tokens(layout) == 2 * 5 * 4
