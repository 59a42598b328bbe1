"""Choose one of several answers to a question about an image."""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Turn, VisualQuestion

from .answers import (
    PLACES,
    applies_at,
    check_options,
    check_wordings,
    dialogue,
    draw,
    draw_questions,
    lines,
    right_letter,
)
from .base import DataTask, NothingToAsk


@DATA_TASKS.register_module()
class MultipleChoice(DataTask):
    r"""Questions with lettered choices, as LLaVA-1.5 writes A-OKVQA and MMBench.

    The lines of a question are the hint, the wording, a choice each and the suffix:
    ``What is it?``, ``A. a cat``, ``B. a dog``, ``Answer with the option's letter ...``

    Args:
        prompts (Sequence[str]): wordings with ``{question}``; one is drawn.
        hint_line (str | None): line with ``{hint}`` in front, left out where there is
            no hint.
        option (str): a choice, with ``{letter}`` and ``{choice}``.
        separator (str): between choices.
        suffix (str): last line.
        suffix_on (str): ``each`` question, the ``first`` or the ``last``.
        answer_format (str): with ``{letter}`` or ``{answer}`` (the choice's words);
            ``{rationale}`` makes a chain of thought.
        shuffle (bool): draw the order of the choices in every epoch anew.
        max_questions (int | None): of a dialogue; more are drawn from, in order.

    Raises:
        ValueError: naming the option that is unknown or no wording.
    """

    def __init__(
        self,
        prompts: Sequence[str] = ("{question}",),
        *,
        hint_line: str | None = None,
        option: str = "{letter}. {choice}",
        separator: str = "\n",
        suffix: str = "",
        suffix_on: str = "each",
        answer_format: str = "{letter}",
        shuffle: bool = False,
        max_questions: int | None = None,
    ) -> None:
        name = type(self).__name__
        check_options(name, suffix_on=(suffix_on, PLACES))
        check_wordings(name, "prompts", prompts, "question")
        check_wordings(name, "option", [option], "choice")
        hole = "answer" if "{answer}" in answer_format else "letter"
        check_wordings(name, "answer_format", [answer_format], hole)
        if hint_line is not None:
            check_wordings(name, "hint_line", [hint_line], "hint")
        if max_questions is not None and max_questions < 1:
            raise ValueError(f"{name}: max_questions={max_questions}, expected >= 1.")
        self.prompts, self.hint_line = tuple(prompts), hint_line
        self.option, self.separator = option, separator
        self.suffix, self.suffix_on = suffix, suffix_on
        self.answer_format = answer_format
        self.shuffle = shuffle
        self.max_questions = max_questions

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return the dialogue.

        Raises:
            NothingToAsk: without a question that has choices.
            ValueError: for more choices than letters, or an answer that is hidden
                before the end of the dialogue.
        """
        questions = draw_questions(
            [q for q in annotation.questions if q.choices], self.max_questions, rng
        )
        if not questions:
            raise NothingToAsk("no question with choices.")
        pairs = []
        for number, question in enumerate(questions):
            with_suffix = applies_at(self.suffix_on, number, len(questions))
            suffix = self.suffix if with_suffix else None
            pairs.append(self._pair(question, suffix, rng))
        return dialogue(pairs)

    def reference(self, annotation: AnnotatedImage) -> str | None:
        """Return the letter of the right choice.

        Raises:
            ValueError: for choices in an order that is drawn.
        """
        if self.shuffle:
            raise ValueError("MultipleChoice: shuffle=True cannot be scored.")
        return right_letter(annotation)

    def _pair(
        self, question: VisualQuestion, suffix: str | None, rng: np.random.Generator
    ) -> tuple[str, str | None]:
        if len(question.choices) > len(string.ascii_uppercase):
            raise ValueError(
                f"question '{question.id}' has {len(question.choices)} choices; there "
                f"are letters for {len(string.ascii_uppercase)}."
            )
        order = list(range(len(question.choices)))
        if self.shuffle:
            order = rng.permutation(len(order)).tolist()
        options = self.separator.join(
            self.option.format(letter=letter, choice=question.choices[place])
            for letter, place in zip(string.ascii_uppercase, order, strict=False)
        )
        hint = None
        if self.hint_line is not None and question.hint:
            hint = self.hint_line.format(hint=question.hint)
        text = draw(self.prompts, rng).format(question=question.question)
        text = lines(hint, text, options, suffix)
        if question.choice is None:
            return text, None
        if "{rationale}" in self.answer_format and not question.rationale:
            raise NothingToAsk(f"question '{question.id}' has no rationale.")
        return text, self.answer_format.format(
            letter=string.ascii_uppercase[order.index(question.choice)],
            answer=question.choices[question.choice],
            rationale=question.rationale,
        )
