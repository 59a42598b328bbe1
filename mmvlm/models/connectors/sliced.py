"""LLaVA-UHD: slices of an image with separators, behind any connector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mmvlm.registry import MODELS
from mmvlm.structures import ViewLayout, VisionEncoderSpec
from mmvlm.structures.slices import SliceTokenCount, slices_of

from .around import AroundConnector
from .base import Connector
from .resampler import ResamplerConnector


@MODELS.register_module()
class SlicedConnector(AroundConnector):
    """The whole image and its slices, each followed by a separator.

    A separator says where a slice stands: one vector between the slices of a row
    (``,`` in the paper), another at the end of a row (the line break).

    Paper: Xu et al., "LLaVA-UHD: an LMM Perceiving Any Aspect Ratio and
    High-Resolution Images", ECCV 2024, arXiv 2403.11703. Deviations: the official
    separators are the language model's embeddings of ``,`` and the line break;
    here they are two learned vectors, as a connector knows no text.

    Args:
        connector, vision_spec, out_width, init_cfg: see :class:`AroundConnector`.
        whole_last (bool): the whole image stands behind its slices, as in the
            released code, instead of before them.

    Trainable parameters: the inner connector's, and 2*Dl.
    """

    def __init__(
        self,
        connector: dict | Connector,
        *,
        vision_spec: VisionEncoderSpec,
        out_width: int,
        whole_last: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(
            connector, vision_spec=vision_spec, out_width=out_width, init_cfg=init_cfg
        )
        connector = self.connector
        if connector.memory_width is not None:
            raise ValueError(
                f"SlicedConnector: {type(connector).__name__} gives media for "
                "cross-attention, which have no place between separators."
            )
        self.whole_last = whole_last
        self.takes_grids = connector.takes_grids
        #: Between slices of a row, and at its end.
        self.separators = nn.Parameter(torch.randn(2, out_width) / out_width**0.5)

    @property
    def token_count(self) -> SliceTokenCount:
        """The inner connector's, and a separator for every slice."""
        return SliceTokenCount(self.connector.token_count)

    def views_of(self, size: tuple[int, int]) -> ViewLayout:
        """Return an image of two slices side by side."""
        return ViewLayout((size[0], 2 * size[1]), size, 3, "slices", extra=(1, 2))

    def merge_views(
        self, image_embeds: torch.Tensor, layouts: Sequence[ViewLayout]
    ) -> torch.Tensor:
        """Put the separators behind the slices.

        Shape:
            - ``image_embeds``: (V, N', Dl)
            - output: (S, Dl), S = sum of ``num_output_tokens`` over images
        """
        marks = self.separators.to(image_embeds.dtype)
        rows = []
        views = image_embeds.split([layout.num_views for layout in layouts])
        for view, layout in zip(views, layouts, strict=True):
            height, width = slices_of(layout)
            # Separators take part, though with 0, also where no image is cut.
            parts = [view[0] if height else view[0] + marks.sum() * 0]
            if height:
                line = torch.cat([marks[:1].expand(width - 1, -1), marks[1:]])
                ends = line.repeat(height, 1)[:, None]
                parts.append(torch.cat([view[1:], ends], 1).flatten(0, 1))
            rows += parts[::-1] if self.whole_last else parts
        return torch.cat(rows) if rows else image_embeds.flatten(0, 1)

    @classmethod
    def tiny(
        cls, vision_spec: VisionEncoderSpec | None = None, out_width: int = 48
    ) -> SlicedConnector:
        """Build one around a resampler."""
        inner = ResamplerConnector.tiny(vision_spec, out_width)
        return cls(inner, vision_spec=inner.vision_spec, out_width=out_width)
