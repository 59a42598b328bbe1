"""Pixel shuffle: equals transformers' InternVL, odd grids, sizes, tiles."""

from types import SimpleNamespace

import pytest
import torch

from mmvlm.models.connectors.pixel_shuffle import (
    PixelShuffleConnector,
    patches_to_channels,
)
from mmvlm.registry import MODELS
from mmvlm.structures import ViewLayout, VisionEncoderSpec
from mmvlm.testing.connector_contract import make_features

INTERNVIT = VisionEncoderSpec(1024, 24, 14, 448, num_prefix_tokens=1)


def test_equals_internvl_of_transformers():
    from transformers.models.internvl import modeling_internvl

    connector = PixelShuffleConnector.tiny().eval()
    config = SimpleNamespace(
        vision_config=SimpleNamespace(hidden_size=32),
        text_config=SimpleNamespace(hidden_size=48),
        downsample_ratio=0.5,
        projector_hidden_act="gelu",
    )
    official = modeling_internvl.InternVLMultiModalProjector(config)
    names = {"layer_norm": "0", "linear_1": "1", "linear_2": "3"}
    state = connector.proj.state_dict()
    official.load_state_dict(
        {
            f"{theirs}.{leaf}": state[f"{ours}.{leaf}"]
            for theirs, ours in names.items()
            for leaf in ("weight", "bias")
        }
    )
    features = make_features(connector)

    grid = features.patches(0).unflatten(1, features.grid)
    shuffled = modeling_internvl.InternVLModel.pixel_shuffle(None, grid, 0.5)
    expected = official(shuffled.flatten(1, 2))

    torch.testing.assert_close(connector(features), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("grid", [(4, 6), (5, 3)])
@pytest.mark.parametrize("shrink", [1, 2, 3])
def test_every_block_holds_its_patches_row_by_row(grid, shrink):
    rows, cols = grid
    patches = torch.randn(2, rows * cols, 5)

    blocks = patches_to_channels(patches, grid, shrink)

    expected = []
    for top in range(0, rows, shrink):
        for left in range(0, cols, shrink):
            inside = [
                patches[:, y * cols + x] if y < rows and x < cols else torch.zeros(2, 5)
                for y in range(top, top + shrink)
                for x in range(left, left + shrink)
            ]
            expected.append(torch.cat(inside, -1))
    torch.testing.assert_close(blocks, torch.stack(expected, 1), atol=0, rtol=0)


def test_sizes_of_internvl2_8b():
    with torch.device("meta"):
        connector = PixelShuffleConnector(vision_spec=INTERNVIT, out_width=4096)

    width = 4 * 1024
    expected = 2 * width + width * 4096 + 4096 + 4096 * 4096 + 4096
    assert sum(p.numel() for p in connector.parameters()) == expected == 33_570_816
    assert connector.num_output_tokens(ViewLayout((448, 448), (448, 448))) == 256


def test_tiles_join_behind_it():
    config = dict(
        type="AnyResConnector",
        connector=dict(type="PixelShuffleConnector", select_layers=[-2]),
    )
    spec = VisionEncoderSpec(1024, 24, 14, 336, num_prefix_tokens=1)
    with torch.device("meta"):
        connector = MODELS.build(dict(config, vision_spec=spec, out_width=64))

    layout = ViewLayout((480, 640), (336, 336), 5, "anyres", extra=(2, 2))

    assert connector.num_output_tokens(layout) == 144 + 18 * 25


@pytest.mark.parametrize(
    "options, match",
    [(dict(shrink=0), "shrink=0"), (dict(select_layers=[1, 2]), "exactly one layer")],
)
def test_wrong_options_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        PixelShuffleConnector(vision_spec=INTERNVIT, out_width=8, **options)
