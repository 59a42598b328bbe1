"""What drives training: runners, loops, hooks, optimizers, strategies."""

from mmvlm.utils.imports import import_submodules

import_submodules(__name__, __path__)
