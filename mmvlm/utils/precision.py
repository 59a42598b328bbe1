"""The precision that a caller chose around a model, and that of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def chosen_precision(device_type: str) -> str | None:
    """Name the dtype that autocast computes in on a kind of device.

    Models follow their inputs and ask nobody; what keeps results on disk must know
    in which precision they were made.

    Args:
        device_type (str): ``cpu``, ``cuda``, ...

    Returns:
        str | None: ``torch.bfloat16``, ...; None without autocast.
    """
    if not torch.is_autocast_enabled(device_type):
        return None
    return str(torch.get_autocast_dtype(device_type))


def emulates_bfloat16() -> bool:
    """Whether products in bfloat16 run on a CPU that has no instructions for them.

    They then take several times as long as in float32: 40 times for a product of
    1024 x 256 by 256 x 1024 on a processor with AVX2 alone.
    """
    names = ("avx512_bf16", "amx_tile")
    known = [getattr(torch.cpu, f"_is_{name}_supported", bool) for name in names]
    return not (torch.cuda.is_available() or any(is_there() for is_there in known))


def narrow_dtype(tensor: torch.Tensor) -> torch.dtype | None:
    """Return the dtype that autocast multiplies in on a CPU; None anywhere else."""
    if tensor.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return None
    return torch.get_autocast_dtype("cpu")


@contextmanager
def exact_buffers(module: torch.nn.Module) -> Iterator[None]:
    """Let rotary frequencies outlive a change of a module's dtype.

    No checkpoint holds them, and rounded to bfloat16 they turn positions of some
    hundreds by a radian; ``from_pretrained`` of transformers never rounds them. They
    are the buffers that are not saved and whose name ends in ``inv_freq``. Sinusoids
    that are added to embeddings it makes in the dtype of the weights, so such tables
    are rounded here too, unless the module that holds them names them in its attribute
    ``exact_buffers`` (a tuple).
    """
    kept = [
        (owner, name, owner._buffers[name])
        for owner in module.modules()
        for name in owner._non_persistent_buffers_set
        if owner._buffers.get(name) is not None
        and (name.endswith("inv_freq") or name in getattr(owner, "exact_buffers", ()))
    ]
    try:
        yield
    finally:
        for owner, name, exact in kept:
            owner._buffers[name] = exact.to(owner._buffers[name].device)


def cast_weights(
    module: torch.nn.Module,
    dtype: torch.dtype | None,
    device: torch.device | str | None = None,
) -> torch.nn.Module:
    """Change the dtype of a module's weights, and the device of all of it, in place.

    Args:
        module (torch.nn.Module): its rotary frequencies keep their dtype; see
            :func:`exact_buffers`.
        dtype (torch.dtype | None): of parameters and other buffers; None keeps it.
        device (torch.device | str | None): None keeps it.
    """
    with exact_buffers(module):
        return module.to(device=device, dtype=dtype)
