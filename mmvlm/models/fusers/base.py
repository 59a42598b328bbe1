"""The contract of fusers: vision features to vision features."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace

from mmengine.model import BaseModule

from mmvlm.structures import ViewLayout, VisionEncoderSpec, VisionFeatures


def same_layout(layout: ViewLayout) -> ViewLayout:
    """Return the layout: views go through one by one."""
    return layout


class Fuser(BaseModule):
    """Join layers or views of an encoder, still in vision space.

    A fuser stands between encoder and projector; ``FusedConnector`` composes it
    with any connector.

    Args:
        vision_spec (VisionEncoderSpec): filled in from the encoder.
        select_layers (Sequence[int] | None): hidden states that the fuser wants; None
            takes ``default_layers``.
        init_cfg (dict | list | None): mmengine initialisation.
    """

    #: Hidden states that it reads where the config names none.
    default_layers: tuple[int, ...] = (-2,)

    def __init__(
        self,
        *,
        vision_spec: VisionEncoderSpec,
        select_layers: Sequence[int] | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.vision_spec = vision_spec
        layers = self.default_layers if select_layers is None else select_layers
        self.select_layers = tuple(layers)
        for layer in self.select_layers:
            vision_spec.layer_index(layer)

    @property
    def out_spec(self) -> VisionEncoderSpec:
        """What the projector sees: one hidden state, no prefix tokens.

        Override it when width or patches per view change.
        """
        return replace(self.vision_spec, num_layers=0, num_prefix_tokens=0)

    @property
    def out_layout(self) -> Callable[[ViewLayout], ViewLayout]:
        """Picklable map from an image's layout to that of the fused views."""
        return same_layout

    def views_of(self, size: tuple[int, int]) -> ViewLayout:
        """Return the layout of an image that the fuser can take.

        View transforms that follow the model read it; tests make images of it.

        Args:
            size (tuple[int, int]): height and width of one view in pixels.
        """
        return ViewLayout(size, size)

    @abstractmethod
    def forward(self, features: VisionFeatures) -> VisionFeatures:
        """Fuse.

        Shape:
            - ``features.hidden_states[i]``: (V, P + N, Dv), V may be 0
            - output ``hidden_states[0]``: (V', N', D), without prefix tokens;
              V' views as ``out_layout`` says, D = ``out_spec.width``
        """

    @classmethod
    def tiny(cls, vision_spec: VisionEncoderSpec | None = None) -> Fuser:
        """Build a miniature for tests; override when the constructor needs more."""
        spec = vision_spec or VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
        return cls(vision_spec=spec)
