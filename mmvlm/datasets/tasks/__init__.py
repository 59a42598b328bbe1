"""Tasks: annotations of a picture to a conversation about it."""

from mmvlm.utils.imports import import_submodules

import_submodules(__name__, __path__)
