"""Cost model of a training step and peak rates of devices, for MFU."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..optimizers.part_constructor import model_parts, num_elements

#: Dense bfloat16 peak in TFLOP/s by a word of the device's name.
PEAK_TFLOPS = {
    "B200": 2250.0,
    "GH200": 989.0,
    "H200": 989.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "A10": 125.0,
    "V100": 125.0,
}


def peak_tflops(name: str) -> float | None:
    """Return the bfloat16 peak of a device by its name, None when unknown."""
    for word, peak in PEAK_TFLOPS.items():
        if word in name.upper():
            return peak
    return None


def matmul_parameters(module: nn.Module) -> tuple[int, int]:
    """Return trained and frozen weights that take part in matrix products.

    Embedding tables are looked up, not multiplied, unless they are tied to a head.
    """
    trained = frozen = 0
    seen: set[int] = set()
    tables, heads = (
        {
            id(param)
            for child in module.modules()
            if isinstance(child, kind)
            for param in child.parameters(recurse=False)
        }
        for kind in (nn.Embedding, nn.Linear)
    )
    for param in module.parameters():
        is_matrix = param.dim() >= 2 or hasattr(param, "ds_numel")
        looked_up = id(param) in tables and id(param) not in heads
        if id(param) in seen or not is_matrix or looked_up:
            continue
        seen.add(id(param))
        if param.requires_grad:
            trained += num_elements(param)
        else:
            frozen += num_elements(param)
    return trained, frozen


class StepCost:
    """FLOP of an optimizer step.

    Per weight and token: 2 forward, 2 for the gradient of activations, 2 for that of
    weights. Frozen language-model weights cost 4 (gradients pass through them), those
    of a frozen vision encoder 2 (it runs without graph). Causal attention adds
    ``6 * layers * width`` per token and token of context, half a square.

    Args:
        model (nn.Module): the bare model, before it is sharded.
    """

    def __init__(self, model: nn.Module) -> None:
        self.per_token = self.per_image = 0.0
        self.attention = 0.0
        spec = getattr(model, "vision_spec", None)
        view_tokens = 0
        if spec is not None:
            side = spec.image_size // spec.patch_size
            view_tokens = side * side + spec.num_prefix_tokens
        for name, part in model_parts(model).items():
            trained, frozen = matmul_parameters(part)
            if name == "language_model":
                self.per_token += 6 * trained + 4 * frozen
                config = getattr(part, "config", None)
                layers = getattr(config, "num_hidden_layers", 0)
                self.attention = 6.0 * layers * getattr(config, "hidden_size", 0)
            else:
                self.per_image += (6 * trained + 2 * frozen) * view_tokens

    def flops(self, num_tokens: int, num_images: int, num_samples: int) -> float:
        """Return the FLOP of a step over all ranks."""
        context = num_tokens / max(1, num_samples)
        per_token = self.per_token + self.attention * context
        return per_token * num_tokens + self.per_image * num_images


def device_peak(configured: float | None) -> float | None:
    """Return the peak rate of this process's device in FLOP/s, None on a CPU."""
    if configured is not None:
        return configured * 1e12
    if not torch.cuda.is_available():
        return None
    peak: Any = peak_tflops(torch.cuda.get_device_name())
    return None if peak is None else peak * 1e12
