"""DualPerspectiveViews: what is exact, what is rounded, what the model decides."""

from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch
from torch.nn import functional

from mmvlm.datasets.transforms.center_crop import CenterCropSquare
from mmvlm.datasets.transforms.dual_perspective import (
    DualPerspectiveViews,
    dual_perspective_views,
)
from mmvlm.datasets.transforms.image import PadToSquare
from mmvlm.datasets.transforms.resizing import expand_to_square
from mmvlm.structures import ViewLayout, VisionEncoderSpec
from mmvlm.structures.dual_perspective import DualPerspective, reassemble_views

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
SIZE = 16


def bound(views=None, **options):
    spec = VisionEncoderSpec(8, 2, 4, SIZE, mean=MEAN, std=STD)
    asked = views and views.layout((SIZE, SIZE), (SIZE, SIZE))
    step = DualPerspectiveViews(**options)
    step.bind(SimpleNamespace(spec=spec, requested_views=asked))
    return step


def make_image(height=70, width=100, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def normalised(pixels):
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    return (torch.from_numpy(pixels).float() / 255 - mean) / std


@pytest.mark.parametrize(
    "pad, square", [(False, CenterCropSquare), (True, PadToSquare)]
)
@pytest.mark.parametrize("grid", [1, 2, 3, 4])
def test_crops_hold_the_pixels_of_the_large_square(pad, square, grid):
    large, _ = square(SIZE * grid, MEAN, "bicubic").view(make_image())

    views, layout = bound(grid=grid, pad=pad).view(make_image())

    assert views.dtype == np.uint8
    assert views.shape == (2 * grid**2 + 1, 3, SIZE, SIZE)
    assert layout.num_views == len(views) and layout.view_size == (SIZE, SIZE)
    for number, kind in enumerate(("local", "global")):
        crops = torch.from_numpy(views[number * grid**2 :][: grid**2])
        assert np.array_equal(reassemble_views(crops, grid, kind).numpy(), large[0])


@pytest.mark.parametrize("grid", [1, 3, 5])
def test_an_odd_grid_loses_nothing_in_uint8(grid):
    exact, layout = bound(grid=grid, pixels="float").view(make_image())
    rounded, same = bound(grid=grid).view(make_image())

    np.testing.assert_allclose(normalised(rounded), exact, atol=2e-6)
    assert exact.dtype == np.float32
    assert layout == same
    middle = grid**2 + grid**2 // 2
    assert np.array_equal(rounded[-1], rounded[middle])


@pytest.mark.parametrize("options", [dict(grid=2), dict(grid=3, legacy_infer=True)])
def test_resampled_pixels_are_rounded_to_uint8(options):
    exact, _ = bound(pixels="float", **options).view(make_image())
    rounded, _ = bound(**options).view(make_image())

    # Overshoot of the filter is cut at black and white.
    low, high = (normalised(np.full((1, 3, 1, 1), v, np.uint8)) for v in (0, 255))
    expected = torch.from_numpy(exact).clamp(low, high)
    step = 1 / 255 / torch.tensor(STD).view(3, 1, 1)
    error = (normalised(rounded) - expected).abs()
    assert bool((error <= step * 0.501).all()) and bool(error.max() > 0)


def test_float_views_are_the_official_arithmetic():
    """Normalise, then torch bicubic for what is not a crop."""
    image = make_image()
    square = np.array(
        PIL.Image.fromarray(image[:, 15:85]).resize((32, 32), PIL.Image.BICUBIC)
    )
    pixels = normalised(square.transpose(2, 0, 1)[None].copy())

    views, _ = bound(grid=2, pixels="float", pad=False).view(image[:, 15:85])

    whole = functional.interpolate(
        pixels, (SIZE, SIZE), mode="bicubic", align_corners=False
    )
    torch.testing.assert_close(torch.from_numpy(views[-1:]), whole)
    np.testing.assert_allclose(views[4], pixels[0, :, ::2, ::2], atol=1e-6)
    np.testing.assert_allclose(views[1], pixels[0, :, :16, 16:], atol=1e-6)


def test_legacy_inference_enlarges_a_small_image():
    small, _ = CenterCropSquare(SIZE, MEAN, "bicubic").view(make_image())

    legacy, layout = bound(grid=3, legacy_infer=True).view(make_image())
    views, same = bound(grid=3).view(make_image())

    assert np.array_equal(legacy[-1:], small)
    assert not np.array_equal(legacy, views)
    assert layout.scale == pytest.approx(same.scale, rel=0.03)


@pytest.mark.parametrize("pad", [True, False])
def test_points_of_the_image_are_found_in_the_resized_view(pad):
    step = bound(grid=3, pad=pad)
    square = (PadToSquare if pad else CenterCropSquare)(SIZE, MEAN, "bicubic")

    _, layout = step.view(make_image())
    _, expected = square.view(make_image())

    assert layout.original_size == (70, 100)
    assert layout.scale == pytest.approx(expected.scale, rel=0.05)
    assert layout.offset == pytest.approx(expected.offset, abs=1)


def test_the_connector_decides_which_views():
    views = DualPerspective(2, ("global", "resized"))

    made, layout = bound(views).view(make_image())

    assert made.shape[0] == 5
    assert DualPerspective.of(layout) == views
    full, _ = bound(DualPerspective(2)).view(make_image())
    assert np.array_equal(made, full[4:])
    other, _ = bound(views, grid=3, kinds=("local",)).view(make_image())
    assert len(other) == 9


def test_batches_are_made_at_once():
    images = torch.randn(3, 3, 20, 28)
    views = DualPerspective(2)

    together = dual_perspective_views(images, views, SIZE)

    alone = [dual_perspective_views(one[None], views, SIZE)[0] for one in images]
    assert together.shape == (3, 9, 3, SIZE, SIZE)
    torch.testing.assert_close(together, torch.stack(alone))


def test_what_is_not_known_is_named():
    item = dict(images=[make_image()])

    with pytest.raises(RuntimeError, match=r"\['grid'\] not known"):
        bound()(item)
    step = DualPerspectiveViews(grid=2, size=8, resample="bicubic", pixels="float")
    with pytest.raises(RuntimeError, match=r"\['mean', 'std'\] not known"):
        step(item)
    with pytest.raises(ValueError, match="pixels='half', expected 'uint8' or 'float'"):
        DualPerspectiveViews(pixels="half")
    with pytest.raises(ValueError, match="in this order"):
        DualPerspectiveViews(2, ("resized", "local"))


def test_another_layout_asks_for_nothing():
    spec = VisionEncoderSpec(8, 2, 4, SIZE)
    step = DualPerspectiveViews()
    step.bind(SimpleNamespace(spec=spec, requested_views=ViewLayout((8, 8), (8, 8))))

    assert step.grid is None


@pytest.mark.parametrize("pad", [True, False])
def test_the_large_square_is_the_clip_processor_at_n_times_its_size(pad):
    import transformers

    side = 3 * SIZE
    # transformers 5 keeps PIL's pixels under a name of their own.
    names = ("CLIPImageProcessorPil", "CLIPImageProcessor")
    kind = next(name for name in names if hasattr(transformers, name))
    processor = getattr(transformers, kind)(
        size=dict(shortest_edge=side),
        crop_size=dict(height=side, width=side),
        image_mean=MEAN,
        image_std=STD,
    )
    image = make_image()
    color = [int(255 * channel) for channel in MEAN]
    given = expand_to_square(image, color) if pad else image
    expected = processor(PIL.Image.fromarray(given), return_tensors="pt").pixel_values

    views, _ = bound(grid=3, pad=pad, pixels="float").view(image)

    for start, order in ((0, "local"), (9, "global")):
        crops = torch.from_numpy(views[start : start + 9])
        large = reassemble_views(crops, 3, order)
        torch.testing.assert_close(large, expected[0], atol=1e-5, rtol=0)
