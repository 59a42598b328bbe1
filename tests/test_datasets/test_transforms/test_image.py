import json
from types import SimpleNamespace

import numpy as np
import pytest

from mmvlm.datasets.transforms.center_crop import CenterCropSquare
from mmvlm.datasets.transforms.image import PadToSquare, ViewTransform
from mmvlm.datasets.transforms.resize_square import ResizeSquare
from mmvlm.datasets.transforms.resizing import expand_to_square
from mmvlm.registry import TRANSFORMS
from mmvlm.structures import VisionEncoderSpec
from mmvlm.structures.region_pixels import whole_view

KINDS = [PadToSquare, CenterCropSquare, ResizeSquare]
TRANSFORMS.import_from_location()
#: Every registered view transform.
VIEWS = sorted(
    name
    for name, kind in TRANSFORMS.module_dict.items()
    if isinstance(kind, type) and issubclass(kind, ViewTransform)
)
OPTIONS = dict(DualPerspectiveViews=dict(grid=2))


def context(size, mean=(0.5, 0.5, 0.5)):
    spec = VisionEncoderSpec(
        width=8, num_layers=2, patch_size=4, image_size=size, mean=mean
    )
    return SimpleNamespace(spec=spec)


@pytest.fixture
def golden(goldens):
    with np.load(goldens / "llava_image.npz") as data:
        arrays = dict(data)
    return arrays, json.loads(str(arrays["meta_json"]))


def check_golden(golden, transform, key):
    arrays, _ = golden
    mean, std = arrays["mean"], arrays["std"]
    names = sorted(k.split("/")[0] for k in arrays if k.endswith("/in/rgb"))
    checked = 0
    for name in names:
        for suffix, tolerance in (("", 1e-5), ("_f16", 2e-3)):
            expected = arrays.get(f"{name}/out/{key}{suffix}")
            if expected is None:
                continue
            step = transform()
            step.bind(context(expected.shape[-1], tuple(mean)))
            item = step(dict(images=[arrays[f"{name}/in/rgb"]]))
            (views,) = item["views"]
            assert views.shape == (1, *expected.shape) and views.dtype == np.uint8
            found = (views[0] / 255 - mean[:, None, None]) / std[:, None, None]
            limit = tolerance
            if suffix:
                # Rounding to float16 is half a unit in the last place.
                limit = np.abs(np.spacing(expected)).max() / 2 + 1e-5
                found = found.astype(np.float32)
            assert np.abs(found - expected.astype(np.float32)).max() <= limit, name
            checked += 1
    assert checked


@pytest.mark.golden
def test_padded_square_equals_golden(golden):
    arrays, meta = golden
    color = [int(255 * channel) for channel in arrays["mean"]]
    assert color == meta["background_rgb"]
    names = [k.split("/")[0] for k in arrays if k.endswith("/out/square")]
    assert names
    for name in names:
        square = expand_to_square(arrays[f"{name}/in/rgb"], color)
        assert np.array_equal(square, arrays[f"{name}/out/square"]), name


@pytest.mark.golden
def test_pad_equals_golden(golden):
    check_golden(golden, PadToSquare, "pad_pixel_values")


@pytest.mark.golden
def test_center_crop_equals_golden(golden):
    check_golden(golden, CenterCropSquare, "default_pixel_values")


