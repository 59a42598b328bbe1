"""How many positions a language model was made for, and what goes beyond them."""

from __future__ import annotations

import logging
from typing import Any

import torch
from mmengine.logging import print_log

#: Kinds of scaled rotary positions whose limit already counts the scaling.
_COUNTED = ("longrope", "su", "llama3", "mrope", "default", "proportional")
_WAYS_OUT = (
    "Shorten the samples (max_length of EncodeConversation, fewer turns or views), or "
    "scale the positions (rope_scaling in model.language_model.config)."
)


def num_positions(config: Any) -> int | None:
    """Return the positions that a transformers config allows, rope scaling included.

    None where positions have no end (ALiBi, state spaces).
    """
    limit = getattr(config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0:
        return None
    scaling = getattr(config, "rope_scaling", None)
    scaling = scaling or getattr(config, "rope_parameters", None)
    if not isinstance(scaling, dict):
        return limit
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    factor = scaling.get("factor")
    if kind in _COUNTED or not isinstance(factor, int | float):
        return limit
    start = limit
    if kind == "yarn":
        start = scaling.get("original_max_position_embeddings") or limit
    return max(limit, int(start * factor))


def learns_positions(decoder: torch.nn.Module, tokens: torch.nn.Module) -> bool:
    """Whether positions are rows of a table, which ends with an index error."""
    tables = (m for m in decoder.modules() if isinstance(m, torch.nn.Embedding))
    return any(table is not tokens for table in tables)


class PositionGuard:
    """Count samples beyond a model's positions; warn of the 1st, 10th, 100th, ...

    Args:
        limit (int | None): positions; None allows any number.
        learned (bool): positions are a table, so longer samples cannot be computed.
    """

    def __init__(self, limit: int | None, learned: bool) -> None:
        self.limit, self.learned = limit, learned
        self.count = 0

    def check(self, lengths: Any, what: str = "tokens") -> None:
        """Look at the lengths of samples.

        Args:
            lengths (Iterable[int]): positions per sample.
            what (str): they are made of, for the message.

        Raises:
            ValueError: when the positions are learned and do not suffice.
        """
        if self.limit is None:
            return
        beyond = [length for length in lengths if length > self.limit]
        if not beyond:
            return
        message = (
            f"{max(beyond)} {what} exceed max_position_embeddings={self.limit} of the "
            "language model"
        )
        if self.learned:
            raise ValueError(f"{message}, whose positions are learned. {_WAYS_OUT}")
        before, self.count = self.count, self.count + len(beyond)
        if len(str(self.count)) > len(str(before)) or not before:
            print_log(
                f"{message}; it never learnt what lies beyond ({self.count} samples so "
                f"far). {_WAYS_OUT}",
                "current",
                logging.WARNING,
            )
