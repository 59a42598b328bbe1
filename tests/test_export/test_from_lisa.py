"""LISA's official names."""

import mmvlm  # noqa: F401  isort: skip

import re

import pytest
import torch

from mmvlm.config import load_config
from mmvlm.config.tiny import make_tiny
from mmvlm.export.from_lisa import from_official, import_lisa
from mmvlm.export.importing import meta_state, plain_model_cfg

CONFIG = "lisa-clip-l14-224-sam-h_linear_vicuna-7b_8xb2-5k-ft-lora_lisa-mix"
#: Ours to official, of SAM's parts.
SAM = (
    (
        r"^sam\.vision_encoder\.patch_embed\.projection",
        "image_encoder.patch_embed.proj",
    ),
    (
        r"^sam\.vision_encoder\.layers\.(\d+)\.layer_norm",
        r"image_encoder.blocks.\1.norm",
    ),
    (r"^sam\.vision_encoder\.layers\.", "image_encoder.blocks."),
    (r"^sam\.vision_encoder\.neck\.conv1", "image_encoder.neck.0"),
    (r"^sam\.vision_encoder\.neck\.layer_norm1", "image_encoder.neck.1"),
    (r"^sam\.vision_encoder\.neck\.conv2", "image_encoder.neck.2"),
    (r"^sam\.vision_encoder\.neck\.layer_norm2", "image_encoder.neck.3"),
    (r"^sam\.vision_encoder\.", "image_encoder."),
    (r"^mask\.decoder\.", ""),
    (
        r"shared_embedding\.positional_embedding",
        "pe_layer.positional_encoding_gaussian_matrix",
    ),
    (r"encoder\.point_embed\.", "encoder.point_embeddings."),
    (r"mask_embed\.conv1", "mask_downscaling.0"),
    (r"mask_embed\.layer_norm1", "mask_downscaling.1"),
    (r"mask_embed\.conv2", "mask_downscaling.3"),
    (r"mask_embed\.layer_norm2", "mask_downscaling.4"),
    (r"mask_embed\.conv3", "mask_downscaling.6"),
    (r"layer_norm_final_attn", "norm_final_attn"),
    (r"(transformer\.layers\.\d+\.)layer_norm", r"\1norm"),
    (r"upscale_conv1", "output_upscaling.0"),
    (r"upscale_layer_norm", "output_upscaling.1"),
    (r"upscale_conv2", "output_upscaling.3"),
    (r"((?:mlps\.\d+|head)\.)layers\.0\.", r"\1layers.1."),
    (r"((?:mlps\.\d+|head)\.)proj_in\.", r"\1layers.0."),
    (r"((?:mlps\.\d+|head)\.)proj_out\.", r"\1layers.2."),
)
REST = (
    (r"^language_model\.model\.(lm_head.*)", r"\1"),
    (r"^language_model\.model\.", ""),
    (r"^connector\.proj\.", "model.mm_projector."),
    (r"^mask\.projection\.", "model.text_hidden_fcs.0."),
)


def official(key):
    is_sam = key.startswith(("sam.", "mask.decoder."))
    for ours, theirs in SAM if is_sam else REST:
        key = re.sub(ours, theirs, key)
    return f"model.visual_model.{key}" if is_sam else key


@pytest.fixture(scope="module")
def model():
    return make_tiny(load_config(CONFIG, check=False)).model.to_dict()


@pytest.fixture(scope="module")
def state(model):
    plain = plain_model_cfg(model)
    plain.pop("train_parts")
    shapes = meta_state(plain)
    kept = {k: v for k, v in shapes.items() if not k.startswith("vision_encoder.")}
    return {key: torch.randn(value.shape) for key, value in kept.items()}


def test_a_merged_file_maps_completely(model, state, tmp_path):
    theirs = {official(key): value for key, value in state.items()}
    assert len(theirs) == len(state) and not set(theirs) & set(state)
    path = tmp_path / "lisa.bin"
    torch.save(
        {**theirs, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}, path
    )

    found = import_lisa(path, model)

    assert found.state_dict.keys() == state.keys()
    assert all(torch.equal(found.state_dict[key], state[key]) for key in state)
    assert found.parts == ("connector", "language_model", "mask", "sam")
    assert all(key.startswith("vision_encoder.") for key in found.omitted)


def test_unknown_and_missing_keys_are_listed(model, state, tmp_path):
    theirs = {official(key): value for key, value in state.items()}
    with pytest.raises(ValueError, match=r"1 keys .*lora_A.*Merge its LoRA"):
        from_official(
            {**theirs, "base_model.model.model.layers.0.q.lora_A.weight": torch.ones(1)}
        )
    lost = "model.text_hidden_fcs.0.2.bias"
    path = tmp_path / "lisa.bin"
    torch.save({k: v for k, v in theirs.items() if k != lost}, path)
    with pytest.raises(ValueError, match=r"1 missing: \['mask.projection.2.bias'\]"):
        import_lisa(path, model)
    with pytest.raises(FileNotFoundError, match="no such LISA checkpoint"):
        import_lisa(tmp_path / "none.bin", model)
