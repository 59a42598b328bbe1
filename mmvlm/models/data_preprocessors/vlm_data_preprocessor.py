"""Move a flat batch to the device and normalise its pixels there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor

from mmvlm.registry import MODELS
from mmvlm.structures import Inputs, VLMBatch

Statistics = tuple[Sequence[float], Sequence[float]]


@MODELS.register_module()
class VLMDataPreprocessor(BaseDataPreprocessor):
    """Take what ``collate_flat`` made; give what the model takes.

    uint8 pixels, entries of (3, H, W), become normalised float32 on the device; all
    else is taken as it is.

    Args:
        mean, std (Sequence[float]): of RGB in 0-1; the VLM fills in its encoder's.
        by_kind (Mapping[str, Statistics] | None): kind of input to other mean and
            std, filled in for further encoders.
        non_blocking (bool): copy asynchronously from pinned memory.
    """

    def __init__(
        self,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        by_kind: Mapping[str, Statistics] | None = None,
        non_blocking: bool = True,
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        self._affine = _affine(mean, std)
        self._by_kind = {kind: _affine(*one) for kind, one in (by_kind or {}).items()}
        self._on_device: dict[tuple, torch.Tensor] = {}

    def normalize(self, values: torch.Tensor, kind: str = "image") -> torch.Tensor:
        """Return uint8 pixels normalised in float32, all else as it is.

        Shape:
            - ``values``: (V, 3, H, W), or frames (M, T, 3, H, W)
            - output: the same
        """
        is_rgb = values.ndim > 2 and values.shape[-3] == 3
        if values.dtype != torch.uint8 or not is_rgb:
            return values
        key = (kind if kind in self._by_kind else "", values.device)
        if key not in self._on_device:
            own = self._by_kind.get(kind, self._affine)
            self._on_device[key] = own.to(values.device)
        scale, shift = self._on_device[key]
        return values.float().mul_(scale).add_(shift)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Return ``dict(inputs=VLMBatch, data_samples=list)`` on the device.

        Shape:
            - ``data["inputs"].inputs[kind].values``: (N, ...), any dtype

        Raises:
            TypeError: when ``inputs`` is no :class:`VLMBatch`.
        """
        batch = data["inputs"]
        if not isinstance(batch, VLMBatch):
            raise TypeError(
                f"VLMDataPreprocessor: inputs is a {type(batch).__name__}, expected a "
                "VLMBatch. Set collate_fn=dict(type='collate_flat') in the dataloader."
            )
        batch = batch.to(self.device, non_blocking=self._non_blocking)
        batch.inputs = {
            kind: self._normalized(inputs, kind)
            for kind, inputs in batch.inputs.items()
        }
        return dict(inputs=batch, data_samples=data.get("data_samples"))

    def _normalized(self, inputs: Inputs, kind: str) -> Inputs:
        if not inputs.shapes:
            return replace(inputs, values=self.normalize(inputs.values, kind))
        entries = [self.normalize(one, kind) for one in inputs.entries()]
        return replace(inputs, values=torch.cat([one.flatten() for one in entries]))


def _affine(mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Return scale and shift: (2, 3, 1, 1).

    One multiply and add: (x / 255 - mean) / std. Not a buffer: it must stay float32
    and survive a model that was built on the meta device.
    """
    shift = [-m / s for m, s in zip(mean, std, strict=True)]
    values = [[1 / (255 * s) for s in std], shift]
    return torch.tensor(values, device="cpu", dtype=torch.float32).view(2, 3, 1, 1)
