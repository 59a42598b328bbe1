"""An expression is given, its box is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Conversation, Text, Turn

from .base import DataTask, region
from .draws import draws_of
from .selecting import by_name, draw_phrase, only_target, with_phrase
from .templates import TemplatePool

QUESTIONS = (
    "Where is <expr>?",
    "Locate <expr>.",
    "Give the box of <expr>.",
    "Which part of the picture shows <expr>?",
    "Mark <expr> with a box.",
    "Find <expr> and say where it lies.",
    "I am looking for <expr>. Where should I look?",
    "What are the coordinates of <expr>?",
)


@DATA_TASKS.register_module()
class ReferringComprehension(DataTask):
    """Referring expression comprehension (REC, visual grounding).

    Needs: instances with a box and a phrase (or a name, see ``expression``).

    Args:
        templates (str | Sequence[str]): questions with ``<expr>``.
        answer (str | Sequence[str]): with ``<boxes>``; Shikra's is
            ``Answer: <boxes> .``
        expression (str): ``phrase``: words that mean one instance; ``name``: a
            name, answered with the boxes of all instances that bear it.
        repeat_phrase (bool): the answer says the expression before the box.

    Raises:
        ValueError: for another ``expression``.
    """

    needs = ("instances.box", "instances.phrases")

    def __init__(
        self,
        templates: str | Sequence[str] = QUESTIONS,
        answer: str | Sequence[str] = "<boxes>",
        *,
        expression: str = "phrase",
        repeat_phrase: bool = False,
    ) -> None:
        if expression not in ("phrase", "name"):
            raise ValueError(
                f"ReferringComprehension: expression='{expression}', expected "
                "'phrase' or 'name'."
            )
        self.templates = TemplatePool(templates, ["expr"])
        self.answer = TemplatePool(answer, ["boxes"])
        self.expression = expression
        self.repeat_phrase = repeat_phrase

    def __call__(
        self, annotation: AnnotatedImage, images: list, rng: np.random.Generator
    ) -> Conversation:
        """Return the conversation; ``meta['expression']`` is what it asks for."""
        talk = super().__call__(annotation, images, rng)
        parts = (part for turn in talk.turns for part in turn.parts)
        words = next(p.text for p in parts if getattr(p, "kind", "") == "expression")
        return replace(talk, meta={**talk.meta, "expression": words})

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return a question with an expression and an answer with its box."""
        draws = draws_of(rng)
        if self.expression == "phrase":
            target = draws.choice(with_phrase(annotation))
            words, targets = draw_phrase(target, draws), [target]
        else:
            groups = by_name(annotation)
            words = draws.choice(list(groups))
            targets = groups[words]
        question = self.templates.draw(draws, expr=Text(words, "expression"))
        phrase = words if self.repeat_phrase else None
        boxes = region(targets, annotation.size, phrase=phrase)
        answer = self.answer.draw(draws, boxes=boxes)
        return [Turn("user", question), Turn("assistant", answer)]

    def reference(self, annotation: AnnotatedImage) -> list[float]:
        """Return the box, x1, y1, x2, y2 in pixels, as the file has it: not cut."""
        target = only_target(annotation)
        return list(target.meta.get("uncut_box", target.box))
