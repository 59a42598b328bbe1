"""New tokens: a small trained table beside the frozen tables of a language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

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


def _deviation(model: nn.Module) -> float:
    return getattr(model.config, "initializer_range", None) or 0.02


def tables_of(model: nn.Module) -> list[nn.Module]:
    """Return the input embeddings and the head of a transformers model."""
    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    return [table for table in tables if table is not None]


def _tensors(table: nn.Module) -> list[nn.Parameter]:
    both = (table.weight, getattr(table, "bias", None))
    return [values for values in both if values is not None]


class SplitEmbedding(nn.Embedding):
    """Input embeddings whose rows from ``first`` on are a parameter of their own.

    Args:
        table (nn.Embedding): of a transformers model; may scale what it looks up.
        first (int): id of the first of these rows.
        count (int): their number K; a frozen ``weight`` holds the V - K others.

    Shape:
        - ``ids``: any, int64
        - output: (..., Dl)
    """

    def __init__(self, table: nn.Embedding, first: int, count: int) -> None:
        nn.Module.__init__(self)  # no table is drawn
        self.num_embeddings, self.embedding_dim = table.weight.shape
        self.padding_idx = self.max_norm = None
        self.norm_type, self.scale_grad_by_freq, self.sparse = 2.0, False, False
        self.embed_scale = getattr(table, "embed_scale", None)
        self.first, self.count = first, count
        self.weight, self.new_weight = split_parameter(table.weight, first, count)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Look ids up; every call touches the new rows, as parallel training needs."""
        place = ids - self.first
        old_ids = torch.where(place < 0, ids, (ids - self.count).clamp(min=0))
        old = F.embedding(old_ids, self.weight)
        new = F.embedding(place.clamp(0, self.count - 1), self.new_weight)
        is_new = (place >= 0) & (place < self.count)
        rows = torch.where(is_new[..., None], new.to(old.dtype), old)
        if self.embed_scale is None:
            return rows
        scale = torch.as_tensor(self.embed_scale, device=rows.device)
        return rows * scale.to(rows.dtype)


class SplitHead(nn.Linear):
    """A head whose rows from ``first`` on are a parameter of their own.

    Args:
        head (nn.Linear): of a transformers model.
        first (int): id of the first of these rows.
        count (int): their number K; a frozen ``weight`` holds the V - K others.
        tied (SplitEmbedding | None): the input embeddings, where it shares theirs.

    Shape:
        - ``hidden``: (..., Dl)
        - output: (..., V), ordered by id
    """

    def __init__(
        self, head: nn.Linear, first: int, count: int, tied: SplitEmbedding | None
    ) -> None:
        nn.Module.__init__(self)  # no table is drawn
        self.out_features, self.in_features = head.weight.shape
        self.first, self.count = first, count
        if tied is None:
            self.weight, self.new_weight = split_parameter(head.weight, first, count)
        else:
            self.weight, self.new_weight = tied.weight, tied.new_weight
        if head.bias is None:
            self.bias = self.new_bias = None
        else:
            self.bias, self.new_bias = split_parameter(head.bias, first, count)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Compute logits."""
        kind, bias = self.weight.dtype, self.new_bias
        old = F.linear(hidden, self.weight, self.bias)
        bias = bias if bias is None else bias.to(kind)
        new = F.linear(hidden, self.new_weight.to(kind), bias)
        return torch.cat([old[..., : self.first], new, old[..., self.first :]], -1)


def split_parameter(
    table: torch.Tensor, first: int, count: int
) -> tuple[nn.Parameter, nn.Parameter]:
    """Return the old rows of a table, frozen, and the new ones."""
    old, new = split_rows(table.detach(), first, count)
    return nn.Parameter(old, requires_grad=False), nn.Parameter(new)


def split_rows(
    table: torch.Tensor, first: int, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return copies of the old rows and of the new rows of a table."""
    end = first + count
    return torch.cat([table[:first], table[end:]]), table[first:end].clone()


def split_tables(model: nn.Module, first: int, count: int, head: bool = True) -> None:
    """Take the new rows out of the tables of a transformers model, in place.

    State dicts, read and written, still hold each table as one.

    Args:
        model (nn.Module): with grown tables.
        first (int): id of the first new row.
        count (int): of new rows.
        head (bool): also split a head that does not share the embeddings' table.

    Raises:
        ValueError: for tables of a class that computes more than it looks up.
    """
    table, output = model.get_input_embeddings(), model.get_output_embeddings()
    tied = output is not None and output.weight is table.weight
    scales = hasattr(table, "embed_scale")
    plain = [(table, nn.Embedding, scales), (output, nn.Linear, output is None)]
    for module, kind, known in plain:
        if type(module) is not kind and not known:
            raise ValueError(
                f"language_model.new_tokens.train='rows': {type(module).__name__} of "
                f"{type(model).__name__} is no plain table; set train='all'."
            )
    embedding = SplitEmbedding(table, first, count)
    model.set_input_embeddings(embedding)
    if tied or (head and output is not None):
        shared = embedding if tied else None
        model.set_output_embeddings(SplitHead(output, first, count, shared))
    model._register_state_dict_hook(_join_whole)
    model.register_load_state_dict_pre_hook(_split_loaded)


