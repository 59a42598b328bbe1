"""Vision encoders, connectors, language models and what joins them."""

from mmvlm.utils.imports import import_submodules

import_submodules(__name__, __path__)
