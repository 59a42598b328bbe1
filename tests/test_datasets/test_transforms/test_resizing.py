import numpy as np
import PIL.Image
import pytest

from mmvlm.datasets.transforms.anyres_tiles import AnyResTiles
from mmvlm.datasets.transforms.center_crop import CenterCropSquare
from mmvlm.datasets.transforms.dual_perspective import DualPerspectiveViews
from mmvlm.datasets.transforms.fast_resizing import pad_fast, resize_fast
from mmvlm.datasets.transforms.grid_windows import GridWindows
from mmvlm.datasets.transforms.image import FAST_FILTERS, PadToSquare
from mmvlm.datasets.transforms.random_crop import RandomResizedCropSquare
from mmvlm.datasets.transforms.resize_square import ResizeSquare
from mmvlm.datasets.transforms.resizing import (
    FILTERS,
    expand_to_square,
    pad_exact,
    resize_exact,
)
from mmvlm.datasets.transforms.slices import SliceViews

COLOR = (122, 116, 104)
VIEWS = [
    PadToSquare,
    CenterCropSquare,
    ResizeSquare,
    AnyResTiles,
    GridWindows,
    RandomResizedCropSquare,
    SliceViews,
    DualPerspectiveViews,
]
#: Wide, tall, square, thin, smaller than the result, prime sides.
SIZES = [
    (48, 64),
    (64, 48),
    (37, 37),
    (3, 101),
    (97, 2),
    (13, 17),
    (101, 211),
    (333, 127),
    (336, 200),
    (28, 28),
]


def make_image(height, width, seed=0):
    """Colours at the ends of the range too, where filters overshoot."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    noise[:: max(height // 3, 1)] = 255
    noise[:, :: max(width // 4, 1)] = 0
    return noise


def plain(image, size, resample):
    """PIL on the whole padded square."""
    height, width = image.shape[:2]
    side = max(height, width)
    square = PIL.Image.new("RGB", (side, side), COLOR)
    corner = (side - width) // 2, (side - height) // 2
    square.paste(PIL.Image.fromarray(image), corner)
    return np.asarray(square.resize((size, size), FILTERS[resample]))


@pytest.mark.parametrize("resample", FILTERS)
@pytest.mark.parametrize("size", [28, 53, 336])
def test_exact_padding_is_pils_on_the_whole_square(size, resample):
    for height, width in SIZES:
        image = make_image(height, width)

        found = pad_exact(image, size, COLOR, resample)

        assert np.array_equal(found, plain(image, size, resample)), (height, width)


@pytest.mark.slow
def test_exact_padding_is_pils_at_many_sizes():
    rng = np.random.default_rng(1)
    for seed in range(300):
        height, width = rng.integers(1, 300, 2)
        size = int(rng.integers(8, 200))
        image = make_image(height, width, seed)

        found = pad_exact(image, size, COLOR, "bicubic")

        assert np.array_equal(found, plain(image, size, "bicubic")), (height, width)


@pytest.mark.parametrize("resample", FAST_FILTERS)
def test_fast_resizing_is_one_level_from_pils(resample):
    image = make_image(90, 70)
    for height, width in ((30, 20), (91, 200), (45, 70)):
        exact = resize_exact(image, height, width, resample).astype(int)

        gap = np.abs(resize_fast(image, height, width, resample) - exact)

        assert gap.max() <= 1 and gap.mean() < 0.1


@pytest.mark.parametrize("resample", FAST_FILTERS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_fast_padding_differs_at_the_images_edge_only(height, width, resample):
    image, size = make_image(height, width), 28
    exact = plain(image, size, resample).astype(int)

    gap = np.abs(pad_fast(image, size, COLOR, resample) - exact)

    side, start = max(height, width), (max(height, width) - min(height, width)) // 2
    ends = np.array([start, side - start]) * size / side
    lines = np.abs(np.arange(size)[:, None] + 0.5 - ends).min(1) > 4 * max(
        1, size / side
    )
    inner = gap[lines] if width > height else gap[:, lines]
    assert not inner.size or inner.max() <= 1


def test_fast_padding_shifts_nothing_where_sizes_do_not_divide():
    """427 rows end between pixels of the result; a shift would show everywhere."""
    base = make_image(12, 16).astype(np.float32)
    soft = PIL.Image.fromarray(base.astype(np.uint8)).resize((640, 427), 3)
    image = np.asarray(soft)

    gap = np.abs(pad_fast(image, 336, COLOR, "bicubic") - plain(image, 336, "bicubic"))

    assert np.minimum(gap, 256 - gap.astype(int)).mean() < 0.1


def test_an_image_of_the_size_is_left_alone():
    image = make_image(28, 28)

    for pad in (pad_exact, pad_fast):
        assert pad(image, 28, COLOR, "bicubic") is image
    assert expand_to_square(image, COLOR) is image


@pytest.mark.parametrize("kind", VIEWS)
@pytest.mark.parametrize(("height", "width"), [(60, 83), (83, 60)])
def test_views_of_both_ways_have_one_layout(kind, height, width):
    options = dict(grid=2) if kind is DualPerspectiveViews else {}
    image = make_image(height, width)
    made = []
    for resize in ("exact", "fast"):
        step = kind(size=24, resample="bicubic", resize=resize, **options)
        step.mean = step.mean or (0.5, 0.5, 0.5)
        item = step(dict(images=[image], rng=np.random.default_rng(0)))
        made.append((item["views"][0], item["layouts"][0]))

    (exact, layout), (fast, other) = made
    assert layout == other and exact.shape == fast.shape
    assert fast.dtype == np.uint8 and fast.flags.c_contiguous
    assert np.abs(fast.astype(int) - exact).mean() < 1
    assert not np.array_equal(fast, exact)


@pytest.mark.parametrize("kind", VIEWS)
def test_unknown_ways_and_filters_are_refused(kind):
    with pytest.raises(ValueError, match="resize='quick', expected one of"):
        kind(size=24, resize="quick")
    with pytest.raises(ValueError, match="resize='fast' has no 'lanczos' filter"):
        kind(size=24, resample="lanczos", resize="fast")


def test_a_filter_that_the_encoder_brings_is_refused_at_bind():
    from types import SimpleNamespace

    from mmvlm.structures import VisionEncoderSpec

    spec = VisionEncoderSpec(8, 2, 4, 24, resample="lanczos")
    step = ResizeSquare(resize="fast")

    with pytest.raises(ValueError, match="ResizeSquare: resize='fast' has no 'lanc"):
        step.bind(SimpleNamespace(spec=spec))


@pytest.mark.parametrize("kind", VIEWS)
def test_layouts_refer_to_the_stored_image(kind):
    """A point of the original lies where it is in an image decoded at a quarter."""
    options = dict(grid=2) if kind is DualPerspectiveViews else {}
    step = kind(size=24, resample="bicubic", **options)
    step.mean = step.mean or (0.5, 0.5, 0.5)
    image = make_image(61, 80)

    def views(**extra):
        item = dict(images=[image], rng=np.random.default_rng(0), **extra)
        return step(item)["layouts"][0]

    if kind.counts_by_size:
        with pytest.raises(ValueError, match=r"leave LoadImages\.draft out"):
            views(image_sizes=[(241, 320)])
        return
    small, large = views(), views(image_sizes=[(241, 320)])
    assert large.original_size == (241, 320) and large.offset == small.offset
    assert large.scale == tuple(s / 4 for s in small.scale)
    assert views(image_sizes=[(61, 80)]) == small
