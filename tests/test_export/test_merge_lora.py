"""Adapters are merged, all else stays."""

import pytest
import torch
from export_helpers import make_question

from mmvlm.export.merge_lora import has_lora, merge_lora
from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder
from mmvlm.testing.builders import tiny_vlm

LORA = dict(r=4, alpha=16, dropout=0.0, target_modules="all-linear")


def make_model(lm_lora=LORA, vision_lora=None):
    config = HFVisionEncoder.tiny().config.to_dict()
    torch.manual_seed(0)
    encoder = HFVisionEncoder(config=config, lora=vision_lora)
    model = tiny_vlm(lm=dict(lora=lm_lora), vision_encoder=encoder)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.2)
    return model


@pytest.mark.parametrize("vision_lora", [None, dict(LORA, target_modules=["q_proj"])])
@torch.no_grad()
def test_merged_model_says_the_same(vision_lora):
    model, batch = make_model(vision_lora=vision_lora), make_question()
    before = model(batch, None, mode="tensor")
    connector = {k: v.clone() for k, v in model.connector.state_dict().items()}
    embedding = model.language_model.model.get_input_embeddings().weight.clone()

    merged = merge_lora(model)

    after = model(batch, None, mode="tensor")
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    assert merged["language_model"] == 14
    assert merged.get("vision_encoder", 0) == (3 if vision_lora else 0)
    assert not has_lora(model)
    kept = model.connector.state_dict()
    assert all(torch.equal(kept[key], connector[key]) for key in connector)
    assert torch.equal(
        model.language_model.model.get_input_embeddings().weight, embedding
    )


@torch.no_grad()
def test_merged_weights_load_into_the_model_without_lora():
    model, batch = make_model(), make_question()
    expected = model(batch, None, mode="tensor")
    merge_lora(model)

    plain = tiny_vlm(seed=5)
    plain.load_state_dict(model.state_dict())

    got = plain(batch, None, mode="tensor")
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_nothing_to_merge_is_an_error():
    with pytest.raises(ValueError, match="has LoRA adapters: nothing to merge"):
        merge_lora(tiny_vlm())


def test_non_finite_adapter_is_an_error():
    model = make_model()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"language_model\..*q_proj"):
        merge_lora(model)
