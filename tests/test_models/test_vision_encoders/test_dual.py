"""Dual encoders: official arrays of Mini-Gemini and LLaVA-HR, identity, sizes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmvlm.models.connectors.fused import FusedConnector
from mmvlm.models.fusers.patch_mining import PatchInfoMiningFuser
from mmvlm.models.vision_encoders.convnext import TimmConvNeXt
from mmvlm.models.vision_encoders.dual import (
    DualVisionEncoder,
    FinalAlignment,
    MixtureOfResolutionVisionEncoder,
    ResolutionAdapter,
    fit_map,
)
from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder
from mmvlm.structures import MapSpec, ViewLayout, VisionEncoderSpec, VisionFeatures


@pytest.fixture(scope="module")
def data(goldens):
    found = np.load(goldens / "connectors_small.npz")
    return {key: torch.from_numpy(found[key]) for key in found.files if "/" in key}


def state(data, prefix):
    return {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}


def mined(data):
    """Return what the file's mining adds to its tokens."""
    low, high = data["mgm/lr"], data["mgm/hr"]
    side = int(low.shape[1] ** 0.5)
    spec = VisionEncoderSpec(
        *(low.shape[-1], 2, 8, 8 * side),
        maps=(MapSpec("fine", high.shape[1], high.shape[-1] // side),),
    )
    fuser = PatchInfoMiningFuser(vision_spec=spec, select_layers=(-1,))
    fuser.load_state_dict(state(data, "mgm/sd/"), strict=True)

    fused = fuser(VisionFeatures((low,), (2,), (side, side), maps=dict(fine=high)))
    return fused.hidden_states[0] - low


@pytest.mark.golden
def test_mining_equals_the_official_one(data):
    added = mined(data)

    torch.testing.assert_close(added, data["mgm/embed_feat"], atol=1e-5, rtol=1e-4)


def cases_of(data):
    """Names of the cases: slow maps of other sizes than the fast one."""
    found = [key.split("/")[1] for key in data if key.endswith("/slow")]
    assert found
    return found


def adapter(data, kind, prefix):
    weights = state(data, prefix)
    slow = data[f"llava_hr/{cases_of(data)[0]}/slow"].shape[1]
    module = kind(data["llava_hr/fast"].shape[-1], slow)
    module.load_state_dict(weights, strict=True)
    return module


def mixed_and_aligned(data, case):
    """Return what the file's adapter and final alignment give for a slow map."""
    fast, slow = data["llava_hr/fast"], data[f"llava_hr/{case}/slow"]
    grid = (int(fast.shape[1] ** 0.5),) * 2
    mix = adapter(data, ResolutionAdapter, "llava_hr/mr_sd/")
    align = adapter(data, FinalAlignment, "llava_hr/align_sd/")
    return mix(fast, slow, grid), align(fast, slow, grid)


@pytest.mark.golden
def test_adapter_and_alignment_equal_the_official_ones(data):
    close = dict(atol=1e-5, rtol=1e-4)

    for case in cases_of(data):
        mixed, aligned = mixed_and_aligned(data, case)

        expected = data[f"llava_hr/{case}/mr_adapter_out"]
        torch.testing.assert_close(mixed, expected, **close, msg=case)
        expected = data[f"llava_hr/{case}/final_align_out"]
        torch.testing.assert_close(aligned, expected, **close, msg=case)


@pytest.mark.golden
def test_a_fresh_adapter_is_the_identity_as_the_official_one(data):
    assert bool(data["llava_hr/zero_init_slow_proj"])
    torch.manual_seed(0)
    fast = torch.randn(2, 16, 8)

    mixed = ResolutionAdapter(8, 6)(fast, torch.randn(2, 6, 2, 2), (4, 4))

    torch.testing.assert_close(mixed, fast, atol=0, rtol=0)


def test_a_map_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"\(6, 6\) cells does not divide"):
        fit_map(torch.zeros(1, 2, 6, 6), (4, 4))


def test_the_transformer_sees_the_image_without_class_token_and_adapters():
    torch.manual_seed(0)
    encoder = MixtureOfResolutionVisionEncoder.tiny().eval()
    views = torch.randn(2, 3, 128, 128)

    hidden = encoder(views, (0, 2)).hidden_states

    low = encoder.low
    small = torch.nn.functional.interpolate(
        views, (32, 32), mode="bilinear", align_corners=True
    )
    x = low.embed_patches(small)[:, 1:]
    torch.testing.assert_close(hidden[0], x)
    for block in low.blocks[:2]:
        x = low.run_block(block, x)
    torch.testing.assert_close(hidden[1], x)


def test_cells_lie_under_their_token():
    fuser = PatchInfoMiningFuser.tiny()
    seen = []
    fuser.mine = lambda tokens, cells: seen.append(cells) or tokens
    place = torch.arange(6 * 10.0).view(1, 1, 6, 10).expand(1, 24, 6, 10)

    states = (torch.zeros(1, 16, 32),)
    fuser(VisionFeatures(states, (2,), (3, 5), 1, maps=dict(fine=place)))

    # Token (1, 2) of 3 x 5 lies over rows 2-3 and columns 4-5 of 6 x 10.
    assert seen[0][0, 1 * 5 + 2, :, 0].tolist() == [24.0, 25.0, 34.0, 35.0]


def test_released_sizes():
    clip = dict(
        model_type="clip_vision_model",
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    )
    name = "convnext_large_mlp.clip_laion2b_ft_320"
    with torch.device("meta"):
        mgm = DualVisionEncoder(
            HFVisionEncoder(config=clip), TimmConvNeXt(name), image_size=768
        )
        hr = MixtureOfResolutionVisionEncoder(
            HFVisionEncoder(config=clip), mgm.high, image_size=1024
        )

    assert mgm.spec.grid(768, 768) == (24, 24)
    assert mgm.spec.maps == (MapSpec("fine", 2880, 8),)
    assert hr.spec.grid(1024, 1024) == (32, 32)
    assert hr.spec.num_prefix_tokens == 0
    assert sorted(map(int, hr.adapters)) == [6, 12, 18]


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda a, b: DualVisionEncoder(a, b, image_size=66), "image_size=66 does not"),
        (lambda a, b: DualVisionEncoder(a, b, image_size=24), "cells of 4"),
        (
            lambda a, b: MixtureOfResolutionVisionEncoder(a, b, 128, stages=(4,)),
            r"stages=\[4\], expected blocks 1..3",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make(HFVisionEncoder.tiny(), TimmConvNeXt.tiny())


def test_other_models_and_encoders_are_refused():
    with pytest.raises(ValueError, match="expected a ConvNeXt"):
        TimmConvNeXt("vit_tiny_patch16_224")
    with pytest.raises(ValueError, match="maps"):
        PatchInfoMiningFuser(vision_spec=HFVisionEncoder.tiny().spec)


def high_definition(grid=2):
    """Return a dual encoder of crops with its connector, and the whole-only twin."""
    torch.manual_seed(0)
    low, high = HFVisionEncoder.tiny(), TimmConvNeXt.tiny()
    encoder = DualVisionEncoder(low, high, image_size=32 * grid, grid=grid).eval()
    fuser = PatchInfoMiningFuser(vision_spec=encoder.spec, select_layers=[-2])
    return encoder, FusedConnector.around(fuser).eval()


@pytest.mark.parametrize("grid", [2, 3])
def test_crops_equal_the_released_way_crop_by_crop(grid):
    """Whole and crops are encoded and mined one by one, [whole, crops row by row]."""
    encoder, connector = high_definition(grid)
    views = torch.randn(2, 3, 32 * grid, 32 * grid)
    resize = dict(mode="bilinear", align_corners=False)

    out = connector(encoder(views, (-2,)))

    first, *others = encoder.high(views)
    aux = torch.cat(
        [
            first,
            *(
                torch.nn.functional.interpolate(x, first.shape[-2:], **resize)
                for x in others
            ),
        ],
        1,
    )
    side, cells = 32, aux.shape[-1] // grid
    big = torch.nn.functional.interpolate(views, (side * grid,) * 2, **resize)
    pairs = [
        (
            torch.nn.functional.interpolate(big, (side, side), **resize),
            torch.nn.functional.interpolate(aux, scale_factor=1 / grid, **resize),
        )
    ]
    for row in range(grid):
        for col in range(grid):
            a, b = (
                x[..., row * n : (row + 1) * n, col * n : (col + 1) * n]
                for x, n in ((big, side), (aux, cells))
            )
            pairs.append((a, b))
    expected = []
    for small, fine in pairs:
        tokens = encoder.low(small, (-2,)).patches()
        features = VisionFeatures((tokens,), (2,), (4, 4), maps=dict(fine=fine))
        alone = PatchInfoMiningFuser(
            vision_spec=replace(encoder.spec, stacked=1), select_layers=[-2]
        )
        alone.load_state_dict(connector.fuser.state_dict())
        expected.append(connector.projector(alone(features)))
    expected = torch.stack(expected, 1).flatten(0, 1)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)


def test_crops_count_their_tokens_and_none_is_lost():
    encoder, connector = high_definition()
    layout = ViewLayout((50, 40), (64, 64))

    assert connector.num_output_tokens(layout) == 5 * 16
    features = encoder(torch.zeros(3, 3, 64, 64), (-2,))
    rows = connector.merge_views(connector(features), (layout,) * 3)
    assert rows.shape == (3 * 80, 48)
    assert connector(encoder(torch.zeros(0, 3, 64, 64), (-2,))).shape == (0, 16, 48)


def test_crops_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="under each of grid=2 crops"):
        DualVisionEncoder(HFVisionEncoder.tiny(), TimmConvNeXt.tiny(), 16, grid=2)
