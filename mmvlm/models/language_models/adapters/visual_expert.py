"""CogVLM's visual expert: weights of their own for image tokens in every block."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from mmvlm.models.language_models.base import LanguageModel
from mmvlm.models.utils.token_layout import TokenLayout
from mmvlm.models.utils.wrapping import wrap_forward
from mmvlm.registry import MODELS

from .base import LanguageModelAdapter
from .layers import (
    attention_of,
    first_of,
    is_linear,
    linears_of,
    needed_layout,
    others_of,
    with_first,
)


def next_is_same(flags: torch.Tensor, layout: TokenLayout) -> torch.Tensor:
    """Whether the next token of the same sample has its flag set too: (B, L) bool."""
    after = torch.zeros_like(flags)
    after[:, :-1] = flags[:, 1:] & (layout.owner[:, 1:] == layout.owner[:, :-1])
    return flags & after


def vision_mask(layout: TokenLayout) -> torch.Tensor:
    """Return which tokens the visual expert computes: (B, L) bool.

    An image's token whose next token is one too; so its last (EOI) counts as
    language, as in the released code.
    """
    return next_is_same(layout.is_media, layout)


def shared_positions(layout: TokenLayout) -> torch.Tensor:
    """Position ids at which all inner tokens of an image share one: (B, L).

    An image's first and last token (BOI, EOI) have positions of their own.
    """
    image = layout.is_media
    same = torch.zeros_like(image)
    same[:, 1:] = layout.owner[:, 1:] == layout.owner[:, :-1]
    before, after = torch.zeros_like(image), torch.zeros_like(image)
    before[:, 1:] = image[:, :-1] & same[:, 1:]
    after[:, :-1] = image[:, 1:] & same[:, 1:]
    inner = image & before & after
    inner_before = torch.zeros_like(image)
    inner_before[:, 1:] = inner[:, :-1] & same[:, 1:]
    counted = (layout.types != 0) & ~(inner & inner_before)
    total = counted.flatten().cumsum(0)
    first = total[layout.first_rows()]
    return (total.view_as(counted) - first[layout.owner]).clamp(min=0)


@MODELS.register_module()
class VisualExpertAdapter(LanguageModelAdapter):
    """A second QKV, attention output and MLP in every block, for image tokens.

    Attention itself stays joint and causal. The experts start as copies of the
    language weights, so the model starts unchanged (but for the positions).

    Paper: Wang et al., "CogVLM: Visual Expert for Pretrained Language Models",
    NeurIPS 2024, arXiv 2311.03079. Deviations: none.

    Args:
        qkv_bias (bool): biases (zero at first) on the experts' query, key and value
            also where the language model has none (CogVLM2).
        shared_positions (bool): all inner tokens of an image share one position.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: for a model with quantised blocks, or layers that another
            adapter changes.

    Trainable parameters: those of all linear layers of the blocks, and
    D + 2*Dkv per block with ``qkv_bias``.
    """

    def __init__(
        self,
        *,
        qkv_bias: bool = False,
        shared_positions: bool = True,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.qkv_bias, self.shared_positions = qkv_bias, shared_positions
        self.layers = nn.ModuleList()
        #: Expert's name below this adapter to that of its original in the model.
        self.origin: dict[str, str] = {}
        self._originals: dict[str, nn.Module] = {}

    def attach(self, language_model: LanguageModel) -> None:
        """Give every block its experts."""
        names = {module: name for name, module in language_model.named_modules()}
        for index, block in enumerate(language_model.blocks):
            experts = nn.ModuleDict()
            _, attention = attention_of(block)
            parts = [*linears_of(attention).items(), *others_of(block)]
            for name, module in parts:
                key = name.replace(".", "_")
                if any(not p.is_floating_point() for p in module.parameters()):
                    raise ValueError(
                        "VisualExpertAdapter cannot copy quantised weights "
                        f"('{name}'); leave language_model.quantization out."
                    )
                if any("forward" in child.__dict__ for child in module.modules()):
                    raise ValueError(
                        f"VisualExpertAdapter: another adapter changes '{name}'; a "
                        "layer has one or the other."
                    )
                experts[key] = copy.deepcopy(module)
                where = f"layers.{index}.{key}"
                self.origin[where] = names[module]
                self._originals[where] = module
                wrap_forward(module, partial(self._route, index, key))
            if self.qkv_bias:
                self._add_bias(experts, attention)
            self.layers.append(experts)

    @staticmethod
    def _add_bias(experts: nn.ModuleDict, attention: nn.Module) -> None:
        """Give the attention's input layers a bias."""
        for name, module in linears_of(attention).items():
            expert = experts[name.replace(".", "_")]
            is_output = name in ("o_proj", "out_proj", "c_proj", "dense")
            if not is_output and expert.bias is None:
                rows = module.weight.new_zeros(module.out_features)
                expert.bias = nn.Parameter(rows)

    @torch.no_grad()
    def copy_from_language(self) -> None:
        """Set every expert to the weights of its original, own biases to 0."""
        for where, module in self._originals.items():
            parameters = dict(module.named_parameters())
            for name, parameter in self.get_submodule(where).named_parameters():
                if name in parameters:
                    parameter.copy_(parameters[name])
                else:
                    parameter.zero_()

    def start_state(self, state: Mapping[str, torch.Tensor], prefix: str) -> dict:
        """Return the experts' state as copies of a language model's."""
        found = {}
        for key, value in self.state_dict().items():
            where = max(
                (w for w in self.origin if key.startswith(f"{w}.")), key=len, default=""
            )
            source = f"{prefix}{self.origin[where]}{key.removeprefix(where)}"
            found[key] = state[source] if source in state else torch.zeros_like(value)
        return found

    def positions(self, layout: TokenLayout) -> torch.Tensor | None:
        """Return the shared position ids; replies go on behind the prompt."""
        if not self.shared_positions:
            return None
        if layout.step:
            return layout.memory[self.name] + layout.step
        positions = shared_positions(layout)
        if layout.memory is not None:
            layout.memory[self.name] = positions[:, -1:]
        return positions

    def _split(self, layout: TokenLayout) -> tuple[torch.Tensor, ...]:
        """Return rows of language and of vision, and where each token ends up."""

        def compute() -> tuple[torch.Tensor, ...]:
            seen = vision_mask(layout).flatten()
            language, vision = (~seen).nonzero()[:, 0], seen.nonzero()[:, 0]
            return language, vision, torch.cat([language, vision]).argsort()

        return layout.once("experts", compute)

    def _route(self, index: int, key: str, inner: Any, *args: Any, **kwargs: Any):
        name = next(iter(kwargs), "input")
        hidden = first_of(args, kwargs, name)
        layout = needed_layout(hidden, self)
        language, vision, order = self._split(layout)
        if not len(vision) and not torch.is_grad_enabled():
            return inner(*args, **kwargs)
        flat = hidden.flatten(0, -2)
        expert = self.layers[index][key]
        pieces = []
        for module, rows in ((inner, language), (expert, vision)):
            piece = flat.index_select(0, rows)
            piece = piece if is_linear(expert) else piece[None]
            call = with_first(args, kwargs, piece, name)
            out = module(*call[0], **call[1])
            if not isinstance(out, torch.Tensor):
                raise TypeError(
                    f"VisualExpertAdapter: '{key}' gives a {type(out).__name__}; only "
                    "layers that give one tensor can have an expert."
                )
            pieces.append(out.flatten(0, -2))
        return torch.cat(pieces).index_select(0, order).view(*hidden.shape[:-1], -1)


