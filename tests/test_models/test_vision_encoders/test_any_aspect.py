"""Views of any aspect: packed patches, encoded and read as if each were alone."""

import types

import numpy as np
import pytest
import torch

from mmvlm.datasets.transforms.slices import SliceViews
from mmvlm.models.connectors.mlp import MLPConnector
from mmvlm.models.connectors.resampler import ResamplerConnector
from mmvlm.models.connectors.sliced import SlicedConnector
from mmvlm.models.utils.own_grids import grid_options
from mmvlm.models.vision_encoders.any_aspect import AnyAspectVisionEncoder
from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder
from mmvlm.registry import MODELS
from mmvlm.structures import VisionFeatures
from mmvlm.structures.slices import overview_size, slice_grid, slice_size, unpacked
from mmvlm.structures.vision import grids_of

PATCH, SIDE = 8, 32
#: Height and width of images: small, wide, tall, square, cut into uneven slices.
SIZES = [(20, 30), (40, 130), (150, 33), (64, 64), (70, 90)]


def transform(**options):
    return SliceViews(
        size=SIDE, patch_size=PATCH, resample="bicubic", keep_aspect=True, **options
    )


def alone(views, layouts, number):
    """Return (1, 3, h, w) of one view of a batch, as the image that it is."""
    at = [(layout, n) for layout in layouts for n in range(layout.num_views)]
    layout, own = at[number]
    return torch.from_numpy(unpacked(views[number].numpy(), layout, own))[None]


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


def encoder(**fields):
    torch.manual_seed(0)
    return AnyAspectVisionEncoder(HFVisionEncoder.tiny(**fields)).eval()


