"""Put code around the ``forward`` of one module, its class left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class WrappedForward:
    """An instance's ``forward`` with something around it.

    Kept as an attribute of the instance, so parameter names and the module tree
    stay as they are. Wrappers nest.

    Args:
        module (torch.nn.Module): whose forward it is.
        around (Callable): ``around(inner, *args, **kwargs)``, which calls
            ``inner`` as it likes and returns what it returns.
    """

    def __init__(self, module: torch.nn.Module, around: Callable) -> None:
        self.module, self.around = module, around
        self.inner = module.__dict__.get("forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module's forward with what is around it."""
        inner = self.inner
        if inner is None:
            inner = type(self.module).forward.__get__(self.module)
        return self.around(inner, *args, **kwargs)


def wrap_forward(module: torch.nn.Module, around: Callable) -> None:
    """Put ``around`` around the forward of ``module``, in place."""
    module.forward = WrappedForward(module, around)
