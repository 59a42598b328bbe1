"""A caption with the boxes, or the masks, of what it names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Caption, Region, Text, Turn
from mmvlm.structures.conversation import Part

from .base import DataTask, NothingToAsk, region
from .draws import draws_of
from .segmentation import has_mask, mask_region
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
MASK_QUESTIONS = (
    "Describe the picture and segment what you mention.",
    "Write a caption with a mask for each thing you name.",
    "What is in the picture? Mark the parts of your answer pixel by pixel.",
    "Give a detailed description; put segmentation masks behind its phrases.",
)
KINDS = ("box", "mask")


@DATA_TASKS.register_module()
class GroundedCaption(DataTask):
    """Grounded caption (Shikra's, Kosmos-2's), or grounded conversation (GLaMM's).

    Each grounded phrase of the caption becomes a region with that phrase; of
    phrases inside one another the outer one is grounded. A caption without any is
    left out, unless the annotation has a ``reference`` in its ``meta``.

    Needs: captions with spans whose instances have boxes (or masks).

    Args:
        templates (str | Sequence[str] | None): questions, without holes; None takes
            those of the kind.
        kind (str): of the regions: ``box``, or ``mask``, the union of a phrase's
            instances; a phrase whose instances lack a mask stays plain text.

    Raises:
        ValueError: for another kind.
    """

    needs = ("captions.spans", "instances.box")

    def __init__(
        self, templates: str | Sequence[str] | None = None, *, kind: str = "box"
    ) -> None:
        if kind not in KINDS:
            raise ValueError(
                f"GroundedCaption: kind='{kind}', expected one of {KINDS}."
            )
        self.kind = kind
        if templates is None:
            templates = MASK_QUESTIONS if kind == "mask" else QUESTIONS
        self.templates = TemplatePool(templates)

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return a request for a caption and the caption with its regions."""
        draws = draws_of(rng)
        captions = [c for c in annotation.captions if self._grounded(annotation, c)]
        if not captions and "reference" in annotation.meta:
            captions = annotation.captions  # scored, and so asked for as well
        if not captions:
            raise NothingToAsk("no caption with a grounded phrase.")
        caption = draws.choice(captions)
        question = self.templates.draw(draws)
        return [
            Turn("user", question),
            Turn("assistant", caption_parts(annotation, caption, self.kind)),
        ]

    def _grounded(self, annotation: AnnotatedImage, caption: Caption) -> bool:
        parts = caption_parts(annotation, caption, self.kind)
        return any(isinstance(part, Region) for part in parts)


def caption_parts(
    annotation: AnnotatedImage, caption: Caption, kind: str = "box"
) -> tuple[Part, ...]:
    """Return a caption as text and regions of a kind, in reading order."""
    parts: list[Part] = []
    at = 0
    for span, indices in grounded_spans(annotation, caption):
        items = [annotation.instances[index] for index in indices]
        if span.start < at or (kind == "mask" and not all(map(has_mask, items))):
            continue
        parts.append(Text(caption.text[at : span.start]))
        phrase = caption.text[span.start : span.end]
        make = mask_region if kind == "mask" else region
        parts.append(make(items, annotation.size, phrase=phrase))
        at = span.end
    parts.append(Text(caption.text[at:]))
    return tuple(p for p in parts if not isinstance(p, Text) or p.text)