@pytest.mark.parametrize("number", range(len(SIZES)))
def test_views_have_the_official_sizes_and_pixels(number, images):
    image, size = images[number], SIZES[number]
    slicer = transform()

    views, layout = slicer.view(image)

    grid = slice_grid(size, SIDE, 6)
    sizes = [overview_size(size, grid, SIDE, PATCH)]
    wanted = [slicer._resize(image, *sizes[0][::-1]).transpose(2, 0, 1)]
    if grid:
        height, width = slice_size(size, grid, SIDE, PATCH)
        large = slicer._resize(image, grid[1] * width, grid[0] * height)
        for row in range(grid[0]):
            for col in range(grid[1]):
                part = large[row * height :, col * width :][:height, :width]
                wanted.append(part.transpose(2, 0, 1))
                sizes.append((height, width))
    assert layout.grids == tuple((h // PATCH, w // PATCH) for h, w in sizes)
    assert layout == slicer.layout(*size)
    assert views.shape == (len(sizes), 3, SIDE, SIDE) and len(sizes) == layout.num_views
    for place, (view, expected) in enumerate(zip(views, wanted, strict=True)):
        np.testing.assert_array_equal(unpacked(view, layout, place), expected)
    assert layout.scale == (sizes[0][1] / size[1], sizes[0][0] / size[0])


def test_a_view_has_no_more_patches_than_its_square():
    for size in [(1, 5000), (5000, 1), (3, 4000), (8, 9000)]:
        views, layout = transform().view(np.zeros((*size, 3), np.uint8))

        assert len(views) == len(layout.grids)
        assert max(rows * cols for rows, cols in layout.grids) <= (SIDE // PATCH) ** 2


def batch(images):
    made = [transform().view(image) for image in images]
    pixels = torch.from_numpy(np.concatenate([views for views, _ in made]))
    layouts = [layout for _, layout in made]
    return pixels.float() / 128 - 1, layouts, grids_of(layouts, PATCH)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_view_is_encoded_and_read_as_if_alone(attention, images):
    tower = encoder(attn_implementation=attention)
    connector = ResamplerConnector.tiny(tower.spec).eval()
    pixels, layouts, grids = batch(images)
    assert len(set(grids)) > 3

    features = tower(pixels, (-2, 0), grids)
    features.hidden_states = features.hidden_states[:1]
    rows = connector(features)

    plain = tower._wrapped[0]
    for number, grid in enumerate(grids):
        expected = plain(alone(pixels, layouts, number), (-2,))
        own = features.hidden_states[0][number, : 1 + grid[0] * grid[1]]
        torch.testing.assert_close(
            own, expected.hidden_states[0][0], atol=1e-5, rtol=1e-4
        )
        torch.testing.assert_close(
            rows[number], connector(expected)[0], atol=1e-5, rtol=1e-4
        )


def test_without_grids_the_tower_is_run_as_it_is():
    tower, pixels = encoder(), torch.randn(2, 3, SIDE, SIDE)

    whole = tower(pixels, (-2,)).hidden_states[0]

    assert torch.equal(whole, tower._wrapped[0](pixels, (-2,)).hidden_states[0])
    grids = [(SIDE // PATCH,) * 2] * 2
    torch.testing.assert_close(tower(pixels, (-2,), grids).hidden_states[0], whole)


def test_a_resampler_that_keeps_the_class_token_reads_it(images):
    tower = encoder()
    connector = ResamplerConnector(
        vision_spec=tower.spec, out_width=48, grid=2, heads=4, drop_cls=False
    ).eval()
    pixels, layouts, grids = batch(images[:2])

    rows = connector(tower(pixels, (-1,), grids))

    for number, row in enumerate(rows):
        expected = connector(tower._wrapped[0](alone(pixels, layouts, number), (-1,)))
        torch.testing.assert_close(row, expected[0], atol=1e-5, rtol=1e-4)


def model(checkpointing="off", **options):
    torch.manual_seed(0)
    config = HFVisionEncoder.tiny().config.to_dict()
    tower = HFVisionEncoder(config=config, gradient_checkpointing=checkpointing)
    vision = AnyAspectVisionEncoder(tower)
    cfg = dict(
        type="SlicedConnector",
        connector=dict(type="ResamplerConnector", grid=2, heads=4),
    )
    return MODELS.build(
        dict(
            type="VisionLanguageModel",
            vision_encoder=vision,
            connector=cfg,
            language_model=dict(type="HFCausalLM", **_tiny_llm()),
            **options,
        )
    ).eval()


def _tiny_llm():
    from mmvlm.models.language_models.hf_causal_lm import HFCausalLM

    return dict(config=HFCausalLM.tiny().model.config.to_dict())


@pytest.mark.parametrize("share", [True, False])
def test_a_model_counts_and_fills_what_it_promised(share, images):
    vlm = model(share_equal_views=share)
    pixels, layouts, _ = batch(images)

    with torch.no_grad():
        rows = vlm.encode_images(pixels, layouts)
        first = vlm.encode_images(pixels[: layouts[0].num_views], layouts[:1])

    assert len(rows) == sum(map(vlm.token_count, layouts))
    torch.testing.assert_close(rows[: len(first)], first, atol=1e-5, rtol=1e-4)


def test_equal_pixels_in_other_grids_are_other_views():
    vlm = model(share_equal_views=True)
    blank = [np.full((*size, 3), 99, np.uint8) for size in [(8, 32), (32, 8)]]
    pixels, layouts, _ = batch(blank)
    assert torch.equal(pixels[0], pixels[1])

    with torch.no_grad():
        rows = vlm.encode_images(pixels, layouts).unflatten(0, (2, -1))

    assert not torch.allclose(rows[0], rows[1], atol=1e-4)


@pytest.mark.parametrize("checkpointing", ["off", "all"])
def test_gradients_reach_tower_and_connector_from_packed_views(checkpointing, images):
    vlm = model(checkpointing).train()
    pixels, layouts, _ = batch(images)

    vlm.encode_images(pixels, layouts).square().sum().backward()

    named = [*vlm.vision_encoder.named_parameters(), *vlm.connector.named_parameters()]
    silent = [n for n, p in named if p.grad is None or not p.grad.isfinite().all()]
    # The last block and norm lie behind the layer that is read.
    assert not [n for n in silent if "layers.2" not in n and "post_layernorm" not in n]


def test_who_takes_no_own_grids_says_so(images):
    tower = encoder()
    _, layouts, _ = batch(images)
    inner = MLPConnector(vision_spec=tower.spec, out_width=48)
    sliced = SlicedConnector(inner, vision_spec=tower.spec, out_width=48)

    with pytest.raises(ValueError, match="SlicedConnector takes views of one grid"):
        grid_options(tower, [sliced], layouts)
    with pytest.raises(ValueError, match="HFVisionEncoder takes views of one grid"):
        grid_options(HFVisionEncoder.tiny(), [SlicedConnector.tiny()], layouts)
    assert (
        grid_options(
            HFVisionEncoder.tiny(), [inner], [SliceViews(size=32).layout(9, 9)]
        )
        == {}
    )


def test_wrong_towers_grids_and_sizes_are_refused():
    with pytest.raises(ValueError, match="got a tower 'siglip_vision_model'"):
        AnyAspectVisionEncoder(HFVisionEncoder.tiny("siglip_vision_model"))
    with pytest.raises(
        ValueError, match="2 grids of up to 20 patches for 1 views of 16"
    ):
        encoder()(torch.zeros(1, 3, SIDE, SIDE), (-1,), [(4, 4), (5, 4)])
    spec = types.SimpleNamespace(
        image_size=30, patch_size=8, mean=(0,) * 3, resample="bicubic"
    )
    with pytest.raises(ValueError, match="size=30 is no multiple"):
        SliceViews(keep_aspect=True).bind(types.SimpleNamespace(spec=spec))


def test_features_of_one_grid_need_no_mask():
    connector = ResamplerConnector.tiny().eval()
    states = torch.randn(2, 17, 32)

    plain = connector(VisionFeatures((states,), (2,), (4, 4), 1))
    own = connector(VisionFeatures((states,), (2,), (4, 4), 1, grids=((4, 4),) * 2))

    torch.testing.assert_close(own, plain, atol=1e-6, rtol=1e-5)
