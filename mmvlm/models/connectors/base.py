"""The contract of connectors: whatever fills slots of the text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.model import BaseModule

from mmvlm.models.utils.feed import Feed
from mmvlm.structures import TokenCount, ViewLayout, VisionEncoderSpec, VisionFeatures


class Filled(NamedTuple):
    """What a connector makes of the inputs of one kind.

    Args:
        rows (torch.Tensor): (S, Dl), the slots' embeddings, input after input.
        memory (torch.Tensor | None): (M, n, Dm), for cross-attention inside the
            language model, one entry per input.
    """

    rows: torch.Tensor
    memory: torch.Tensor | None = None


class Connector(BaseModule):
    """Features, or inputs themselves, to rows that fill slots.

    The default reads the hidden states ``select_layers`` of every view; a region
    encoder or an audio projector overrides :attr:`reads` and :meth:`fill`.

    Args:
        vision_spec (VisionEncoderSpec): of the encoder of ``source``, filled in by
            the VLM.
        out_width (int): width of the language model (Dl), filled in likewise.
        select_layers (Sequence[int] | None): hidden states that the connector wants;
            None takes ``default_layers``.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: for layers that the encoder has not, or another number of them.
    """

    #: Kind of input, or name of the encoder, whose features it reads; None for inputs
    #: as they are. As ``fills``, a config may set it.
    source: str | None = "image"
    #: Kinds of inputs whose slots it fills.
    fills: tuple[str, ...] = ("image",)
    #: Channels of ``Filled.memory``; None for connectors that give none.
    memory_width: int | None = None
    #: Hidden states that it reads where the config names none.
    default_layers: tuple[int, ...] = (-2,)
    #: Whether it reads exactly one hidden state.
    one_layer: bool = False
    #: Whether it takes views that each have a grid of their own (``features.grids``).
    takes_grids: bool = False

    def __init__(
        self,
        *,
        vision_spec: VisionEncoderSpec | None = None,
        out_width: int,
        select_layers: Sequence[int] | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.vision_spec = vision_spec
        self.out_width = out_width
        if (vision_spec is None) != (self.source is None):
            raise ValueError(
                f"{type(self).__name__}: vision_spec={vision_spec}, but it reads "
                f"features of {self.source}."
            )
        default = () if vision_spec is None else self.default_layers
        self.select_layers = tuple(default if select_layers is None else select_layers)
        if self.one_layer and len(self.select_layers) != 1:
            raise ValueError(
                f"{type(self).__name__}: select_layers={list(self.select_layers)}, "
                "expected exactly one layer."
            )
        for layer in self.select_layers:
            vision_spec.layer_index(layer)

    @property
    def reads(self) -> tuple[str, ...]:
        """What it reads; see :func:`parse_source`."""
        return tuple(f"{self.source}:{layer}" for layer in self.select_layers)

    @property
    @abstractmethod
    def token_count(self) -> TokenCount:
        """Picklable promise of the tokens that an input takes, for the data side."""

    def num_output_tokens(self, layout: ViewLayout) -> int:
        """Return the LLM positions that an image of this layout fills."""
        return self.token_count(layout)

    def views_of(self, size: tuple[int, int]) -> ViewLayout:
        """Return the layout of an image that the connector can take.

        View transforms that follow the model read it; tests make images of it.

        Args:
            size (tuple[int, int]): height and width of one view in pixels.
        """
        return ViewLayout(size, size)

    @property
    def weight_dtype(self) -> torch.dtype | None:
        """Of its weights; None without any."""
        return next((weight.dtype for weight in self.parameters()), None)

    def fill(self, kind: str, feed: Feed) -> Filled:
        """Make the rows for the slots of all inputs of a kind.

        Args:
            kind (str): one of ``fills``.
            feed (Feed): inputs and features of the batch.
        """
        source = kind if len(self.fills) > 1 else self.source
        pieces, memory = [], []
        for numbers, features in feed.groups(
            source, self.select_layers, self.weight_dtype
        ):
            if "question" in self.reads:
                features.instructions = feed.questions(numbers, type(self).__name__)
            out = self(features)
            rows = self.merge_views(out, features.layouts)
            pieces.append((numbers, rows))
            memory.append(out)
        rows = in_order(pieces, feed.inputs(kind).slot_lens)
        return Filled(rows, None if self.memory_width is None else torch.cat(memory))

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
        """Join views into the rows that fill the slots, image after image.

        The default keeps all tokens in view order; tiled layouts override it.

        Shape:
            - ``image_embeds``: (V, N', Dl)
            - output: (S, Dl), S = sum of ``num_output_tokens`` over images
        """
        return image_embeds.flatten(0, 1)

    @classmethod
    def tiny(
        cls, vision_spec: VisionEncoderSpec | None = None, out_width: int = 48
    ) -> Connector:
        """Build a miniature for tests; override when the constructor needs more."""
        spec = vision_spec or VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
        return cls(vision_spec=spec, out_width=out_width)


def in_order(
    pieces: Sequence[tuple[list[int], torch.Tensor]], lengths: Sequence[int]
) -> torch.Tensor:
    """Bring rows of groups of inputs into the order of the inputs: (S, D)."""
    if len(pieces) == 1:
        return pieces[0][1]
    found = {}
    for numbers, rows in pieces:
        found.update(
            zip(numbers, rows.split([lengths[n] for n in numbers]), strict=True)
        )
    return torch.cat([found[number] for number in sorted(found)])
