"""Modules inside a language model, one kind per file."""

from mmvlm.utils.imports import import_submodules

import_submodules(__name__, __path__)
