"""Blocks and samplings of a map: order, inverse, refusals."""

import numpy as np
import pytest
import torch

from mmvlm.structures import ViewLayout
from mmvlm.structures.dual_perspective import (
    DualPerspective,
    crop_views,
    reassemble_views,
    recrop_views,
)

KINDS = ("local", "global")


@pytest.mark.golden
@pytest.mark.parametrize("kind", KINDS)
def test_crops_equal_the_official_ones(goldens, kind):
    with np.load(goldens / "inf_llava_spatial_embed.npz") as data:
        arrays = {key: torch.tensor(data[key]) for key in data}
    cases = [k.removesuffix(f"/{kind}") for k in arrays if k.endswith(f"/{kind}")]
    assert cases

    for case in cases:
        image, grid = arrays[f"{case}/image"], int(arrays[f"{case}/n"])
        crops = crop_views(image, grid, kind)

        assert torch.equal(crops, arrays[f"{case}/{kind}"]), case
        assert torch.equal(reassemble_views(crops, grid, kind), image), case


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid, size", [(1, (3, 2)), (2, (6, 4)), (5, (10, 15))])
def test_reassembling_undoes_cropping_also_with_channels_last(kind, grid, size):
    maps = torch.randn(2, 3, *size)
    last = maps.movedim(1, -1)

    crops = crop_views(last, grid, kind, dims=(1, 2))

    assert torch.equal(crops.movedim(-1, 2), crop_views(maps, grid, kind))
    assert torch.equal(reassemble_views(crops, grid, kind, dims=(-3, -2)), last)


def test_a_kind_becomes_the_other():
    maps = torch.arange(36.0).view(1, 6, 6)
    local, whole = (crop_views(maps, 3, kind) for kind in KINDS)

    assert torch.equal(recrop_views(local, 3, ("local", "global")), whole)
    assert torch.equal(recrop_views(whole, 3, ("global", "local")), local)
    assert recrop_views(local, 3, ("local", "local")) is local
    assert not torch.equal(local, whole)


def test_views_are_counted_and_found_again():
    views = DualPerspective(3)
    layout = views.layout((480, 640), (336, 336))

    assert layout.num_views == 2 * 3 * 3 + 1
    spans = [views.span(kind) for kind in views.kinds]
    assert spans == [slice(0, 9), slice(9, 18), slice(18, 19)]
    assert DualPerspective.of(layout) == views
    assert str(views) == "3 x 3 local, 3 x 3 global, 1 resized"
    assert DualPerspective(4, ("global", "resized")).span("resized") == slice(16, 17)
    assert DualPerspective.of(ViewLayout((4, 4), (4, 4))) is None
    assert DualPerspective.of(None) is None


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: crop_views(torch.zeros(1, 6, 7), 3, "local"), "6 x 7 does not divide"),
        (lambda: crop_views(torch.zeros(6, 6), 3, "tiled"), "expected 'local' or"),
        (lambda: crop_views(torch.zeros(6, 2, 6), 3, "local", (0, 2)), "neighbours"),
        (lambda: reassemble_views(torch.zeros(8, 2, 2), 3, "local"), "8 local views"),
        (lambda: DualPerspective(0), "grid=0"),
        (lambda: DualPerspective(2, ("resized", "local")), "in this order"),
        (lambda: DualPerspective(2, ("half",)), "in this order"),
    ],
)
def test_impossible_views_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
