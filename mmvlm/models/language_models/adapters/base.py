"""The contract of adapters: modules that work inside a language model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.model import BaseModule

from mmvlm.models.language_models.base import LanguageModel
from mmvlm.models.utils.token_context import TokenLayout, current_layout

_ATTENTION_WORDS = ("attn", "attention")


class LanguageModelAdapter(BaseModule):
    """Modules of its own that change what a decoder's layers compute.

    An adapter owns its parameters (``language_model.adapters.<name>.*``) and puts
    code around forwards of the decoder's module instances
    (:func:`mmvlm.models.utils.wrapping.wrap_forward`); keys of the decoder do not
    change. What the tokens are (text, picture, of which sample, with which media)
    it reads from :func:`current_layout`, whichever way they are laid out.

    Args:
        init_cfg (dict | list | None): mmengine initialisation.
    """

    #: True for adapters that take media for cross-attention (``media_width``).
    takes_media: bool = False
    #: True for adapters that run blocks apart and use what they find inside.
    runs_ahead: bool = False

    @abstractmethod
    def attach(self, language_model: LanguageModel) -> None:
        """Build the parameters for this model and wrap its layers.

        Raises:
            ValueError: naming what the model lacks.
        """

    def start_state(self, state: Mapping[str, torch.Tensor], prefix: str) -> dict:
        """Return this adapter's state when a checkpoint was made without it.

        Args:
            state (Mapping): the checkpoint.
            prefix (str): of the language model in it.
        """
        return self.state_dict()

    def positions(self, layout: TokenLayout) -> torch.Tensor | None:
        """Return position ids (B, L) in place of the usual ones; None keeps them."""
        return None

    def prepare(self, language_model: LanguageModel, layout: TokenLayout) -> None:
        """Do what must be done before the decoder runs on a sequence or prompt."""

    @classmethod
    def tiny(cls) -> LanguageModelAdapter:
        """Build a miniature for tests; override when the constructor needs more."""
        return cls()

    @property
    def name(self) -> str:
        """Key among the language model's adapters."""
        return snake_case(type(self).__name__.removesuffix("Adapter"))


def snake_case(name: str) -> str:
    """Return ``VisualExpert`` as ``visual_expert``; runs of capitals stay together."""
    out = ""
    for at, letter in enumerate(name):
        after = name[at + 1 : at + 2]
        starts = letter.isupper() and at and (name[at - 1].islower() or after.islower())
        out += f"_{letter.lower()}" if starts else letter.lower()
    return out


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
