"""S2: equal to the official function, and a wrapper around any encoder."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmvlm.models.utils.freezing import freeze_part
from mmvlm.models.utils.multiscale import (
    cut_squares,
    multiscale_forward,
    stitch_squares,
)
from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder
from mmvlm.models.vision_encoders.s2 import S2VisionEncoder
from mmvlm.models.vision_encoders.tiny import TinyVisionEncoder
from mmvlm.registry import MODELS


def _toy_backbone(file, prefix, maps):
    weight, bias = (torch.from_numpy(file[f"backbone/{k}"]) for k in ("weight", "bias"))
    stride = int(file["backbone/stride"])

    def run(x):
        grid = torch.tanh(F.conv2d(x, weight, bias, stride))
        if maps:
            return grid
        tokens = grid.flatten(2).transpose(1, 2)
        mean = tokens.mean(1, keepdim=True)
        front = [mean * (number + 1) for number in range(prefix)]
        return torch.cat([*front, tokens], 1)

    return run


@pytest.mark.golden
def test_outputs_and_gradients_equal_the_official_function(goldens):
    file = np.load(goldens / "s2.npz")
    cases = json.loads(str(file["meta_json"]))
    assert cases

    for name, case in cases.items():
        options = case["kwargs"]
        maps = options.get("output_shape") == "bchw"
        backbone = _toy_backbone(file, case["prefix"], maps)
        x = torch.from_numpy(file[f"{name}/in/x"]).requires_grad_()
        weight = torch.from_numpy(file[f"{name}/in/grad_weight"])

        out = multiscale_forward(backbone, x, **options)
        (out * weight).sum().backward()

        expected = torch.from_numpy(file[f"{name}/out/y"])
        assert list(out.shape) == case["out_shape"], name
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=0, msg=name)
        grad = torch.from_numpy(file[f"{name}/grad/in/x"])
        torch.testing.assert_close(x.grad, grad, atol=1e-4, rtol=0, msg=name)


def test_tiles_go_together_again_and_the_image_is_the_fastest_index():
    images = torch.arange(2 * 3 * 6 * 6).view(2, 3, 6, 6).float()

    tiles = cut_squares(images, 6, 3)

    assert tiles.shape == (18, 3, 2, 2)
    assert torch.equal(tiles[(1 * 3 + 2) * 2 + 1], images[1, :, 2:4, 4:6])
    assert torch.equal(stitch_squares(tiles, 3), images)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(), "either scales or img_sizes"),
        (dict(scales=[1], img_sizes=[28]), "either scales or img_sizes"),
        (dict(scales=[1], output_shape="bhwc"), "output_shape='bhwc'"),
        (dict(scales=[1], output_shape="bchw", num_prefix_token=1), "no room"),
        (dict(img_sizes=[29], max_split_size=28), "29 pixels does not divide"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        multiscale_forward(lambda x: x, torch.zeros(1, 3, 28, 28), **options)
    with pytest.raises(ValueError, match="square"):
        multiscale_forward(lambda x: x, torch.zeros(1, 3, 28, 14), scales=[1])


@pytest.mark.parametrize("inner", [HFVisionEncoder, TinyVisionEncoder])
def test_the_wrapper_is_the_function_around_its_encoder(inner):
    torch.manual_seed(0)
    encoder = S2VisionEncoder(inner.tiny().eval(), scales=(32, 64, 96)).eval()
    views = torch.randn(2, 3, 96, 96)

    features = encoder(views, (-2, 1, -1))

    assert encoder.spec.width == 96
    assert (encoder.spec.image_size, encoder.spec.patch_size) == (96, 24)
    assert features.grid == encoder.spec.grid(96, 96) == (4, 4)
    for layer, state in zip((-2, 1, -1), features.hidden_states, strict=True):
        expected = multiscale_forward(
            lambda x, layer=layer: encoder.encoder(x, (layer,)).patches(),
            views,
            img_sizes=(32, 64, 96),
            max_split_size=32,
        )
        torch.testing.assert_close(state, expected, atol=1e-5, rtol=1e-5)


def test_one_call_takes_all_tiles_and_chunks_change_nothing():
    torch.manual_seed(0)
    encoder = S2VisionEncoder.tiny().eval()
    sizes = []
    encoder.encoder.register_forward_pre_hook(lambda _, x: sizes.append(len(x[0])))
    views = torch.randn(3, 3, 64, 64)

    whole = encoder(views, (-2,)).patches()
    encoder.max_views = 4
    chunked = encoder(views, (-2,)).patches()

    assert sizes == [15, 4, 4, 4, 3]
    torch.testing.assert_close(chunked, whole, atol=1e-6, rtol=1e-6)


def test_weights_of_the_encoder_are_found_and_its_last_blocks_can_be_trained():
    encoder = S2VisionEncoder.tiny()
    inner = set(encoder.encoder.state_dict())

    freeze_part(encoder, dict(from_block=2), "vision_encoder")

    assert set(encoder.state_dict()) == {f"encoder.{key}" for key in inner}
    trained = {k for k, p in encoder.named_parameters() if p.requires_grad}
    assert trained
    assert all(".encoder.layers.2." in key for key in trained)


def test_wrong_scales_and_views_are_refused():
    build = S2VisionEncoder
    with pytest.raises(ValueError, match=r"scales=\[64, 32\], expected ascending"):
        build(HFVisionEncoder.tiny(), scales=(64, 32))
    with pytest.raises(ValueError, match="each a multiple of the first"):
        build(HFVisionEncoder.tiny(), scales=(32, 48))
    with pytest.raises(ValueError, match="patches of 8 pixels"):
        build(HFVisionEncoder.tiny(), scales=(12, 24))
    with pytest.raises(ValueError, match="max_views=0"):
        build(HFVisionEncoder.tiny(), scales=(32,), max_views=0)
    with pytest.raises(ValueError, match=r"expected \(64, 64\), the largest scale"):
        build.tiny()(torch.zeros(1, 3, 32, 32))


def test_it_is_built_from_nested_configs():
    inner = dict(type="TinyVisionEncoder", width=32, num_layers=2, image_size=24)

    encoder = MODELS.build(dict(type="S2VisionEncoder", encoder=inner, scales=(24, 48)))

    assert isinstance(encoder.encoder, TinyVisionEncoder)
    assert encoder.spec.width == 64


def test_s2_is_official_size_behind_an_mlp():
    clip = dict(
        model_type="clip_vision_model",
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    )
    with torch.device("meta"):
        encoder = S2VisionEncoder(HFVisionEncoder(config=clip))
        connector = MODELS.build(
            dict(type="MLPConnector", vision_spec=encoder.spec, out_width=4096)
        )

    spec = encoder.spec
    assert (spec.width, spec.image_size, spec.patch_size) == (3072, 1008, 42)
    assert spec.num_prefix_tokens == 0
    assert sum(p.numel() for p in connector.parameters()) == 29_368_320
    assert connector.token_count(connector.views_of((1008, 1008))) == 576


def test_the_folder_of_a_tuned_tower_is_loaded(tmp_path):
    """DenseFusion saves named parameters as ``vision_model.*`` beside a config."""
    torch.manual_seed(3)
    tuned = HFVisionEncoder.tiny()
    parameters = dict(tuned.named_parameters())
    assert all(key.startswith("vision_model.") for key in parameters)
    folder = tmp_path / "vision_tower"
    folder.mkdir()
    torch.save(parameters, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(tuned.config.to_dict()))

    config = dict(type="HFVisionEncoder", name_or_path=str(folder))
    plain = MODELS.build(config)
    wrapped = MODELS.build(
        dict(type="S2VisionEncoder", encoder=config, scales=(32, 64))
    )

    for encoder in (plain, wrapped.encoder):
        for key, tensor in encoder.named_parameters():
            assert torch.equal(tensor, parameters[key]), key
