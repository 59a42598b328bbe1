"""InternLM-XComposer2's partial LoRA: low-rank updates of image tokens only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from mmvlm.models.language_models.base import LanguageModel
from mmvlm.models.utils.wrapping import wrap_forward
from mmvlm.registry import MODELS

from .base import LanguageModelAdapter
from .layers import first_of, linears_of, needed_layout


class PartialLoRA(nn.Module):
    """The update ``B(A(dropout(x))) * alpha / r`` of one linear layer.

    Args:
        in_features, out_features (int): of the layer.
        r (int): rank.
        alpha (float): scale numerator.
        dropout (float): on the input.
        down (nn.Linear | None): a matrix A that several layers share.
        official_init (bool): leave B as torch draws it, as the released code does;
            False: zero, so that the model starts unchanged.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        r: int = 256,
        alpha: float = 256,
        dropout: float = 0.05,
        down: nn.Linear | None = None,
        official_init: bool = False,
    ) -> None:
        super().__init__()
        self.scale = alpha / r
        self.dropout = nn.Dropout(dropout)
        self.Plora_A = down or nn.Linear(in_features, r, bias=False)
        self.Plora_B = nn.Linear(r, out_features, bias=False)
        if not official_init:
            nn.init.zeros_(self.Plora_B.weight)

    def forward(
        self, x: torch.Tensor, out: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        """Add the update to rows of the layer's output.

        Shape:
            - ``x``: (..., D), T tokens; ``out``: (..., D'); ``rows``: (R,) of T
            - output: as ``out``
        """
        picked = x.flatten(0, -2).index_select(0, rows)
        update = self.Plora_B(self.Plora_A(self.dropout(picked))) * self.scale
        flat = out.flatten(0, -2)
        return flat.index_add(0, rows, update.to(out.dtype)).view_as(out)


@MODELS.register_module()
class PLoRAAdapter(LanguageModelAdapter):
    """LoRA beside the linear layers of every block, for image tokens only.

    Paper: Dong et al., "InternLM-XComposer2", 2024, arXiv 2401.16420. Deviations:
    the matrix B starts at zero unless ``official_init``.

    Args:
        r (int): rank.
        alpha (float): scale numerator; updates are scaled by alpha / r.
        dropout (float): on the input of the updates.
        target_modules (Sequence[str] | None): endings of the layers' names; None
            takes every linear layer of the blocks.
        shared_down (Sequence[str]): layers that share one matrix A, as the query,
            key and value that InternLM2 keeps in one ``wqkv``.
        official_init (bool): B as the released code draws it, not zero.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: when a target matches no layer.

    Trainable parameters: r * (D + D') per layer; D once for layers that share A.
    """

    def __init__(
        self,
        *,
        r: int = 256,
        alpha: float = 256,
        dropout: float = 0.05,
        target_modules: Sequence[str] | None = None,
        shared_down: Sequence[str] = ("q_proj", "k_proj", "v_proj"),
        official_init: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.options = dict(
            r=r, alpha=alpha, dropout=dropout, official_init=official_init
        )
        self.target_modules = None if target_modules is None else list(target_modules)
        self.shared_down = tuple(shared_down)
        self.layers = nn.ModuleList()

    @property
    def name(self) -> str:
        """Key among the language model's adapters."""
        return "plora"

    def attach(self, language_model: LanguageModel) -> None:
        """Put an update beside every chosen layer."""
        for index, block in enumerate(language_model.blocks):
            updates, down = nn.ModuleDict(), None
            linears = linears_of(block)
            self._check_targets(linears)
            for name, module in linears.items():
                if not self._is_target(name):
                    continue
                shares = name.rpartition(".")[2] in self.shared_down
                sizes = _sizes(module)
                update = PartialLoRA(
                    *sizes, down=down if shares else None, **self.options
                )
                down = update.Plora_A if shares else down
                key = name.replace(".", "_")
                updates[key] = update
                wrap_forward(module, partial(self._update, index, key))
            self.layers.append(updates)

    def _is_target(self, name: str) -> bool:
        targets = self.target_modules
        return targets is None or any(f".{name}".endswith(f".{t}") for t in targets)

    def _check_targets(self, linears: dict[str, nn.Module]) -> None:
        for target in self.target_modules or ():
            if not any(f".{name}".endswith(f".{target}") for name in linears):
                raise ValueError(
                    f"PLoRAAdapter.target_modules: '{target}' matches no linear layer "
                    f"of a block; it has {sorted(linears)}."
                )

    def _update(self, index: int, key: str, inner: Any, *args: Any, **kwargs: Any):
        x = first_of(args, kwargs, next(iter(kwargs), "input"))
        layout = needed_layout(x, self)
        out = inner(*args, **kwargs)
        rows = layout.image_rows()
        if not len(rows) and not torch.is_grad_enabled():
            return out
        return self.layers[index][key](x, out, rows)

    @classmethod
    def tiny(cls) -> PLoRAAdapter:
        """Build updates of rank 4."""
        return cls(r=4, alpha=8, dropout=0.0)


def _sizes(module: nn.Module) -> tuple[int, int]:
    """Return input and output width of a linear layer."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    return tuple(module.weight.shape)  # transformers' Conv1D keeps it transposed
