"""Emu's second objective: predict the next visual embedding."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import nn
from torch.nn.functional import mse_loss

from mmvlm.registry import MODELS


@MODELS.register_module()
class VisualRegressionHead(BaseModule):
    """Map hidden states to the embedding that follows, and compare.

    Paper: Sun et al., "Emu: Generative Pretraining in Multimodality", ICLR 2024,
    arXiv 2307.05222. Deviations: the released code holds the layer
    (``stu_regress_head``) but not the loss; this one follows the paper.

    Args:
        out_width (int): width of the language model (Dl), filled in by the VLM.
        init_cfg (dict | list | None): mmengine initialisation.

    Trainable parameters: Dl*Dl.

    """

    def __init__(self, out_width: int, init_cfg: dict | list | None = None) -> None:
        super().__init__(init_cfg)
        self.stu_regress_head = nn.Linear(out_width, out_width, bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Predict embeddings.

        Shape:
            - ``hidden_states``: (K, Dl), after the final norm
            - output: (K, Dl)
        """
        return self.stu_regress_head(hidden_states)

    def loss(self, hidden_states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean squared error of all values, in float32; targets get no gradient.

        Shape:
            - ``hidden_states``, ``targets``: (K, Dl), K may be 0 (the loss is 0)
            - output: (), float32
        """
        predicted = self(hidden_states).float()
        if not len(predicted):
            return predicted.sum()
        return mse_loss(predicted, targets.detach().float())
