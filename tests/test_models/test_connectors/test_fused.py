"""A fuser and a projector: composition, layers, promises, refusals."""

from dataclasses import replace

import pytest
import torch

from mmvlm.config import load_config
from mmvlm.config.tiny import make_tiny
from mmvlm.models.connectors.fused import FusedConnector
from mmvlm.models.connectors.linear import LinearConnector
from mmvlm.models.fusers.base import Fuser
from mmvlm.models.fusers.layer_fusion import LayerConcatFuser, LayerMeanFuser
from mmvlm.registry import MODELS
from mmvlm.structures import ViewLayout, VisionEncoderSpec, VisionFeatures
from mmvlm.testing.connector_contract import CONNECTOR_CHECKS, FuserCase, make_features

SPEC = VisionEncoderSpec(16, 4, 8, 32, num_prefix_tokens=1)


def one_view(layout):
    return replace(layout, num_views=1)


class PairFuser(Fuser):
    """Adds the two views of an image; a fuser written inside a test."""

    @property
    def out_layout(self):
        return one_view

    def views_of(self, size):
        return ViewLayout(size, size, num_views=2)

    def forward(self, features):
        """Add. Shape: (2B, P + N, D) to (B, N, D)."""
        patches = features.patches(0).unflatten(0, (-1, 2)).sum(1)
        layouts = tuple(map(one_view, features.layouts))
        return VisionFeatures((patches,), (0,), features.grid, 0, layouts)


def test_configs_compose_by_key():
    connector = MODELS.build(
        dict(
            type="FusedConnector",
            fuser=dict(type="LayerConcatFuser", select_layers=[1, 3]),
            projector=dict(type="MLPConnector", depth=2),
            vision_spec=SPEC,
            out_width=24,
        )
    )

    assert connector.select_layers == (1, 3)
    assert connector.projector.proj[0].in_features == 32
    assert connector(make_features(connector)).shape == (3, 16, 24)


def test_mean_of_layers_is_the_mean():
    fuser = LayerMeanFuser(vision_spec=SPEC, select_layers=[0, 2, 4])
    features = make_features(FusedConnector.around(fuser))

    fused = fuser(features)

    expected = torch.stack([features.patches(i) for i in range(3)]).mean(0)
    torch.testing.assert_close(fused.hidden_states[0], expected)
    assert not any(p.requires_grad for p in fuser.parameters())


def test_fuser_that_joins_views_is_counted_and_checked():
    MODELS.register_module(module=PairFuser, force=True)
    try:
        connector = FusedConnector.around(PairFuser(vision_spec=SPEC))

        assert connector.num_output_tokens(ViewLayout((32, 32), (32, 32), 2)) == 16
        for check in CONNECTOR_CHECKS.values():
            check(FuserCase(PairFuser))
    finally:
        MODELS.module_dict.pop("PairFuser")


def test_widths_must_fit():
    fuser = LayerConcatFuser(vision_spec=SPEC, select_layers=[1, 2])
    projector = LinearConnector(vision_spec=SPEC, out_width=8)

    with pytest.raises(ValueError, match="LayerConcatFuser gives width 32, LinearCon"):
        FusedConnector(fuser, projector, vision_spec=SPEC, out_width=8)


def test_tiny_keeps_every_layer_that_a_nested_fuser_selects():
    cfg = load_config(
        "configs/llava/llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb32-1e-pt_llava-558k.py",
        check=False,
    )
    cfg.model.connector = dict(
        type="FusedConnector",
        fuser=dict(type="LayerMeanFuser"),
        projector=dict(type="LinearConnector"),
    )

    assert make_tiny(cfg).model.vision_encoder.config.num_hidden_layers == 23


def test_a_projectors_media_pass_through():
    fused = FusedConnector(
        dict(type="LayerConcatFuser", select_layers=[1, -1]),
        dict(type="PerceiverResamplerConnector", depth=1, heads=2, dim_head=4),
        vision_spec=SPEC,
        out_width=48,
    )

    media = fused(make_features(fused))

    assert fused.memory_width == media.shape[-1] == 32
