"""LLaVA-1.5's connector: a small MLP over every patch."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmvlm.registry import MODELS

from .linear import PatchConnector


@MODELS.register_module()
class MLPConnector(PatchConnector):
    """Linear layers with an activation between them, applied to each patch.

    Paper: Liu et al., "Improved Baselines with Visual Instruction Tuning", CVPR
    2024, arXiv 2310.03744. Deviations: none at ``depth=2``.

    Args:
        depth (int): number of linear layers. Default: 2.
        act (str): ``gelu`` (exact), ``gelu_tanh``, ``relu`` or ``silu``.
        **kwargs: see :class:`PatchConnector`.

    Raises:
        ValueError: ``depth`` below 1, unknown ``act`` or ``select_feature``, or
            not exactly one layer.

    Trainable parameters: Dv*Dl + Dl + (depth - 1) * (Dl*Dl + Dl).

    Example:
        >>> from mmvlm.structures import VisionEncoderSpec
        >>> spec = VisionEncoderSpec(1024, 24, 14, 336, num_prefix_tokens=1)
        >>> mlp = MLPConnector(vision_spec=spec, out_width=4096)
        >>> sum(p.numel() for p in mlp.parameters())
        20979712
    """

    _acts = {  # noqa: RUF012
        "gelu": nn.GELU,
        "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
        "relu": nn.ReLU,
        "silu": nn.SiLU,
    }

    def __init__(self, *, depth: int = 2, act: str = "gelu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if depth < 1:
            raise ValueError(f"MLPConnector: depth={depth}, expected at least 1.")
        if act not in self._acts:
            raise ValueError(
                f"MLPConnector: act={act!r}, expected one of {sorted(self._acts)}."
            )
        layers: list[nn.Module] = [nn.Linear(self.vision_spec.width, self.out_width)]
        for _ in range(depth - 1):
            layers += [self._acts[act](), nn.Linear(self.out_width, self.out_width)]
        self.proj = nn.Sequential(*layers)
