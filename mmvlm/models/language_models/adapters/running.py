"""Adapters of a language model: put them in place, keep them told in generation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from mmvlm.models.language_models.base import LanguageModel
from mmvlm.models.utils.token_context import FlatTokens, replace_layout, use_layout
from mmvlm.models.utils.token_layout import TokenLayout
from mmvlm.registry import MODELS

from .base import LanguageModelAdapter


def attach_adapters(
    language_model: LanguageModel, adapters: Sequence[dict | LanguageModelAdapter]
) -> torch.nn.ModuleDict:
    """Build and attach adapters in order; return them by name.

    Their parameters get the dtype of the model's weights.

    Raises:
        TypeError: for a component that is no adapter.
        ValueError: for two of one kind, or a model that cannot take one.
    """
    built = torch.nn.ModuleDict()
    dtype = next(
        (p.dtype for p in language_model.model.parameters() if p.is_floating_point()),
        torch.float32,
    )
    for adapter in adapters:
        if isinstance(adapter, dict):
            adapter = MODELS.build(adapter)
        if not isinstance(adapter, LanguageModelAdapter):
            raise TypeError(
                f"language_model.adapters: {type(adapter).__name__} is no "
                "LanguageModelAdapter."
            )
        if adapter.name in built:
            raise ValueError(f"language_model.adapters has two {adapter.name!r}.")
        adapter.attach(language_model)
        built[adapter.name] = adapter.to(dtype)
    return built


class _Steps:
    """Pre-forward hook of the decoder: find out which tokens a call sees."""

    def __init__(self, language_model: LanguageModel, layout: TokenLayout) -> None:
        self.language_model, self.layout = language_model, layout
        self.calls, self.preparing = 0, False

    def __call__(self, decoder: torch.nn.Module, args: tuple, kwargs: dict) -> tuple:
        if self.preparing:  # an adapter runs the decoder for its own ends
            return args, kwargs
        inputs = kwargs.get("inputs_embeds")
        inputs = kwargs.get("input_ids") if inputs is None else inputs
        if inputs is None and args:
            inputs = args[0]
        rows, length = inputs.shape[:2]
        if self.calls == 0:
            self._start(rows, length)
        layout = self.layout
        if self.calls:
            if length != 1 or rows != layout.num_samples:
                raise ValueError(
                    "generation with language_model.adapters takes one new token per "
                    f"step with a cache; got {length} in {rows} rows. Leave "
                    "use_cache and assisted decoding alone."
                )
            layout = layout.next_step(self.calls)
        self.calls += 1
        replace_layout(layout)
        for adapter in self.language_model.adapters.values():
            if (positions := adapter.positions(layout)) is not None:
                kwargs = {**kwargs, "position_ids": positions}
        return args, kwargs

    def _start(self, rows: int, length: int) -> None:
        if length != self.layout.types.shape[1]:
            raise ValueError(
                f"the prompt has {self.layout.types.shape[1]} tokens, the decoder "
                f"got {length}: chunked prefill does not work with adapters."
            )
        self.layout = self.layout.expanded(rows).for_generation()
        self.preparing = True
        for adapter in self.language_model.adapters.values():
            adapter.prepare(self.language_model, self.layout)
        self.preparing = False


@contextlib.contextmanager
def adapted_generation(
    language_model: LanguageModel, tokens: FlatTokens
) -> Iterator[Any]:
    """Tell the adapters, call by call, what a generating decoder sees."""
    layout = tokens.padded("left")
    hook = language_model.decoder.register_forward_pre_hook(
        _Steps(language_model, layout), with_kwargs=True
    )
    try:
        with use_layout(layout):
            yield
    finally:
        hook.remove()
