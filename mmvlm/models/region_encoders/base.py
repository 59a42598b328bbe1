"""The contract of region encoders: connectors that fill the slots of regions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from mmvlm.models.connectors.base import Connector, Filled, in_order
from mmvlm.models.utils.feed import Feed
from mmvlm.structures import (
    FixedTokenCount,
    TokenCount,
    VisionEncoderSpec,
    VisionFeatures,
)
from mmvlm.structures.region_pixels import whole_view
from mmvlm.structures.regions import REGION, RegionInputs, RegionNeeds


class RegionEncoder(Connector):
    """Features of images and regions in them to rows that fill the regions' slots.

    A subclass says what it :attr:`needs` of a region, how many tokens it makes of one
    (:attr:`token_count`), and in ``forward`` encodes all regions of views of one size
    at once. Where regions lie is a fraction of their view, so it asks for no image.
    The arguments are those of :class:`Connector`.
    """

    fills = (REGION,)
    #: What it reads of a region besides its box.
    needs: RegionNeeds = RegionNeeds()

    @property
    def reads(self) -> tuple[str, ...]:
        """Hidden states of the images, and the regions themselves."""
        return (*super().reads, REGION)

    @property
    def token_count(self) -> TokenCount:
        """One position per region; override for more."""
        return FixedTokenCount(1)

    def fill(self, kind: str, feed: Feed) -> Filled:
        """Make the rows of all regions, image sizes one after the other."""
        regions = feed.inputs(kind)
        pieces = []
        for images, features in feed.groups(
            self.source, self.select_layers, self.weight_dtype
        ):
            place = {image: number for number, image in enumerate(images)}
            rows = [n for n, image in enumerate(regions.parent) if image in place]
            if rows:
                shown = [place[regions.parent[n]] for n in rows]
                views = _views(features, shown).to(regions.values.device)
                own = RegionInputs.of(regions, rows, views)
                pieces.append((rows, self(features, own)))
        return Filled(in_order(pieces, regions.slot_lens))

    @abstractmethod
    def forward(self, features: VisionFeatures, regions: RegionInputs) -> torch.Tensor:
        """Encode regions, in their order.

        Shape:
            - ``features.hidden_states[i]``: (V, P + N, Dv)
            - ``regions``: R regions, R may be 0
            - output: (S, Dl), S = sum of the regions' token counts
        """

    @classmethod
    def tiny(
        cls,
        vision_spec: VisionEncoderSpec | None = None,
        out_width: int = 48,
        **options: Any,
    ) -> RegionEncoder:
        """Build a miniature for tests; a subclass gives the sizes that it takes."""
        spec = vision_spec or VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
        return cls(vision_spec=spec, out_width=out_width, **options)


def _views(features: VisionFeatures, images: Sequence[int]) -> torch.Tensor:
    """Return the view that shows each of some images wholly: (R,), int64."""
    first, views = 0, []
    for layout in features.layouts:
        views.append(first + whole_view(layout))
        first += layout.num_views
    return torch.tensor([views[image] for image in images], dtype=torch.int64)


def points_of(regions: RegionInputs, reader: str) -> torch.Tensor:
    """Return the points of regions.

    Raises:
        ValueError: when the batch brings none.
    """
    if regions.points is None:
        raise ValueError(_MISSING.format(reader, "points"))
    return regions.points


def masks_of(regions: RegionInputs, reader: str, side: int) -> torch.Tensor:
    """Return the masks of regions, (R, side, side) uint8.

    Raises:
        ValueError: when the batch brings none, or of another side.
    """
    if regions.masks is None:
        raise ValueError(_MISSING.format(reader, "masks"))
    if regions.masks.shape[1:] != (side, side):
        found = tuple(regions.masks.shape[1:])
        raise ValueError(f"{reader} reads masks of side {side}, the batch has {found}.")
    return regions.masks


_MISSING = (
    "{} reads the {} of regions, but the batch brings none. Put PrepareRegions between "
    "WriteRegions and EncodeConversation in the pipeline of every dataset."
)
