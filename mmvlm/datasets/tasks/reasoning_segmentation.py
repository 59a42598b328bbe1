"""A question that takes thought is asked, its answer is a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Text, Turn, VisualQuestion
from mmvlm.structures.conversation import Part
from mmvlm.structures.masks import mask_to_rle, union_rle

from .base import DataTask, NothingToAsk
from .draws import Draws, draws_of
from .segmentation import (
    ANSWERS,
    NAME_QUESTIONS,
    REASON_REQUESTS,
    SENTENCE_QUESTIONS,
    has_mask,
    mask_region,
)
from .templates import TemplatePool

_TAKES = ("random", "first")


@DATA_TASKS.register_module()
class ReasoningSegmentation(DataTask):
    """Reasoning segmentation (LISA).

    Needs: questions whose ``instances`` have masks. A question whose ``meta`` says
    ``is_sentence`` is followed by a request for a mask; another one is a name that is
    put into a question. Where an image's questions have a ``rationale``, as in LISA's
    training one choice is made for the whole image: the rationale alone with
    probability ``text_only``, and else, as likely, the mask, or the mask and the
    rationale. The last is asked for by the text and a request that takes the place of
    the one for a mask.

    Args:
        names (str | Sequence[str]): questions with ``<name>``.
        sentences (str | Sequence[str]): questions with ``<text>``.
        reasons (str | Sequence[str]): behind the text when mask and rationale are
            asked for.
        answers (str | Sequence[str]): with ``<mask>``.
        max_questions (int): asked about in one sample, drawn without repetition.
        take (str): ``random``, or ``first``: the first question of each image, to
            score as LISA does.
        explain (bool): use rationales; to score, do not.
        text_only (float): probability, 0-1.
        ask_empty (bool): ask also where the file marks no target, which an empty mask
            answers; LISA's scores count such images.

    Raises:
        ValueError: for another ``take``, ``max_questions`` below 1, or a probability
            outside 0-1.
    """

    needs = ("questions.instances",)

    def __init__(
        self,
        names: str | Sequence[str] = NAME_QUESTIONS,
        sentences: str | Sequence[str] = SENTENCE_QUESTIONS,
        *,
        reasons: str | Sequence[str] = REASON_REQUESTS,
        answers: str | Sequence[str] = ANSWERS,
        max_questions: int = 3,
        take: str = "random",
        explain: bool = True,
        text_only: float = 0.1,
        ask_empty: bool = False,
    ) -> None:
        if take not in _TAKES or max_questions < 1 or not 0 <= text_only <= 1:
            raise ValueError(
                f"ReasoningSegmentation: take='{take}', max_questions={max_questions}, "
                f"text_only={text_only}; expected one of {_TAKES}, 1 or more, 0 to 1."
            )
        self.names = TemplatePool(names, ["name"])
        self.sentences = TemplatePool(sentences, ["text"])
        self.reasons = TemplatePool(reasons)
        self.answers = TemplatePool(answers, ["mask"])
        self.max_questions = 1 if take == "first" else max_questions
        self.take = take
        self.explain = explain
        self.text_only = text_only
        self.ask_empty = ask_empty

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return a question and an answer for each of some texts."""
        masked = [has_mask(instance) for instance in annotation.instances]
        questions = [
            question
            for question in annotation.questions
            if question.instances and all(masked[i] for i in question.instances)
        ]
        draws = draws_of(rng)
        if not questions:
            if not self.ask_empty or not annotation.questions or any(masked):
                raise NothingToAsk("no question whose answer is a mask.")
            return self._ask(annotation.questions[0], annotation, "mask", draws)
        if self.take == "random":
            questions = draws.sample(questions, self.max_questions)
        questions = questions[: self.max_questions]
        choice = self._choice(questions, draws)
        return [
            turn
            for question in questions
            for turn in self._ask(question, annotation, choice, draws)
        ]

    def _choice(self, questions: Sequence[VisualQuestion], draws: Draws) -> str:
        """Draw what an image's answers hold: ``text``, ``mask`` or ``both``."""
        if not self.explain or not any(one.rationale.strip() for one in questions):
            return "mask"
        if draws.chance() < self.text_only:
            return "text"
        return ("mask", "both")[draws.integer(2)]

    def reference(self, annotation: AnnotatedImage) -> dict:
        """Return the mask that the first question means, and what is not scored.

        Returns:
            dict: ``masks``, with COCO's run lengths of one, and ``ignore``, likewise or
            None.
        """
        if self.take != "first":
            raise ValueError("ReasoningSegmentation: take='first' is what is scored.")
        found = annotation.questions[0].instances if annotation.questions else ()
        targets = [annotation.instances[i] for i in found]
        empty = mask_to_rle(np.zeros(annotation.size, bool))
        mask = union_rle(targets, annotation.size) if targets else empty
        return dict(masks=[mask], ignore=annotation.meta.get("ignore"))

    def _ask(
        self,
        question: VisualQuestion,
        annotation: AnnotatedImage,
        choice: str,
        draws: Draws,
    ) -> list[Turn]:
        reason = question.rationale.strip()
        text = Text(question.question, _kind(question))
        if reason and choice == "text":
            return [Turn("user", (text,)), Turn("assistant", (Text(reason),))]
        instances = [annotation.instances[i] for i in question.instances]
        named = None if _is_sentence(question) else question.question
        mask = mask_region(instances, annotation.size, named)
        answer = self.answers.draw(draws, mask=mask)
        if reason and choice == "both":
            request = (text, Text(" "), *self.reasons.draw(draws))
            answer = (*answer, Text(f" {reason}"))
        else:
            request = self._question(question, text, draws)
        return [Turn("user", request), Turn("assistant", answer)]

    def _question(
        self, question: VisualQuestion, text: Text, draws: Draws
    ) -> tuple[Part, ...]:
        if _is_sentence(question):
            return self.sentences.draw(draws, text=text)
        return self.names.draw(draws, name=text)


def _kind(question: VisualQuestion) -> str:
    return "question" if _is_sentence(question) else "expression"


def _is_sentence(question: VisualQuestion) -> bool:
    return bool(question.meta.get("is_sentence", True))
