"""A caption with the boxes of what it names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Caption, Text, Turn
from mmvlm.structures.conversation import Part

from .base import DataTask, NothingToAsk, region
from .draws import draws_of
from .selecting import grounded_spans
from .templates import TemplatePool

QUESTIONS = (
    "Describe the picture and say where everything is.",
    "Write a caption with a box for each thing you name.",
    "What is in the picture, and where?",
    "Give a description; put boxes behind the things you mention.",
    "Tell me what you see and mark it.",
    "Caption this picture, with coordinates.",
)


@DATA_TASKS.register_module()
class GroundedCaption(DataTask):
    """Grounded caption (Shikra's spotting caption, Kosmos-2's grounded caption).

    Each grounded phrase of the caption becomes a region with that phrase; of
    phrases inside one another the outer one is grounded.

    Needs: captions with spans whose instances have boxes.

    Args:
        templates (str | Sequence[str]): questions, without holes.
    """

    needs = ("captions.spans", "instances.box")

    def __init__(self, templates: str | Sequence[str] = QUESTIONS) -> None:
        self.templates = TemplatePool(templates)

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return a request for a caption and the caption with its regions."""
        draws = draws_of(rng)
        captions = [c for c in annotation.captions if grounded_spans(annotation, c)]
        if not captions:
            raise NothingToAsk("no caption with a grounded phrase.")
        caption = draws.choice(captions)
        question = self.templates.draw(draws)
        return [
            Turn("user", question),
            Turn("assistant", caption_parts(annotation, caption)),
        ]


def caption_parts(annotation: AnnotatedImage, caption: Caption) -> tuple[Part, ...]:
    """Return a caption as text and regions, in reading order."""
    parts: list[Part] = []
    at = 0
    for span, indices in grounded_spans(annotation, caption):
        if span.start < at:
            continue
        parts.append(Text(caption.text[at : span.start]))
        items = [annotation.instances[index] for index in indices]
        phrase = caption.text[span.start : span.end]
        parts.append(region(items, annotation.size, phrase=phrase))
        at = span.end
    parts.append(Text(caption.text[at:]))
    return tuple(p for p in parts if not isinstance(p, Text) or p.text)
