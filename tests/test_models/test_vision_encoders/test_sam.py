"""SAM's encoder: transformers' numbers, padding behind the normalisation."""

import mmvlm  # noqa: F401  isort: skip

import pytest
import torch
from transformers import SamConfig, SamModel

from mmvlm.models.vision_encoders.cached import CachedVisionEncoder
from mmvlm.models.vision_encoders.sam import SAMVisionEncoder


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    built = SAMVisionEncoder.tiny().eval().requires_grad_(False)
    for parameter in built.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.1)
    return built


def test_the_map_is_what_transformers_gives(encoder):
    pixels = torch.randn(2, 3, 32, 32)

    features = encoder(pixels, (0, -1))

    expected = encoder.vision_encoder(pixels)[0]
    torch.testing.assert_close(features.maps["neck"], expected)
    assert features.grid == (4, 4) and len(features.hidden_states) == 2
    assert features.hidden_states[0].shape == (2, 16, 32)


def test_what_is_missing_to_the_square_is_zero_right_and_below(encoder):
    pixels = torch.randn(1, 3, 32, 20)
    square = torch.zeros(1, 3, 32, 32)
    square[..., :20] = pixels

    own, padded = (encoder(one).maps["neck"] for one in (pixels, square))

    assert torch.equal(own, padded)


def test_other_sizes_are_refused(encoder):
    for size in ((16, 24), (40, 40)):
        with pytest.raises(ValueError, match="the longer side must be 32"):
            encoder(torch.zeros(1, 3, *size))
    assert encoder(torch.zeros(0, 3, 32, 32)).maps["neck"].shape == (0, 16, 4, 4)


def test_features_can_be_kept_on_disk(encoder, tmp_path):
    cached = CachedVisionEncoder(encoder, str(tmp_path))
    pixels = torch.randn(2, 3, 20, 32)

    first, second = (cached(pixels, (-1,)).maps["neck"] for _ in range(2))

    assert torch.equal(first, second) and list(tmp_path.rglob("*.safetensors"))


def test_weights_of_transformers_are_read(tmp_path):
    small = dict(SAMVisionEncoder.tiny_fields)
    size = {key: small[key] for key in ("image_size", "patch_size")}
    config = SamConfig(
        vision_config=small,
        prompt_encoder_config=dict(hidden_size=16, **size),
        mask_decoder_config=dict(hidden_size=16, mlp_dim=32, num_attention_heads=2),
    )
    model = SamModel(config).eval()
    model.save_pretrained(tmp_path)
    pixels = torch.randn(1, 3, 32, 32)

    read = SAMVisionEncoder(str(tmp_path)).eval()

    torch.testing.assert_close(
        read(pixels).maps["neck"], model.get_image_embeddings(pixels)
    )
    with pytest.raises(ValueError, match="give 'name_or_path' or 'config'"):
        SAMVisionEncoder()
