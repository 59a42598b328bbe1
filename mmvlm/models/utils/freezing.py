"""Which parameters of a part are trained."""

from __future__ import annotations

from typing import Any

import torch

_CHOICES = (
    "False, True, 'lora', 'adapters', dict(only=[names]), dict(frozen=[names]), "
    "dict(last_blocks=k) or dict(from_block=k)"
)


def is_lora_parameter(name: str) -> bool:
    """Whether a parameter name belongs to a LoRA adapter."""
    return any(part.startswith("lora_") for part in name.split("."))


def freeze_part(part: torch.nn.Module, rule: Any, name: str) -> None:
    """Set ``requires_grad`` of every parameter of a part.

    What learns of a language model's tables is said by its ``new_tokens``, if that
    names any, whatever the rule.

    Args:
        part (torch.nn.Module): an encoder, connector or language model.
        rule (bool | str | dict): ``False`` nothing; ``True`` everything;
            ``'lora'`` the LoRA weights only; ``'adapters'`` the modules of a
            language model's ``adapters`` only; ``dict(only=[...])`` parameters below
            these names (endings of dotted names at which a module or parameter
            stands, such as ``adapters`` or ``embed_tokens``; ``lora`` for LoRA
            weights);
            ``dict(frozen=[...])`` everything but those;
            ``dict(last_blocks=k)`` the last k blocks;
            ``dict(from_block=k)`` blocks k, k + 1, ... counted from 0, -1
            everything. With a number of blocks, embeddings and final norms stay
            frozen.
        name (str): of the part, for messages.

    Raises:
        ValueError: unknown rule, a part without blocks or adapters, a block or
            name that does not exist, or ``True`` for a part with LoRA.
    """
    _apply(part, rule, name)
    if hasattr(part, "train_new_tokens"):
        part.train_new_tokens(rule)


def _apply(part: torch.nn.Module, rule: Any, name: str) -> None:
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
    if rule == "adapters":
        rule = dict(only=["adapters"])
    if isinstance(rule, dict) and set(rule) in ({"only"}, {"frozen"}):
        _set_named(part, rule, where)
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


def _set_named(part: torch.nn.Module, rule: dict[str, Any], where: str) -> None:
    """Train what lies below the named modules and parameters, or all but that."""
    ((word, names),) = rule.items()
    _set(part, word == "frozen")
    # A table that head and embeddings share has two names.
    named = list(part.named_parameters(remove_duplicate=False))
    for wanted in [names] if isinstance(names, str) else names:
        if wanted == "new_rows" and word == "only":  # former word
            part.train_new_rows()
            continue
        found = [p for n, p in named if _below(n, wanted)]
        if not found:
            tops = sorted({n.split(".")[0] for n, _ in part.named_parameters()})
            raise ValueError(
                f"{where}: {word}={names!r}, but no parameter lies below '{wanted}'; "
                f"{type(part).__name__} has {tops}."
            )
        for parameter in found:
            parameter.requires_grad_(word == "only" and parameter.is_floating_point())


def _below(name: str, wanted: str) -> bool:
    if wanted == "lora":
        return is_lora_parameter(name)
    return f".{wanted}." in f".{name}."


def rest_frozen(part: torch.nn.Module, rule: Any) -> None:
    """Put what nothing trains into eval mode: parts, or modules if names choose them.

    Args:
        part (torch.nn.Module): of the model.
        rule (bool | str | dict | None): its rule, see :func:`freeze_part`.
    """
    if is_frozen(part):
        part.eval()
    elif rule == "adapters" or (isinstance(rule, dict) and "only" in rule):
        for child in part.children():
            if is_frozen(child):
                child.eval()


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
