"""Which parameters of a part are trained."""

from __future__ import annotations

from typing import Any

import torch

from mmvlm.models.language_models.peft import is_lora_parameter

_CHOICES = (
    "False, True, 'lora', dict(last_blocks=k), dict(from_block=k) or "
    "dict(only=[sub-modules])"
)


def freeze_part(part: torch.nn.Module, rule: Any, name: str) -> None:
    """Set ``requires_grad`` of every parameter of a part.

    Args:
        part (torch.nn.Module): an encoder, connector or language model.
        rule (bool | str | dict): ``False`` nothing; ``True`` everything;
            ``'lora'`` the adapters only; ``dict(last_blocks=k)`` the last k
            blocks; ``dict(from_block=k)`` blocks k, k + 1, ... counted from 0,
            -1 everything; ``dict(only=[names])`` these sub-modules alone. With
            a number of blocks, embeddings and final norms stay frozen.
        name (str): of the part, for messages.

    Raises:
        ValueError: unknown rule, a part without blocks or adapters, a block or
            sub-module that does not exist, or ``True`` for a part with adapters.

    """
    lora = [p for n, p in part.named_parameters() if is_lora_parameter(n)]
    where = f"train_parts.{name}"
    if rule is True and lora:
        raise ValueError(
            f"{where}=True, but {name} has LoRA adapters. Set 'lora' to train them, "
            f"or remove model.{name}.lora to train all weights."
        )
    if rule == "lora" and not lora:
        raise ValueError(f"{where}='lora', but model.{name}.lora is not given.")
    if rule == "lora":
        part.requires_grad_(False)
        for parameter in lora:
            parameter.requires_grad_(True)
        return
    if isinstance(rule, bool):
        _set(part, rule)
        return
    if isinstance(rule, dict) and set(rule) == {"only"}:
        _only(part, rule["only"], where)
        return
    if not isinstance(rule, dict) or set(rule) not in ({"last_blocks"}, {"from_block"}):
        raise ValueError(f"{where}={rule!r}: expected {_CHOICES}.")
    blocks = getattr(part, "blocks", None)
    if blocks is None:
        raise ValueError(f"{where}={rule!r}: {type(part).__name__} lists no blocks.")
    ((kind, number),) = rule.items()
    if kind == "from_block" and number == -1:
        _set(part, True)
        return
    if not 0 <= number <= len(blocks):
        raise ValueError(f"{where}={rule!r}: {name} has {len(blocks)} blocks.")
    first = number if kind == "from_block" else len(blocks) - number
    part.requires_grad_(False)
    for block in list(blocks)[first:]:
        _set(block, True)


def _only(part: torch.nn.Module, names: list[str], where: str) -> None:
    """Train the named direct children, freeze the rest."""
    children = dict(part.named_children())
    unknown = [name for name in names if name not in children]
    if unknown or not names:
        raise ValueError(
            f"{where}=dict(only={list(names)}): {type(part).__name__} has no "
            f"sub-module {unknown}; expected some of {sorted(children)}."
        )
    part.requires_grad_(False)
    for name in names:
        _set(children[name], True)


def _set(module: torch.nn.Module, train: bool) -> None:
    """Set ``requires_grad`` where a gradient can exist (not on quantised weights)."""
    for parameter in module.parameters():
        parameter.requires_grad_(train and parameter.is_floating_point())


def is_frozen(part: torch.nn.Module) -> bool:
    """Whether no parameter of the part is trained."""
    return not any(p.requires_grad for p in part.parameters())


def num_elements(parameter: torch.nn.Parameter) -> int:
    """Elements of a parameter, also when it is sharded or packed."""
    state = getattr(parameter, "quant_state", None)
    if state is not None and getattr(state, "shape", None) is not None:
        return state.shape.numel()
    return getattr(parameter, "ds_numel", parameter.numel())
