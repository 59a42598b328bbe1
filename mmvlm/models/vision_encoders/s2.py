"""Any vision encoder at several scales (S2): more detail, not more tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from mmvlm.models.utils.multiscale import (
    cut_squares,
    join_scales,
    stitch_squares,
    to_map,
)
from mmvlm.registry import MODELS
from mmvlm.structures import VisionFeatures

from .base import VisionEncoder


@MODELS.register_module()
class S2VisionEncoder(VisionEncoder):
    """One encoder sees an image at several scales; channels are joined.

    The image comes at the largest scale. It is resized to every scale and cut
    into tiles of the smallest one; all tiles go through the encoder in one call.
    The maps are stitched, pooled to the grid of the smallest scale and joined on
    channels. A connector sees ``len(scales)`` times the width and the tokens of
    the smallest scale.

    Paper: Shi et al., "When Do We Not Need Larger Vision Models?", ECCV 2024, arXiv
    2403.13043; in LLaVA: its ``s2_scales``. Deviations: none.

    Args:
        encoder (dict | VisionEncoder): config or module. Its weights have the
            prefix ``encoder.``.
        scales (Sequence[int]): sides in pixels, ascending, multiples of the first.
        max_views (int | None): tiles in one call of the encoder; None means all.
            The result is the same, memory is less.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: scales that do not ascend, are no multiples of the first, or do
            not divide into the encoder's patches.

    Trainable parameters: the encoder's.

    Example:
        >>> encoder = S2VisionEncoder.tiny()
        >>> encoder.spec.width, encoder.spec.image_size, encoder.spec.patch_size
        (64, 64, 16)
        >>> encoder(torch.zeros(2, 3, 64, 64), (-2,)).patches().shape
        torch.Size([2, 16, 64])
    """

    @staticmethod
    def tiny_fields(part: dict, side: int) -> dict:
        """What ``--tiny`` makes of it: as many scales, from ``side`` pixels on."""
        scales = part.get("scales") or ()
        return (
            dict(scales=[one * side // scales[0] for one in scales]) if scales else {}
        )

    def __init__(
        self,
        encoder: dict | VisionEncoder,
        scales: Sequence[int] = (336, 672, 1008),
        *,
        max_views: int | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if isinstance(encoder, dict):
            encoder = MODELS.build(encoder)
        self.scales = tuple(scales)
        self.max_views = max_views
        inner, smallest = encoder.spec, min(self.scales, default=0)
        rising = list(self.scales) == sorted(set(self.scales))
        if not smallest or not rising or any(s % smallest for s in self.scales):
            raise ValueError(
                f"S2VisionEncoder: scales={list(self.scales)}, expected ascending "
                "sides in pixels, each a multiple of the first."
            )
        if smallest % inner.patch_size:
            raise ValueError(
                f"S2VisionEncoder: scales={list(self.scales)}, but the encoder has "
                f"patches of {inner.patch_size} pixels."
            )
        if max_views is not None and max_views < 1:
            raise ValueError(
                f"S2VisionEncoder: max_views={max_views}, expected above 0."
            )
        self.encoder = encoder
        self.spec = replace(
            inner,
            width=inner.width * len(self.scales),
            patch_size=inner.patch_size * (self.scales[-1] // smallest),
            image_size=self.scales[-1],
            num_prefix_tokens=0,
        )

    @property
    def blocks(self) -> Sequence[torch.nn.Module]:
        """Transformer blocks of the encoder."""
        return self.encoder.blocks

    @property
    def lora(self) -> dict | None:
        """The encoder's adapters, None without."""
        return getattr(self.encoder, "lora", None)

    def init_weights(self) -> None:
        """Initialise the encoder if it asks for it."""
        self.is_init = True
        if not getattr(self.encoder, "is_init", True):
            self.encoder.init_weights()

    def forward(
        self, pixel_values: torch.Tensor, select_layers: Sequence[int] = (-2,)
    ) -> VisionFeatures:
        """Encode views at every scale; layers count as in the encoder.

        Shape:
            - ``pixel_values``: (V, 3, S, S), S = ``scales[-1]``, V may be 0
            - every hidden state: (V, N, D * len(scales)), N of the smallest scale

        Raises:
            ValueError: views of another size, or a layer that does not exist.
        """
        size = self.spec.image_size
        if tuple(pixel_values.shape[-2:]) != (size, size):
            raise ValueError(
                f"S2VisionEncoder: views of {tuple(pixel_values.shape[-2:])} pixels, "
                f"expected ({size}, {size}), the largest scale. Set the view "
                "transform's size."
            )
        splits = [scale // self.scales[0] for scale in self.scales]
        tiles = torch.cat(
            [
                cut_squares(pixel_values, scale, number)
                for scale, number in zip(self.scales, splits, strict=True)
            ]
        )
        parts = [
            self.encoder(chunk, select_layers)
            for chunk in tiles.split(self.max_views or max(len(tiles), 1))
        ]
        grid, prefix = parts[0].grid, parts[0].num_prefix_tokens
        counts = [number * number * len(pixel_values) for number in splits]
        states = []
        for state in zip(*(part.hidden_states for part in parts), strict=True):
            maps = [
                stitch_squares(to_map(tokens), number)
                for tokens, number in zip(
                    torch.cat(state)[:, prefix:].split(counts), splits, strict=True
                )
            ]
            states.append(join_scales(maps, grid[0]).flatten(2).transpose(1, 2))
        return VisionFeatures(tuple(states), parts[0].layers, grid)

    @classmethod
    def tiny(cls) -> S2VisionEncoder:
        """Build two scales, 32 and 64 pixels, of a random CLIP of 3 layers."""
        from .hf_vision import HFVisionEncoder

        return cls(HFVisionEncoder.tiny(), scales=(32, 64))
