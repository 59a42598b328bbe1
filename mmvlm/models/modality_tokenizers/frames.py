"""Inputs that are several images: video frames, an image with its depth map."""

from __future__ import annotations

from typing import ClassVar

import torch
from mmengine.model import BaseModule

from mmvlm.registry import MODELS


@MODELS.register_module()
class FramesTokenizer(BaseModule):
    """Let the encoder's own patch embedding cut every frame.

    The encoder sees frames one by one and averages them afterwards. Serves video
    (T frames or crops), depth and surface normals (T = 2: the RGB image and the
    map, cropped alike).

    Paper: Han et al., "OneLLM: One Framework to Align All Modalities with
    Language", CVPR 2024, arXiv 2312.03700. Deviations: none.

    Args:
        width (int): filled in by the encoder.
        num_frames (int | None): T; None takes any number.
        init_cfg (dict | list | None): mmengine initialisation.

    Trainable parameters: none of its own.
    """

    is_frames: ClassVar[bool] = True

    def __init__(
        self,
        *,
        width: int,
        num_frames: int | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.width = width
        self.num_frames = num_frames

    def check(self, values: torch.Tensor, modality: str) -> None:
        """Refuse inputs that are not T images.

        Raises:
            ValueError: naming the modality and both shapes.
        """
        got, frames = tuple(values.shape[1:]), self.num_frames
        if len(got) != 4 or got[1] != 3 or frames not in (None, got[0]):
            raise ValueError(
                f"{modality}: one input has shape {got}, FramesTokenizer takes "
                f"({frames or 'any'}, 3, H, W)."
            )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Lay all frames out as views.

        Shape:
            - ``values``: (M, T, 3, H, W)
            - output: (M * T, 3, H, W)
        """
        return values.flatten(0, 1)
