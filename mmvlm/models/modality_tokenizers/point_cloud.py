"""Point clouds to tokens, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mmvlm.registry import MODELS

from .base import ModalityTokenizer


def farthest_points(coordinates: torch.Tensor, count: int) -> torch.Tensor:
    """Choose points that are far from each other, starting with the first.

    Each next point is the one farthest from all chosen ones (the first of equals).

    Shape:
        - ``coordinates``: (M, P, C)
        - output: (M, count), int64 indices into P
    """
    batch, points = coordinates.shape[:2]
    chosen = coordinates.new_zeros(batch, count, dtype=torch.long)
    distance = coordinates.new_full((batch, points), float("inf"))
    rows = torch.arange(batch, device=coordinates.device)
    for step in range(1, count):
        last = coordinates[rows, chosen[:, step - 1]][:, None]
        distance = torch.minimum(distance, (coordinates - last).square().sum(-1))
        chosen[:, step] = distance.argmax(-1)
    return chosen


def nearest_points(
    coordinates: torch.Tensor, centres: torch.Tensor, count: int
) -> torch.Tensor:
    """Find the points nearest to each centre, nearest first.

    Shape:
        - ``coordinates``: (M, P, C); ``centres``: (M, N, C)
        - output: (M, N, count), int64 indices into P
    """
    distance = torch.cdist(centres, coordinates, compute_mode=_EXACT)
    return distance.topk(count, -1, largest=False).indices


# The matrix product that cdist takes for many points loses digits near zero.
_EXACT = "donot_use_mm_for_euclid_dist"


@MODELS.register_module()
class PointCloudTokenizer(ModalityTokenizer):
    """Sample centres, gather their neighbours, project and take the maximum.

    Paper: OneLLM, arXiv 2312.03700. Deviations: none. Files hold coordinates in
    channels 0 to 2 (:class:`NormalizePoints`), yet the official code samples and
    groups by channels 3 to 5, the colours; so do its weights. Give
    ``coordinate_channels=(0, 1, 2)`` to sample by place.

    Args:
        width (int): filled in by the encoder.
        num_tokens (int): centres N.
        num_neighbours (int): points per centre, itself included.
        channels (int): of a point.
        coordinate_channels (Sequence[int]): which of them it is sampled by.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: for a coordinate channel that a point does not have.

    Trainable parameters: (channels + 1) * Dv + (N + 1) * Dv.
    """

    def __init__(
        self,
        *,
        width: int,
        num_tokens: int = 1024,
        num_neighbours: int = 32,
        channels: int = 6,
        coordinate_channels: Sequence[int] = (3, 4, 5),
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(width=width, num_tokens=num_tokens, init_cfg=init_cfg)
        if not all(0 <= channel < channels for channel in coordinate_channels):
            raise ValueError(
                f"PointCloudTokenizer: coordinate_channels={list(coordinate_channels)}"
                f", but a point has channels 0..{channels - 1}."
            )
        self.input_shape = (None, channels)
        self.num_neighbours = num_neighbours
        self.coordinate_channels = tuple(coordinate_channels)
        self.conv = nn.Conv2d(channels, width, 1)

    @property
    def dtype(self) -> torch.dtype:
        """float32: sampling needs exact coordinates."""
        return torch.float32

    def check(self, values: torch.Tensor, modality: str) -> None:
        """Refuse inputs of another shape, or of fewer points than are sampled.

        Raises:
            ValueError: naming the modality and what was expected.
        """
        super().check(values, modality)
        needed = max(self.num_tokens, self.num_neighbours)
        if values.shape[1] < needed:
            raise ValueError(
                f"{modality}: an input has {values.shape[1]} points, at least {needed} "
                "are needed."
            )

    def neighbours(self, values: torch.Tensor) -> torch.Tensor:
        """Gather the points around every centre.

        Shape:
            - ``values``: (M, P, channels), P points
            - output: (M, N, num_neighbours, channels)
        """
        places = values[..., list(self.coordinate_channels)].float()
        chosen = farthest_points(places, self.num_tokens)
        rows = torch.arange(len(values), device=values.device)[:, None]
        near = nearest_points(places, places[rows, chosen], self.num_neighbours)
        return values[rows[..., None], near]

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Tokenize.

        Shape:
            - ``values``: (M, P, channels)
            - output: (M, N, Dv)
        """
        groups = self.neighbours(values).permute(0, 3, 1, 2)
        tokens = self.conv(groups.to(self.conv.weight.dtype)).amax(-1)
        return tokens.transpose(1, 2)
