"""Emu's C-Former: official arrays, causality, sizes."""

import numpy as np
import pytest
import torch

from mmvlm.models.connectors.causal_former import CausalFormerConnector, _causal_buckets
from mmvlm.structures import VisionEncoderSpec, VisionFeatures
from mmvlm.testing.connector_contract import build, make_features


def official(data):
    """Build the file's C-Former; return it with its features."""
    size = {k.removeprefix("cfg/"): int(data[k]) for k in data if "cfg/" in k}
    state = {
        key.removeprefix("sd/"): torch.from_numpy(data[key])
        for key in data
        if key.startswith("sd/")
    }
    state.pop("cformer.embed_tokens.weight")  # no word is ever read
    image = torch.from_numpy(data["in"])
    connector = CausalFormerConnector(
        vision_spec=VisionEncoderSpec(size["vision_width"], 2, 8, 32),
        out_width=size["output_dim"],
        num_queries=size["n_causal"],
        width=size["d_model"],
        num_layers=size["num_layers"],
        num_heads=size["num_heads"],
        head_width=size["d_kv"],
        intermediate_size=size["d_ff"],
        vision_norm=False,
    ).eval()
    connector.load_state_dict(state, strict=True)
    return connector, VisionFeatures((image,), (2,), (1, image.shape[1]))


@pytest.mark.golden
def test_cformer_equals_the_official_one(goldens):
    data = np.load(goldens / "emu_cformer.npz")
    connector, features = official(data)
    expected = torch.from_numpy(data["out"])

    earlier = connector(features)[:, :-1]
    with torch.no_grad():
        # The file holds the last query after a causality check moved it by 1, and
        # the output from before (its mean is 1, the others' 0).
        connector.causal_tokens[:, -1] -= connector.causal_tokens[:, -1].mean().round()
    out = connector(features)

    torch.testing.assert_close(earlier, expected[:, :-1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)


def test_buckets_are_those_of_t5():
    from transformers.models.t5.modeling_t5 import T5Attention

    place = torch.arange(160)
    theirs = T5Attention._relative_position_bucket(
        place[None] - place[:, None], bidirectional=False
    )

    assert torch.equal(_causal_buckets(160, place.device), theirs)


@pytest.mark.parametrize("changed", [0, 2, 5])
def test_a_later_query_never_changes_an_earlier_token(changed):
    connector = build(CausalFormerConnector)
    features = make_features(connector)
    before = connector(features)

    with torch.no_grad():
        connector.causal_tokens[:, changed] += 1

    moved = (connector(features) - before).abs().amax((0, 2)) > 1e-6
    assert moved.tolist() == [place >= changed for place in range(6)]


def test_sizes_of_emu():
    spec = VisionEncoderSpec(1408, 39, 14, 224, num_prefix_tokens=1)
    with torch.device("meta"):
        connector = CausalFormerConnector(vision_spec=spec, out_width=5120)

    d, f, dv, dl, inner = 768, 3072, 1408, 5120, 12 * 64
    expected = 12 * (6 * d * inner + 2 * dv * inner + 2 * d * f + 3 * d)
    expected += 32 * 12 + d + 32 * d + d * dl + dl + 2 * dv
    assert sum(p.numel() for p in connector.parameters()) == expected
    with pytest.raises(ValueError, match="exactly one layer"):
        CausalFormerConnector(vision_spec=spec, out_width=8, select_layers=(1, 2))
