"""Use mmvlm from Python."""

from .inferencer import VLMInferencer
from .loading import LoadedModel, load_model
from .model_zoo import get_config, list_configs

__all__ = [
    "LoadedModel",
    "VLMInferencer",
    "get_config",
    "list_configs",
    "load_model",
]
