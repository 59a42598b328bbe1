"""A question is answered by thoughts that point at what they speak of."""

from __future__ import annotations

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Text, Turn

from .base import DataTask, NothingToAsk
from .grounded_caption import caption_parts

_ANSWERS = ("grounded", "thoughts", "short")


@DATA_TASKS.register_module()
class GroundedReasoning(DataTask):
    """Grounded chain of thought (Shikra's GCoT).

    The first caption of an annotation is the question, the second what leads to its
    answer; both are written with the regions of their phrases.

    Needs: two captions.

    Args:
        answer (str): ``grounded``: thoughts with regions; ``thoughts``: without;
            ``short``: the bare answer.

    Raises:
        ValueError: for another ``answer``.
    """

    needs = ("captions",)

    def __init__(self, answer: str = "grounded") -> None:
        if answer not in _ANSWERS:
            raise ValueError(
                f"GroundedReasoning: answer='{answer}', expected one of "
                f"{list(_ANSWERS)}."
            )
        self.answer = answer

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return the question and its answer."""
        if len(annotation.captions) < 2:
            raise NothingToAsk("no pair of a question and thoughts among the captions.")
        question, thoughts = annotation.captions[:2]
        said = caption_parts(annotation, thoughts)
        if self.answer == "thoughts":
            said = (Text(thoughts.text),)
        elif self.answer == "short":
            answers = [a for one in annotation.questions for a in one.answers]
            if not answers:
                raise NothingToAsk(
                    "the question has no answer apart from its thoughts."
                )
            said = (Text(answers[0]),)
        parts = caption_parts(annotation, question)
        return [Turn("user", parts), Turn("assistant", said)]
