"""The contract of connectors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule

from mmvlm.structures import TokenCount, ViewLayout, VisionEncoderSpec, VisionFeatures


class Connector(BaseModule):
    """Vision features to language-model embeddings.

    Args:
        vision_spec (VisionEncoderSpec): filled in by the VLM from its encoder.
        out_width (int): width of the language model (Dl), filled in likewise.
        select_layers (Sequence[int]): hidden states that the connector wants.
        init_cfg (dict | list | None): mmengine initialisation.

    """

    #: True when ``forward`` also wants the question (``features.instructions``).
    needs_text: bool = False
    #: True when ``forward`` gives media for cross-attention inside the language
    #: model, (M, n, ``media_width``) with one entry per picture; ``merge_views``
    #: then gives what fills the pictures' places in the text.
    gives_media: bool = False
    #: Whether it takes views that each have a grid of their own (``features.grids``).
    takes_grids: bool = False
    #: What the connector takes (``features.modality``).
    modalities: tuple[str, ...] = ("image",)

    def __init__(
        self,
        *,
        vision_spec: VisionEncoderSpec,
        out_width: int,
        select_layers: Sequence[int] = (-2,),
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.vision_spec = vision_spec
        self.out_width = out_width
        self.select_layers = tuple(select_layers)
        for layer in self.select_layers:
            vision_spec.layer_index(layer)

    @property
    @abstractmethod
    def token_count(self) -> TokenCount:
        """Picklable promise of the tokens a picture takes, for the data side."""

    @property
    def media_width(self) -> int:
        """Channels of the media that ``forward`` gives (``gives_media`` only)."""
        return self.vision_spec.width

    def num_output_tokens(self, layout: ViewLayout) -> int:
        """Return the LLM positions that a picture of this layout fills."""
        return self.token_count(layout)

    def views_of(self, size: tuple[int, int]) -> ViewLayout:
        """Return the layout of a picture that the connector can take.

        View transforms that follow the model read it; tests make pictures of it.

        Args:
            size (tuple[int, int]): height and width of one view in pixels.

        """
        return ViewLayout(size, size)

    @abstractmethod
    def forward(self, features: VisionFeatures) -> torch.Tensor:
        """Project every view.

        Shape:
            - ``features.hidden_states[i]``: (V, P + N, Dv), V may be 0
            - output: (V, N', Dl), same dtype
        """

    def merge_views(
        self, image_embeds: torch.Tensor, layouts: Sequence[ViewLayout]
    ) -> torch.Tensor:
        """Join views into the rows that fill the slots, picture after picture.

        The default keeps all tokens in view order; tiled layouts override it.

        Shape:
            - ``image_embeds``: (V, N', Dl)
            - output: (S, Dl), S = sum of ``num_output_tokens`` over pictures
        """
        return image_embeds.flatten(0, 1)

    @classmethod
    def tiny(
        cls, vision_spec: VisionEncoderSpec | None = None, out_width: int = 48
    ) -> Connector:
        """Build a miniature for tests; override when the constructor needs more."""
        spec = vision_spec or VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
        return cls(vision_spec=spec, out_width=out_width)
