"""Media for cross-attention, and types of tokens: from a batch to the adapters."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch

from mmvlm.registry import MODELS
from mmvlm.structures import VLMBatch

from .token_context import FlatTokens
from .token_types import IMAGE, TEXT


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


def check_media(
    language_model: torch.nn.Module, connectors: Mapping[str, torch.nn.Module]
) -> None:
    """Check that media are given if and only if they are taken, of one width.

    Raises:
        ValueError: naming connector and adapter.
    """
    adapters = getattr(language_model, "adapters", {})
    takers = [a for a in dict(adapters).values() if a.takes_media]
    givers = {n: c for n, c in connectors.items() if c.memory_width is not None}
    names = ", ".join(f"{n} ({type(c).__name__})" for n, c in connectors.items())
    if givers and not takers:
        raise ValueError(
            f"{names}: gives media for cross-attention, but no adapter of "
            "model.language_model.adapters takes them; add "
            "dict(type='GatedCrossAttentionAdapter')."
        )
    if takers and connectors and len(givers) != 1:
        raise ValueError(
            f"{type(takers[0]).__name__} takes media, but model.connectors {names} "
            f"give {len(givers)} of them; use one PerceiverResamplerConnector."
        )
    for taker, giver in itertools.product(takers, givers.values()):
        if taker.media_width != giver.memory_width:
            raise ValueError(
                f"{type(taker).__name__} takes media of width {taker.media_width}, "
                f"{type(giver).__name__} gives {giver.memory_width}."
            )


def flat_tokens(
    batch: VLMBatch, media: tuple[str, torch.Tensor] | None = None
) -> FlatTokens:
    """Return types of a batch's tokens, and its media in the order of the text.

    Args:
        batch (VLMBatch): of any samples.
        media (tuple | None): kind of the inputs, and one entry (n, Dm) for each.

    Raises:
        ValueError: when media and inputs disagree in number.
    """
    stream = batch.prompt
    types = torch.full_like(stream.input_ids, TEXT)
    for inputs in batch.inputs.values():
        if inputs.slot_index is not None:
            types[inputs.slot_index] = IMAGE
    if media is None:
        return FlatTokens(types, tuple(stream.seq_lens))
    kind, entries = media
    inputs = batch.inputs[kind]
    if len(entries) != len(inputs):
        raise ValueError(
            f"the connector gave {len(entries)} media for {len(inputs)} inputs of "
            f"'{kind}'."
        )
    device = types.device
    lengths = torch.tensor(inputs.slot_lens, device=device)
    order = inputs.slot_index[lengths.cumsum(0) - lengths].argsort()
    owner = torch.tensor(inputs.owner, device=device)[order]
    return FlatTokens(types, tuple(stream.seq_lens), entries[order], owner)
