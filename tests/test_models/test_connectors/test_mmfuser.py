"""MMFuser against the official block, and what its options mean."""

import dataclasses
import re

import numpy as np
import pytest
import torch

from mmvlm.models.connectors.fused import FusedConnector
from mmvlm.models.fusers.mmfuser import MMFuser, cell_centres
from mmvlm.models.ops import compiled
from mmvlm.structures import VisionEncoderSpec, VisionFeatures
from mmvlm.testing.connector_contract import CONNECTOR_CHECKS, FuserCase

CLIP = VisionEncoderSpec(1024, 24, 14, 336, num_prefix_tokens=1)


@pytest.fixture
def golden(goldens):
    with np.load(goldens / "mmfuser.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def state(golden, prefix):
    return {
        key.removeprefix(prefix): value
        for key, value in golden.items()
        if key.startswith(prefix)
    }


def spec_of(golden):
    layers, _, length, width = golden["in/features"].shape
    side = int(length**0.5)
    return VisionEncoderSpec(width, layers - 1, 2, 2 * side)


def options_of(golden):
    """Layers, heads and points of the file's block.

    A fresh block's points step out 1, 2, ... cells, so the last step counts them.
    """
    steps = golden["sd_init/cross_attn.sampling_offsets.bias"]
    points, levels = round(steps.abs().max().item()), len(golden["out/spatial_shapes"])
    return dict(
        select_layers=list(range(len(golden["in/features"]))),
        num_heads=len(steps) // (2 * levels * points),
        num_points=points,
    )


def build(golden, backend=None, prefix="sd/"):
    if backend == "cpp" and (reason := compiled.load_ops()):
        pytest.skip(f"backend 'cpp' is off: {reason}")
    options = options_of(golden)
    fuser = MMFuser(vision_spec=spec_of(golden), backend=backend, **options)
    fuser.load_state_dict(state(golden, prefix))
    return fuser


def features_of(golden, states=None):
    spec = spec_of(golden)
    states = golden["in/features"] if states is None else states
    grid = spec.grid(spec.image_size, spec.image_size)
    return VisionFeatures(tuple(states), tuple(range(len(states))), grid)


@pytest.mark.golden
def test_initial_state_is_the_official_one(golden):
    wanted = state(golden, "sd_init/")
    fuser = MMFuser(vision_spec=spec_of(golden), **options_of(golden))

    own = fuser.state_dict()

    assert own.keys() == wanted.keys()
    for key, value in wanted.items():
        assert own[key].shape == value.shape, key
        if not re.search(r"(value|output)_proj\.weight", key):
            torch.testing.assert_close(own[key], value, atol=1e-6, rtol=0, msg=key)


@pytest.mark.golden
def test_fresh_block_is_the_query_layer(golden):
    fuser = build(golden, prefix="sd_init/")

    out = fuser(features_of(golden)).hidden_states[0]

    assert torch.equal(out, golden["out/init_out"])
    assert torch.equal(out, golden["in/features"][-1])


@pytest.mark.golden
@pytest.mark.parametrize("backend", ["cpp", "bag", "grid"])
def test_output_and_what_leads_to_it_equal_the_official(golden, backend):
    fuser, seen = build(golden, backend), {}
    for name in ("cross_attn", "self_attn"):
        module = getattr(fuser, name)
        module.register_forward_hook(
            lambda module, inputs, out, name=name: seen.update({name: (inputs, out)})
        )

    out = fuser(features_of(golden)).hidden_states[0]

    close = dict(atol=1e-5, rtol=0)
    for name, (_, found) in seen.items():
        torch.testing.assert_close(found, golden[f"out/{name}"], **close)
    torch.testing.assert_close(out, golden["out/out"], **close)
    loss = (out.double() * golden["in/grad_weight"]).sum()
    torch.testing.assert_close(loss, golden["out/loss"], atol=1e-3, rtol=0)
    _, centres, value, shapes = seen["cross_attn"][0]
    torch.testing.assert_close(centres, golden["out/reference_points"], **close)
    assert [list(s) for s in shapes] == golden["out/spatial_shapes"].tolist()
    assert value.shape[1] == sum(h * w for h, w in shapes)


@pytest.mark.golden
@pytest.mark.parametrize("backend", ["cpp", "bag", "grid"])
def test_gradients_equal_the_official(golden, backend):
    fuser = build(golden, backend)
    states = golden["in/features"].requires_grad_()

    out = fuser(features_of(golden, states)).hidden_states[0]
    (out * golden["in/grad_weight"]).sum().backward()

    found = {f"sd/{name}": p.grad for name, p in fuser.named_parameters()}
    found["in/features"] = states.grad
    wanted = state(golden, "grad/")
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key], value, atol=1e-4, rtol=0, msg=key)


