"""Trained weights are float32: in half precision the steps of a fine-tuning vanish.

A bfloat16 weight has 8 significant bits, so a step below 1/512 of it is rounded
away; at a learning rate of 2e-5 that is nearly every one.
"""

from __future__ import annotations

import logging
from collections import defaultdict

import torch
from mmengine.logging import print_log
from torch import nn

from .part_constructor import num_elements

HALF = (torch.bfloat16, torch.float16)


def half_precision_weights(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Return the trained half-precision parameters of a bare model by part."""
    found: dict[str, list[nn.Parameter]] = defaultdict(list)
    for name, param in model.named_parameters():
        if param.dtype in HALF and param.requires_grad:
            found[name.partition(".")[0]].append(param)
    return dict(found)


def train_in_float32(
    model: nn.Module, dtype: torch.dtype | None, masters: bool = False
) -> None:
    """Cast what a bare model trains to float32; what is frozen keeps its dtype.

    To be called before a wrapper or an optimizer sees the parameters.

    Args:
        model (nn.Module): the bare model.
        dtype (torch.dtype | None): in which a step is computed (autocast).
        masters (bool): whether the strategy keeps float32 copies itself, so that
            nothing needs to be cast.

    Raises:
        ValueError: for half-precision weights without autocast, which frozen
            and trained weights of one part need to meet.
    """
    found = {} if masters else half_precision_weights(model)
    if not found:
        return
    if dtype is None:
        raise ValueError(f"optim_wrapper.dtype=None: {without_autocast(found)}")
    kind, sizes = _described(found)
    for params in found.values():
        for param in params:
            param.data = param.data.float()
    print_log(
        f"Trained weights given in {kind} are kept in float32 and computed in "
        f"{str(dtype).removeprefix('torch.')}, as small steps would be rounded away: "
        f"{sizes}. Frozen weights keep their dtype.",
        "current",
        logging.WARNING,
    )


def without_autocast(found: dict[str, list[nn.Parameter]]) -> str:
    """Say why half-precision weights cannot be trained without autocast."""
    kind, sizes = _described(found)
    return (
        f"trained weights are {kind}, where small steps are rounded away: {sizes}. Set "
        "optim_wrapper.dtype='bfloat16': trained weights are then float32 and computed "
        "in bfloat16. Or set torch_dtype='float32' for these parts."
    )


def _described(found: dict[str, list[nn.Parameter]]) -> tuple[str, str]:
    """Return the dtypes and the numbers of weights by part, in words."""
    kinds = {str(p.dtype).removeprefix("torch.") for ps in found.values() for p in ps}
    sizes = (f"{part} ({sum(map(num_elements, ps)):,})" for part, ps in found.items())
    return " and ".join(sorted(kinds)), ", ".join(sizes)
