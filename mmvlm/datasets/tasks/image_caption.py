"""Describe the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Text, Turn

from .base import DataTask, NothingToAsk


@DATA_TASKS.register_module()
class ImageCaption(DataTask):
    """One question for a description, answered by one of the captions.

    Args:
        prompts (Sequence[str]): one is drawn; an empty one shows the image alone.
        ask_only (bool): ask about an image without captions too (test splits),
            without an answer.

    Raises:
        ValueError: without a prompt.
    """

    def __init__(
        self, prompts: Sequence[str] = ("",), *, ask_only: bool = False
    ) -> None:
        if not prompts:
            raise ValueError("ImageCaption: prompts is empty.")
        self.ask_only = ask_only
        self.prompts = tuple(prompts)

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return a question and a caption."""
        if not annotation.captions and not self.ask_only:
            raise NothingToAsk("no caption.")
        prompt = self.prompts[int(rng.integers(len(self.prompts)))]
        if not annotation.captions:
            return [Turn("user", (Text(prompt),))]
        caption = annotation.captions[int(rng.integers(len(annotation.captions)))]
        return [
            Turn("user", (Text(prompt),)),
            Turn("assistant", (Text(caption.text),)),
        ]

    def reference(self, annotation: AnnotatedImage) -> list[str] | None:
        """Return all captions."""
        return [caption.text for caption in annotation.captions] or None
