"""Masks to be learnt, and images as SAM's encoder takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmvlm.registry import TRANSFORMS
from mmvlm.structures import Region, SampleInputs, ViewLayout
from mmvlm.structures.masks import region_rle, rle_runs

from .loading import named_image
from .resizing import resize_exact


@TRANSFORMS.register_module()
class SAMViews:
    """Images once more, their longer side resized, for an encoder of their own.

    Required keys: ``images``, with ``only_marked`` also ``marked_regions``. Changed
    key: ``inputs``, which gets :class:`SampleInputs` of ``kind``. As in SAM, pixels are
    resized by PIL's bilinear filter, sides are rounded half up, and the padding to a
    square comes behind the normalisation: :class:`SAMVisionEncoder` adds it. For SAM 2
    images are stretched to the square instead, by the bicubic filter as in Sa2VA.

    Args:
        size (int | None): longer side in pixels; None takes that of the encoder of
            ``kind``.
        kind (str): of the inputs.
        only_marked (bool): training only: leave images out of samples without marked
            regions, which the encoder need not see.
        stretch (bool | None): to a square; None takes what the encoder of ``kind``
            wants.

    Raises:
        ValueError: for ``size`` below 1.
    """

    only_training = ("only_marked",)

    def __init__(
        self,
        size: int | None = None,
        kind: str = "image_hi",
        only_marked: bool = False,
        *,
        stretch: bool | None = None,
    ) -> None:
        if size is not None and size < 1:
            raise ValueError(f"SAMViews: size={size}, expected above 0.")
        self.size, self.kind, self.only_marked = size, kind, only_marked
        self.stretch = stretch

    def bind(self, context: Any) -> None:
        """Take size and shape of the encoder, where the config left them open."""
        spec = getattr(context, "specs", {}).get(self.kind)
        if self.size is None and spec is not None:
            self.size = spec.image_size
        if self.stretch is None and spec is not None:
            self.stretch = spec.stretched

    def __call__(self, item: dict) -> dict:
        """Return the item with its images as inputs of ``kind``.

        Raises:
            RuntimeError: when neither the config nor an encoder gave the size.
            ValueError: for an image that was decoded at a reduced size.
        """
        images = item["images"]
        if not images or (self.only_marked and not item.get("marked_regions")):
            return item
        if self.size is None:
            raise RuntimeError(
                f"SAMViews: no size; pass it, or give the model an encoder that reads "
                f"['{self.kind}']."
            )
        stored = item.get("image_sizes") or [image.shape[:2] for image in images]
        views = []
        for image, size in zip(images, stored, strict=True):
            if tuple(size) != image.shape[:2]:
                raise ValueError(
                    f"SAMViews: an image of {tuple(size)} (height, width) was decoded "
                    f"at {image.shape[:2]}; leave LoadImages.draft out."
                )
            layout = self.layout(*image.shape[:2])
            view = image
            if layout.view_size != image.shape[:2]:
                resample = "bicubic" if self.stretch else "bilinear"
                view = resize_exact(image, *layout.view_size, resample)
            planes = np.ascontiguousarray(view.transpose(2, 0, 1))
            views.append((planes[None], layout))
        pixels, layouts = zip(*views, strict=True)
        second = SampleInputs.join(pixels, layouts, fills_slots=False)
        return {**item, "inputs": {**item.get("inputs", {}), self.kind: second}}

    def layout(self, height: int, width: int) -> ViewLayout:
        """Return the layout of an image of that many pixels."""
        scale = self.size / max(height, width)
        # A strip of one pixel keeps it.
        rows, cols = (max(1, int(side * scale + 0.5)) for side in (height, width))
        if self.stretch:
            rows = cols = self.size
        return ViewLayout(
            original_size=(height, width),
            view_size=(rows, cols),
            kind="resize" if self.stretch else "longest",
            scale=(cols / width, rows / height),
        )

    def plan(self, item: dict) -> dict:
        """Return the item as it is: these images fill no tokens."""
        return item


@TRANSFORMS.register_module()
class MaskTargets:
    """Masks of marked regions as run lengths, which a head makes pixels of.

    Required key: ``marked_regions``. Changed key: ``targets``. A mask of 1080 x 1920
    takes a few hundred numbers instead of two million.

    Args:
        head (str): name of the head that learns them, which is also what the codec's
            tokens are read by.
    """

    def __init__(self, head: str = "mask") -> None:
        self.head = head

    def __call__(self, item: dict) -> dict:
        """Return the item with a target (R,) int32 per marked region.

        Raises:
            ValueError: naming the sample, for a region without a mask, of another size
                than its image, or in an image that is not the last one.
        """
        try:
            targets = self._targets(item)
        except ValueError as error:
            name = item.get("index", item["conversation"].id)
            where = item.get("dataset", "a conversation")
            file = named_image(item, -1)
            raise ValueError(f"sample {name} of {where}{file}: {error}") from error
        return {**item, "targets": {**item.get("targets", {}), self.head: targets}}

    def _targets(self, item: dict) -> list[np.ndarray]:
        regions: Sequence[Region] = item.get("marked_regions", ())
        layouts = item.get("layouts", ())
        for region in regions:
            if region.image != len(layouts) - 1:
                raise ValueError(
                    f"a mask in image {region.image}, but masks are made of the last "
                    f"of the sample's {len(layouts)} images."
                )
            size = tuple(layouts[region.image].original_size)
            if tuple(region.boxes.size) != size:
                raise ValueError(
                    f"a mask of {tuple(region.boxes.size)} (height, width) in a "
                    f"image of {size}; resize the "
                    "mask to the image, without smoothing, or leave the sample out "
                    "(bad_samples)."
                )
        return [rle_runs(region_rle(region)) for region in regions]

    def plan(self, item: dict) -> dict:
        """Return the item as it is: lengths do not change."""
        return item
