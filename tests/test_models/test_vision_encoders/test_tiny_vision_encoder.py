"""What is special in the tiny vision encoder; the rest is the contract suite."""

import pytest
import torch

from mmvlm.models.vision_encoders.tiny import TinyBlock, TinyVisionEncoder


def test_written_out_attention_equals_torch():
    torch.manual_seed(0)
    block, x = TinyBlock(16, 4), torch.randn(2, 5, 16)
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])

    seen = block(x, mask)

    q, k, v = block.qkv(block.norm1(x)).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
    mixed = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask[:, None, None]
    )
    wanted = x + block.out(mixed.transpose(1, 2).flatten(2))
    wanted = wanted + block.mlp(block.norm2(wanted))
    torch.testing.assert_close(seen, wanted, atol=1e-5, rtol=1e-5)


def test_patches_are_eight_pixels():
    encoder = TinyVisionEncoder(width=16, num_layers=2, num_heads=2, image_size=48)
    encoder.eval()

    features = encoder(torch.randn(2, 3, 48, 48), (0, -1))

    assert features.grid == (6, 6) and features.layers == (0, 2)
    assert [s.shape for s in features.hidden_states] == [(2, 36, 16)] * 2


def test_refused_sizes():
    with pytest.raises(ValueError, match="image_size=50, expected a multiple of 8"):
        TinyVisionEncoder(image_size=50)
    with pytest.raises(ValueError, match="width=10 is not divisible by 4 heads"):
        TinyBlock(10, 4)
    encoder = TinyVisionEncoder.tiny()
    with pytest.raises(ValueError, match=r"views of \(40, 40\) pixels, expected \(32"):
        encoder(torch.zeros(1, 3, 40, 40))
