"""Low-rank adapters in half precision on CPUs, without a pass over what they change.

peft widens the input of every adapted layer to float32, which autocast narrows again
for the next product, and writes the scaled update and its sum with the layer's output
one after the other. Here the small products add to the large ones' results.
"""

from __future__ import annotations

import torch
from torch import nn

from mmvlm.utils.precision import narrow_dtype


class _LowRankLinear(torch.autograd.Function):
    """``x @ weight.T + scale * (x @ down.T) @ up.T`` of rows, all of one dtype."""

    @staticmethod
    def forward(ctx, x, scale, *weights):
        weight, down, up = weights
        low = x @ down.T
        ctx.save_for_backward(x, weight, down, up, low)
        ctx.scale = scale
        return (x @ weight.T).addmm_(low, up.T, alpha=scale)

    @staticmethod
    def backward(ctx, grad):
        x, weight, down, up, low = ctx.saved_tensors
        to_low = (grad @ up).mul_(ctx.scale)
        to_input = None
        if ctx.needs_input_grad[0]:
            to_input = (grad @ weight).addmm_(to_low, down)
        to_up = (grad.T @ low).mul_(ctx.scale)
        return to_input, None, None, to_low.T @ x, to_up


class NarrowLoRA:
    """The ``forward`` of a linear layer with LoRA over a frozen weight.

    Set as an instance attribute of peft's wrapper. Other devices, runs without autocast
    and adapters of another kind (dropout, a bias, DoRA, merged or switched off) get the
    wrapper's own arithmetic.

    Args:
        layer (torch.nn.Module): peft's ``lora.Linear`` with the adapter ``default``.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def __call__(self, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        """Map (..., D) to (..., D')."""
        dtype, layer = narrow_dtype(x), self.layer
        if dtype is None or args or kwargs or not self._is_plain():
            return type(layer).forward(layer, x, *args, **kwargs)
        weights = (
            layer.base_layer.weight,
            layer.lora_A["default"].weight,
            layer.lora_B["default"].weight,
        )
        rows, *narrow = (one.to(dtype) for one in (x.flatten(0, -2), *weights))
        with torch.autocast("cpu", enabled=False):
            out = _LowRankLinear.apply(rows, layer.scaling["default"], *narrow)
        return out.unflatten(0, x.shape[:-1])

    def _is_plain(self) -> bool:
        layer = self.layer
        base, active = layer.base_layer, layer.active_adapters
        # Up to peft 0.15 DoRA is marked here, by adapter, later as a variant.
        dora = getattr(layer, "use_dora", {})
        dora = dora.get("default", False) if isinstance(dora, dict) else dora
        # ZeRO-3 leaves flat, empty weights where it gathers them for each module.
        return (
            list(active) == ["default"]
            and not (layer.disable_adapters or layer.merged)
            and not (dora or getattr(layer, "lora_variant", None))
            and isinstance(layer.lora_dropout["default"], nn.Identity)
            and type(base) is nn.Linear
            and base.bias is None
            and not base.weight.requires_grad
            and base.weight.dim() == 2
            and layer.lora_B["default"].bias is None
        )


def attach_narrow_lora(module: nn.Module) -> None:
    """Give peft's adapted linear layers below ``module`` this forward."""
    from peft.tuners.lora import Linear

    for layer in module.modules():
        if type(layer) is Linear:
            layer.forward = NarrowLoRA(layer)
