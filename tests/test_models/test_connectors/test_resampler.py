"""Qwen-VL's resampler: official values, other grids, relatives, refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmvlm.models.connectors.resampler import ResamplerConnector
from mmvlm.models.utils.positions import resize_grid, sincos_grid
from mmvlm.structures import ViewLayout, VisionEncoderSpec, VisionFeatures
from mmvlm.testing.connector_contract import CONNECTOR_CHECKS, make_features

BIGG = VisionEncoderSpec(1664, 48, 14, 448)


@pytest.fixture(scope="module")
def golden(goldens):
    with np.load(goldens / "qwen_vl_resampler.npz") as data:
        return {key: torch.from_numpy(value) for key, value in data.items()}


def _official(golden, prefix=""):
    """Build the module of a case and load its official keys, strictly."""
    side, dim, heads, kv = (int(golden[f"cfg/{k}"]) for k in _CFG)
    key = f"{prefix}sd/"
    state = {k.removeprefix(key): v for k, v in golden.items() if k.startswith(key)}
    width = kv if "kv_proj.weight" in state else dim
    connector = ResamplerConnector(
        vision_spec=VisionEncoderSpec(width, 1, 1, side),
        out_width=dim,
        grid=side,
        heads=heads,
    )
    connector.load_state_dict(state, strict=True)
    return connector.eval()


_CFG = ("grid", "dim", "heads", "kv")


def _square(states):
    side = int(states.shape[1] ** 0.5)
    return VisionFeatures((states,), (1,), (side, side))


@pytest.mark.golden
def test_outputs_equal_the_official_ones(golden):
    cases = sorted(key for key in golden if key.startswith("in") and key[2:].isdigit())
    assert cases

    connector = _official(golden)
    for case in cases:
        out = connector(_square(golden[case]))
        torch.testing.assert_close(
            out, golden[f"out{case[2:]}"], atol=1e-5, rtol=1e-4, msg=case
        )


@pytest.mark.golden
def test_keys_of_the_same_width_need_no_projection(golden):
    connector = _official(golden, "nokv/")

    out = connector(_square(golden["nokv/in"]))

    torch.testing.assert_close(out, golden["nokv/out"], atol=1e-5, rtol=1e-4)


@pytest.mark.golden
def test_positions_equal_the_official_ones(golden):
    side, dim = int(golden["cfg/grid"]), int(golden["cfg/dim"])
    table = sincos_grid(dim, (side, side))
    torch.testing.assert_close(table, golden["pos_embed_2d"], atol=1e-5, rtol=0)
    names = [key for key in golden if key.startswith("abs_pos_interp")]
    assert names

    for name in names:
        target = int(len(golden[name]) ** 0.5)
        resized = resize_grid(golden["sd/pos_embed"], (side, side), (target, target))
        torch.testing.assert_close(resized, golden[name], atol=1e-5, rtol=0)


@pytest.mark.golden
def test_golden_covers_every_array(golden):
    known = ("sd/", "nokv/", "cfg/", "in", "out", "abs_pos_interp", "pos_embed_2d")

    assert all(key.startswith(known) for key in golden)


def test_positions_tell_columns_first():
    table = sincos_grid(8, (2, 3)).view(2, 3, 2, 4)

    assert torch.equal(table[0, :, 0], table[1, :, 0])  # same column, any row
    assert torch.equal(table[:, 0, 1], table[:, 2, 1])  # same row, any column
    torch.testing.assert_close(table[0, 2, 0, 0], torch.tensor(2.0).sin())
    torch.testing.assert_close(table[1, 0, 1, 2], torch.tensor(1.0).cos())


def test_a_grid_that_is_not_square_has_its_own_positions():
    connector = ResamplerConnector.tiny().eval()
    features = make_features(connector, (2, 6))
    turned = replace(features, grid=(6, 2))

    out, other = connector(features), connector(turned)

    assert out.shape == other.shape == (3, 9, 48)
    assert (out - other).abs().max() > 1e-4
    table = torch.arange(18.0).view(9, 2)
    wide = resize_grid(table, (3, 3), (3, 6)).view(3, 6, 2)
    assert (wide.diff(dim=1) > 0).all() and wide.shape == (3, 6, 2)


@pytest.mark.parametrize(
    "options",
    [
        dict(kv_bias=True, post_proj="linear"),
        dict(dim=16, post_proj="linear"),
        dict(dim=16, post_proj="matrix", drop_cls=False),
        dict(),
    ],
)
def test_relatives_keep_the_contract(options):
    class Case:
        __name__ = "ResamplerConnector"

        @staticmethod
        def tiny(vision_spec, out_width):
            return ResamplerConnector(
                vision_spec=vision_spec,
                out_width=out_width,
                grid=2,
                heads=2,
                **options,
            )

    for name, check in CONNECTOR_CHECKS.items():
        if name != "is_found_by_name":
            check(Case)


def test_prefix_tokens_are_seen_only_when_kept():
    for drop in (True, False):
        connector = ResamplerConnector.tiny().eval()
        connector.drop_cls = drop
        features = make_features(connector)
        changed = features.hidden_states[0].clone()
        changed[:, 0] += 1

        out = connector(features)
        other = connector(replace(features, hidden_states=(changed,)))

        assert torch.equal(out, other) is drop


@pytest.mark.parametrize(
    "options, expected",
    [
        # kv_proj, query, attention, two norms: the adapter of 0.08 B
        (dict(), 1664 * 4096 + 256 * 4096 + 4 * 4096**2 + 4 * 4096 + 4 * 4096),
        # with ln_post and proj of the tower's end
        (dict(post_proj="matrix"), 75_005_952 + 2 * 4096 + 4096**2),
    ],
)
def test_sizes_of_qwen_vl(options, expected):
    with torch.device("meta"):
        connector = ResamplerConnector(vision_spec=BIGG, out_width=4096, **options)

    assert sum(p.numel() for p in connector.parameters()) == expected
    assert connector.attn.num_heads == 32
    for size in ((224, 224), (448, 448), (448, 896)):
        assert connector.num_output_tokens(ViewLayout(size, size)) == 256


def test_weights_start_as_published():
    torch.manual_seed(0)
    spec = VisionEncoderSpec(64, 1, 1, 16)
    connector = ResamplerConnector(vision_spec=spec, out_width=256)

    for weight in (connector.query, connector.kv_proj.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not connector.attn.out_proj.bias.any()
    assert "pos_embed" in connector.state_dict()
    assert "pos_embed" not in dict(connector.named_parameters())


@pytest.mark.parametrize(
    "options, match",
    [
        (dict(post_proj="mlp"), "post_proj='mlp'"),
        (dict(dim=16), "dim=16, but the language model is 8 wide"),
        (dict(select_layers=[1, 2]), "exactly one layer"),
        (dict(dim=6, post_proj="linear"), "no multiple of 4"),
    ],
)
def test_wrong_options_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        ResamplerConnector(vision_spec=BIGG, out_width=8, heads=1, **options)
