"""Move a flat batch to the device and normalise its pixels there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor

from mmvlm.registry import MODELS
from mmvlm.structures import VLMBatch


@MODELS.register_module()
class VLMDataPreprocessor(BaseDataPreprocessor):
    """Take what ``collate_flat`` made; give what the model takes.

    uint8 pixels become normalised float32 on the device; float pixels are taken
    as normalised already.

    Args:
        mean, std (tuple[float, float, float]): of RGB in 0-1; the VLM fills in
            its encoder's.
        non_blocking (bool): copy asynchronously from pinned memory.

    """

    def __init__(
        self,
        mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] = (0.5, 0.5, 0.5),
        non_blocking: bool = True,
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        # One multiply and add: (x / 255 - mean) / std. Not buffers: they must stay
        # float32 and survive a model that was built on the meta device.
        shift = [-m / s for m, s in zip(mean, std, strict=True)]
        self._affine = torch.tensor(
            [[1 / (255 * s) for s in std], shift], device="cpu", dtype=torch.float32
        ).view(2, 1, 3, 1, 1)
        self._on_device: dict[torch.device, torch.Tensor] = {}

    def normalize(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return float pixels as they are, uint8 pixels normalised in float32.

        Shape:
            - ``pixel_values``: (V, 3, H, W), or frames (M, T, 3, H, W)
            - output: the same
        """
        if pixel_values.dtype != torch.uint8:
            return pixel_values
        device = pixel_values.device
        if device not in self._on_device:
            self._on_device[device] = self._affine.to(device)
        scale, shift = self._on_device[device]
        return pixel_values.float().mul_(scale).add_(shift)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Return ``dict(inputs=VLMBatch, data_samples=list)`` on the device.

        Shape:
            - ``data['inputs'].pixel_values``: (V, 3, H, W), uint8 or float, or None

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
        if batch.pixel_values is not None:
            batch.pixel_values = self.normalize(batch.pixel_values)
        batch.modality_inputs = {
            name: replace(inputs, values=self.normalize(inputs.values))
            for name, inputs in batch.modality_inputs.items()
        }
        return dict(inputs=batch, data_samples=data.get("data_samples"))
