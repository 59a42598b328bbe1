"""New tokens: a small trained table beside the frozen tables of a language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from .split_tables import split_tables
from .table_states import is_split

_INITS = ("mean", "normal")
_TRAINED = ("rows", "input_rows", "all", None)


@dataclass(frozen=True)
class NewTokens:
    """Tokens that a language model has rows for and its tokenizer did not have.

    Both sides read them here: the tables grow when the model is built, and whoever
    builds the tokenizer for it adds the same tokens in the same order.

    Args:
        tokens (Sequence[str]): special tokens, in the order of their ids.
        codec (dict | None): of ``CODECS``; its special tokens follow ``tokens``.
        first_id (int | None): id of the first one; None is the end of the table. A
            table that is longer than its vocabulary has a place for it before that.
        init (str): new rows are the ``mean`` of the old ones, or drawn from a
            ``normal`` distribution around 0 as wide as the config's
            ``initializer_range``.
        train (str | None): what learns of the tables, whatever ``train_parts`` says of
            the rest: ``rows``, the new rows of input embeddings and head, all others
            keep every bit; ``input_rows``, the same for the input embeddings alone;
            ``all``, both tables; None leaves the tables to ``train_parts``.

    Raises:
        ValueError: no token, one given twice, or another word.
    """

    tokens: Sequence[str | None] = ()
    codec: dict | None = None
    first_id: int | None = None
    init: str = "mean"
    train: str | None = "rows"

    def __post_init__(self) -> None:
        tokens = [self.tokens] if isinstance(self.tokens, str) else list(self.tokens)
        if self.codec is not None:
            from mmvlm.registry import CODECS

            tokens += CODECS.build(dict(self.codec)).special_tokens
            object.__setattr__(self, "codec", None)
        object.__setattr__(self, "tokens", tuple(tokens))
        where = "language_model.new_tokens"
        if not tokens or "" in tokens or len(set(self.names)) != len(self.names):
            raise ValueError(f"{where}.tokens={tokens}: expected distinct tokens.")
        if self.init not in _INITS:
            raise ValueError(f"{where}.init={self.init!r}: expected one of {_INITS}.")
        if self.train not in _TRAINED:
            raise ValueError(
                f"{where}.train={self.train!r}: expected one of {_TRAINED}."
            )

    @classmethod
    def of(cls, model: Any) -> NewTokens | None:
        """Return what a ``model`` of a config names; None also for what is wrong."""
        part = model.get("language_model") if isinstance(model, dict) else None
        settings = part.get("new_tokens") if isinstance(part, dict) else None
        try:
            return None if settings is None else cls(**settings)
        except (KeyError, TypeError, ValueError):  # the doctor says why
            return None

    @classmethod
    def read(cls, settings: dict | None, number: int = 0) -> NewTokens | None:
        """Return what ``new_tokens`` or the former ``num_new_tokens`` says.

        Raises:
            ValueError: when both are given.
        """
        if not number:
            return None if settings is None else cls(**settings)
        if settings is not None:
            raise ValueError("language_model: give new_tokens or num_new_tokens.")
        return cls(tokens=[None] * number, train=None)

    @property
    def names(self) -> tuple[str, ...]:
        """The tokens to be added to the tokenizer, none of ``num_new_tokens``."""
        return tuple(token for token in self.tokens if token is not None)

    def rows(self, old: torch.Tensor, deviation: float) -> torch.Tensor:
        """Return what the new rows begin as: (R, Dl) or (R,) to (K, Dl) or (K,)."""
        new = old.new_empty(len(self.tokens), *old.shape[1:])
        if self.init == "normal":
            return new.normal_(0, deviation)
        return new.copy_(old.mean(0).expand_as(new))

    def grow(self, model: nn.Module) -> int:
        """Give the tables of a transformers model their new rows.

        Returns:
            int: the id of the first new token.

        Raises:
            ValueError: when ``first_id`` lies beyond the table.
        """
        old = model.get_input_embeddings().num_embeddings
        first = old if self.first_id is None else self.first_id
        end = first + len(self.tokens)
        if not 0 < first <= old:
            raise ValueError(
                f"language_model.new_tokens.first_id={first}: the table has {old} "
                "rows, so the first new token has an id up to that."
            )
        if end > old:
            model.resize_token_embeddings(end, mean_resizing=False)
        with torch.no_grad():
            for table in tables_of(model):
                for values in _tensors(table):
                    values[first:end] = self.rows(values[:first], _deviation(model))
        if self.train in ("rows", "input_rows"):
            split_tables(model, first, len(self.tokens), self.train == "rows")
        return first

    def complete(self, model: nn.Module, first: int, state: dict, prefix: str) -> bool:
        """Add new rows to the tables of a checkpoint that was made without them.

        Args:
            model (nn.Module): with grown tables.
            first (int): id of the first new token.
            state (dict): changed in place.
            prefix (str): of the model's keys in it.

        Returns:
            bool: whether there were such tables.
        """
        total, found = model.get_input_embeddings().num_embeddings, False
        for name, table in model.named_modules(remove_duplicate=False):
            if not any(table is one for one in tables_of(model)):
                continue
            for leaf in ("weight", "bias"):
                values = state.get(f"{prefix}{name}.{leaf}")
                if values is not None and first <= len(values) < total:
                    old = values[:first]
                    rows = self.rows(old, _deviation(model))
                    state[f"{prefix}{name}.{leaf}"] = torch.cat([old, rows])
                    found = True
        return found

    def with_input_rows(self, model: nn.Module, first: int) -> NewTokens:
        """Let the new rows of the input embeddings learn alone.

        Args:
            model (nn.Module): with grown tables that are whole.
            first (int): id of the first new token.
        """
        split_tables(model, first, len(self.tokens), head=False)
        return replace(self, train="input_rows")

    def train_tables(self, model: nn.Module, rule: Any = None) -> None:
        """Set what learns of the tables of a transformers model.

        Args:
            model (nn.Module): of transformers.
            rule (Any): of the language model's other weights, see
                :func:`freeze_part`.

        Raises:
            ValueError: when the rule names a table of which only new rows are to
                learn.
        """
        if self.train is None:
            return
        for table in tables_of(model):
            split = is_split(table)
            if not split and self.train != "all":
                continue  # a head that 'input_rows' leaves alone
            named = isinstance(rule, dict) and "only" in rule
            if split and named and table.weight.requires_grad:
                raise ValueError(
                    f"train_parts.language_model={rule!r} trains a whole table of "
                    f"embeddings, language_model.new_tokens.train={self.train!r} its "
                    "new rows. Take the table out of the rule, or set train='all'."
                )
            for name, values in table.named_parameters(recurse=False):
                values.requires_grad_(self.train == "all" or name.startswith("new_"))


def _deviation(model: nn.Module) -> float:
    return getattr(model.config, "initializer_range", None) or 0.02


def tables_of(model: nn.Module) -> list[nn.Module]:
    """Return the input embeddings and the head of a transformers model."""
    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    return [table for table in tables if table is not None]


def _tensors(table: nn.Module) -> list[nn.Parameter]:
    both = (table.weight, getattr(table, "bias", None))
    return [values for values in both if values is not None]
