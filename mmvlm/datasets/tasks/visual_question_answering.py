"""Answer questions about an image in free words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Turn, VisualQuestion

from .answers import (
    PLACES,
    RULES,
    applies_at,
    check_options,
    check_wordings,
    choose_answer,
    dialogue,
    draw,
    draw_questions,
    lines,
    only_question,
)
from .base import DataTask, NothingToAsk


@DATA_TASKS.register_module()
class VisualQuestionAnswering(DataTask):
    r"""All questions about an image as one dialogue.

    A question is written as lines: the wording, the hint, the suffix. A question
    whose answer is hidden (test splits) ends the dialogue without an answer, as
    ``EncodeConversation(mode='generate')`` wants it.

    Args:
        prompts (Sequence[str]): wordings with ``{question}``; one is drawn each time.
        hint_line (str | None): line with ``{hint}``, left out where there is no hint;
            TextVQA's tokens in LLaVA-1.5: ``Reference OCR token: {hint}``.
        suffix (str): last line, as ``Answer the question using a single word or
            phrase.``
        suffix_on (str): ``first`` question of the dialogue (LLaVA-1.5), ``each`` or
            ``last``.
        answer (str): ``most_frequent``, ``random`` (drawn by the annotators' votes,
            anew in every epoch) or ``first`` of the answers.
        answer_format (str): with ``{answer}`` and, for a chain of thought,
            ``{rationale}``: ``{rationale} So the answer is {answer}.``
        max_questions (int | None): of a dialogue; more are drawn from, in order.

    Raises:
        ValueError: naming the option that is unknown or no wording.
    """

    def __init__(
        self,
        prompts: Sequence[str] = ("{question}",),
        *,
        hint_line: str | None = None,
        suffix: str = "",
        suffix_on: str = "first",
        answer: str = "most_frequent",
        answer_format: str = "{answer}",
        max_questions: int | None = None,
    ) -> None:
        name = type(self).__name__
        check_options(name, suffix_on=(suffix_on, PLACES), answer=(answer, RULES))
        check_wordings(name, "prompts", prompts, "question")
        check_wordings(name, "answer_format", [answer_format], "answer")
        if hint_line is not None:
            check_wordings(name, "hint_line", [hint_line], "hint")
        if max_questions is not None and max_questions < 1:
            raise ValueError(f"{name}: max_questions={max_questions}, expected >= 1.")
        self.prompts = tuple(prompts)
        self.hint_line = hint_line
        self.suffix, self.suffix_on = suffix, suffix_on
        self.answer, self.answer_format = answer, answer_format
        self.max_questions = max_questions

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return the dialogue.

        Raises:
            NothingToAsk: without a question, or when ``answer_format`` wants a
                rationale that a question does not have.
            ValueError: when an answer is hidden before the end of the dialogue.
        """
        questions = draw_questions(annotation.questions, self.max_questions, rng)
        if not questions:
            raise NothingToAsk("no question.")
        pairs = []
        for number, question in enumerate(questions):
            hint = None
            if self.hint_line is not None and question.hint:
                hint = self.hint_line.format(hint=question.hint)
            with_suffix = applies_at(self.suffix_on, number, len(questions))
            text = draw(self.prompts, rng).format(question=question.question)
            text = lines(text, hint, self.suffix if with_suffix else None)
            pairs.append((text, self._answer(question, rng)))
        return dialogue(pairs)

    def reference(self, annotation: AnnotatedImage) -> list[str] | None:
        """Return all that people answered to the one question, blanks included."""
        only_question(annotation)
        return annotation.meta.get("answers")

    def _answer(self, question: VisualQuestion, rng: np.random.Generator) -> str | None:
        if not question.answers:
            return None
        if "{rationale}" in self.answer_format and not question.rationale:
            raise NothingToAsk(f"question '{question.id}' has no rationale.")
        answer = choose_answer(question.answers, self.answer, rng)
        return self.answer_format.format(answer=answer, rationale=question.rationale)
