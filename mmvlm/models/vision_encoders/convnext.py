"""ConvNeXt of timm, as the second, finer eye of dual encoders."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseModule

from mmvlm.models.utils.hf_loading import on_meta
from mmvlm.registry import MODELS


@MODELS.register_module()
class TimmConvNeXt(BaseModule):
    """A ConvNeXt that gives the maps of its stages (strides 4, 8, 16, 32).

    Args:
        model_name (str): timm's name, ``convnext_large_mlp.clip_laion2b_ft_320``.
        pretrained (bool): load timm's weights.
        checkpoint_path (str): or a file of weights; empty for none.
        init_cfg (dict | list | None): mmengine initialisation.
        **model_args: other arguments of ``timm.create_model``.

    Raises:
        ImportError: without the package timm.
        ValueError: for a model that is no ConvNeXt.
    """

    #: What ``--tiny`` makes of it.
    tiny_fields = dict(  # noqa: RUF012
        model_name="convnext_atto",
        depths=(1, 1, 1, 1),
        dims=(8, 12, 16, 24),
        pretrained=False,
        checkpoint_path="",
    )

    def __init__(
        self,
        model_name: str,
        *,
        pretrained: bool = False,
        checkpoint_path: str = "",
        init_cfg: dict | list | None = None,
        **model_args: Any,
    ) -> None:
        super().__init__(init_cfg)
        try:
            import timm
            from timm.models.convnext import ConvNeXt
        except ImportError as error:
            raise ImportError("TimmConvNeXt needs the package 'timm'.") from error
        if on_meta():  # a dry run has no weights to fill
            pretrained, checkpoint_path = False, ""
        backbone = timm.create_model(
            model_name,
            pretrained=pretrained,
            checkpoint_path=checkpoint_path,
            num_classes=0,
            **model_args,
        )
        if not isinstance(backbone, ConvNeXt):
            raise ValueError(
                f"TimmConvNeXt: model_name='{model_name}' is a "
                f"{type(backbone).__name__}, expected a ConvNeXt."
            )
        self.stem, self.stages = backbone.stem, backbone.stages
        self.widths = tuple(info["num_chs"] for info in backbone.feature_info)
        self.strides = tuple(info["reduction"] for info in backbone.feature_info)

    def init_weights(self) -> None:
        """Do nothing: weights are loaded or drawn in the constructor."""
        self.is_init = True

    def forward(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Return the maps of all stages.

        Shape:
            - ``pixel_values``: (V, 3, H, W)
            - output i: (V, ``widths[i]``, H / ``strides[i]``, W / ``strides[i]``)
        """
        hidden = self.stem(pixel_values.to(next(self.parameters()).dtype))
        maps = []
        for stage in self.stages:
            hidden = stage(hidden)
            maps.append(hidden)
        return maps

    @classmethod
    def tiny(cls) -> TimmConvNeXt:
        """Build a random miniature, one block per stage."""
        return cls(**cls.tiny_fields)