def _split_modules(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, table in module.named_modules(remove_duplicate=False):
        if isinstance(table, SplitEmbedding | SplitHead):
            yield name, table


def join_tables(module: nn.Module, state: dict, prefix: str = "") -> None:
    """Make one table of old and new rows in a state dict, in place.

    The state dict of a model does so by itself, but for shards and for parameters
    (``keep_vars``), which whoever gathers them joins by this function.
    """
    joined: dict[int, torch.Tensor] = {}  # a table that two modules share stays one
    for name, table in _split_modules(module):
        for leaf in ("weight", "bias"):
            key, new_key = f"{prefix}{name}.{leaf}", f"{prefix}{name}.new_{leaf}"
            if new_key not in state:
                continue
            new, old = state.pop(new_key).detach(), state[key].detach()
            number = id(getattr(table, leaf))
            if number not in joined:
                pieces = [old[: table.first], new, old[table.first :]]
                joined[number] = torch.cat(pieces)  # in the wider dtype of the two
            state[key] = joined[number]


def divide_tables(module: nn.Module, state: dict, prefix: str = "") -> None:
    """Undo :func:`join_tables` for the parameters of a model."""
    for name, table in _split_modules(module):
        for leaf in ("weight", "bias"):
            key, new_key = f"{prefix}{name}.{leaf}", f"{prefix}{name}.new_{leaf}"
            if key in state and new_key not in state:
                old, new = split_rows(state[key], table.first, table.count)
                state[key], state[new_key] = old, new


def divide_optim_state(module: nn.Module, saved: dict) -> dict:
    """Return saved optimizer state with that of new rows under their own name.

    Runs from before the small tables trained a whole table, its old rows masked.

    Args:
        module (nn.Module): the model.
        saved (dict): ``state`` by parameter name and ``groups`` with ``names``.
    """
    state, renamed = dict(saved["state"]), {}
    for name, table in _split_modules(module):
        key, new_key = f"{name}.weight", f"{name}.new_weight"
        whole = key in state and new_key not in state
        if isinstance(table, SplitEmbedding) and whole:
            renamed[key], rows = new_key, slice(table.first, table.first + table.count)
            values = state.pop(key).items()
            state[new_key] = {k: v[rows] if v.dim() else v for k, v in values}
    groups = [
        dict(group, names=[renamed.get(name, name) for name in group["names"]])
        for group in saved["groups"]
    ]
    return dict(saved, state=state, groups=groups)


def _join_whole(module, state, prefix, _metadata) -> None:
    """Join the tables of a state dict that holds whole tensors."""
    whole = all(
        type(state[f"{prefix}{name}.new_weight"]) is torch.Tensor
        and not hasattr(table.weight, "ds_id")  # of ZeRO-3
        for name, table in _split_modules(module)
    )
    if whole:
        join_tables(module, state, prefix)


def _split_loaded(module, state, prefix, *_args) -> None:
    divide_tables(module, state, prefix)


def train_tables(model: nn.Module, train: str | None, rule: Any = None) -> None:
    """Set what learns of the tables of a transformers model.

    Args:
        model (nn.Module): of transformers.
        train (str | None): see :class:`NewTokens`.
        rule (Any): of the language model's other weights, see :func:`freeze_part`.

    Raises:
        ValueError: when the rule names a table of which only new rows are to learn.
    """
    if train is None:
        return
    for table in tables_of(model):
        split = isinstance(table, SplitEmbedding | SplitHead)
        if not split and train != "all":
            continue  # a head that 'input_rows' leaves alone
        named = isinstance(rule, dict) and "only" in rule
        if split and named and table.weight.requires_grad:
            raise ValueError(
                f"train_parts.language_model={rule!r} trains a whole table of "
                f"embeddings, language_model.new_tokens.train={train!r} its new rows. "
                "Take the table out of the rule, or set train='all'."
            )
        for name, values in table.named_parameters(recurse=False):
            values.requires_grad_(train == "all" or name.startswith("new_"))
