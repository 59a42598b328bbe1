"""The layers of a decoder that adapters put code around."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from mmvlm.models.utils.token_context import current_layout
from mmvlm.models.utils.token_layout import TokenLayout

_ATTENTION_WORDS = ("attn", "attention")


def needed_layout(hidden: torch.Tensor, owner: Any) -> TokenLayout:
    """Return the layout of the tokens in ``hidden`` (..., D).

    Raises:
        RuntimeError: outside of the language model's forward, or when the module
            at work does not see all tokens once (a mixture of experts).
    """
    layout = current_layout()
    if layout is None:
        raise RuntimeError(
            f"{type(owner).__name__}: the decoder was called directly; go through "
            "HFCausalLM.forward or generate, which say what the tokens are."
        )
    rows = hidden[..., 0].numel()
    if rows != layout.types.numel():
        raise RuntimeError(
            f"{type(owner).__name__}: a wrapped layer sees {rows} of "
            f"{layout.types.numel()} tokens. Layers that get a choice of tokens "
            "(mixtures of experts) cannot be adapted, nor can layers that have a "
            "visual expert."
        )
    return layout


def is_linear(module: torch.nn.Module) -> bool:
    """Whether a module maps the last dimension by one matrix (also with LoRA)."""
    try:
        from transformers.pytorch_utils import Conv1D
    except ImportError:
        return isinstance(module, torch.nn.Linear)
    return isinstance(module, torch.nn.Linear | Conv1D)


def linears_of(module: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Return the linear layers below a module by dotted name."""
    return {name: m for name, m in module.named_modules() if is_linear(m)}


def attention_of(block: torch.nn.Module) -> tuple[str, torch.nn.Module]:
    """Return name and module of a decoder block's self-attention.

    Raises:
        ValueError: when the block has none, or several, by the usual names.
    """
    found = [
        (name, child)
        for name, child in block.named_children()
        if any(word in name for word in _ATTENTION_WORDS) and linears_of(child)
    ]
    if len(found) != 1:
        children = [name for name, _ in block.named_children()]
        raise ValueError(
            f"{type(block).__name__}: expected one self-attention among its children "
            f"{children}, found {[name for name, _ in found]}."
        )
    return found[0]


def others_of(block: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Yield children of a block with linear layers, its attention aside."""
    attention = attention_of(block)[0]
    for name, child in block.named_children():
        if name != attention and linears_of(child):
            yield name, child


def with_first(args: tuple, kwargs: dict, value: Any, name: str = "hidden_states"):
    """Return a call's arguments with its first one replaced."""
    if args:
        return (value, *args[1:]), kwargs
    return args, {**kwargs, name: value}


def first_of(args: tuple, kwargs: dict, name: str = "hidden_states") -> Any:
    """Return a call's first argument, given by position or by name."""
    return args[0] if args else kwargs[name]
