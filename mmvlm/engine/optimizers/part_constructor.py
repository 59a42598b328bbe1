"""Optimizer over the trainable parameters of a model, with settings per part."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import nn

from mmvlm.models.language_models.table_states import is_split
from mmvlm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from mmvlm.utils.text_table import text_table

_PART_KEYS = ("lr", "weight_decay")


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside a data-parallel wrapper, or the module itself."""
    return model.module if is_model_wrapper(model) else model


def model_parts(model: nn.Module) -> dict[str, nn.Module]:
    """Return part name to module: ``model.parts``, else the direct children."""
    model = unwrapped(model)
    parts = getattr(model, "parts", None)
    return dict(model.named_children() if parts is None else parts)


def split_parts(
    parts: dict[str, nn.Module], names: Iterable[str]
) -> dict[str, nn.Module]:
    """Add what dotted names such as ``connector.fuser`` mean to the parts.

    A child stands before its parent, so that whoever takes every parameter once
    and in order leaves the rest to the parent.

    Args:
        parts (dict[str, nn.Module]): part name to module.
        names (Iterable[str]): parts, or modules inside of parts.

    Raises:
        ValueError: for a name that the model does not have, with the nearest one.
    """
    found = dict(parts)
    for name in names:
        part, _, path = name.partition(".")
        inside = dict(parts[part].named_modules()) if part in parts else {}
        if name not in parts and path not in inside:
            near = difflib.get_close_matches(
                name, [*parts, *(f"{part}.{key}" for key in inside if key)], n=1
            )
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ValueError(
                f"optim_wrapper.paramwise_cfg.parts.{name}: the model has no such "
                f"part.{hint} Its parts: {list(parts)}."
            )
        found[name] = parts[part] if name in parts else inside[path]
    order = list(parts)

    def place(name: str) -> tuple[int, int]:
        return order.index(name.partition(".")[0]), -name.count(".")

    return {name: found[name] for name in sorted(found, key=place)}


def num_elements(param: torch.Tensor) -> int:
    """Return how many weights a tensor stands for, quantised or sharded ones too."""
    quant_state = getattr(param, "quant_state", None)
    if quant_state is not None:
        return int(quant_state.shape.numel())
    return int(getattr(param, "ds_numel", param.numel()))


def record_part_sizes(model: nn.Module) -> None:
    """Note on a bare model what its parts hold, before it is spread over ranks."""
    model.part_sizes = {
        f"{part}.{path}" if path else part: (
            sum(num_elements(p) for p in module.parameters()),
            sum(num_elements(p) for p in module.parameters() if p.requires_grad),
        )
        for part, root in model_parts(model).items()
        for path, module in root.named_modules()
    }


