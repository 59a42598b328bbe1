"""Regions of questions as what region encoders read, made once in the data worker."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np

from mmvlm.registry import TRANSFORMS
from mmvlm.structures import Region, ViewLayout
from mmvlm.structures.region_pixels import (
    RegionPixels,
    draw_points,
    region_pixels,
    to_view,
    view_mask,
    visible_part,
)
from mmvlm.structures.regions import (
    REGION,
    RegionLayout,
    RegionNeeds,
    covered_cells,
    join_regions,
)

from .loading import named_image


@TRANSFORMS.register_module()
class PrepareRegions:
    """Turn regions that fill slots into boxes, points and masks of their view.

    Put it between :class:`WriteRegions` and :class:`EncodeConversation`. Keys used:
    ``regions``, ``layouts``, ``rng``, ``conversation``. Key changed: ``inputs``, which
    gets ``region`` (:class:`SampleInputs`): ``boxes``, and of ``points`` (with
    ``num_points``), ``draws`` and ``masks`` what the model's region encoders need. All
    are fractions of the view that shows the whole image; the mask of the full
    image stays in the worker. A model without region encoder needs nothing.

    What is drawn comes from the sample's generator in training, and from the
    sample's id and the region's number otherwise, so that a prediction depends on the
    sample alone.

    Args:
        needs (dict | None): what to make (:class:`RegionNeeds`); None asks the model.
        mode (str): ``train`` or ``generate``.

    Raises:
        ValueError: for another mode.
    """

    #: The pipeline says which mode it is for.
    takes_mode = True

    def __init__(self, needs: dict | None = None, mode: str = "train") -> None:
        if mode not in ("train", "generate"):
            raise ValueError(
                f"PrepareRegions: mode='{mode}', expected 'train' or 'generate'."
            )
        self.mode = mode
        self.needs = None if needs is None else RegionNeeds(**needs)
        self._asks_model = needs is None

    def bind(self, context: Any) -> None:
        """Take what the model's region encoders need."""
        if self._asks_model:
            self.needs = getattr(context, "region_needs", None)

    def __call__(self, item: dict) -> dict:
        """Return the item with the inputs of its regions.

        Raises:
            ValueError: naming the sample and the region, when it lies outside of its
                image or of the view, or its image is not there.
        """
        return self._prepared(item, self.needs)

    def plan(self, item: dict) -> dict:
        """Return the item with what decides its length; nothing is drawn."""
        needs = self.needs
        return self._prepared(item, needs and replace(needs, points=0, draws=0))

    def _prepared(self, item: dict, needs: RegionNeeds | None) -> dict:
        regions = item.get("regions", ())
        if needs is None or not regions:
            return item
        arrays, layouts = [], []
        for number, region in enumerate(regions):
            try:
                made = self._arrays(region, item, needs, self._rng(item, number))
            except ValueError as error:
                where = item.get("index", item["conversation"].id)
                name = item.get("dataset", "a conversation")
                file = named_image(item, region.image)
                raise ValueError(
                    f"sample {where} of {name}: region {number}{file}: {error}"
                ) from error
            arrays.append(made)
            cells = int(covered_cells(made["masks"]).sum()) if needs.mask else 0
            layouts.append(RegionLayout(cells=cells))
        parent = [region.image for region in regions]
        inputs = {REGION: join_regions(arrays, layouts, parent)}
        item["inputs"] = {**item.get("inputs", {}), **inputs}
        return item

    def _rng(self, item: dict, number: int) -> np.random.Generator:
        if self.mode == "train":
            return item["rng"]
        identity = zlib.crc32(str(item["conversation"].id).encode())
        return np.random.default_rng((identity, number))

    def _arrays(
        self, region: Region, item: dict, needs: RegionNeeds, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        shown = item.get("layouts", ())
        if not 0 <= region.image < len(shown):
            raise ValueError(
                f"it lies in image {region.image}, but the sample shows "
                f"{len(shown)} image(s); its question must show that image too."
            )
        layout, size = shown[region.image], region.boxes.size
        pixels = visible_part(region_pixels(region), layout, size)
        made = dict(boxes=_box(region, pixels, layout))
        if needs.points:
            places, distinct = draw_points(pixels, needs.points, rng)
            view = to_view(places, layout, size)
            made["points"] = view.astype(np.float32)
            made["num_points"] = np.int64(distinct)
        if needs.draws:
            made["draws"] = rng.random(needs.draws, np.float32)
        if needs.mask:
            made["masks"] = view_mask(pixels, layout, size, needs.mask)
        return made


def _box(region: Region, pixels: RegionPixels, layout: ViewLayout) -> np.ndarray:
    """Return the box around a region, (4,) float32; a point's is that of its window."""
    boxes = region.boxes.to("pixel").xyxy
    corners = np.stack([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
    if region.kind == "point":
        corners = np.reshape(pixels.box, (2, 2)).astype(float)
    box = to_view(corners, layout, region.boxes.size).clip(0, 1)
    return box.reshape(4).astype(np.float32)
