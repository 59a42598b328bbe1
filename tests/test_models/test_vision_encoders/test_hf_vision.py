"""HF towers equal transformers' own hidden states; keys are stable."""

import json
import re

import pytest
import torch

from mmvlm.models.utils.freezing import freeze_part
from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder

FAMILIES = [
    "clip_vision_model",
    "siglip_vision_model",
    "dinov2",
    "dinov2_with_registers",
]


def _plain(encoder, views, **options):
    """transformers' own model around the same weights: all hidden states."""
    import transformers

    names = {
        "clip_vision_model": "CLIPVisionModel",
        "siglip_vision_model": "SiglipVisionModel",
        "dinov2": "Dinov2Model",
        "dinov2_with_registers": "Dinov2WithRegistersModel",
    }
    model = getattr(transformers, names[encoder.config.model_type])(encoder.config)
    inner = getattr(model, "vision_model", model)
    inner.load_state_dict(encoder.vision_model.state_dict())
    with torch.no_grad():
        out = model.eval()(views, output_hidden_states=True, **options)
    return out.hidden_states


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", [32, 48])
def test_states_equal_the_full_model(family, side):
    torch.manual_seed(0)
    encoder = HFVisionEncoder.tiny(family).eval()
    views = torch.randn(2, 3, side, side)
    resize = side != 32 and "dinov2" not in family

    features = encoder(views, (0, 1, 2, 3))

    options = dict(interpolate_pos_encoding=True) if resize else {}
    expected = _plain(encoder, views, **options)
    assert len(expected) == 4
    for got, want in zip(features.hidden_states, expected, strict=True):
        torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-5)
    assert features.grid == (side // 8, side // 8)


@pytest.mark.parametrize("family, prefix", zip(FAMILIES, (1, 0, 1, 5), strict=True))
def test_prefix_tokens_and_normalisation_come_from_the_family(family, prefix):
    spec = HFVisionEncoder.tiny(family).spec

    assert spec.num_prefix_tokens == prefix
    assert (spec.mean == (0.5, 0.5, 0.5)) == family.startswith("siglip")


@pytest.mark.parametrize("family", FAMILIES)
def test_keys_start_with_vision_model_and_round_trip_a_folder(family, tmp_path):
    encoder = HFVisionEncoder.tiny(family)
    full = {"siglip_vision_model": "SiglipVisionModel"}.get(family)
    views = torch.randn(1, 3, 32, 32)
    _save(encoder, tmp_path)

    loaded = HFVisionEncoder(str(tmp_path))

    assert full is None or loaded.config.model_type == family
    assert all(key.startswith("vision_model.") for key in encoder.state_dict())
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, encoder.state_dict()[key]), key
    assert loaded.spec == encoder.spec
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.eval()(views).patches(), encoder.eval()(views).patches()
        )


def _save(encoder, folder, prefix=""):
    """Write weights and config as plain files, with or without the 4.x prefix."""
    from safetensors.torch import save_file

    encoder.config.save_pretrained(folder)
    state = {
        prefix + key.removeprefix("vision_model."): value.contiguous()
        for key, value in encoder.state_dict().items()
    }
    if not prefix and "dinov2" not in encoder.config.model_type:
        state = {f"vision_model.{key}": value for key, value in state.items()}
    save_file(state, folder / "model.safetensors", metadata=dict(format="pt"))


def test_weights_without_the_prefix_load_too(tmp_path):
    from safetensors.torch import save_file

    encoder = HFVisionEncoder.tiny()
    encoder.config.save_pretrained(tmp_path)
    state = {
        key.removeprefix("vision_model."): value
        for key, value in encoder.state_dict().items()
    }
    save_file(state, tmp_path / "model.safetensors", metadata=dict(format="pt"))

    loaded = HFVisionEncoder(str(tmp_path))

    for key, value in loaded.state_dict().items():
        assert torch.equal(value, encoder.state_dict()[key]), key


def test_weights_that_lack_tensors_are_refused(tmp_path):
    from safetensors.torch import save_file

    encoder = HFVisionEncoder.tiny()
    encoder.config.save_pretrained(tmp_path)
    state = {
        key: value
        for key, value in encoder.state_dict().items()
        if "layers.1.mlp" not in key
    }
    save_file(state, tmp_path / "model.safetensors", metadata=dict(format="pt"))

    with pytest.raises(ValueError, match=r"missing.*layers\.1\.mlp"):
        HFVisionEncoder(str(tmp_path))