@pytest.mark.golden
def test_bfloat16_follows_the_official_dtype_flow(golden):
    fuser = build(golden).bfloat16()
    states = golden["in/features"].bfloat16()

    out = fuser(features_of(golden, states)).hidden_states[0]

    assert out.dtype == torch.bfloat16
    expected = golden["out/out_bf16_as_f32"]
    torch.testing.assert_close(out.float(), expected, atol=6e-2, rtol=0)


def projector_of(golden):
    linear = [k for k in golden if re.fullmatch(r"proj_sd/\d+\.weight", k)]
    return FusedConnector(
        dict(type="MMFuser", **options_of(golden)),
        dict(type="MLPConnector", depth=len(linear)),
        vision_spec=spec_of(golden),
        out_width=len(golden[max(linear)]),
    )


@pytest.mark.golden
def test_whole_projector_equals_the_official_through_the_key_map(golden):
    from mmvlm.export.keys import OURS, from_canonical, layout_of, to_canonical

    official = state(golden, "proj_sd/")
    official = {f"model.mm_projector.{key}": v for key, v in official.items()}
    connector = projector_of(golden)
    target = {f"connector.{k}": v for k, v in connector.state_dict().items()}
    canonical = to_canonical(official, layout_of(MMFuser))

    ours = from_canonical(canonical, target, OURS, parts=["connector"])

    connector.load_state_dict(
        {k.removeprefix("connector."): v for k, v in ours.items()}
    )
    out = connector(features_of(golden))
    torch.testing.assert_close(out, golden["out/proj_out"], atol=1e-5, rtol=0)
    back = {
        layout_of(MMFuser).key(name): v for name, v in to_canonical(ours, OURS).items()
    }
    assert back.keys() == official.keys()
    assert all(torch.equal(back[key], value) for key, value in official.items())


# ----------------------------------------------------------------- options
def test_published_number_of_parameters():
    fuser = MMFuser(vision_spec=CLIP)

    sizes = {
        name: sum(p.numel() for p in module.parameters())
        for name, module in fuser.named_children()
    }

    assert sum(p.numel() for p in fuser.parameters()) == 5_190_592
    assert sizes["cross_attn"] == 2_886_400 and sizes["self_attn"] == 2_296_000
    assert fuser.gamma1.numel() + fuser.gamma2.numel() == 2_048


@pytest.mark.parametrize(
    "layers, heads, points", [((1, 3), 4, 2), ((0, 1, 2, 3), 8, 3)]
)
def test_number_of_parameters_follows_the_formula(layers, heads, points):
    spec = dataclasses.replace(CLIP, width=64)

    fuser = MMFuser(
        vision_spec=spec, select_layers=layers, num_heads=heads, num_points=points
    )

    c, level = 64, len(layers) - 1
    wanted = 4 * c * c + 4 * c + 3 * heads * (level + 1) * points * (c + 1) + 8 * c
    assert sum(p.numel() for p in fuser.parameters()) == wanted


