"""mPLUG-Owl's abstractor against the official arrays."""

import numpy as np
import pytest
import torch

from mmvlm.models.connectors.abstractor import AbstractorConnector
from mmvlm.structures import ViewLayout, VisionEncoderSpec, VisionFeatures


def official(data):
    """Build the file's abstractor; return it with its features."""
    state = {
        key.removeprefix("mplug/sd/"): torch.from_numpy(data[key])
        for key in data
        if key.startswith("mplug/sd/")
    }
    state["query_tokens"] = torch.from_numpy(data["mplug/query_tokens"])
    image = torch.from_numpy(data["mplug/image_embeds"])
    hidden, width = state["encoder.layers.0.crossattention.output.mlp.w1.weight"].shape
    connector = AbstractorConnector(
        vision_spec=VisionEncoderSpec(width, 2, 8, 32),
        out_width=len(state["visual_fc.bias"]),
        num_queries=state["query_tokens"].shape[1],
        num_layers=1 + max(int(k.split(".")[2]) for k in state if "layers" in k),
        num_heads=int(data["mplug/heads"]),
        intermediate_size=hidden,
    ).eval()
    connector.load_state_dict(state, strict=True)
    return connector, VisionFeatures((image,), (2,), (1, image.shape[1]))


@pytest.mark.golden
def test_abstractor_equals_the_official_one(goldens):
    data = np.load(goldens / "connectors_small.npz")
    connector, features = official(data)

    out = connector(features)

    expected = torch.from_numpy(data["mplug/out"])
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)
    end = torch.from_numpy(data["mplug/sd/vit_eos"])
    assert torch.equal(out[:, -1:], end.expand(len(out), -1, -1))


def test_sizes_of_mplug_owl():
    spec = VisionEncoderSpec(1024, 24, 14, 224, num_prefix_tokens=1)
    with torch.device("meta"):
        connector = AbstractorConnector(vision_spec=spec, out_width=4096)

    d, f, dl = 1024, 4096, 4096
    expected = 6 * (4 * d * d + 3 * d * f + 11 * d + 4 * f) + 64 * d + d * dl + 2 * dl
    assert sum(p.numel() for p in connector.parameters()) == expected
    assert connector.num_output_tokens(ViewLayout((480, 640), (224, 224))) == 65


def test_heads_must_divide_the_width():
    spec = VisionEncoderSpec(32, 3, 8, 32)

    with pytest.raises(ValueError, match="num_heads=5"):
        AbstractorConnector(vision_spec=spec, out_width=8, num_heads=5)
