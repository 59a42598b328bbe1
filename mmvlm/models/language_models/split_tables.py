"""Tables of a language model whose new rows are parameters of their own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .table_states import divide_tables, join_tables, split_modules, split_rows


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

    splits_rows = True

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

    splits_rows = True

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


def _join_whole(module, state, prefix, _metadata) -> None:
    """Join the tables of a state dict that holds whole tensors."""
    whole = all(
        type(state[f"{prefix}{name}.new_weight"]) is torch.Tensor
        and not hasattr(table.weight, "ds_id")  # of ZeRO-3
        for name, table in split_modules(module)
    )
    if whole:
        join_tables(module, state, prefix)


def _split_loaded(module, state, prefix, *_args) -> None:
    divide_tables(module, state, prefix)
