"""AnyResTiles: pixels, grids and token counts of LLaVA-1.6."""

import json
from types import SimpleNamespace

import numpy as np
import PIL
import pytest

from mmvlm.datasets.transforms.anyres_tiles import AnyResTiles
from mmvlm.structures import PatchTokenCount, ViewLayout, VisionEncoderSpec
from mmvlm.structures.tiles import TileTokenCount, tiles_of, unpadded_crop

#: Pillow 13, which made the goldens, resizes images that lose more height than
#: width column by column first (python-pillow/Pillow#9549): other rounding. Older
#: versions do so with the image turned.
_TURN = int(PIL.__version__.split(".")[0]) < 13


def _bound(size, **options):
    transform = AnyResTiles(**options)
    spec = VisionEncoderSpec(8, 2, patch_size=4, image_size=size)
    transform.bind(SimpleNamespace(spec=spec))
    return transform


def _tilings(pinpoints, size):
    return [(height // size, width // size) for width, height in pinpoints]


@pytest.mark.golden
def test_pixels_equal_the_official_ones(goldens):
    with np.load(goldens / "llava_image.npz") as data:
        arrays = dict(data)
    meta = json.loads(str(arrays["meta_json"]))
    size = meta["crop_size"]
    mean, std = (arrays[k].reshape(3, 1, 1) for k in ("mean", "std"))
    names = [name for name in meta if f"{name}/out/anyres_pixel_values" in arrays]
    assert names

    for name in names:
        image = arrays[f"{name}/in/rgb"]
        tilings = _tilings(meta[name]["anyres_pinpoints"], size)
        transform = _bound(size, tilings=tilings)
        width, height = meta[name]["anyres_best_wh"]
        item = transform(dict(images=[image]))

        canvas = transform.fit(image, height, width)
        np.testing.assert_array_equal(
            canvas, arrays[f"{name}/out/anyres_resized_padded"]
        )
        expected = arrays[f"{name}/out/anyres_pixel_values"]
        views, layout = item["views"][0], item["layouts"][0]
        assert views.dtype == np.uint8 and views.shape == expected.shape
        exact = np.rint((expected * std + mean) * 255)
        if _TURN and image.shape[0] > image.shape[1]:
            turned = transform.view(np.ascontiguousarray(image.transpose(1, 0, 2)))[0]
            views = np.concatenate([turned[:1].transpose(0, 1, 3, 2), views[1:]])
        np.testing.assert_array_equal(views, exact)
        assert np.abs((views / 255 - mean) / std - expected).max() <= 1e-5
        assert layout.num_views == len(expected)
        assert (layout.extra[1] * size, layout.extra[0] * size) == (width, height)


@pytest.mark.golden
def test_grids_and_counts_equal_the_official_ones(goldens):
    facts = json.loads((goldens / "llava_anyres.json").read_text())
    size, side = facts["tile"], facts["patch_grid"]
    tilings = _tilings(facts["pinpoints"], size)
    transform = _bound(size, tilings=tilings)
    assert AnyResTiles().tilings == tilings
    patches = PatchTokenCount(size // side)
    assert facts["rows"]

    for row in facts["rows"]:
        width, height = row["size_wh"]
        layout = transform.layout(height, width)

        rows, cols = layout.extra
        assert [cols, rows] == row["grid_wh"]
        assert [cols * size, rows * size] == row["best_wh"]
        assert layout.num_views == row["tiles"] + 1
        if width * height < 10**7:
            views, seen = transform.view(np.zeros((height, width, 3), np.uint8))
            assert seen == layout and len(views) == layout.num_views
        top, bottom, left, right = unpadded_crop(
            (height, width), (rows * side, cols * side)
        )
        assert [bottom - top, right - left] == row["unpadded_hw"]
        counted = [TileTokenCount(patches, unpad)(layout) for unpad in (True, False)]
        assert counted == [row["num_tokens_unpad"], row["num_tokens_nounpad"]]


def test_first_view_is_the_whole_image_and_tiles_are_row_by_row():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4, 4:], image[4:, :4], image[4:, 4:] = 80, 160, 240

    views, layout = _bound(4, tilings=[(2, 2)], resample="nearest").view(image)

    assert [int(view.mean()) for view in views[1:]] == [0, 80, 160, 240]
    assert views[0].shape == (3, 4, 4) and int(views[0].mean()) == 120
    assert layout.scale == (0.5, 0.5)


@pytest.mark.parametrize("tilings", [[], [(0, 1)], [(1, 2, 3)]])
def test_wrong_tilings_are_refused(tilings):
    with pytest.raises(ValueError, match="expected pairs"):
        AnyResTiles(tilings=tilings)


def test_other_views_are_no_tiles():
    assert tiles_of(ViewLayout((4, 4), (4, 4))) == (0, 0)
    with pytest.raises(ValueError, match="2 views of the layout 'crops'"):
        tiles_of(ViewLayout((4, 4), (4, 4), 2, "crops"))
