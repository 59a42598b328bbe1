"""Mini-Gemini's patch-info mining."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import nn

from mmvlm.registry import MODELS
from mmvlm.structures import MapSpec, ViewLayout, VisionEncoderSpec, VisionFeatures

from .base import Fuser, same_layout


@dataclass(frozen=True)
class StackedLayout:
    """Layout of an image whose views each gave several patch grids.

    Args:
        stacked (int): grids per view.
    """

    stacked: int

    def __call__(self, layout: ViewLayout) -> ViewLayout:
        """Count every grid as a view."""
        return replace(layout, num_views=layout.num_views * self.stacked)


@MODELS.register_module()
class PatchInfoMiningFuser(Fuser):
    """Every token asks the fine cells that lie under it, and adds what they say.

    Names of the weights are the official ones.

    Paper: Li et al., "Mini-Gemini: Mining the Potential of Multi-modality Vision
    Language Models", 2024, arXiv 2403.18814. Deviations: none (released code).

    Args:
        **kwargs: see :class:`Fuser`.

    Raises:
        ValueError: for an encoder without a second map, or not exactly one layer.

    Trainable parameters: with C = Dv and A = the width of the fine map,
        2*C + C*C + C + 2*(2*A + A*C + C).
    """

    official_keys: ClassVar = {
        f"model.{part}.": f"connector.fuser.{part}."
        for part in (
            *("vlm_uni_query_projector", "vlm_uni_aux_projector"),
            "vlm_uni_val_projector",
        )
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        fine = {one.name: one for one in self.vision_spec.maps}.get("fine")
        if fine is None or len(self.select_layers) != 1:
            raise ValueError(
                "PatchInfoMiningFuser: "
                f"maps={[one.name for one in self.vision_spec.maps]}, "
                f"select_layers={list(self.select_layers)}; expected a "
                "DualVisionEncoder with its 'fine' map and exactly one layer."
            )
        width, aux = self.vision_spec.width, fine.width

        def projector(channels: int) -> nn.Sequential:
            return nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, width))

        self.vlm_uni_query_projector = projector(width)
        self.vlm_uni_aux_projector = projector(aux)
        self.vlm_uni_val_projector = projector(aux)

    @property
    def out_spec(self) -> VisionEncoderSpec:
        """One hidden state; the fine map ends here, stacked grids come apart."""
        return replace(super().out_spec, maps=(), stacked=1)

    @property
    def out_layout(self) -> Callable[[ViewLayout], ViewLayout]:
        """Every stacked grid becomes a view of its own."""
        stacked = self.vision_spec.stacked
        return same_layout if stacked == 1 else StackedLayout(stacked)

    def mine(self, tokens: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """Return what is added to the tokens.

        Shape:
            - ``tokens``: (V, N, C)
            - ``cells``: (V, N, p*p, A), the cells under each token
            - output: (V, N, C)
        """
        query = self.vlm_uni_query_projector(tokens)[:, :, None]
        key = self.vlm_uni_aux_projector(cells)
        value = self.vlm_uni_val_projector(cells)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        weights = scores.float().softmax(-1).to(value.dtype)
        return (weights @ value)[:, :, 0]

    def forward(self, features: VisionFeatures) -> VisionFeatures:
        """Mine.

        Shape:
            - ``features.hidden_states[0]``: (V, P + N, C), V may be 0
            - ``features.maps["fine"]``: (V, A, p*H, p*W)
            - output ``hidden_states[0]``: (V, N, C); (V * S, N / S, C) for S stacked
              grids
        """
        tokens = features.patches(0)
        rows, cols = features.grid
        aux = features.maps["fine"].unflatten(-1, (cols, -1)).unflatten(-3, (rows, -1))
        cells = aux.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)
        mined = tokens + self.mine(tokens, cells)
        stacked = self.vision_spec.stacked
        grid = (rows // stacked, cols)
        shape = (len(mined) * stacked, grid[0] * grid[1], mined.shape[-1])
        layouts = tuple(map(self.out_layout, features.layouts))
        return VisionFeatures((mined.reshape(shape),), (0,), grid, 0, layouts)

    @classmethod
    def tiny(cls, vision_spec: VisionEncoderSpec | None = None) -> PatchInfoMiningFuser:
        """Build one for 2 x 2 cells of 24 channels under every patch."""
        spec = vision_spec or VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
        return cls(vision_spec=replace(spec, maps=(MapSpec("fine", 24, 2),)))
