"""LoRA and quantisation of one part of a model."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import torch

from mmvlm.models.utils.freezing import is_lora_parameter as is_lora_parameter

#: Options of ``peft.LoraConfig`` that are trained, saved, merged and exported here.
_OPTIONS = frozenset(
    "use_rslora use_dora rank_pattern alpha_pattern exclude_modules "
    "init_lora_weights".split()
)
#: Starts of adapters that leave the base weights as they are.
_STARTS = (True, False, "gaussian", "orthogonal")
_BY_NAME = (
    "peft would put it beside the model, where train_parts freezes it and checkpoints "
    "lose it. Train such weights by name instead: train_parts=dict(<part>=dict("
    "only={names})) and lora without {key}."
)


def linear_names(module: torch.nn.Module) -> list[str]:
    """Names of every linear layer under ``module``, heads excluded."""
    kinds: tuple[type, ...] = (torch.nn.Linear,)
    try:
        from transformers.pytorch_utils import Conv1D

        kinds = (*kinds, Conv1D)
    except ImportError:
        pass
    return [
        name
        for name, child in module.named_modules()
        if isinstance(child, kinds) and name.rpartition(".")[2] != "lm_head"
    ]


def add_lora(
    module: torch.nn.Module,
    *,
    r: int = 128,
    alpha: int = 256,
    dropout: float = 0.05,
    target_modules: str | Sequence[str] = "all-linear",
    **options: Any,
) -> int:
    """Put low-rank adapters beside the linear layers of ``module``, in place.

    The module tree stays; each chosen layer becomes a wrapper with
    ``base_layer`` and ``lora_A/lora_B.default``. Base weights are frozen.

    Args:
        module (torch.nn.Module): decoder or vision transformer (no head).
        r (int): rank.
        alpha (int): scale numerator; the update is scaled by alpha / r.
        dropout (float): on the adapter's input.
        target_modules (str | Sequence[str]): ``'all-linear'``, or endings of
            layer names (``q_proj``).
        **options: fields of ``peft.LoraConfig`` that have an effect here:
            ``use_rslora``, ``use_dora``, ``rank_pattern``, ``alpha_pattern``,
            ``exclude_modules`` and ``init_lora_weights`` (of the kinds that leave
            the base as it is).

    Returns:
        int: number of adapted layers.

    Raises:
        ImportError: without the package peft.
        ValueError: when a target or pattern matches nothing, or for an option that
            would have no effect, with the way to what it is for.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError("lora=... needs the package 'peft'.") from error
    names = linear_names(module)
    if target_modules != "all-linear":
        endings = (
            [target_modules] if isinstance(target_modules, str) else target_modules
        )
        for ending in endings:
            if not any(f".{name}".endswith(f".{ending}") for name in names):
                short = sorted({name.rpartition(".")[2] for name in names})
                raise ValueError(
                    f"lora.target_modules: '{ending}' matches no linear layer of "
                    f"{type(module).__name__}; it has {short}."
                )
        names = [n for n in names if any(f".{n}".endswith(f".{e}") for e in endings)]
    if not names:
        raise ValueError(f"lora: {type(module).__name__} has no linear layer.")
    options = _effective(LoraConfig, options)
    for key in ("rank_pattern", "alpha_pattern"):
        for pattern in options.get(key) or ():
            if not any(re.match(rf"(.*\.)?({pattern})$", name) for name in names):
                raise ValueError(f"lora.{key}: '{pattern}' matches no adapted layer.")
    config = LoraConfig(
        r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=names, **options
    )
    inject_adapter_in_model(config, module)
    count = sum(name.endswith(".base_layer") for name, _ in module.named_modules())
    if not count:
        raise ValueError(f"lora: {options} leaves no layer to adapt.")
    return count


