"""Tiny builders shared by tests and examples."""

from .builders import make_batch, tiny_batch, tiny_vlm

__all__ = ["make_batch", "tiny_batch", "tiny_vlm"]
