"""Every module here registers its classes in MODELS."""

from mmvlm.utils.imports import import_submodules

import_submodules(__name__, __path__)