def shown_whole(step, views, layout):
    """Return the view that shows the whole image, (3, h, w)."""
    if not layout.grids:
        return views[whole_view(layout)]
    (_, rows, cols), (*_, patch), merge = layout.grids[0], views.shape, step.merge
    blocks = views.reshape(rows // merge, cols // merge, merge, merge, 3, patch, patch)
    blocks = blocks.transpose(4, 0, 2, 5, 1, 3, 6)
    return blocks.reshape(3, rows * patch, cols * patch)


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("size", [(40, 64), (64, 40), (33, 33), (51, 20), (97, 61)])
@pytest.mark.parametrize("side", [24, 96])
def test_boxes_survive_the_view_and_back(name, size, side):
    step = TRANSFORMS.build(dict(type=name, size=side, **OPTIONS.get(name, {})))
    step.mean, step.resample = (0, 0, 0), "bilinear"
    rng = np.random.default_rng(size[0] * size[1])
    for number in range(5):
        layout = step.layout(*size, np.random.default_rng(number))
        scale, offset = np.array(layout.scale), np.array(layout.offset)
        # A box inside what the view keeps of the image.
        least = np.ceil(np.maximum(-offset / scale, 0)).astype(int) + 1
        ends = (np.array(layout.view_size[::-1]) - offset) / scale
        if layout.grids:
            ends = np.array(size[::-1])
        most = np.floor(np.minimum(ends, size[::-1])).astype(int) - 1
        reach = most - least
        low = least + rng.integers(0, reach // 3 + 1)
        box = np.concatenate([low, low + rng.integers(reach // 3, reach // 2 + 1)])
        image = np.zeros((*size, 3), np.uint8)
        image[box[1] : box[3], box[0] : box[2]] = 255

        views, found = step.view(image, np.random.default_rng(number))

        assert found == layout and layout.original_size == size
        places = box * np.tile(scale, 2) + np.tile(offset, 2)
        back = (places - np.tile(offset, 2)) / np.tile(scale, 2)
        assert np.allclose(back, box, atol=1e-9)
        lit = shown_whole(step, views, layout)[0] / 255.0
        height, width = lit.shape
        row = lit[np.clip(int(places[[1, 3]].mean()), 0, height - 1)]
        column = lit[:, np.clip(int(places[[0, 2]].mean()), 0, width - 1)]
        # Edges at sub-pixel precision: light to the left of each edge.
        for profile, (start, stop) in (
            (row, places[[0, 2]]),
            (column, places[[1, 3]]),
        ):
            assert abs(profile.sum() - (stop - start)) <= 0.5
            middle = (np.arange(len(profile)) + 0.5) @ profile / profile.sum()
            assert abs(middle - (start + stop) / 2) <= 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_layout_kinds_and_counts(kind):
    item = kind(size=8, mean=(0, 0, 0), resample="bicubic")(
        dict(images=[np.zeros((5, 9, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)])
    )

    names = {PadToSquare: "pad", CenterCropSquare: "crop", ResizeSquare: "resize"}
    assert [layout.kind for layout in item["layouts"]] == [names[kind]] * 2
    assert [view.shape for view in item["views"]] == [(1, 3, 8, 8)] * 2
    assert all(hash(layout) is not None for layout in item["layouts"])


def test_plain_resize_equals_pil():
    import PIL.Image

    image = np.random.default_rng(0).integers(0, 255, (20, 31, 3), np.uint8)

    (view,), _ = ResizeSquare(size=12, resample="bicubic").view(image)

    expected = PIL.Image.fromarray(image).resize((12, 12), PIL.Image.BICUBIC)
    assert np.array_equal(view.transpose(1, 2, 0), np.asarray(expected))


def test_no_image_gives_no_view():
    item = PadToSquare()(dict(images=[]))

    assert item["views"] == [] and item["layouts"] == []


def test_config_wins_over_the_encoder():
    step = PadToSquare(size=6, mean=(0.1, 0.2, 0.3))

    step.bind(context(24))

    assert step.size == 6 and step.mean == (0.1, 0.2, 0.3)
    assert step.resample == "bicubic"


def test_unbound_transform_says_what_it_needs():
    step = PadToSquare(size=6, resample="bicubic")
    step.bind(SimpleNamespace(spec=None))

    with pytest.raises(RuntimeError, match=r"PadToSquare: \['mean'\] not known; pass"):
        step(dict(images=[np.zeros((4, 4, 3), np.uint8)]))


@pytest.mark.parametrize(
    ("extra", "message"),
    [(dict(size=0), "size=0, expected above 0"), (dict(resample="x"), "resample='x'")],
)
def test_wrong_options_are_named(extra, message):
    with pytest.raises(ValueError, match=message):
        ResizeSquare(**extra)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (3, 2)])
def test_extreme_shapes_give_a_view(kind, size):
    image = np.full((*size, 3), 9, np.uint8)

    view, layout = kind(size=16, mean=(0.5, 0.5, 0.5), resample="bicubic").view(image)

    assert view.shape == (1, 3, 16, 16) and layout.original_size == size


@pytest.mark.parametrize("resample", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_tall_images_in_strips_equal_the_whole_square(resample, monkeypatch):
    from mmvlm.datasets.transforms import resizing

    for shape in ((301, 9), (97, 96), (120, 1)):
        image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
        whole = resizing.pad_exact(image, 24, (1, 2, 3), resample)
        monkeypatch.setattr(resizing, "MOST_PIXELS", 1000)
        strips = resizing.pad_exact(image, 24, (1, 2, 3), resample)
        monkeypatch.undo()
        assert np.array_equal(whole, strips)
