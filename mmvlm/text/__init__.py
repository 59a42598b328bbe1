"""Nouns to tokens and back: chat templates, codecs, encoding."""

from mmvlm.utils.imports import import_submodules

import_submodules(__name__, __path__)
