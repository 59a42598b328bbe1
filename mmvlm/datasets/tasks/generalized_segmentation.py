"""An expression is given, the mask of all that it means is asked for, if any."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Expression, Instance, Text, Turn
from mmvlm.structures.conversation import Part
from mmvlm.structures.masks import empty_rle, union_rle

from .base import DataTask, NothingToAsk
from .draws import Draws, draws_of
from .segmentation import ANSWERS, NAME_QUESTIONS, mask_region
from .templates import TemplatePool

NO_TARGETS = ("refuse", "mask")
#: Answers where there is no such thing.
REFUSALS = (
    "There is no <name> in this picture.",
    "I do not see <name> here.",
    "Nothing in the picture fits <name>.",
)


@DATA_TASKS.register_module()
class GeneralizedSegmentation(DataTask):
    """Generalized referring expression segmentation (GRES).

    Needs: expressions. An answer holds one region of kind ``mask``, the union of all
    that the expression means; where it means nothing, it says so.

    Paper: Liu et al., "GRES: Generalized Referring Expression Segmentation", CVPR 2023,
    arXiv 2306.00968.

    Args:
        questions (str | Sequence[str]): with ``<name>``.
        answers (str | Sequence[str]): with ``<mask>``.
        refusals (str | Sequence[str]): with or without ``<name>``.
        no_target (str): ``refuse``: an expression that means nothing is answered by a
            refusal; ``mask``: by an answer whose mask is empty.
        max_questions (int): expressions asked about in one sample, drawn without
            repetition. Take 1 to score.
        lower_case (bool): write expressions in lower case.

    Raises:
        ValueError: for ``max_questions`` below 1, or another ``no_target``.
    """

    needs = ("expressions",)

    def __init__(
        self,
        questions: str | Sequence[str] = NAME_QUESTIONS,
        answers: str | Sequence[str] = ANSWERS,
        refusals: str | Sequence[str] = REFUSALS,
        *,
        no_target: str = "refuse",
        max_questions: int = 3,
        lower_case: bool = True,
    ) -> None:
        if max_questions < 1 or no_target not in NO_TARGETS:
            raise ValueError(
                f"GeneralizedSegmentation: max_questions={max_questions}, expected 1 "
                f"or more; no_target='{no_target}', expected one of {NO_TARGETS}."
            )
        self.questions = TemplatePool(questions, ["name"])
        self.answers = TemplatePool(answers, ["mask"])
        self.refusals = TemplatePool(refusals, optional=["name"])
        self.no_target = no_target
        self.max_questions = max_questions
        self.lower_case = lower_case

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return a question and an answer for each of some expressions."""
        known = [one for one in annotation.expressions if one.text.strip()]
        if not known:
            raise NothingToAsk("no expression.")
        draws, turns = draws_of(rng), []
        for one in draws.sample(known, self.max_questions):
            text = one.text.strip()
            text = text.lower() if self.lower_case else text
            question = self.questions.draw(draws, name=Text(text, "expression"))
            answer = self._answer(text, meant(annotation, one), annotation, draws)
            turns += [Turn("user", question), Turn("assistant", answer)]
        return turns

    def _answer(
        self,
        text: str,
        found: Sequence[Instance],
        annotation: AnnotatedImage,
        draws: Draws,
    ) -> tuple[Part, ...]:
        if not found and self.no_target == "refuse":
            return self.refusals.draw(draws, name=text)
        mask = mask_region(found, annotation.size, text)
        return self.answers.draw(draws, mask=mask)

    def reference(self, annotation: AnnotatedImage) -> dict:
        """Return COCO's run lengths of the mask, without a pixel for no target.

        Raises:
            ValueError: when there are several expressions.
        """
        if len(annotation.expressions) != 1:
            raise ValueError(
                f"{len(annotation.expressions)} expressions could be asked about; to "
                "score them read the file with per='sentence'."
            )
        found = meant(annotation, annotation.expressions[0])
        size = annotation.size
        return union_rle(found, size) if found else empty_rle(size)


def meant(annotation: AnnotatedImage, expression: Expression) -> list[Instance]:
    """Return the instances that an expression means.

    Raises:
        ValueError: when it names one that is not there.
    """
    count = len(annotation.instances)
    wrong = [one for one in expression.instances if not 0 <= one < count]
    if wrong:
        raise ValueError(
            f"expression {expression.text!r:.60} names instances {wrong}, but there "
            f"are {count}."
        )
    return [annotation.instances[one] for one in expression.instances]
