"""The contract of adapters: modules that work inside a language model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from mmengine.model import BaseModule

from mmvlm.models.language_models.base import LanguageModel

if TYPE_CHECKING:
    from mmvlm.models.utils.token_layout import TokenLayout


class LanguageModelAdapter(BaseModule):
    """Modules of its own that change what a decoder's layers compute.

    An adapter owns its parameters (``language_model.adapters.<name>.*``) and puts
    code around forwards of the decoder's module instances
    (:func:`mmvlm.models.utils.wrapping.wrap_forward`); keys of the decoder do not
    change. What the tokens are (text, image, of which sample, with which media)
    it reads from :func:`current_layout`, whichever way they are laid out.

    Args:
        init_cfg (dict | list | None): mmengine initialisation.
    """

    #: True for adapters that take media for cross-attention (``media_width``).
    takes_media: bool = False
    #: True for adapters that run blocks apart and use what they find inside.
    runs_ahead: bool = False

    @abstractmethod
    def attach(self, language_model: LanguageModel) -> None:
        """Build the parameters for this model and wrap its layers.

        Raises:
            ValueError: naming what the model lacks.
        """

    def start_state(self, state: Mapping[str, torch.Tensor], prefix: str) -> dict:
        """Return this adapter's state when a checkpoint was made without it.

        Args:
            state (Mapping): the checkpoint.
            prefix (str): of the language model in it.
        """
        return self.state_dict()

    def positions(self, layout: TokenLayout) -> torch.Tensor | None:
        """Return position ids (B, L) in place of the usual ones; None keeps them."""
        return None

    def prepare(self, language_model: LanguageModel, layout: TokenLayout) -> None:
        """Do what must be done before the decoder runs on a sequence or prompt."""

    @classmethod
    def tiny(cls) -> LanguageModelAdapter:
        """Build a miniature for tests; override when the constructor needs more."""
        return cls()

    @property
    def name(self) -> str:
        """Key among the language model's adapters."""
        return snake_case(type(self).__name__.removesuffix("Adapter"))


def snake_case(name: str) -> str:
    """Return ``VisualExpert`` as ``visual_expert``; runs of capitals stay together."""
    out = ""
    for at, letter in enumerate(name):
        after = name[at + 1 : at + 2]
        starts = letter.isupper() and at and (name[at - 1].islower() or after.islower())
        out += f"_{letter.lower()}" if starts else letter.lower()
    return out