def _effective(config: type, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that act here; refuse those that would do nothing."""
    fields = {field.name: field for field in dataclasses.fields(config)}
    kept = {}
    for key, value in options.items():
        if key not in fields:
            raise ValueError(f"lora.{key}={value!r}: peft knows no such option.")
        default = fields[key].default
        if value is None or value == default or value in ({}, []):
            continue
        if key == "init_lora_weights" and value not in _STARTS:
            raise ValueError(
                f"lora.{key}={value!r} changes the base weights, which load_from then "
                f"replaces; expected one of {_STARTS}."
            )
        if key not in _OPTIONS:
            raise ValueError(
                f"lora.{key}={value!r} is not supported: {_why(key, value)}"
            )
        kept[key] = value
    return kept


def _why(key: str, value: Any) -> str:
    names = dict(bias=["bias"], trainable_token_indices=["embed_tokens"])
    if key == "modules_to_save":
        names[key] = [value] if isinstance(value, str) else list(value)
    if key in ("layers_to_transform", "layers_pattern"):
        return "name layers in target_modules, such as 'layers.1.self_attn.q_proj'."
    if key in names:
        return _BY_NAME.format(names=["lora", *names[key]], key=key)
    return f"it has no effect here. It may be one of {sorted(_OPTIONS)}."


def _base_names(module: torch.nn.Module) -> set[str]:
    """Names of the adapted layers below ``module``."""
    suffix = ".base_layer"
    return {
        name.removesuffix(suffix)
        for name, _ in module.named_modules()
        if name.endswith(suffix)
    }


def _plain_keys_out(module, state_dict, prefix, _metadata) -> None:
    """Rename ``layer.base_layer.weight`` to ``layer.weight`` in a state dict."""
    for key in list(state_dict):
        if key.startswith(prefix) and ".base_layer." in key:
            state_dict[key.replace(".base_layer.", ".")] = state_dict.pop(key)


def _plain_keys_in(module, state_dict, prefix, *_args) -> None:
    """Undo :func:`_plain_keys_out` for what is about to be loaded."""
    adapted = _base_names(module)
    for key in list(state_dict):
        layer, _, leaf = key.removeprefix(prefix).rpartition(".")
        layer, inner, _ = f"{layer}.".partition(".weight.")  # quantisation state
        layer = layer.rstrip(".")
        if key.startswith(prefix) and layer in adapted:
            rest = f"weight.{leaf}" if inner else leaf
            state_dict[f"{prefix}{layer}.base_layer.{rest}"] = state_dict.pop(key)


def keep_plain_keys(module: torch.nn.Module) -> None:
    """Let adapted layers keep the keys that they have without adapters.

    A checkpoint of the model without LoRA so loads into the model with LoRA,
    and the base weights of the latter into the former.
    """
    module._register_state_dict_hook(_plain_keys_out)
    module.register_load_state_dict_pre_hook(_plain_keys_in)


def quantize_linears(
    module: torch.nn.Module,
    *,
    bits: int = 4,
    quant_type: str = "nf4",
    double_quant: bool = True,
    compute_dtype: str = "bfloat16",
    skip: Sequence[str] = ("lm_head",),
) -> int:
    """Replace the linear layers of ``module`` by quantised ones, in place.

    Weights are quantised when the module is moved to its device.

    Args:
        module (torch.nn.Module): decoder (no head).
        bits (int): 4 or 8.
        quant_type (str): ``nf4`` or ``fp4``, for 4 bits.
        double_quant (bool): quantise the quantisation constants too (4 bits).
        compute_dtype (str): dtype of the products (4 bits).
        skip (Sequence[str]): layer names that stay as they are.

    Returns:
        int: number of replaced layers.

    Raises:
        ImportError: without the package bitsandbytes.
        ValueError: for other ``bits``.
    """
    if bits not in (4, 8):
        raise ValueError(f"quantization.bits={bits}: expected 4 or 8.")
    try:
        import bitsandbytes as bnb
    except ImportError as error:
        raise ImportError(
            "quantization=... needs the package 'bitsandbytes' (pip install "
            "bitsandbytes), or leave 'quantization' out."
        ) from error
    names = [n for n in linear_names(module) if n.rpartition(".")[2] not in skip]
    for name in names:
        old = module.get_submodule(name)
        if not isinstance(old, torch.nn.Linear):
            raise ValueError(f"quantization: '{name}' is a {type(old).__name__}.")
        parent, _, leaf = name.rpartition(".")
        with torch.device("meta"):
            if bits == 4:
                new = bnb.nn.Linear4bit(
                    old.in_features,
                    old.out_features,
                    bias=old.bias is not None,
                    compute_dtype=getattr(torch, compute_dtype),
                    compress_statistics=double_quant,
                    quant_type=quant_type,
                )
            else:
                new = bnb.nn.Linear8bitLt(
                    old.in_features,
                    old.out_features,
                    bias=old.bias is not None,
                    has_fp16_weights=False,
                )
        if bits == 4:
            new.weight = bnb.nn.Params4bit(
                old.weight.data,
                requires_grad=False,
                compress_statistics=double_quant,
                quant_type=quant_type,
                module=new,
            )
        else:
            new.weight = bnb.nn.Int8Params(
                old.weight.data, requires_grad=False, has_fp16_weights=False
            )
        new.bias = old.bias
        setattr(module.get_submodule(parent), leaf, new)
    return len(names)
