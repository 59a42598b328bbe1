"""LLaVA-1.5's connector: a small MLP over every patch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mmvlm.registry import MODELS
from mmvlm.structures import VisionEncoderSpec

from .linear import PatchConnector


@MODELS.register_module()
class MLPConnector(PatchConnector):
    """Linear layers with an activation between them, applied to each patch.

    Paper: Liu et al., "Improved Baselines with Visual Instruction Tuning", CVPR
    2024, arXiv 2310.03744. Deviations: none at ``depth=2``.

    Args:
        vision_spec (VisionEncoderSpec): filled in by the VLM.
        out_width (int): Dl, filled in by the VLM.
        depth (int): number of linear layers. Default: 2.
        act (str): ``gelu`` (exact), ``gelu_tanh``, ``relu`` or ``silu``.
        select_layers (Sequence[int]): exactly one hidden state.
        select_feature (str): ``patch`` drops the prefix tokens, ``cls_patch``
            keeps them.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: ``depth`` below 1, unknown ``act`` or ``select_feature``, or
            not exactly one layer.

    Trainable parameters: Dv*Dl + Dl + (depth - 1) * (Dl*Dl + Dl).

    Example:
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

    def __init__(
        self,
        *,
        vision_spec: VisionEncoderSpec,
        out_width: int,
        depth: int = 2,
        act: str = "gelu",
        select_layers: Sequence[int] = (-2,),
        select_feature: str = "patch",
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(
            vision_spec=vision_spec,
            out_width=out_width,
            select_layers=select_layers,
            select_feature=select_feature,
            init_cfg=init_cfg,
        )
        if depth < 1:
            raise ValueError(f"MLPConnector: depth={depth}, expected at least 1.")
        if act not in self._acts:
            raise ValueError(
                f"MLPConnector: act={act!r}, expected one of {sorted(self._acts)}."
            )
        layers: list[nn.Module] = [nn.Linear(vision_spec.width, out_width)]
        for _ in range(depth - 1):
            layers += [self._acts[act](), nn.Linear(out_width, out_width)]
        self.proj = nn.Sequential(*layers)