class Variant(FuserCase):
    """MMFuser's miniature with other options, for the contract's checks."""

    def __init__(self, **options):
        super().__init__(MMFuser)
        self.options = options

    def tiny(self, vision_spec, out_width):
        fuser = MMFuser(
            vision_spec=vision_spec,
            select_layers=(1, 2, -1),
            num_heads=4,
            **self.options,
        )
        return FusedConnector.around(fuser, out_width)


@pytest.mark.parametrize("check", CONNECTOR_CHECKS)
@pytest.mark.parametrize(
    "options",
    [
        dict(attention="global"),
        dict(attention="linear_sra"),
        dict(self_attention=False),
        dict(attention="global", self_attention=False, gamma_init=1.0),
        dict(backend="bag"),
        dict(backend="grid"),
    ],
    ids=str,
)
def test_every_option_keeps_the_contract(options, check):
    CONNECTOR_CHECKS[check](Variant(**options))


@pytest.mark.parametrize("attention", ["deformable", "global", "linear_sra"])
@pytest.mark.parametrize("self_attention", [True, False])
def test_gammas_at_zero_leave_the_query_layer(attention, self_attention):
    spec = VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
    options = dict(attention=attention, self_attention=self_attention, num_heads=4)
    states = tuple(torch.randn(2, 13, 32) for _ in range(3))
    features = VisionFeatures(states, (1, 2, 3), (3, 4), 1)

    identity = MMFuser(vision_spec=spec, select_layers=[1, 2, 3], **options)
    other = MMFuser(
        vision_spec=spec, select_layers=[1, 2, 3], gamma_init=0.5, **options
    )

    assert torch.equal(identity(features).hidden_states[0], states[-1][:, 1:])
    assert not torch.allclose(other(features).hidden_states[0], states[-1][:, 1:])
    names = {name for name, _ in identity.named_parameters()}
    assert ("gamma2" in names) == self_attention
    assert any(n.startswith("self_attn.") for n in names) == self_attention


def test_centres_are_x_before_y_on_any_grid():
    centres = cell_centres((2, 4), torch.device("cpu"))

    assert centres.shape == (1, 8, 1, 2)
    assert centres[0, 1, 0].tolist() == [0.375, 0.25]
    assert centres[0, 4, 0].tolist() == [0.125, 0.75]


def test_a_shallow_detail_is_found_where_it_lies():
    """One bright cell of a shallow layer changes the output around it only."""
    torch.manual_seed(0)
    spec = VisionEncoderSpec(16, 2, 4, 64)
    fuser = MMFuser(vision_spec=spec, select_layers=[1, 2], num_heads=4, gamma_init=1.0)
    torch.nn.init.zeros_(fuser.gamma2)
    dark = torch.zeros(1, 256, 16)
    bright = dark.clone()
    bright[0, 8 * 16 + 8] = torch.randn(16)
    deep = torch.randn(1, 256, 16)

    outs = [
        fuser(VisionFeatures((shallow, deep), (1, 2), (16, 16))).hidden_states[0]
        for shallow in (dark, bright)
    ]

    changed = (outs[0] - outs[1]).abs().sum(-1).view(16, 16) > 1e-6
    rows, columns = changed.nonzero(as_tuple=True)
    # Four heads look 1 to 4 cells to the right, down, left and up.
    assert {(8, c) for c in (4, 5, 6, 7, 9, 10, 11, 12)} <= set(
        zip(rows.tolist(), columns.tolist(), strict=True)
    )
    assert rows.min() == 4 and rows.max() == 12
    assert ((rows - 8).abs() < 1).logical_or((columns - 8).abs() < 1).all()


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(select_layers=[3]), r"select_layers=\[3\], expected one or more layers"),
        (dict(attention="sparse"), "attention='sparse', expected 'deformable', 'gl"),
        (dict(num_heads=7), "num_heads=7 does not divide embed_dims=1024"),
        (dict(num_heads=7, attention="global"), "GridAttention: num_heads=7"),
        (dict(backend="gpu"), "backend='gpu', expected one of"),
        (dict(select_layers=[3, 30]), "select_layers has 30"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MMFuser(vision_spec=CLIP, **options)
