"""Linear and MLP connectors: parameters, layers, features, refusals."""

import pytest
import torch
from torch import nn

from mmvlm.models.connectors.linear import LinearConnector
from mmvlm.models.connectors.mlp import MLPConnector
from mmvlm.structures import ViewLayout, VisionEncoderSpec
from mmvlm.testing.connector_contract import make_features

CLIP = VisionEncoderSpec(1024, 24, 14, 336, num_prefix_tokens=1)


@pytest.mark.parametrize("width, expected", [(4096, 20_979_712), (5120, 31_467_520)])
def test_parameters_of_llava_15(width, expected):
    with torch.device("meta"):
        connector = MLPConnector(vision_spec=CLIP, out_width=width)

    assert sum(p.numel() for p in connector.parameters()) == expected
    assert connector.num_output_tokens(ViewLayout((480, 640), (336, 336))) == 576


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_layers_and_keys_follow_the_sequential_layout(depth):
    connector = MLPConnector(vision_spec=CLIP, out_width=8, depth=depth)

    kinds = [type(layer) for layer in connector.proj]
    assert kinds == [nn.Linear, *[nn.GELU, nn.Linear] * (depth - 1)]
    expected = {f"proj.{2 * k}.{w}" for k in range(depth) for w in ("weight", "bias")}
    assert set(connector.state_dict()) == expected


def test_mlp_is_linear_gelu_linear_on_patches_only():
    connector = MLPConnector.tiny().eval()
    features = make_features(connector)
    state = connector.state_dict()

    out = connector(features)

    hidden = features.hidden_states[0][:, 1:]
    hidden = hidden @ state["proj.0.weight"].T + state["proj.0.bias"]
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    expected = hidden @ state["proj.2.weight"].T + state["proj.2.bias"]
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("cls", [LinearConnector, MLPConnector])
def test_cls_patch_keeps_the_prefix_tokens(cls):
    spec = VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
    connector = cls(vision_spec=spec, out_width=8, select_feature="cls_patch")

    out = connector(make_features(connector))

    assert out.shape == (3, 17, 8)
    assert connector.num_output_tokens(ViewLayout((32, 32), (32, 32))) == 17


@pytest.mark.parametrize(
    "options, match",
    [
        (dict(depth=0), "depth=0"),
        (dict(act="mish"), "act='mish'"),
        (dict(select_feature="cls"), "select_feature='cls'"),
        (dict(select_layers=[-2, -1]), "exactly one layer"),
    ],
)
def test_wrong_options_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        MLPConnector(vision_spec=CLIP, out_width=8, **options)
