"""The image's own tokens under a mask: visual prompts without new weights."""

from __future__ import annotations

import math
from typing import Any

import torch

from mmvlm.models.connectors.base import Connector, Filled
from mmvlm.models.utils.assembly import build_part
from mmvlm.models.utils.feed import Feed
from mmvlm.registry import MODELS
from mmvlm.structures import ViewLayout, VisionEncoderSpec, VisionFeatures
from mmvlm.structures.regions import (
    REGION,
    CoveredTokenCount,
    RegionInputs,
    RegionNeeds,
    covered_cells,
)
from mmvlm.structures.vision import TokenCounts

from .base import RegionEncoder, masks_of


@MODELS.register_module()
class MaskedTokens(RegionEncoder):
    """A connector of images that also fills regions, with its tokens under them.

    A region takes as many positions as tokens of the view belong to its mask, in
    reading order: those that it covers by half, or the ones that it covers most. No
    weight is added to those of the connector inside.

    Paper: the visual prompts of Yuan et al., "Sa2VA: Marrying SAM2 with LLaVA for
    Dense Grounded Understanding of Images and Videos", 2025, arXiv 2501.04001.
    Deviations: which tokens a small region takes; the official code resizes masks by
    nearest neighbours, where one can vanish.

    Args:
        connector (dict | Connector): of images, one token per cell of a square view.
        view_size (int | None): side of the views in pixels, where the encoder
            interpolates its positions to it; None takes the encoder's own.
        vision_spec, out_width, init_cfg: see :class:`Connector`.

    Trainable parameters: those of the connector inside.

    Raises:
        ValueError: for a connector whose tokens are no square grid.
    """

    fills = ("image", REGION)

    def __init__(
        self,
        connector: dict | Connector,
        *,
        vision_spec: VisionEncoderSpec,
        out_width: int,
        view_size: int | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        known = dict(vision_spec=vision_spec, out_width=out_width)
        inner = build_part(connector, **known)
        super().__init__(**known, select_layers=inner.select_layers, init_cfg=init_cfg)
        self.inner = inner
        view = (view_size or vision_spec.image_size,) * 2
        tokens = inner.num_output_tokens(ViewLayout(view, view))
        side = math.isqrt(tokens)
        if side * side != tokens:
            raise ValueError(
                f"MaskedTokens: {type(inner).__name__} makes {tokens} tokens of a "
                "view; masks lie on a square grid of tokens."
            )
        self.needs = RegionNeeds(mask=side)

    @property
    def token_count(self) -> TokenCounts:
        """The inner connector's for images; the covered tokens for regions."""
        covered, own = CoveredTokenCount(), self.inner.token_count
        return TokenCounts({k: covered if k == REGION else own for k in self.fills})

    def views_of(self, size: tuple[int, int]) -> ViewLayout:
        """Return the layout that the inner connector can take."""
        return self.inner.views_of(size)

    def fill(self, kind: str, feed: Feed) -> Filled:
        """Make the rows of images, or of regions."""
        if kind != REGION:
            return self.inner.fill(kind, feed)
        return super().fill(kind, feed)

    def forward(self, features: VisionFeatures, regions: RegionInputs) -> torch.Tensor:
        """Encode regions, in their order.

        Shape:
            - ``features.hidden_states[i]``: (V, P + N, Dv)
            - ``regions``: R regions, R may be 0
            - output: (S, Dl), S = covered tokens of all regions
        """
        side = self.needs.mask
        masks = masks_of(regions, "MaskedTokens", side)
        tokens = self.inner(features)
        if tokens.shape[1] != side * side:
            raise ValueError(
                f"MaskedTokens: a view has {tokens.shape[1]} tokens, its masks "
                f"{side} x {side} cells; give it the side of the views as view_size."
            )
        rows = [
            tokens[view][covered_cells(mask).flatten()]
            for view, mask in zip(regions.views, masks, strict=True)
        ]
        return torch.cat(rows) if rows else tokens[:0].flatten(0, 1)

    @classmethod
    def tiny(cls, vision_spec: Any = None, out_width: int = 48) -> MaskedTokens:
        """Build a miniature for tests."""
        return super().tiny(vision_spec, out_width, connector=dict(type="MLPConnector"))
