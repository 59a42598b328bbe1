"""LaVIN: an encoder with a routed bottleneck in front of every attention."""

from __future__ import annotations

import torch
from torch import nn

from mmvlm.models.language_models.adapters.lavin import RoutedAdapter
from mmvlm.registry import MODELS

from .base import VisionEncoder
from .wrapped import WrappedVisionEncoder

_NORM = ("norm1", "layer_norm1")


class _Adapt:
    """Hook: adapt what the norm in front of an attention gives."""

    def __init__(self, adapter: RoutedAdapter, route_by: str) -> None:
        self.adapter, self.route_by = adapter, route_by

    def __call__(self, module: nn.Module, inputs: tuple, out: torch.Tensor):
        # A tower in half precision may hold adapters in full precision.
        hidden = out.to(self.adapter.conv_A.weight.dtype)
        routers = hidden if self.route_by == "token" else hidden[:, :1]
        return self.adapter(hidden, self.adapter.route(routers)).to(out.dtype)


@MODELS.register_module()
class LaVINVisionEncoder(WrappedVisionEncoder):
    """An encoder that LaVIN adapts: only what its attentions read is changed.

    Each block's attention gets ``adapter(norm(x))`` and the residual keeps ``x``.
    At first the wrapped encoder is unchanged.

    Paper: Luo et al., "Cheap and Quick: Efficient Vision-Language Instruction
    Tuning for Large Language Models", NeurIPS 2023, arXiv 2305.15023. Deviations:
    in the released code every position of every image is weighed by that position
    of the first image of the batch (its blocks have positions first). Here
    every token weighs itself, which is the same for a batch of one image.

    Args:
        vision_encoder (dict | VisionEncoder): config or module; its blocks have a
            norm in front of the attention.
        hidden, groups, temperature, dropout: see :class:`RoutedAdapter`.
        route_by (str): ``token``: every token weighs the two paths for itself;
            ``first``: the first token of a view (its class token) weighs for all.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: blocks of another make, or an unknown ``route_by``.

    Trainable parameters: those of :class:`RoutedAdapter` per block, beside those
    of the encoder.
    """

    def __init__(
        self,
        vision_encoder: dict | VisionEncoder,
        *,
        hidden: int = 8,
        groups: int = 2,
        temperature: float = 10.0,
        dropout: float = 0.1,
        route_by: str = "token",
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(vision_encoder, init_cfg)
        if route_by not in ("token", "first"):
            raise ValueError(
                f"LaVINVisionEncoder: route_by='{route_by}', expected 'token' or "
                "'first'."
            )
        self.adapters = nn.ModuleList()
        for block in self.blocks:
            adapter = RoutedAdapter(
                self.spec.width,
                hidden=hidden,
                groups=groups,
                temperature=temperature,
                dropout=dropout,
            )
            self.adapters.append(adapter)
            attention_norm(block).register_forward_hook(_Adapt(adapter, route_by))

    @classmethod
    def tiny(cls) -> LaVINVisionEncoder:
        """Build one around a random CLIP of three layers."""
        from .hf_vision import HFVisionEncoder

        return cls(HFVisionEncoder.tiny(), hidden=4, temperature=1.0)


def attention_norm(block: nn.Module) -> nn.Module:
    """Return the norm in front of a block's attention."""
    for name in _NORM:
        if hasattr(block, name):
            return getattr(block, name)
    raise ValueError(
        f"an adapted encoder: a {type(block).__name__} has none of {list(_NORM)}; "
        "expected blocks of HFVisionEncoder (CLIP, SigLIP) or TimmVisionEncoder."
    )
