"""LLaVA-UHD: official grids, sizes and separators; slices; token promise."""

import json

import numpy as np
import pytest
import torch

from mmvlm.datasets.transforms.slices import SliceViews
from mmvlm.models.connectors.perceiver_resampler import PerceiverResamplerConnector
from mmvlm.models.connectors.sliced import SlicedConnector
from mmvlm.structures import ViewLayout
from mmvlm.structures.slices import overview_size, slice_grid, slice_size
from mmvlm.testing.connector_contract import make_features

PATCH = 14  # of the released tower; a file may name another


@pytest.fixture(scope="module")
def cases(goldens):
    found = json.loads((goldens / "connectors_small.json").read_text())
    assert found["llava_uhd_slicing"]
    return found["llava_uhd_slicing"]


@pytest.mark.golden
def test_grids_and_sizes_equal_the_official_ones(cases):
    for case in cases:
        width, height = case["size_wh"]
        side, patch = case["scale_resolution"], case.get("patch_size", PATCH)
        grid = slice_grid((height, width), side, case["max_slice_nums"])
        overview = overview_size((height, width), grid, side, patch)

        assert [overview[1], overview[0]] == case["source_wh"], case
        assert (grid and [grid[1], grid[0]]) == case["grid_cols_rows"], case
        assert (grid[0] * grid[1] if grid else 0) == case["num_slices"]
        if grid:
            size = slice_size((height, width), grid, side, patch)
            assert [size[1], size[0]] == case["slice_wh"], case


@pytest.mark.golden
def test_separators_follow_the_slices_as_officially(cases):
    connector = SlicedConnector.tiny().eval()
    names = {"comma": connector.separators[0], "newline": connector.separators[1]}
    for case in cases:
        grid = case["grid_cols_rows"]
        extra = (grid[1], grid[0]) if grid else ()
        count = 1 + case["num_slices"]
        layout = ViewLayout((1, 1), (32, 32), count, "slices", extra=extra)
        embeds = torch.arange(count * 9.0).view(count, 9, 1).expand(-1, -1, 48)

        rows = connector.merge_views(embeds, (layout,))

        assert len(rows) == connector.num_output_tokens(layout)
        assert torch.equal(rows[:9], embeds[0])
        for number, name in enumerate(case["separators"]):
            block = rows[9 + number * 10 : 19 + number * 10]
            assert torch.equal(block[:9], embeds[number + 1])
            assert torch.equal(block[9], names[name])


def test_views_are_whole_then_slices_row_by_row():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4, 4:], image[4:, :4], image[4:, 4:] = 80, 160, 240

    transform = SliceViews(max_slices=4, size=4, resample="nearest")
    views, layout = transform.view(image)

    assert [int(view.mean()) for view in views] == [120, 0, 80, 160, 240]
    assert (layout.kind, layout.extra, layout.num_views) == ("slices", (2, 2), 5)
    small, layout = transform.view(image[:4, :4])
    assert len(small) == layout.num_views == 1 and layout.extra == ()
    with pytest.raises(ValueError, match="max_slices=0"):
        SliceViews(max_slices=0)


def test_the_whole_can_stand_behind_its_slices():
    connector = SlicedConnector.tiny().eval()
    layouts = [
        ViewLayout((64, 96), (32, 32), 7, "slices", extra=(2, 3)),
        ViewLayout((32, 32), (32, 32), 1, "slices"),
    ]
    embeds = torch.randn(8, 9, 48)
    first = connector.merge_views(embeds, layouts)
    connector.whole_last = True

    last = connector.merge_views(embeds, layouts)

    assert torch.equal(last, torch.cat([first[9:-9], first[:9], first[-9:]]))


def test_separators_get_a_gradient_though_no_image_is_cut():
    connector = SlicedConnector.tiny()

    rows = connector.merge_views(torch.randn(1, 9, 48), [ViewLayout((9, 9), (32, 32))])
    rows.sum().backward()

    assert connector.separators.grad is not None


def test_images_of_different_grids_share_a_batch():
    connector = SlicedConnector.tiny().eval()
    layouts = (
        ViewLayout((32, 32), (32, 32), 1, "slices"),
        ViewLayout((64, 96), (32, 32), 7, "slices", extra=(2, 3)),
    )
    features = make_features(connector, images=3)
    states = torch.cat([features.hidden_states[0]] * 2)[:8]
    features.hidden_states, features.layouts = (states,), layouts

    rows = connector.merge_views(connector(features), layouts)

    assert len(rows) == sum(map(connector.token_count, layouts)) == 9 + 7 * 9 + 6


def test_other_views_are_refused():
    with pytest.raises(ValueError, match="layout 'windows'"):
        SlicedConnector.tiny().num_output_tokens(
            ViewLayout((4, 4), (4, 4), 5, "windows", extra=(2, 2))
        )


def test_media_for_cross_attention_are_refused():
    inner = PerceiverResamplerConnector.tiny()

    with pytest.raises(ValueError, match="PerceiverResamplerConnector gives media"):
        SlicedConnector(inner, vision_spec=inner.vision_spec, out_width=48)
