"""LaVIN's mixture-of-modality adapters, routed by a token that says the modality."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from mmvlm.models.language_models.base import LanguageModel
from mmvlm.models.utils.token_context import FlatTokens, use_layout
from mmvlm.models.utils.token_layout import TokenLayout
from mmvlm.models.utils.wrapping import wrap_forward
from mmvlm.registry import MODELS

from .base import LanguageModelAdapter
from .layers import attention_of, first_of, needed_layout, with_first


class RoutedAdapter(nn.Module):
    """``x + w0 * B(A x) + w1 * D(A x)`` with weights from a sample's first token.

    Args:
        width (int): channels C.
        hidden (int): bottleneck channels.
        groups (int): of the grouped maps B and D.
        temperature (float): T of the router's softmax.
        dropout (float): behind A.

    Trainable parameters: C*hidden + hidden + 2*(C*hidden/groups + C) + 2*C + 2.
    """

    def __init__(
        self,
        width: int,
        *,
        hidden: int = 8,
        groups: int = 2,
        temperature: float = 10.0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.conv_A = nn.Conv1d(width, hidden, 1)
        self.conv_B = nn.Conv1d(hidden, width, 1, groups=groups)
        self.conv_D = nn.Conv1d(hidden, width, 1, groups=groups)
        self.expert_weights = nn.Linear(width, 2)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.conv_A.weight)
        nn.init.zeros_(self.conv_A.bias)
        for conv in (self.conv_B, self.conv_D):
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)

    def route(self, first: torch.Tensor) -> torch.Tensor:
        """Weigh the two paths by a first token: (S, C) to (S, 2)."""
        return (self.expert_weights(first) / self.temperature).softmax(-1)

    def forward(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Adapt.

        Shape:
            - ``x``: (B, L, C); ``weights``: (B, L, 2) or (B, 1, 2)
            - output: (B, L, C)
        """
        narrow = self.dropout(self.conv_A(x.transpose(1, 2)))
        wide = (conv(narrow).transpose(1, 2) for conv in (self.conv_B, self.conv_D))
        first, second = wide
        return x + (weights[..., :1] * first + weights[..., 1:] * second).to(x.dtype)


@MODELS.register_module()
class LaVINAdapter(LanguageModelAdapter):
    """A routed bottleneck in front of the attention of every block.

    What chooses the path is a token in front of every sample that says whether it
    has an image. No other token may attend to it and it sees only itself, so
    it runs ahead, alone, once per forward: prompts keep their length, and replies
    use the weights of their prompt. The block's residual keeps the input as it was.

    Paper: Luo et al., "Cheap and Quick: Efficient Vision-Language Instruction
    Tuning for Large Language Models", NeurIPS 2023, arXiv 2305.15023. Deviations:
    none in the language model.

    Args:
        hidden, groups, temperature, dropout: see :class:`RoutedAdapter`.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: for a model whose blocks have no self-attention by a usual name.

    Trainable parameters: those of :class:`RoutedAdapter` per block, and 2*Dl.
    """

    runs_ahead = True

    def __init__(
        self,
        *,
        hidden: int = 8,
        groups: int = 2,
        temperature: float = 10.0,
        dropout: float = 0.1,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.options = dict(
            hidden=hidden, groups=groups, temperature=temperature, dropout=dropout
        )
        self.layers = nn.ModuleList()

    @property
    def name(self) -> str:
        """Key among the language model's adapters."""
        return "lavin"

    def attach(self, language_model: LanguageModel) -> None:
        """Put an adapter in front of every block's attention."""
        width = language_model.width
        self.modality_embedding = nn.Embedding(2, width)
        for index, block in enumerate(language_model.blocks):
            self.layers.append(RoutedAdapter(width, **self.options))
            attention = attention_of(block)[1]
            wrap_forward(attention, partial(self._before_attention, index))

    def prepare(self, language_model: LanguageModel, layout: TokenLayout) -> None:
        """Run the two modality tokens through the decoder; keep the weights."""
        if "lavin" in layout.cache:
            return
        device = layout.types.device
        kinds = self.modality_embedding(torch.arange(2, device=device))[:, None]
        alone = FlatTokens.text((1, 1), device).padded("right").for_generation()
        alone.memory["lavin_ahead"] = {}
        with use_layout(alone):
            language_model.decoder(
                inputs_embeds=kinds,
                attention_mask=torch.ones(2, 1, dtype=torch.int64, device=device),
                position_ids=torch.zeros(2, 1, dtype=torch.int64, device=device),
                use_cache=False,
            )
        weights = alone.memory["lavin_ahead"]
        shows = torch.zeros(layout.num_samples, dtype=torch.int64, device=device)
        shows[layout.owner[layout.is_media]] = 1
        kept = {index: both[shows] for index, both in weights.items()}
        layout.cache["lavin"] = kept
        if layout.memory is not None:
            layout.memory["lavin"] = kept

    def _before_attention(self, index: int, inner: Any, *args: Any, **kwargs: Any):
        hidden = first_of(args, kwargs)
        layout, adapter = needed_layout(hidden, self), self.layers[index]
        ahead = (layout.memory or {}).get("lavin_ahead")
        if ahead is not None:
            ahead[index] = adapter.route(hidden[:, 0])
            weights = ahead[index][:, None]
        else:
            kept = layout.memory["lavin"] if layout.step else layout.cache["lavin"]
            weights = kept[index][layout.owner]
        args, kwargs = with_first(args, kwargs, adapter(hidden, weights))
        return inner(*args, **kwargs)

    @classmethod
    def tiny(cls) -> LaVINAdapter:
        """Build adapters of four channels."""
        return cls(hidden=4, dropout=0.0, temperature=1.0)
