"""Boxes to be learnt as numbers."""

from __future__ import annotations

import numpy as np

from mmvlm.registry import TRANSFORMS
from mmvlm.structures import Region, ViewLayout
from mmvlm.structures.region_pixels import to_view, whole_view


@TRANSFORMS.register_module()
class ViewBoxTargets:
    """Boxes of marked regions as fractions of the view, as a head learns them.

    Required keys: ``marked_regions``, ``layouts``. Changed key: ``targets``.

    Args:
        head (str): name of the head that learns them, which is also what the codec's
            tokens are read by.
    """

    def __init__(self, head: str = "box") -> None:
        self.head = head

    def __call__(self, item: dict) -> dict:
        """Return the item with a target (4,) float32 per marked region.

        Raises:
            ValueError: naming the sample, for a point, or a region of an image that
                is not shown, or not wholly.
        """
        try:
            layouts = item.get("layouts", ())
            targets = [_box(one, layouts) for one in item.get("marked_regions", ())]
        except ValueError as error:
            name = item.get("index", item["conversation"].id)
            where = item.get("dataset", "a conversation")
            raise ValueError(f"sample {name} of {where}: {error}") from error
        return {**item, "targets": {**item.get("targets", {}), self.head: targets}}

    def plan(self, item: dict) -> dict:
        """Return the item as it is: lengths do not change."""
        return item


def _box(region: Region, layouts: tuple[ViewLayout, ...]) -> np.ndarray:
    """Return the box around a region, (4,) float32."""
    if region.kind == "point":
        raise ValueError("a head learns boxes, but the answer holds a point.")
    if not 0 <= region.image < len(layouts):
        raise ValueError(
            f"a box in image {region.image}, but the sample shows {len(layouts)} "
            "image(s); its question must show that image too."
        )
    layout = layouts[region.image]
    whole_view(layout)  # a view must show all of the image
    if layout.kind == "crop":
        raise ValueError(
            "a head learns boxes as fractions of the view, but the view is a crop, "
            "which a box may lie outside of; take a view transform that shows the "
            "whole image (PadToSquare, ResizeSquare)."
        )
    boxes = region.boxes.to("pixel").xyxy
    corners = np.stack([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
    return to_view(corners, layout, region.boxes.size).reshape(4).astype(np.float32)
