"""The precision that a caller chose around a model."""

from __future__ import annotations

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


def narrow_dtype(tensor: torch.Tensor) -> torch.dtype | None:
    """Return the dtype that autocast multiplies in on a CPU; None anywhere else."""
    if tensor.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return None
    return torch.get_autocast_dtype("cpu")
