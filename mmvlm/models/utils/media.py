"""Media for cross-attention, and types of tokens: from a batch to the adapters."""

from __future__ import annotations

from typing import Any

import torch

from mmvlm.registry import MODELS
from mmvlm.structures import VLMBatch

from .token_context import IMAGE, TEXT, FlatTokens


def with_media_width(language_model: Any, encoder: Any) -> Any:
    """Fill ``media_width`` into the config of adapters that take media."""
    adapters = (
        language_model.get("adapters") if isinstance(language_model, dict) else None
    )
    if encoder is None or not adapters:
        return language_model
    filled = [
        dict(a, media_width=a.get("media_width", encoder.spec.width))
        if isinstance(a, dict) and MODELS.get(a["type"]).takes_media
        else a
        for a in adapters
    ]
    return dict(language_model, adapters=filled)


def check_media(language_model: torch.nn.Module, connector: Any) -> None:
    """Check that media are given if and only if they are taken, of one width.

    Raises:
        ValueError: naming connector and adapter.

    """
    adapters = getattr(language_model, "adapters", {})
    takers = [a for a in dict(adapters).values() if a.takes_media]
    gives = connector is not None and connector.gives_media
    name = type(connector).__name__
    if gives and not takers:
        raise ValueError(
            f"{name} gives media for cross-attention, but no adapter of "
            "model.language_model.adapters takes them; add "
            "dict(type='GatedCrossAttentionAdapter')."
        )
    if takers and not gives and connector is not None:
        raise ValueError(
            f"{type(takers[0]).__name__} takes media, but model.connector ({name}) "
            "gives none; use PerceiverResamplerConnector."
        )
    for taker in takers:
        if gives and taker.media_width != connector.media_width:
            raise ValueError(
                f"{type(taker).__name__} takes media of width {taker.media_width}, "
                f"{name} gives {connector.media_width}."
            )


def flat_tokens(batch: VLMBatch, media: torch.Tensor | None = None) -> FlatTokens:
    """Return types of a batch's tokens, and its media in the order of the text.

    Shape:
        - ``media``: (M, n, Dm), one entry per picture, or None

    Raises:
        ValueError: when media and pictures disagree in number.

    """
    types = torch.full_like(batch.input_ids, TEXT)
    types[batch.slot_index] = IMAGE
    for inputs in batch.modality_inputs.values():
        types[inputs.slot_index] = IMAGE
    if media is None:
        return FlatTokens(types, tuple(batch.seq_lens))
    if len(media) != len(batch.slot_lens):
        raise ValueError(
            f"the connector gave {len(media)} media for {len(batch.slot_lens)} "
            "pictures."
        )
    device = batch.slot_index.device
    lengths = torch.tensor(batch.slot_lens, device=device)
    order = batch.slot_index[lengths.cumsum(0) - lengths].argsort()
    owner = torch.tensor(batch.image_owner, device=device)[order]
    return FlatTokens(types, tuple(batch.seq_lens), media[order], owner)
