"""Optimizer over the trainable parameters of a model, with settings per part."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import nn

from mmvlm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS

_PART_KEYS = ("lr", "weight_decay")


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside a data-parallel wrapper, or the module itself."""
    return model.module if is_model_wrapper(model) else model


def model_parts(model: nn.Module) -> dict[str, nn.Module]:
    """Return part name to module: ``model.parts``, else the direct children."""
    model = unwrapped(model)
    parts = getattr(model, "parts", None)
    return dict(model.named_children() if parts is None else parts)


def num_elements(param: torch.Tensor) -> int:
    """Return how many weights a tensor stands for, quantised or sharded ones too."""
    quant_state = getattr(param, "quant_state", None)
    if quant_state is not None:
        return int(quant_state.shape.numel())
    return int(getattr(param, "ds_numel", param.numel()))


def record_part_sizes(model: nn.Module) -> None:
    """Note on a bare model what its parts hold, before it is spread over ranks."""
    model.part_sizes = {
        part: (
            sum(num_elements(p) for p in module.parameters()),
            sum(num_elements(p) for p in module.parameters() if p.requires_grad),
        )
        for part, module in model_parts(model).items()
    }


def part_table(rows: list[dict]) -> str:
    """Return a text table of parts, one row per part.

    Args:
        rows (list[dict]): keys ``part``, ``params``, ``trainable`` (counts), and
            ``lr`` and ``weight_decay`` (None where nothing is trained).

    """
    header = ("part", "parameters", "trainable", "lr", "weight decay")
    lines = [header]
    for row in rows:
        lr, decay = row["lr"], row["weight_decay"]
        lines.append(
            (
                row["part"],
                f"{row['params']:,}",
                f"{row['trainable']:,}",
                "-" if lr is None else f"{lr:g}",
                "-" if decay is None else f"{decay:g}",
            )
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(text)


def is_norm_or_bias(name: str, module: nn.Module) -> bool:
    """Whether a parameter is a bias or belongs to a normalisation layer.

    Args:
        name (str): the parameter's name in its module, for example ``weight``.
        module (nn.Module): the module that owns it.

    """
    if "bias" in name:
        return True
    return "norm" in type(module).__name__.lower()


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PartOptimWrapperConstructor:
    """Build an optimizer whose groups follow the parts of a model.

    Only trainable parameters enter; a table of parts is logged.

    Args:
        optim_wrapper_cfg (dict): the wrapper's config with its ``optimizer``,
            whose ``lr`` and ``weight_decay`` hold for parts not named.
        paramwise_cfg (dict | None): ``parts`` maps a part, or a module inside one
            (``language_model.adapters``), to ``lr`` and ``weight_decay``;
            ``norm_and_bias_decay=False`` takes weight decay off normalisation layers
            and biases. Default: True.

    Raises:
        ValueError: for unknown keys or parts, with the nearest name, and when
            nothing is trainable.

    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ) -> None:
        self.optim_wrapper_cfg = dict(optim_wrapper_cfg)
        cfg = dict(paramwise_cfg or {})
        self.parts = {k: dict(v) for k, v in dict(cfg.pop("parts", {}) or {}).items()}
        self.norm_and_bias_decay = bool(cfg.pop("norm_and_bias_decay", True))
        if cfg:
            raise ValueError(
                f"optim_wrapper.paramwise_cfg: unknown keys {sorted(cfg)}; expected "
                "'parts' and 'norm_and_bias_decay'."
            )
        for part, settings in self.parts.items():
            unknown = sorted(set(settings) - set(_PART_KEYS))
            if unknown:
                raise ValueError(
                    f"optim_wrapper.paramwise_cfg.parts.{part}: unknown keys "
                    f"{unknown}; expected {list(_PART_KEYS)}."
                )

    def __call__(self, model: nn.Module) -> Any:
        """Return the optimizer wrapper for ``model``."""
        wrapper_cfg = dict(self.optim_wrapper_cfg)
        optimizer_cfg = dict(wrapper_cfg.pop("optimizer"))
        wrapper_cfg.setdefault("type", "VLMOptimWrapper")
        optimizer_cfg["params"] = self.groups(
            model, optimizer_cfg.get("lr"), optimizer_cfg.get("weight_decay", 0.0)
        )
        optimizer = OPTIMIZERS.build(optimizer_cfg)
        return OPTIM_WRAPPERS.build(dict(wrapper_cfg, optimizer=optimizer))

    def groups(
        self, model: nn.Module, lr: float | None, weight_decay: float
    ) -> list[dict]:
        """Return the optimizer's parameter groups and log the part table."""
        parts = self._with_inner(model_parts(model))
        groups, rows, seen = [], [], set()
        noted = getattr(unwrapped(model), "part_sizes", {})
        for part, module in [*parts.items(), ("other", model)]:
            settings = {**self.parts.get(part.split(".")[0], {})}
            settings.update(self.parts.get(part, {}))
            part_lr = settings.get("lr", lr)
            part_decay = settings.get("weight_decay", weight_decay)
            decayed, plain, total = [], [], 0
            for param, exempt in _owned(module, seen):
                total += num_elements(param)
                if not param.requires_grad:
                    continue
                keep = self.norm_and_bias_decay or not exempt
                (decayed if keep else plain).append(param)
            trained = decayed + plain
            sizes = noted.get(part, (total, sum(map(num_elements, trained))))
            if part != "other" or total:
                rows.append(
                    dict(
                        part=part,
                        params=sizes[0],
                        trainable=sizes[1],
                        lr=part_lr if trained else None,
                        weight_decay=part_decay if trained else None,
                    )
                )
            for params, decay in ((decayed, part_decay), (plain, 0.0)):
                if params:
                    group = dict(params=params, weight_decay=decay, part=part)
                    if part_lr is not None:
                        group["lr"] = part_lr
                    groups.append(group)
        table = part_table(rows)
        if not groups:
            raise ValueError(
                "nothing to train: every part is frozen. Set model.train_parts, for "
                f"example train_parts=dict({next(iter(parts), 'part')}=True).\n{table}"
            )
        print_log(f"Parts of the model:\n{table}", "current", logging.INFO)
        return groups

    def _with_inner(self, parts: dict[str, nn.Module]) -> dict[str, nn.Module]:
        """Put the modules that settings name inside parts in front of the parts."""
        inner = {}
        for name in sorted(self.parts, key=lambda name: -name.count(".")):
            part, _, path = name.partition(".")
            if path and part in parts:
                try:
                    inner[name] = parts[part].get_submodule(path)
                except AttributeError as error:
                    raise ValueError(
                        f"optim_wrapper.paramwise_cfg.parts: '{part}' has no module "
                        f"'{path}' ({error})."
                    ) from error
        self._check_names({**inner, **parts})
        return {**inner, **parts}

    def _check_names(self, parts: dict[str, nn.Module]) -> None:
        for part in self.parts:
            if part in parts:
                continue
            near = difflib.get_close_matches(part, parts, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ValueError(
                f"optim_wrapper.paramwise_cfg.parts.{part}: the model has no such "
                f"part.{hint} Its parts: {list(parts)}."
            )


def _owned(module: nn.Module, seen: set[int]) -> Iterator[tuple[nn.Parameter, bool]]:
    """Yield parameters not yet in ``seen`` and whether they are norm or bias."""
    for child in module.modules():
        for name, param in child.named_parameters(recurse=False):
            if id(param) in seen:
                continue
            seen.add(id(param))
            yield param, is_norm_or_bias(name, child)