def test_state_dict_keys_of_clip_are_those_of_the_official_tower():
    keys = set(HFVisionEncoder.tiny().state_dict())

    assert {
        "vision_model.embeddings.class_embedding",
        "vision_model.embeddings.patch_embedding.weight",
        "vision_model.embeddings.position_embedding.weight",
        "vision_model.pre_layrnorm.weight",
        "vision_model.encoder.layers.2.self_attn.out_proj.bias",
        "vision_model.encoder.layers.0.mlp.fc2.weight",
        "vision_model.post_layernorm.bias",
    } <= keys
    assert len(keys) == 7 + 3 * 16


def test_full_clip_is_built_on_meta_from_its_config():
    with torch.device("meta"):
        encoder = HFVisionEncoder(
            "openai/clip-vit-large-patch14-336",
            dict(
                model_type="clip_vision_model",
                hidden_size=1024,
                intermediate_size=4096,
                num_hidden_layers=24,
                num_attention_heads=16,
                image_size=336,
                patch_size=14,
            ),
        )

    assert sum(p.numel() for p in encoder.parameters()) == 303_507_456
    assert encoder.spec.grid(336, 336) == (24, 24)


def test_unknown_model_type_and_odd_sizes_are_refused():
    with pytest.raises(ValueError, match="'vit' is not supported"):
        HFVisionEncoder(config=dict(model_type="vit"))
    with pytest.raises(ValueError, match="do not divide into patches of 8"):
        HFVisionEncoder.tiny()(torch.zeros(1, 3, 36, 36))


def unfrozen(blocks, first):
    """Return whether each parameter of a CLIP tower is trained from a block on."""
    config = dict(
        model_type="clip_vision_model",
        hidden_size=16,
        intermediate_size=32,
        num_attention_heads=2,
        num_hidden_layers=blocks,
        image_size=28,
        patch_size=14,
    )
    with torch.device("meta"):
        encoder = HFVisionEncoder(config=config)
    freeze_part(encoder, dict(from_block=first), "vision_encoder")
    return {k: p.requires_grad for k, p in encoder.named_parameters()}


@pytest.mark.golden
def test_trainable_blocks_equal_the_official_unfreezing(goldens):
    cases = json.loads((goldens / "densefusion_trainable.json").read_text())
    assert cases

    for name, expected in cases.items():
        sign, number = re.search(r"from_(minus)?(\d+)", name).groups()
        blocks = {
            int(found[1])
            for key in expected
            if (found := re.search(r"encoder\.layers\.(\d+)\.", key))
        }
        first = -int(number) if sign else int(number)

        assert unfrozen(len(blocks), first) == expected, name


def test_a_tower_takes_its_own_size_with_a_rest():
    torch.manual_seed(0)
    encoder = HFVisionEncoder.tiny("siglip_vision_model", image_size=36).eval()
    views = torch.randn(2, 3, 36, 36)

    features = encoder(views, (-1,))

    assert features.grid == (4, 4)
    expected = _plain(encoder, views)[-1]
    torch.testing.assert_close(features.hidden_states[0], expected)


def test_blip2s_tower_equals_transformers_and_loads_from_the_whole_model(tmp_path):
    from safetensors.torch import save_file
    from transformers import Blip2Config, Blip2VisionConfig, Blip2VisionModel

    sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2)
    sizes |= dict(num_attention_heads=4, image_size=32, patch_size=8)
    torch.manual_seed(0)
    tower = Blip2VisionModel(Blip2VisionConfig(**sizes)).eval()
    Blip2Config(vision_config=sizes).save_pretrained(tmp_path)
    whole = {f"vision_model.{k}": v for k, v in tower.state_dict().items()}
    save_file({**whole, "query_tokens": torch.zeros(1)}, tmp_path / "model.safetensors")

    encoder = HFVisionEncoder(str(tmp_path)).eval()
    views = torch.randn(2, 3, 32, 32)

    hidden = encoder(views, (0, 2)).hidden_states
    assert encoder.spec.num_prefix_tokens == 1
    normed = tower.post_layernorm(hidden[1])
    torch.testing.assert_close(normed, tower(views).last_hidden_state)
    larger = encoder(torch.randn(1, 3, 48, 48), (-1,))
    assert (larger.grid, larger.hidden_states[0].shape) == ((6, 6), (1, 37, 32))
