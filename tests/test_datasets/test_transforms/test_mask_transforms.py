"""Images as SAM takes them, and masks as run lengths."""

import mmvlm  # noqa: F401  isort: skip

from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch

from mmvlm.datasets.transforms.masks import MaskTargets, SAMViews
from mmvlm.structures import Boxes, Conversation, Region, ViewLayout
from mmvlm.structures.masks import mask_to_rle

RNG = np.random.default_rng(0)


def noise(height, width):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def item(*images, **keys):
    return dict(images=list(images), conversation=Conversation([], id="s"), **keys)


@pytest.mark.parametrize(
    "size, view",
    [
        ((480, 640), (768, 1024)),
        ((3000, 1999), (1024, 682)),  # 682.33
        ((333, 512), (666, 1024)),
        ((1, 3000), (1, 1024)),  # a strip keeps its one row
        ((1024, 1024), (1024, 1024)),
        ((1365, 2048), (683, 1024)),  # 682.5 is rounded up
    ],
)
def test_the_longer_side_is_the_encoders_and_sides_are_rounded_half_up(size, view):
    layout = SAMViews(1024).layout(*size)

    assert (layout.original_size, layout.view_size) == (size, view)


def test_pixels_are_those_of_pils_bilinear_filter():
    image = noise(30, 50)

    second = SAMViews(40)(item(image))["inputs"]["image_hi"]

    resized = PIL.Image.fromarray(image).resize((40, 24), PIL.Image.BILINEAR)
    assert np.array_equal(second.values[0].permute(1, 2, 0).numpy(), resized)
    assert second.values.dtype == torch.uint8 and not second.fills_slots


def test_images_without_masks_are_left_out_of_training_only():
    region = Region(0, Boxes([[0, 0, 1, 1]], (4, 4)), kind="mask")
    views = SAMViews(8, only_marked=True)

    assert "inputs" not in views(item(noise(4, 4)))
    assert views(item(noise(4, 4), marked_regions=(region,)))["inputs"]
    assert views.only_training == ("only_marked",)
    assert SAMViews(8)(item(noise(4, 4)))["inputs"]
    assert "inputs" not in SAMViews(8)(item())


def test_the_size_is_the_encoders():
    views = SAMViews()
    with pytest.raises(RuntimeError, match=r"no size.*\['image_hi'\]"):
        views(item(noise(4, 4)))

    spec = SimpleNamespace(image_size=16, stretched=False)
    views.bind(SimpleNamespace(specs=dict(image_hi=spec)))

    assert views(item(noise(4, 2)))["inputs"]["image_hi"].values.shape[-2:] == (
        16,
        8,
    )
    with pytest.raises(ValueError, match="size=0"):
        SAMViews(0)


def test_reduced_images_are_refused():
    with pytest.raises(ValueError, match=r"\(8, 8\).*decoded at \(4, 4\)"):
        SAMViews(8)(item(noise(4, 4), image_sizes=[(8, 8)]))


# Targets --------------------------------------------------------------------------


def region(size=(4, 6), image=0, **mask):
    return Region(image, Boxes([[0, 0, 2, 2]], size), kind="mask", **mask)


def filled(size):
    return region(size, rles=(mask_to_rle(np.ones(size)),))


def targets(*regions, size=(4, 6), number=1, **keys):
    keys |= dict(layouts=[ViewLayout(size, (8, 8))] * number, index=7)
    found = MaskTargets()(item(marked_regions=regions, **keys))
    return found["targets"]["mask"]


def test_targets_are_run_lengths_down_the_columns():
    ring = (1, 0, 3, 0, 3, 4, 1, 4)
    mask = np.zeros((4, 6), np.uint8)
    mask[:, 0] = 1

    drawn, packed = targets(
        region(polygons=((ring,),)), region(rles=(mask_to_rle(mask),))
    )

    assert drawn.tolist() == [4, 8, 12] and drawn.dtype == np.int32
    assert packed.tolist() == [0, 4, 20]
    assert targets() == []


@pytest.mark.parametrize(
    "one, number, message",
    [
        (region(), 1, "region of kind 'mask' has no mask"),
        (
            region((5, 6), rles=(mask_to_rle(np.ones((5, 6))),)),
            1,
            r"\(5, 6\).*\(4, 6\); resize the mask to the image",
        ),
        (region(rles=(mask_to_rle(np.zeros((4, 6))),)), 1, "empty"),
        (region(rles=(mask_to_rle(np.ones((4, 6))),)), 2, "image 0, but masks are"),
    ],
)
def test_masks_that_cannot_be_learnt_name_the_sample(one, number, message):
    with pytest.raises(ValueError, match=f"^sample 7 of a conversation: .*{message}"):
        targets(one, number=number)
    paths = [f"set/{number}.png" for number in range(number)]
    message = rf"conversation \('{paths[-1]}'\): .*{message}"
    with pytest.raises(ValueError, match=message):
        targets(one, number=number, image_paths=paths)


def test_a_mask_of_the_whole_image_is_taken():
    (whole,) = targets(filled((4, 6)))

    assert whole.tolist() == [0, 24]
