"""Tiles of a large image joined behind any connector that keeps a grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mmvlm.models.utils.tiles import merge_tiles
from mmvlm.registry import MODELS
from mmvlm.structures import ViewLayout, VisionEncoderSpec
from mmvlm.structures.tiles import TileTokenCount, tiles_of

from .around import AroundConnector
from .base import Connector
from .mlp import MLPConnector


@MODELS.register_module()
class AnyResConnector(AroundConnector):
    """LLaVA-1.6's any resolution around a connector that works view by view.

    The inner connector sees every view (the whole image and its tiles) alone.
    Their tokens are then joined: the whole image first, then one map of all
    tiles, row by row. Any connector that keeps a grid of tokens fits (linear,
    MLP, pixel shuffle, a fuser with one of them); one with a fixed number of
    tokens (a resampler) needs no such class, its views are put in a row.

    Paper: Liu et al., "LLaVA-NeXT: Improved reasoning, OCR, and world knowledge",
    2024. Deviations: none.

    Args:
        connector, vision_spec, out_width, init_cfg: see :class:`AroundConnector`.
        unpad (bool): cut the padding around the image and end every row with a
            learned newline (``spatial_unpad``); else keep the whole map
            (``spatial``).

    Raises:
        ValueError: when the inner connector keeps no grid of tokens.

    Trainable parameters: the inner connector's, and Dl for the newline.

    Example:
        >>> spec = VisionEncoderSpec(32, 3, 14, 336)
        >>> inner = MLPConnector(vision_spec=spec, out_width=8)
        >>> anyres = AnyResConnector(inner, vision_spec=spec, out_width=8)
        >>> views = ViewLayout((480, 640), (336, 336), 5, "anyres", extra=(2, 2))
        >>> anyres.num_output_tokens(views)
        2340
    """

    def __init__(
        self,
        connector: dict | Connector,
        *,
        vision_spec: VisionEncoderSpec,
        out_width: int,
        unpad: bool = True,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(
            connector, vision_spec=vision_spec, out_width=out_width, init_cfg=init_cfg
        )
        connector = self.connector
        count = connector.token_count
        if not hasattr(count, "grid") or count.extra:
            raise ValueError(
                f"AnyResConnector: {type(connector).__name__} with a "
                f"{type(count).__name__} keeps no grid of tokens to join. Connectors "
                "with a fixed number of tokens take tiles as they are; "
                "select_feature must be 'patch'."
            )
        self.unpad = unpad
        if unpad:
            self.image_newline = nn.Parameter(torch.randn(out_width) / out_width**0.5)

    @property
    def token_count(self) -> TileTokenCount:
        """The whole image, then the joined tiles."""
        return TileTokenCount(self.connector.token_count, self.unpad)

    def views_of(self, size: tuple[int, int]) -> ViewLayout:
        """Return an image of two tiles side by side, padded above and below."""
        original = (size[0], 3 * size[1])
        return ViewLayout(original, size, 3, "anyres", extra=(1, 2))

    def merge_views(
        self, image_embeds: torch.Tensor, layouts: Sequence[ViewLayout]
    ) -> torch.Tensor:
        """Join the views of every image.

        Shape:
            - ``image_embeds``: (V, N', Dl)
            - output: (S, Dl), S = sum of ``num_output_tokens`` over images
        """
        newline = None
        if self.unpad:
            newline = self.image_newline.to(image_embeds.dtype)
        views = image_embeds.split([layout.num_views for layout in layouts])
        grid = self.connector.token_count.grid
        rows = [
            merge_tiles(
                view,
                layout.original_size,
                tiles_of(layout),
                grid(layout.view_size),
                newline,
            )
            for view, layout in zip(views, layouts, strict=True)
        ]
        return torch.cat(rows) if rows else image_embeds.flatten(0, 1)

    @classmethod
    def tiny(
        cls, vision_spec: VisionEncoderSpec | None = None, out_width: int = 48
    ) -> AnyResConnector:
        """Build one around an MLP."""
        inner = MLPConnector.tiny(vision_spec, out_width)
        return cls(inner, vision_spec=inner.vision_spec, out_width=out_width)
