"""Images at nearly their own size, as patches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mmvlm.registry import TRANSFORMS
from mmvlm.structures import ViewLayout
from mmvlm.structures.native_resolution import (
    axis_positions,
    native_layout,
    native_size,
    to_patches,
)

from .image import ViewTransform


@TRANSFORMS.register_module()
class NativeResolution(ViewTransform):
    """Resize to whole blocks of patches with the image's aspect ratio (Qwen2-VL).

    The views of an image are its patches, block by block, and its layout's ``grids``
    has one entry (1, h, w). The layout's ``scale`` maps points into the resized image
    before it is cut.

    Paper: Wang et al., "Qwen2-VL: Enhancing Vision-Language Model's Perception of the
    World at Any Resolution", 2024, arXiv 2409.12191. Deviations: none.

    Args:
        min_pixels (int): least area in pixels; smaller images are enlarged.
        max_pixels (int): largest area; larger images are shrunk.
        merge (int): patches per side that the encoder joins to one token.
        size (int | None): pixels per side of a token, that is of ``merge`` patches;
            None takes the encoder's.
        resample (str | None): PIL's filter; None takes the encoder's.
        resize (str): ``exact`` or ``fast``, see :class:`ViewTransform`.
    """

    frame = "stretch"
    counts_by_size = True

    def __init__(
        self,
        min_pixels: int = 56 * 56,
        max_pixels: int = 28 * 28 * 1280,
        *,
        merge: int = 2,
        size: int | None = None,
        resample: str | None = None,
        resize: str = "exact",
    ) -> None:
        super().__init__(size=size, resample=resample, resize=resize)
        if not 0 < min_pixels <= max_pixels or merge < 1:
            raise ValueError(
                f"NativeResolution: min_pixels={min_pixels}, max_pixels={max_pixels}, "
                f"merge={merge}; expected 0 < min_pixels <= max_pixels and merge >= 1."
            )
        self.min_pixels, self.max_pixels, self.merge = min_pixels, max_pixels, merge

    def bind(self, context: Any) -> None:
        """Take from ``context.spec`` what the config left open."""
        if self.size is None and context.spec is not None:
            self.size = context.spec.patch_size
        super().bind(context)
        if self.size is not None and self.size % self.merge:
            raise ValueError(
                f"NativeResolution: tokens of {self.size} pixels do not divide into "
                f"merge={self.merge} patches a side."
            )

    def view(
        self, image: np.ndarray, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, ViewLayout]:
        """Return the patches of one image.

        Shape:
            - ``image``: (H, W, 3), uint8
            - views: (P, 3, patch, patch), uint8
        """
        layout = self.layout(*image.shape[:2])
        patch, (_, rows, cols) = self.size // self.merge, layout.grids[0]
        large = self._resize(image, cols * patch, rows * patch)
        return to_patches(large, patch, self.merge), layout

    def layout(
        self, height: int, width: int, rng: np.random.Generator | None = None
    ) -> ViewLayout:
        """Return the layout; see :meth:`ViewTransform.layout`."""
        rows, cols = native_size(
            height, width, self.size, self.min_pixels, self.max_pixels
        )
        patch = self.size // self.merge
        return native_layout((1, rows // patch, cols // patch), patch, (height, width))


@TRANSFORMS.register_module()
class AddAxisPositions:
    """Give the tokens positions in time, height and width (M-RoPE).

    Required keys: ``encoded``, ``layouts`` of :class:`NativeResolution`. Changed key:
    ``encoded`` gets ``position_ids``, (3, T) int64; see :func:`axis_positions`.

    Args:
        merge (int): patches per side that the encoder joins to one token.
    """

    def __init__(self, merge: int = 2) -> None:
        self.merge = merge

    def __call__(self, item: dict) -> dict:
        """Return the item with positions.

        Raises:
            ValueError: naming the sample, when a slot does not fit its grid.
        """
        grids = [grid for layout in item.get("layouts", ()) for grid in layout.grids]
        try:
            positions = axis_positions(item["encoded"], grids, self.merge)
        except (ValueError, IndexError) as error:
            raise ValueError(
                f"sample '{item['conversation'].id}': {error} AddAxisPositions needs "
                "NativeResolution in the pipeline."
            ) from error
        return {**item, "encoded": replace(item["encoded"], position_ids=positions)}

    def plan(self, item: dict) -> dict:
        """Return the item: positions change no length."""
        return item
