"""Operators with several backends, and the attention modules built on them."""

from mmvlm.utils.imports import import_submodules

import_submodules(__name__, __path__)
