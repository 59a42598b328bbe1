"""A fuser and a projector, composed freely."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from mmvlm.models.fusers.base import Fuser, same_layout
from mmvlm.registry import MODELS
from mmvlm.structures import (
    TokenCount,
    ViewLayout,
    VisionEncoderSpec,
    VisionFeatures,
)

from .around import with_inputs_of
from .base import Connector
from .mlp import MLPConnector


@dataclass(frozen=True)
class FusedTokenCount:
    """The projector's count for the views that the fuser leaves.

    Args:
        out_layout (Callable): layout of an image to that of its fused views.
        projector (TokenCount): tokens of an image of that layout.
    """

    out_layout: Callable[[ViewLayout], ViewLayout]
    projector: TokenCount

    def __call__(self, layout: ViewLayout) -> int:
        """Return the LLM positions of one image."""
        return self.projector(self.out_layout(layout))


@MODELS.register_module()
class FusedConnector(Connector):
    """Vision space to vision space (fuser), then to the language model (projector).

    Args:
        fuser (dict | Fuser): config, which gets ``vision_spec``, or module.
        projector (dict | Connector): config, which gets the fuser's ``out_spec``
            as ``vision_spec``, ``out_width`` and ``select_layers``; or module.
        vision_spec (VisionEncoderSpec): filled in by the VLM.
        out_width (int): Dl, filled in by the VLM.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: when the projector's width does not fit.
    """

    def __init__(
        self,
        fuser: dict | Fuser,
        projector: dict | Connector,
        *,
        vision_spec: VisionEncoderSpec,
        out_width: int,
        init_cfg: dict | list | None = None,
    ) -> None:
        if isinstance(fuser, dict):
            fuser = MODELS.build(dict(fuser, vision_spec=vision_spec))
        if isinstance(projector, dict):
            projector = MODELS.build(
                dict(
                    projector,
                    vision_spec=fuser.out_spec,
                    out_width=out_width,
                    select_layers=(-1,),
                )
            )
        super().__init__(
            vision_spec=vision_spec,
            out_width=out_width,
            select_layers=fuser.select_layers,
            init_cfg=init_cfg,
        )
        if projector.vision_spec.width != fuser.out_spec.width:
            raise ValueError(
                f"FusedConnector: {type(fuser).__name__} gives width "
                f"{fuser.out_spec.width}, {type(projector).__name__} takes "
                f"{projector.vision_spec.width}."
            )
        self.fuser = fuser
        self.projector = projector
        self.memory_width = projector.memory_width

    @property
    def stages(self) -> tuple[Fuser, Connector]:
        """Fuser and projector, in the order of the data."""
        return self.fuser, self.projector

    @property
    def reads(self) -> tuple[str, ...]:
        """The fuser's layers, and what the projector reads beside them."""
        return with_inputs_of(self.projector, super().reads)

    @property
    def token_count(self) -> TokenCount:
        """The projector's promise for what the fuser leaves."""
        count = self.projector.token_count
        if self.fuser.out_layout is same_layout:
            return count
        return FusedTokenCount(self.fuser.out_layout, count)

    def views_of(self, size: tuple[int, int]) -> ViewLayout:
        """Return the layout of an image that the fuser can take."""
        return self.fuser.views_of(size)

    def forward(self, features: VisionFeatures) -> torch.Tensor:
        """Fuse, then project.

        Shape:
            - ``features.hidden_states[i]``: (V, P + N, Dv), V may be 0
            - output: (V', N', Dl), V' views as the fuser leaves
        """
        fused = self.fuser(features)
        fused.instructions = features.instructions
        fused.modality = features.modality
        return self.projector(fused)

    def merge_views(
        self, image_embeds: torch.Tensor, layouts: Sequence[ViewLayout]
    ) -> torch.Tensor:
        """Let the projector join the fused views.

        Shape:
            - ``image_embeds``: (V', N', Dl)
            - output: (S, Dl)
        """
        fused = tuple(self.fuser.out_layout(layout) for layout in layouts)
        return self.projector.merge_views(image_embeds, fused)

    @classmethod
    def tiny(
        cls, vision_spec: VisionEncoderSpec | None = None, out_width: int = 48
    ) -> FusedConnector:
        """Build a layer mean with an MLP."""
        from mmvlm.models.fusers.layer_fusion import LayerMeanFuser

        fuser = LayerMeanFuser.tiny(vision_spec)
        return cls.around(fuser, out_width)

    @classmethod
    def around(cls, fuser: Fuser, out_width: int = 48) -> FusedConnector:
        """Put an MLP behind a fuser."""
        projector = MLPConnector(
            vision_spec=fuser.out_spec, out_width=out_width, select_layers=(-1,)
        )
        return cls(fuser, projector, vision_spec=fuser.vision_spec, out_width=out_width)
