"""mmvlm: assemble, train, ablate and benchmark vision-language models.

Importing mmvlm applies the compatibility shims of :mod:`mmvlm.compat`, so it
comes before transformers, mmpretrain, xtuner and any mmengine runner.
"""

from . import compat
from .version import __version__

compat.apply()

__all__ = ["__version__"]
