"""INF-LLaVA's enhancement: the official numbers, options, parameters, refusals."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mmvlm.datasets.transforms.dual_perspective import dual_perspective_views
from mmvlm.export.keys import LLAVA, OURS, from_canonical, to_canonical
from mmvlm.models.connectors.fused import FusedConnector
from mmvlm.models.fusers.dual_perspective import DualPerspectiveFuser
from mmvlm.structures import (
    LayoutError,
    ViewLayout,
    VisionEncoderSpec,
    VisionFeatures,
)
from mmvlm.testing.connector_contract import CONNECTOR_CHECKS, FuserCase, make_features

TOLERANCE = dict(atol=1e-5, rtol=1e-4)
SPEC = VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)


@pytest.fixture
def golden(goldens):
    with np.load(goldens / "inf_llava_spatial_embed.npz") as data:
        return {key: torch.tensor(data[key]) for key in data}


def of(golden, case):
    return {
        key.removeprefix(f"{case}/"): value
        for key, value in golden.items()
        if key.startswith(f"{case}/")
    }


def cases_with(golden, name):
    """Names of the cases that hold an array of this name."""
    found = [k.removesuffix(f"/{name}") for k in golden if k.endswith(f"/{name}")]
    assert found, name
    return found


def official(arrays):
    return {k.removeprefix("sd/"): v for k, v in arrays.items() if k.startswith("sd/")}


def load(connector, state):
    """Load official keys strictly through the declared table."""
    ours = {f"connector.{k}": v for k, v in connector.state_dict().items()}
    canonical = to_canonical({f"model.{k}": v for k, v in state.items()}, LLAVA)
    fitted = from_canonical(canonical, ours, OURS, parts=["connector"])
    renamed = {k.removeprefix("connector."): v for k, v in fitted.items()}
    connector.load_state_dict(renamed, strict=True)


def official_fuser(arrays, **options):
    """Build the fuser of a case of the module, weights and input in our order."""
    channel, grid = int(arrays["channel"]), int(arrays["n"])
    side = round(arrays["in"].shape[2] ** 0.5)
    spec = VisionEncoderSpec(channel, 1, 2, side * 2)
    fuser = DualPerspectiveFuser(
        vision_spec=spec,
        grid=grid,
        select_layers=[-1],
        average_with_resized=False,
        **options,
    ).eval()
    fuser.load_state_dict(official(arrays), strict=True)
    views = arrays["in"]  # (views, B, N, C)
    layout = fuser.views_of((side * 2, side * 2))
    features = VisionFeatures(
        (views.transpose(0, 1).flatten(0, 1),),
        (1,),
        (side, side),
        0,
        (layout,) * views.shape[1],
    )
    return fuser, features


@pytest.mark.golden
@torch.no_grad()
@pytest.mark.parametrize("out_size", [None, "spatial"])
def test_output_equals_the_official_module(golden, out_size):
    for case in cases_with(golden, "spatial"):
        arrays = of(golden, case)
        options = dict(out_size=int(arrays["spatial"])) if out_size else {}

        fuser, features = official_fuser(arrays, **options)

        found = fuser(features).hidden_states[0]
        torch.testing.assert_close(found, arrays["out"], **TOLERANCE, msg=case)


@pytest.mark.golden
@torch.no_grad()
def test_every_step_equals_the_official_module(golden):
    for case in cases_with(golden, "fused_highres"):
        arrays = of(golden, case)
        fuser, features = official_fuser(arrays)
        side = features.grid[0]
        views = arrays["in"].unflatten(2, (side, side))

        maps = fuser.branch_maps(views)
        plain = DualPerspectiveFuser(
            vision_spec=fuser.vision_spec, grid=fuser.grid, enhance=False, fusion="add"
        ).branch_maps(torch.cat([views, views[:1]]))

        for name, found in (
            ("F_loc", plain["local"]),
            ("F_glo", plain["global"]),
            ("V_local_query", maps["local"]),
            ("V_global_query", maps["global"]),
            ("fused_highres", fuser.join(maps)),
        ):
            torch.testing.assert_close(found, arrays[name], **TOLERANCE, msg=name)


def official_encoder(arrays):
    """Build tower and connector of the whole encoder; a file may name its grid."""
    state, base, patch = official(arrays), int(arrays["base"]), int(arrays["patch"])
    tower = state.pop("tower_conv.weight")
    spec = VisionEncoderSpec(len(tower), 1, patch, base)
    fuser = DualPerspectiveFuser(
        vision_spec=spec, grid=int(arrays.get("n", 3)), select_layers=[-1]
    )
    connector = FusedConnector.around(fuser, len(state["mm_projector.0.bias"])).eval()
    load(connector, state)
    return tower, connector


def encoded(tower, connector, image):
    """Return the language model's tokens of images and the layout of one."""
    fuser, patch = connector.fuser, tower.shape[-1]
    base = fuser.vision_spec.image_size
    views = dual_perspective_views(image, fuser.views, base).flatten(0, 1)
    patches = functional.conv2d(views, tower, stride=patch).flatten(2).transpose(1, 2)
    layouts = (fuser.views_of((base, base)),) * len(image)
    assert len(views) == sum(layout.num_views for layout in layouts)
    features = VisionFeatures((patches,), (1,), (base // patch,) * 2, 0, layouts)
    return connector(features), layouts[0]


@pytest.mark.golden
@torch.no_grad()
def test_image_encoder_equals_the_official_one(golden):
    """From pixels to language model: enlarged, exact and non-square images."""
    arrays = of(golden, "encode")
    numbers = [k.removeprefix("image") for k in arrays if k.startswith("image")]
    tower, connector = official_encoder(arrays)
    assert numbers

    for number in numbers:
        found, layout = encoded(tower, connector, arrays[f"image{number}"])

        expected = arrays[f"out{number}"]
        torch.testing.assert_close(found, expected, **TOLERANCE, msg=number)
        assert expected.shape[1] == connector.num_output_tokens(layout)


def reference_attention(block, query, context):
    """Multi-head attention written out, one head at a time."""
    weights = [(layer.weight, layer.bias) for layer in block.linears]
    q, k, v = (
        x @ w.T + b
        for x, (w, b) in zip((query, context, context), weights[:3], strict=True)
    )
    width = q.shape[-1] // block.heads
    heads = []
    for number in range(block.heads):
        span = slice(number * width, (number + 1) * width)
        scores = q[..., span] @ k[..., span].transpose(-1, -2) / width**0.5
        heads.append(scores.softmax(-1) @ v[..., span])
    out = torch.cat(heads, -1) @ weights[3][0].T + weights[3][1] + query
    return functional.layer_norm(out, out.shape[-1:], block.ln.weight, block.ln.bias)


@pytest.mark.parametrize("pairing", ["code", "paper"])
def test_a_grid_of_one_is_plain_attention_between_two_maps(pairing):
    fuser = DualPerspectiveFuser(
        vision_spec=SPEC, grid=1, pairing=pairing, average_with_resized=False
    )
    views = torch.randn(2, 3, 5, 4, 32)
    local, whole = views.flatten(2, 3)

    maps = fuser.branch_maps(views)

    for found, query, context in (
        (maps["local"], local, whole),
        (maps["global"], whole, local),
    ):
        expected = reference_attention(fuser.attention, query, context)
        torch.testing.assert_close(found.flatten(1, 2), expected, **TOLERANCE)


@pytest.mark.parametrize("pairing", ["code", "paper"])
def test_pairing_says_what_attends_where(pairing):
    """A change of one place of a map reaches the piece that it lies in, no other."""
    fuser = DualPerspectiveFuser(vision_spec=SPEC, grid=2, pairing=pairing)
    views = torch.randn(9, 1, 3, 3, 32)
    other = views.clone()
    other[0, 0, 0, 0] += 1  # the first local view's corner: place (0, 0) of F_loc

    before, after = fuser.branch_maps(views), fuser.branch_maps(other)
    changed = (before["global"] != after["global"]).any(-1)[0]

    block, sampled = torch.zeros(6, 6).bool(), torch.zeros(6, 6).bool()
    block[:3, :3], sampled[::2, ::2] = True, True
    assert torch.equal(changed, block if pairing == "code" else sampled)


OPTIONS = [
    dict(fusion="linear_concat"),
    dict(fusion="paper_concat", pairing="paper", pooling="average"),
    *(dict(fusion=name) for name in ("add", "mul", "max", "weighted", "conv3x3")),
    dict(branches="global"),
    dict(branches="local", average_with_resized=False),
    dict(branches="global", enhance=False),
    dict(fusion="add", enhance=False, pooling="average"),
    dict(grid=3, out_size=3),
    dict(grid=1),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_keeps_the_contract(options):
    class Option(DualPerspectiveFuser):
        @classmethod
        def tiny(cls, vision_spec):
            return DualPerspectiveFuser(vision_spec=vision_spec, **options)

    for name, check in CONNECTOR_CHECKS.items():
        if name != "is_found_by_name":
            check(FuserCase(Option))


def test_joins_are_what_they_are_called():
    local, whole = torch.randn(2, 2, 4, 4, 32)

    def joined(**options):
        fuser = DualPerspectiveFuser(vision_spec=SPEC, **options)
        return fuser, fuser._fuse(local, whole)

    assert torch.equal(joined(fusion="add")[1], local + whole)
    assert torch.equal(joined(fusion="mul")[1], local * whole)
    assert torch.equal(joined(fusion="max")[1], torch.maximum(local, whole))
    mean = (local + whole) / 2
    torch.testing.assert_close(joined(fusion="weighted")[1], mean)
    fuser, found = joined(fusion="conv3x3")
    stacked = torch.cat([local, whole], -1).movedim(-1, 1)
    torch.testing.assert_close(found, fuser.conv(stacked).movedim(1, -1))
    fuser, found = joined(fusion="paper_concat")
    halves = [fuser.ffn_crop(local), fuser.ffn_stride(whole)]
    assert torch.equal(found, torch.cat(halves, -1)) and fuser.ln_fuse is None


@pytest.mark.parametrize("grid", [2, 3])
def test_bilinear_takes_the_middle_and_average_the_mean(grid):
    maps = torch.randn(1, 2 * grid, 4 * grid, 32)
    cells = maps.unflatten(2, (4, grid)).unflatten(1, (2, grid))

    def pooled(pooling):
        fuser = DualPerspectiveFuser(vision_spec=SPEC, grid=grid, pooling=pooling)
        return fuser.pool(maps, (2, 4))

    mean = cells.mean((2, 4))
    torch.testing.assert_close(pooled("average"), mean)
    expected = cells[:, :, 1, :, 1] if grid == 3 else mean
    torch.testing.assert_close(pooled("bilinear"), expected)


def test_the_four_linears_start_as_copies_of_one():
    attention = DualPerspectiveFuser.tiny().attention

    first = attention.linears[0]
    for layer in attention.linears[1:]:
        assert torch.equal(layer.weight, first.weight)
        assert torch.equal(layer.bias, first.bias)
        assert layer.weight is not first.weight


def parameters(width, **options):
    spec = VisionEncoderSpec(width, 24, 14, 336, num_prefix_tokens=1)
    with torch.device("meta"):
        fuser = DualPerspectiveFuser(vision_spec=spec, **options)
    return sum(p.numel() for p in fuser.parameters())


def test_parameters_follow_the_formulas():
    c = 1024
    attention, norm = 4 * (c * c + c) + 2 * c, 2 * c
    bottleneck = c * 64 + 64 + 64 * 512 + 512

    assert parameters(c) == attention + norm + 2 * bottleneck == 4_400_256
    assert {parameters(c, grid=n) for n in (2, 3, 4, 5)} == {4_400_256}
    assert parameters(c, fusion="add") == attention + norm
    assert parameters(c, fusion="weighted") == attention + norm + 2
    assert parameters(c, fusion="conv3x3") == attention + norm + 18 * c * c + c
    assert parameters(c, fusion="paper_concat") == attention + c * c + c
    assert parameters(c, branches="local") == attention + norm
    assert parameters(c, enhance=False, fusion="add") == 0


@pytest.mark.parametrize("grid", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("resized", [True, False])
def test_an_image_takes_576_tokens_whatever_the_grid(grid, resized):
    spec = VisionEncoderSpec(1024, 24, 14, 336, num_prefix_tokens=1)
    with torch.device("meta"):
        connector = FusedConnector(
            dict(type="DualPerspectiveFuser", grid=grid, average_with_resized=resized),
            dict(type="MLPConnector"),
            vision_spec=spec,
            out_width=64,
        )

    layout = connector.views_of((336, 336))

    assert layout.num_views == 2 * grid**2 + resized
    assert connector.num_output_tokens(layout) == 576


def test_views_that_no_map_needs_are_not_made():
    def kinds(**options):
        return DualPerspectiveFuser(vision_spec=SPEC, **options).views.kinds

    assert kinds() == ("local", "global", "resized")
    assert kinds(branches="local") == ("local", "global", "resized")
    assert kinds(branches="local", enhance=False) == ("local", "resized")
    plain = dict(enhance=False, average_with_resized=False)
    assert kinds(branches="global", **plain) == ("global",)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(branches="none"), "branches='none', expected one of"),
        (dict(fusion="sum"), "fusion='sum', expected one of"),
        (dict(pairing="text"), "pairing='text', expected one of"),
        (dict(pooling="max"), "pooling='max', expected one of"),
        (dict(fusion="add", branches="local"), "joins two branches"),
        (dict(pairing="paper", enhance=False), "has no effect"),
        (dict(heads=5), "heads=5 do not divide the width 32"),
        (dict(out_size=0), "out_size=0"),
        (dict(grid=0), "grid=0"),
        (dict(select_layers=[1, 2]), "expected one layer"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DualPerspectiveFuser(vision_spec=SPEC, **options)


def test_images_with_other_views_are_refused():
    connector = FusedConnector.around(DualPerspectiveFuser.tiny())
    features = make_features(connector)

    with pytest.raises(LayoutError, match=r"1 views of the layout .pad.*takes 9"):
        connector.num_output_tokens(ViewLayout((8, 8), (32, 32), kind="pad"))
    other = DualPerspectiveFuser(vision_spec=SPEC, grid=3).views_of((32, 32))
    with pytest.raises(LayoutError, match=r"19 views .*\(3, .*takes 9"):
        connector.num_output_tokens(other)
    features.layouts = ()
    features.hidden_states = tuple(x[:-1] for x in features.hidden_states)
    with pytest.raises(LayoutError, match="26 views are no multiple of 9"):
        connector(features)


def test_one_call_of_the_attention_per_branch():
    fuser = DualPerspectiveFuser.tiny()
    calls = []
    fuser.attention.register_forward_hook(lambda *_: calls.append(1))

    fuser(make_features(FusedConnector.around(fuser), images=4))

    assert len(calls) == 2
    assert isinstance(fuser.attention.ln, nn.LayerNorm)
