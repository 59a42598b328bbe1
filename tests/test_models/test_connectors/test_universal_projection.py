"""OneLLM's projection experts against the official module, and what they promise."""

import pytest
import torch

from mmvlm.models.connectors.universal_projection import (
    ROUTERS,
    UniversalProjectionConnector,
)
from mmvlm.structures import VisionEncoderSpec, VisionFeatures

SPEC = VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)


def _connector(**options):
    torch.manual_seed(0)
    sizes = dict(num_layers=2, num_heads=4, num_tokens=5, multiple_of=16)
    return UniversalProjectionConnector(
        vision_spec=SPEC, out_width=48, **{**sizes, **options}
    ).eval()


def _features(count=2, modality="image"):
    states = torch.randn(count, 17, 32, generator=torch.Generator().manual_seed(3))
    return VisionFeatures((states,), (3,), (4, 4), 1, modality=modality)


@pytest.mark.parametrize("router", ROUTERS)
def test_every_router_weighs_the_experts_to_one_but_sparse(router):
    connector = _connector(router=router)
    tokens = torch.randn(2, 7, 32)

    weights = connector.routing_weights(tokens, "image")

    assert weights.shape == (2, 7, 3)
    if router == "sparse":
        assert (weights > 0).sum(-1).eq(1).all()
        assert (weights.sum(-1) < 1).all()
    else:
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 7))


def test_tags_stand_around_the_learned_tokens():
    connector = _connector()
    features = _features()

    out = connector(features)

    assert out.shape == (2, 7, 48)
    assert torch.equal(
        out[:, 1:-1], connector.project(features.hidden_states[0], "image")
    )
    assert torch.equal(out[1, 0], connector.start_tag["image"][0, 0])
    assert torch.equal(out[0, -1], connector.end_tag["image"][0, 0])
    assert connector.token_count.tokens_per_view == 7
    assert _connector(tags=False)(features).shape == (2, 5, 48)


def test_equal_experts_are_one_expert_whatever_the_router():
    single = _connector(num_experts=1)
    several = _connector(num_experts=3, router="softmax")
    state = {k: v for k, v in single.state_dict().items() if "experts" not in k}
    for number in range(3):
        for key, value in single.experts[0].state_dict().items():
            state[f"experts.{number}.{key}"] = value

    missing = several.load_state_dict(state, strict=False).missing_keys

    assert all(key.startswith("routers.") for key in missing)
    features = _features()
    torch.testing.assert_close(several(features), single(features))


def test_order_of_features_does_not_matter():
    """Experts have no positions: those are in the encoder."""
    connector, features = _connector(), _features()
    expected = connector(features)

    features.hidden_states = (features.hidden_states[0].flip(1),)

    torch.testing.assert_close(connector(features), expected, atol=1e-5, rtol=1e-4)


def test_modalities_have_their_own_tokens_and_share_the_experts():
    connector = _connector(modalities=("image", "audio"))
    names = [name for name, _ in connector.named_parameters()]

    assert sum("audio" in n for n in names) == sum("image" in n for n in names)
    assert not any("audio" in n for n in names if n.startswith("experts"))
    one, other = connector(_features()), connector(_features(modality="audio"))
    assert not torch.allclose(one, other)


def test_an_expert_of_the_paper_has_its_computed_size():
    with torch.device("meta"):
        connector = UniversalProjectionConnector(
            vision_spec=VisionEncoderSpec(1024, 24, 14, 224, num_prefix_tokens=1),
            out_width=4096,
        )
    sizes = [sum(p.numel() for p in e.parameters()) for e in connector.experts]

    assert sizes == [102_776_832] * 3
    width, inner, out = 1024, 2816, 4096
    experts = 3 * 8 * (4 * width**2 + 3 * width * inner + 2 * width)
    own = 30 * width + (width**2 + 3 * width) + (width * out + 3 * out) + 2 * out
    router = 4 * width**2 + 4 * width + (4 * width + 1) * 3
    total = sum(p.numel() for p in connector.parameters())
    assert total == experts + own + router


def test_unknown_modality_is_refused():
    with pytest.raises(ValueError, match=r"got 'audio', it takes \['image'\]"):
        _connector()(_features(modality="audio"))


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(router="hard"), "router='hard', expected one of"),
        (dict(select_layers=(1, 2)), "expected one"),
        (dict(num_heads=5), "must divide the width 32"),
        (dict(modalities=()), "at least one"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        _connector(**options)
