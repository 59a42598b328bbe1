"""State dicts of tables whose new rows are parameters: they show one table."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn


def split_rows(
    table: torch.Tensor, first: int, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return copies of the old rows and of the new rows of a table."""
    end = first + count
    return torch.cat([table[:first], table[end:]]), table[first:end].clone()


def is_split(table: nn.Module) -> bool:
    """Whether a table holds its new rows as a parameter of their own."""
    return getattr(type(table), "splits_rows", False)


def split_modules(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield names and modules of the tables that hold new rows apart."""
    for name, table in module.named_modules(remove_duplicate=False):
        if is_split(table):
            yield name, table


def join_tables(module: nn.Module, state: dict, prefix: str = "") -> None:
    """Make one table of old and new rows in a state dict, in place.

    The state dict of a model does so by itself, but for shards and for parameters
    (``keep_vars``), which whoever gathers them joins by this function.
    """
    joined: dict[int, torch.Tensor] = {}  # a table that two modules share stays one
    for name, table in split_modules(module):
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
    for name, table in split_modules(module):
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
    for name, table in split_modules(module):
        key, new_key = f"{name}.weight", f"{name}.new_weight"
        whole = key in state and new_key not in state
        if isinstance(table, nn.Embedding) and whole:
            renamed[key], rows = new_key, slice(table.first, table.first + table.count)
            values = state.pop(key).items()
            state[new_key] = {k: v[rows] if v.dim() else v for k, v in values}
    groups = [
        dict(group, names=[renamed.get(name, name) for name in group["names"]])
        for group in saved["groups"]
    ]
    return dict(saved, state=state, groups=groups)
