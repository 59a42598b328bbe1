"""DeepSpeed-VisualChat's multi-modal causal attention (MMCA)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch.nn.functional import dropout as F_dropout

from mmvlm.models.language_models.attention import (
    note_segment_call,
    refuse_unknown,
    register_attention,
)
from mmvlm.models.language_models.base import LanguageModel
from mmvlm.models.utils.token_context import current_layout
from mmvlm.models.utils.token_layout import TokenLayout
from mmvlm.models.utils.token_types import IMAGE, TEXT
from mmvlm.registry import MODELS

from .base import LanguageModelAdapter

#: Names under which transformers finds the two functions.
MMCA, MMCA_RELEASED = "mmvlm_mmca", "mmvlm_mmca_released"


def allowed_keys(
    types: torch.Tensor, queries: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what the last ``queries`` tokens may look at, if it is not later.

    Image tokens see themselves and text; text sees images and text.

    Shape:
        - ``types``: (B, K), of the keys
        - outputs: images (B, Q, K), text (B, 1, K), not later (Q, K); bool
    """
    length = types.shape[1]
    place = torch.arange(length, device=types.device)
    rows = place[length - queries :, None]
    causal = place[None] <= rows
    own = place[None] == rows
    image_row = (types[:, length - queries :] == IMAGE)[:, :, None]
    images = (types == IMAGE)[:, None] & (own | ~image_row)
    text = (types == TEXT)[:, None]
    return images, text, causal


def two_softmaxes(
    scores: torch.Tensor, types: torch.Tensor, safe: bool = True
) -> torch.Tensor:
    """Return the sum of the softmaxes over images and over text.

    Args:
        scores (torch.Tensor): scaled products of queries and keys.
        types (torch.Tensor): of the keys; the queries are the last of them.
        safe (bool): a half with nothing to look at gives 0. False: as released, it
            gives a mean that may reach later tokens.

    Shape:
        - ``scores``: (B, heads, Q, K); ``types``: (B, K)
        - output: as ``scores``, float32; rows sum to 2, or to the halves in use
    """
    images, text, causal = allowed_keys(types, scores.shape[2])
    scores = scores.float()
    low = torch.finfo(torch.float32).min
    total = torch.zeros_like(scores)
    for kind in (images[:, None], text[:, None]):
        if safe:
            mask = kind & causal
            weights = scores.masked_fill(~mask, low).softmax(-1)
            total = total + weights * mask.any(-1, keepdim=True)
            continue
        # Causal mask and mask of kinds add up: blocked by both is -inf.
        blocked = low * (~kind).float() + low * (~causal).float()
        total = total + (scores + blocked).softmax(-1)
    return total


def _mmca(safe: bool, module, query, key, value, dropout, scaling) -> torch.Tensor:
    """Attend inside each sample: (B, M, Q, D) to (B, Q, M, D)."""
    layout = current_layout()
    if layout is None:
        raise RuntimeError(
            "MMCAAdapter: the decoder was called directly; go through "
            "HFCausalLM.forward or generate, which say what the tokens are."
        )
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    types = _key_types(layout, key.shape[2])
    lengths = layout.segments or (query.shape[2],)
    key_lengths = layout.segments or (key.shape[2],)
    out = []
    for q, k, v, t in zip(
        query.split(lengths, 2), key.split(key_lengths, 2),
        value.split(key_lengths, 2), types.split(key_lengths, 1), strict=True,
    ):  # fmt: skip
        weights = two_softmaxes(q @ k.transpose(-1, -2) * scale, t, safe)
        weights = F_dropout(weights.to(q.dtype), dropout, dropout > 0)
        out.append((weights @ v).transpose(1, 2))
    return torch.cat(out, 1)


def _key_types(layout: TokenLayout, length: int) -> torch.Tensor:
    """Return types of all keys: the prompt's, and text for what follows it."""
    if not layout.step:
        if layout.memory is not None:
            layout.memory["mmca"] = layout.types
        return layout.types
    prompt = layout.memory["mmca"]
    new = prompt.new_full((len(prompt), length - prompt.shape[1]), TEXT)
    return torch.cat([prompt, new], 1)


def mmca_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    safe: bool = True,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Two causal attentions in one, after transformers' attention interface.

    What may be seen follows from the token layout alone; ``attention_mask`` says
    nothing more.

    Shape:
        - ``query``: (B, M, Q, D); ``key``, ``value``: (B, Mkv, K, D)
        - output: (B, Q, M, D)

    Raises:
        RuntimeError: outside of ``HFCausalLM``, or for an argument that is not
            implemented.
    """
    kwargs.pop("is_causal", None)
    refuse_unknown(module, kwargs, MMCA)
    note_segment_call(module)
    return _mmca(safe, module, query, key, value, dropout, scaling), None


def _released(*args: Any, **kwargs: Any) -> tuple[torch.Tensor, None]:
    return mmca_attention(*args, safe=False, **kwargs)


@lru_cache(maxsize=1)
def register_mmca() -> None:
    """Make both functions known to transformers."""
    register_attention(MMCA, mmca_attention)
    register_attention(MMCA_RELEASED, _released)


@MODELS.register_module()
class MMCAAdapter(LanguageModelAdapter):
    """Multi-modal causal attention: images and text are weighed apart.

    One matrix of scores, two causal softmaxes, over images and over text, added
    without renormalising. Image tokens see themselves and earlier text.

    Paper: Yao et al., "DeepSpeed-VisualChat: Multi-Round Multi-Image Interleave
    Chat via Multi-Modal Causal Attention", 2023, arXiv 2309.14327. Deviations: a
    half with nothing to look at gives 0 (the released code lets it reach later
    tokens), unless ``safe=False``.

    Args:
        safe (bool): see :func:`two_softmaxes`.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: for a model that does not take its attention from transformers'
            registry, or whose layers have sliding windows.

    Trainable parameters: none.
    """

    def __init__(
        self, *, safe: bool = True, init_cfg: dict | list | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.safe = safe

    def attach(self, language_model: LanguageModel) -> None:
        """Choose the attention implementation."""
        register_mmca()
        model, config = language_model.model, language_model.config
        takes = getattr(model, "_supports_attention_backend", None)
        takes = getattr(model, "_supports_sdpa", False) if takes is None else takes
        kinds = set(getattr(config, "layer_types", None) or ())
        if not takes or kinds - {"full_attention"}:
            raise ValueError(
                f"MMCAAdapter: {type(model).__name__} "
                + (f"has {sorted(kinds)} layers" if takes else "has its own attention")
                + "; use a decoder of full attention from transformers' registry."
            )
        config._attn_implementation = MMCA if self.safe else MMCA_RELEASED
