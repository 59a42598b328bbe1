"""Pictures of samples and runs."""

from mmvlm.utils.imports import import_submodules

import_submodules(__name__, __path__)
