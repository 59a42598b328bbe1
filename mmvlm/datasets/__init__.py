"""Readers, transforms, samplers and mixtures."""

# mmengine's own loader asks its root registry for it, which imports nothing.
from .collate import collate_flat

__all__ = ["collate_flat"]
