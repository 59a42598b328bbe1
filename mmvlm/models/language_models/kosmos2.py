"""Kosmos-2's text model, which transformers' generation cannot place."""

from __future__ import annotations

from typing import Any

import torch

from mmvlm.registry import MODELS

from .hf_causal_lm import HFCausalLM

_PADDED = ("padded", "eager", "sdpa")


@MODELS.register_module()
class Kosmos2LM(HFCausalLM):
    """transformers' ``Kosmos2TextForCausalLM`` with the positions it was trained on.

    Positions begin behind the padding's (2 in the released model) and leave padding
    out. transformers drops those that it is given in generation, and a left-padded
    batch of embeddings then replies otherwise than each prompt alone; here they are
    made of the mask wherever they are missing.

    Paper: Peng et al., "Kosmos-2: Grounding Multimodal Large Language Models to the
    World", 2023, arXiv 2306.14824. Deviations: none.

    Args:
        name_or_path (str | None): folder of the text model alone; None builds random
            weights from ``config``.
        config (dict | None): ``Kosmos2TextConfig`` with
            ``model_type="kosmos_2_text_model"``.
        attention (str): ``padded``, ``sdpa`` or ``eager``; its masks know no segments.
        **kwargs: see :class:`HFCausalLM`.

    Raises:
        ValueError: for another ``attention``, or as :class:`HFCausalLM`.
    """

    def __init__(
        self,
        name_or_path: str | None = None,
        config: dict | None = None,
        *,
        attention: str = "padded",
        **kwargs: Any,
    ) -> None:
        if attention not in _PADDED:
            raise ValueError(
                f"language_model.attention={attention!r}: Kosmos-2 takes one of "
                f"{list(_PADDED)}."
            )
        _register()
        super().__init__(name_or_path, config, attention=attention, **kwargs)
        self.decoder.register_forward_pre_hook(_placed, with_kwargs=True)
        positions = self.decoder.embed_positions
        positions.register_forward_hook(_as_embeddings, with_kwargs=True)
        positions.exact_buffers = ("weights",)

    @staticmethod
    def tiny_config(part: dict, layers: int, ids: dict) -> dict:
        """Return what ``--tiny`` makes of a config: two layers, 48 wide."""
        config = dict(
            model_type="kosmos_2_text_model",
            embed_dim=48,
            ffn_dim=96,
            layers=2,
            attention_heads=4,
            max_position_embeddings=2048,
        )
        return dict(type="Kosmos2LM", config={**config, **ids})

    @classmethod
    def tiny(cls, **overrides: Any) -> Kosmos2LM:
        """Build a random decoder of two layers, 48 wide, 128 tokens."""
        config = dict(
            model_type="kosmos_2_text_model",
            vocab_size=128,
            embed_dim=48,
            ffn_dim=96,
            layers=2,
            attention_heads=4,
            max_position_embeddings=512,
            dropout=0.0,
            attention_dropout=0.0,
            activation_dropout=0.0,
        )
        fields = {k: overrides.pop(k) for k in list(overrides) if k in config}
        return cls(config={**config, **fields}, **overrides)


def _register() -> None:
    """Tell transformers' auto class of the text model, which it lacks."""
    from transformers import AutoModelForCausalLM
    from transformers.models.kosmos2 import modeling_kosmos2 as kosmos2

    known = (kosmos2.Kosmos2TextConfig, kosmos2.Kosmos2TextForCausalLM)
    AutoModelForCausalLM.register(*known, exist_ok=True)


def _placed(decoder: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Give the decoder positions that begin behind the padding's."""
    inputs = kwargs.get("input_ids")
    inputs = kwargs["inputs_embeds"] if inputs is None else inputs
    rows, length = inputs.shape[:2]
    positions = kwargs.get("position_ids")
    if positions is None:
        mask = kwargs.get("attention_mask")
        if mask is None:  # newer transformers leave out a mask of ones
            cache = kwargs.get("cache", kwargs.get("past_key_values"))
            past = 0 if cache is None else cache.get_seq_length()
            mask = torch.ones(rows, past + length, device=inputs.device)
        positions = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -length:]
    first = decoder.embed_positions.padding_idx + 1
    return args, {**kwargs, "position_ids": positions + first}


def _as_embeddings(module: Any, args: tuple, kwargs: dict, output: torch.Tensor) -> Any:
    """Give positions the dtype of the embeddings that they are added to.

    The table is a float32 buffer beside weights that sharding gathers in half
    precision: their sum would be float32 before half-precision norms.
    """
    embeddings = kwargs.get("inputs_embeds")
    return output if embeddings is None else output.to(embeddings.dtype)