def part_table(rows: list[dict]) -> str:
    """Return a text table of parts, one row per part.

    Args:
        rows (list[dict]): keys ``part``, ``params``, ``trainable`` (counts), and
            ``lr`` and ``weight_decay`` (None where nothing is trained).
    """
    lines = [("part", "parameters", "trainable", "lr", "weight decay")]
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
    return text_table(lines, rules=[1])


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
        paramwise_cfg (dict | None): ``parts`` maps a part, or a module inside of
            one (``connector.fuser``), to ``lr`` and ``weight_decay``; a module
            inherits what its part sets and it does not.
            ``norm_and_bias_decay=False`` takes weight decay off normalisation
            layers and biases. Default: True. ``decay`` maps patterns of whole
            parameter names (``*gate``, shell style) to whether they decay; the
            first that fits goes before ``norm_and_bias_decay``. Rows of new tokens
            decay only where a pattern says so (``*.new_weight``).

    Raises:
        ValueError: for unknown keys or parts, with the nearest name, for a pattern
            that no parameter fits, and when nothing is trainable.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ) -> None:
        self.optim_wrapper_cfg = dict(optim_wrapper_cfg)
        cfg = dict(paramwise_cfg or {})
        self.parts = {k: dict(v) for k, v in dict(cfg.pop("parts", {}) or {}).items()}
        self.norm_and_bias_decay = bool(cfg.pop("norm_and_bias_decay", True))
        self.decay = dict(cfg.pop("decay", None) or {})
        if cfg:
            raise ValueError(
                f"optim_wrapper.paramwise_cfg: unknown keys {sorted(cfg)}; expected "
                "'parts', 'norm_and_bias_decay' and 'decay'."
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
        parts = split_parts(model_parts(model), self.parts)
        self._check_patterns(model)
        groups, rows, seen = [], [], set()
        noted = _disjoint(getattr(unwrapped(model), "part_sizes", {}), parts)
        for part, module in [*parts.items(), ("other", model)]:
            settings = self.settings(part)
            part_lr = settings.get("lr", lr)
            part_decay = settings.get("weight_decay", weight_decay)
            decayed, plain, total = [], [], 0
            prefix = "" if part == "other" else part
            for path, param, owner in _owned(module, prefix, seen):
                total += num_elements(param)
                if param.requires_grad:
                    (decayed if self.decays(path, owner) else plain).append(param)
            trained = decayed + plain
            sizes = noted.get(part, (total, sum(map(num_elements, trained))))
            if part != "other" or total:
                rows.append(
                    dict(
                        part=part,
                        params=sizes[0],
                        trainable=sizes[1],
                        lr=part_lr if trained else None,
                        weight_decay=(part_decay if decayed else 0.0)
                        if trained
                        else None,
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

    def decays(self, path: str, owner: nn.Module) -> bool:
        """Whether weight decay acts on a parameter.

        Args:
            path (str): its whole name, beginning with its part.
            owner (nn.Module): the module that holds it.
        """
        for pattern, value in self.decay.items():
            if fnmatchcase(path, pattern):
                return value
        name = path.rpartition(".")[2]
        if name.startswith("new_") and is_split(owner):
            return False
        return self.norm_and_bias_decay or not is_norm_or_bias(name, owner)

    def _check_patterns(self, model: nn.Module) -> None:
        parts = model_parts(model)
        paths = [
            path
            for part, module in [*parts.items(), ("", unwrapped(model))]
            for path, *_ in _owned(module, part, set())
        ]
        for pattern in self.decay:
            if not any(fnmatchcase(path, pattern) for path in paths):
                raise ValueError(
                    f"optim_wrapper.paramwise_cfg.decay: no parameter fits "
                    f"'{pattern}'. Names begin with a part: {list(parts)}."
                )

    def settings(self, part: str) -> dict:
        """Return what holds for a part: its own settings over those around it."""
        names = part.split(".")
        found: dict = {}
        for depth in range(1, len(names) + 1):
            found.update(self.parts.get(".".join(names[:depth]), {}))
        return found


def _disjoint(
    sizes: dict[str, tuple[int, int]], parts: Iterable[str]
) -> dict[str, tuple[int, int]]:
    """Return the noted sizes of parts, each less what is listed inside of it."""
    own = {part: sizes[part] for part in parts if part in sizes}
    for part in sorted(own, key=lambda name: name.count(".")):
        around = [p for p in own if part.startswith(f"{p}.")]
        if around:
            outer = max(around, key=len)
            own[outer] = tuple(
                a - b for a, b in zip(own[outer], sizes[part], strict=True)
            )
    return own


def _owned(
    module: nn.Module, prefix: str, seen: set[int]
) -> Iterator[tuple[str, nn.Parameter, nn.Module]]:
    """Yield whole name and owner of parameters not yet in ``seen``."""
    for path, child in module.named_modules(prefix=prefix):
        for name, param in child.named_parameters(recurse=False):
            if id(param) in seen:
                continue
            seen.add(id(param))
            whole = f"{path}.{name}" if path else name
            yield whole, param, child
