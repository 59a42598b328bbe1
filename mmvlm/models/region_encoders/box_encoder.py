"""NExT-Chat's encoder of boxes: where a region lies, and nothing of what it shows."""

from __future__ import annotations

import torch
from torch import nn

from mmvlm.models.connectors.base import Connector, Filled
from mmvlm.models.utils.feed import Feed
from mmvlm.registry import MODELS
from mmvlm.structures import FixedTokenCount, TokenCount
from mmvlm.structures.regions import REGION, RegionNeeds


@MODELS.register_module()
class BoxEncoder(Connector):
    """Two layers turn a box, as fractions of its view, into one token.

    The counterpart of :class:`BoxRegressionHead` for the regions of questions. It reads
    no image: the language model has to look up what is there.

    Paper: Zhang et al., "NExT-Chat: An LMM for Chat, Detection and Segmentation", ICML
    2024, arXiv 2311.04498. Deviations: questions hold the embedding alone, without the
    trigger in front of it.

    Args:
        **kwargs: see :class:`Connector`.

    Trainable parameters: 5*Dl/2 for the first layer, Dl*Dl/2 + Dl for the second.
    """

    source = None
    fills = (REGION,)
    reads = (REGION,)
    #: Of a region it reads the box alone.
    needs = RegionNeeds()

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        inner = self.out_width // 2
        self.loc_encoder = nn.Sequential(
            nn.Linear(4, inner), nn.ReLU(), nn.Linear(inner, self.out_width)
        )

    @property
    def token_count(self) -> TokenCount:
        """One position per region."""
        return FixedTokenCount(1)

    def fill(self, kind: str, feed: Feed) -> Filled:
        """Encode the boxes of all regions."""
        return Filled(self(feed.inputs(kind).values))

    def forward(self, boxes: torch.Tensor) -> torch.Tensor:
        """Encode boxes.

        Shape:
            - ``boxes``: (R, 4), x1, y1, x2, y2, R may be 0
            - output: (R, Dl)
        """
        return self.loc_encoder(boxes.to(self.weight_dtype))

    @classmethod
    def tiny(cls, vision_spec: object = None, out_width: int = 48) -> BoxEncoder:
        """Build a miniature for tests."""
        return cls(out_width=out_width)
