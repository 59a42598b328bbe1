"""Connectors around another one, which sees every view alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mmvlm.registry import MODELS
from mmvlm.structures import VisionEncoderSpec, VisionFeatures

from .base import Connector


def with_inputs_of(inner: Connector, reads: Sequence[str]) -> tuple[str, ...]:
    """Return what a connector reads together with the raw inputs of an inner one."""
    return (*reads, *(source for source in inner.reads if ":" not in source))


class AroundConnector(Connector):
    """Base of connectors that join the tokens another one makes of every view.

    Args:
        connector (dict | Connector): config, which gets ``vision_spec`` and
            ``out_width``; or module.
        vision_spec (VisionEncoderSpec): filled in by the VLM.
        out_width (int): Dl, filled in by the VLM.
        init_cfg (dict | list | None): mmengine initialisation.
    """

    def __init__(
        self,
        connector: dict | Connector,
        *,
        vision_spec: VisionEncoderSpec,
        out_width: int,
        init_cfg: dict | list | None = None,
    ) -> None:
        sizes = dict(vision_spec=vision_spec, out_width=out_width)
        if isinstance(connector, dict):
            connector = MODELS.build(dict(connector, **sizes))
        super().__init__(
            **sizes, select_layers=connector.select_layers, init_cfg=init_cfg
        )
        self.connector = connector

    @property
    def reads(self) -> tuple[str, ...]:
        """What the inner connector reads."""
        return with_inputs_of(self.connector, super().reads)

    def forward(self, features: VisionFeatures) -> torch.Tensor:
        """Project every view with the inner connector.

        Shape:
            - ``features.hidden_states[i]``: (V, P + N, Dv), V may be 0
            - output: (V, N', Dl), N' tokens of the inner connector
        """
        return self.connector(features)
