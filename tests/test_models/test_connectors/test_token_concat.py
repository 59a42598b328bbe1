"""MiniGPT-v2's token concatenation."""

import pytest
import torch

from mmvlm.models.connectors.token_concat import TokenConcatConnector
from mmvlm.structures import ViewLayout, VisionEncoderSpec
from mmvlm.testing.connector_contract import make_features

EVA = VisionEncoderSpec(1408, 39, 14, 224, num_prefix_tokens=1)


def test_sizes_of_minigpt_v2():
    with torch.device("meta"):
        connector = TokenConcatConnector(vision_spec=EVA, out_width=4096)

    assert connector.proj.weight.shape == (4096, 5632)
    trained = sum(p.numel() for p in connector.parameters())
    assert trained == 4 * 1408 * 4096 + 4096 + 2 * 1408
    assert connector.num_output_tokens(ViewLayout((480, 640), (448, 448))) == 256


def test_four_neighbours_of_the_raster_become_one_token():
    connector = TokenConcatConnector.tiny().eval()
    features = make_features(connector)

    out = connector(features)

    patches = connector.ln_vision(features.hidden_states[0][:, 1:])
    third = torch.cat([patches[:, 8 + k] for k in range(4)], -1)
    torch.testing.assert_close(out[:, 2], connector.proj(third))


def test_an_incomplete_group_is_filled_with_zeros():
    connector = TokenConcatConnector.tiny().eval()
    features = make_features(connector, grid=(5, 3))

    out = connector(features)

    last = connector.ln_vision(features.hidden_states[0][:, -3:]).flatten(1)
    filled = torch.cat([last, torch.zeros(3, 32)], -1)
    torch.testing.assert_close(out[:, -1], connector.proj(filled))


@pytest.mark.parametrize(
    "options, match",
    [(dict(group=0), "group=0"), (dict(select_layers=(0, 1)), "exactly one layer")],
)
def test_wrong_options_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        TokenConcatConnector(vision_spec=EVA, out_width=8, **options)