def from_cogvlm(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename an official language model's state to that of ``HFCausalLM``.

    Args:
        state (Mapping): keys ``model.layers.{i}.self_attn.vision_expert_*`` and so
            on; query, key and value lie in one matrix.

    Returns:
        dict: keys of ``HFCausalLM`` with a :class:`VisualExpertAdapter`.
    """
    out: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        for expert in ("vision", "language"):
            if f"{expert}_expert_" in key or f"{expert}_mlp" in key:
                break
        else:
            out[f"model.{key}"] = value
            continue
        layer = key.partition("layers.")[2].partition(".")[0]
        tail = key.partition(f"{expert}_")[2]
        leaf = key.rpartition(".")[2]
        if expert == "vision":
            attention, mlp = (f"adapters.visual_expert.layers.{layer}.",) * 2
        else:
            attention = f"model.model.layers.{layer}.self_attn."
            mlp = f"model.model.layers.{layer}."
        if "query_key_value" in tail:
            head = key.rpartition(f"{expert}_expert_")[0]
            width = state[f"{head}{expert}_expert_dense.weight"].shape[1]
            rest = (len(value) - width) // 2
            for name, part in zip("qkv", value.split([width, rest, rest]), strict=True):
                out[f"{attention}{name}_proj.{leaf}"] = part
        elif "dense" in tail:
            out[f"{attention}o_proj.{leaf}"] = value
        else:
            out[f"{mlp}{tail}"] = value
    return out
