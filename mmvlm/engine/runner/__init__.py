"""The runner, the train loop, and checkpoints."""

from .checkpoint import LoadReport, load_parts, save_atomic
from .runner import VLMRunner, build_runner

__all__ = ["LoadReport", "VLMRunner", "build_runner", "load_parts", "save_atomic"]
