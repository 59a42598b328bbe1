"""Tiles behind any connector: composition, newline, promise, refusals."""

import pytest
import torch

from mmvlm.registry import MODELS
from mmvlm.structures import ViewLayout, VisionEncoderSpec, VisionFeatures
from mmvlm.testing.connector_contract import CONNECTOR_CHECKS, make_features

SPEC = VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
INNER = {
    "linear": dict(type="LinearConnector"),
    "mlp": dict(type="MLPConnector", depth=3),
    "fused": dict(
        type="FusedConnector",
        fuser=dict(type="LayerConcatFuser", select_layers=[1, 2]),
        projector=dict(type="MLPConnector"),
    ),
}


def _build(connector, **options):
    config = dict(type="AnyResConnector", connector=connector, **options)
    return MODELS.build(dict(config, vision_spec=SPEC, out_width=48))


@pytest.mark.parametrize("unpad", [True, False])
@pytest.mark.parametrize("name", INNER)
def test_any_connector_of_patches_keeps_the_contract(name, unpad):
    class Case:
        __name__ = "AnyResConnector"

        @staticmethod
        def tiny(vision_spec, out_width):
            return _build(INNER[name], unpad=unpad)

    for key, check in CONNECTOR_CHECKS.items():
        if key != "is_found_by_name":
            check(Case)


def test_rows_are_whole_image_then_map_without_padding():
    connector = _build(INNER["linear"])
    # Two tiles of 4 x 4 patches, an image of 4 : 1, so 2 x 8 patches are left.
    layout = ViewLayout((32, 128), (32, 32), 3, "anyres", extra=(1, 2))
    grid = torch.arange(3.0 * 16).view(3, 16, 1).expand(-1, -1, 48)

    rows = connector.merge_views(grid, (layout,))[:, 0].tolist()

    newline = connector.image_newline[0].item()
    left, right = (grid[k, :, 0].view(4, 4) for k in (1, 2))
    kept = [[*left[k].tolist(), *right[k].tolist(), newline] for k in (1, 2)]
    assert rows == [*map(float, range(16)), *kept[0], *kept[1]]
    assert connector.num_output_tokens(layout) == len(rows) == 16 + 2 * 9


def test_single_view_ends_with_one_newline():
    connector = _build(INNER["linear"])
    features = make_features(connector, images=1)
    features = VisionFeatures(
        tuple(state[:1] for state in features.hidden_states),
        features.layers,
        features.grid,
        features.num_prefix_tokens,
    )
    layout = ViewLayout((20, 30), (32, 32))

    rows = connector.merge_views(connector(features), (layout,))

    assert len(rows) == connector.num_output_tokens(layout) == 17
    assert torch.equal(rows[-1], connector.image_newline)


def test_newline_starts_small():
    torch.manual_seed(0)
    config = dict(type="AnyResConnector", connector=INNER["linear"])
    newline = MODELS.build(
        dict(config, vision_spec=SPEC, out_width=4096)
    ).image_newline.detach()

    assert newline.std().item() == pytest.approx(1 / 64, rel=0.05)
    assert not hasattr(_build(INNER["linear"], unpad=False), "image_newline")


def test_a_connector_without_grid_is_refused():
    with pytest.raises(ValueError, match=r"LinearConnector .* keeps no grid"):
        _build(dict(type="LinearConnector", select_feature="cls_patch"))


def test_views_that_are_no_tiles_are_refused():
    connector = _build(INNER["linear"])

    with pytest.raises(ValueError, match="layout 'crops'"):
        connector.num_output_tokens(ViewLayout((32, 32), (32, 32), 2, "crops"))
