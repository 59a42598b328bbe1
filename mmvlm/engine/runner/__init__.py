"""Runners, the train loop, and checkpoints."""

from mmvlm.utils.imports import import_submodules

from .checkpoint import LoadReport, load_parts, save_atomic
from .runner import VLMRunner, build_runner

import_submodules(__name__, __path__)

__all__ = ["LoadReport", "VLMRunner", "build_runner", "load_parts", "save_atomic"]
