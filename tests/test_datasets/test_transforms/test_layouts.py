"""Layouts known from an image's size alone are those of the views themselves."""

import numpy as np
import pytest

from mmvlm.datasets.transforms.image import ViewTransform
from mmvlm.registry import TRANSFORMS

TRANSFORMS.import_from_location()
KINDS = sorted(
    name
    for name, kind in TRANSFORMS.module_dict.items()
    if isinstance(kind, type) and issubclass(kind, ViewTransform)
)
#: What a transform cannot do without.
OPTIONS = dict(DualPerspectiveViews=dict(grid=2))
SIZES = [(1, 1), (7, 9), (9, 7), (16, 16), (5, 90), (90, 5), (33, 40), (61, 20)]


def test_every_kind_of_view_is_here():
    assert {"PadToSquare", "AnyResTiles", "SliceViews", "GridWindows"} <= set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_layout_of_a_size_is_the_layout_of_the_views(name):
    options = dict(size=8, **OPTIONS.get(name, {}))
    transform = TRANSFORMS.build(dict(type=name, **options))
    transform.mean, transform.resample = (0.5, 0.5, 0.5), "bicubic"
    rng = np.random.default_rng(1)

    for size in SIZES:
        image = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
        twins = [np.random.default_rng(5) for _ in range(2)]
        views, layout = transform.view(image, twins[0])
        known = transform.layout(*size, twins[1])

        assert known == layout, size
        assert known.num_views == len(views) and known.view_size == views.shape[2:]
        assert twins[0].random() == twins[1].random()


def test_a_transform_without_a_rule_makes_empty_views():
    class Halves(ViewTransform):
        def view(self, image, rng=None):
            _, layout = TRANSFORMS.build(
                dict(type="ResizeSquare", size=image.shape[0], resample="nearest")
            ).view(image)
            return np.zeros((1, 3, *layout.view_size), np.uint8), layout

    assert Halves().layout(6, 3).view_size == (6, 6)
