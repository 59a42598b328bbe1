"""Readers of public formats, one file each, and what several of them share."""

from mmvlm.utils.imports import import_submodules

import_submodules(__name__, __path__)
