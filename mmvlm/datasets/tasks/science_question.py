"""ScienceQA's question in the forms that its papers compare."""

from __future__ import annotations

import string

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Turn, VisualQuestion

from .answers import check_options, dialogue, lines, right_letter
from .base import DataTask, NothingToAsk

_INPUTS = {
    "CQM": ("context", "question", "options"),
    "QCM": ("question", "context", "options"),
    "QCML": ("question", "context", "options", "L"),
    "QCME": ("question", "context", "options", "E"),
    "QCMLE": ("question", "context", "options", "LE"),
    "QCLM": ("question", "context", "L", "options"),
    "QCEM": ("question", "context", "E", "options"),
    "QCLEM": ("question", "context", "LE", "options"),
}
#: What stands before and behind "The answer is". The official script writes the
#: solution (E) in AL, where the name says lecture (L), and the lecture in AE.
_OUTPUTS = {
    "A": ("", ""),
    "AL": ("", "E"),
    "AE": ("", "L"),
    "ALE": ("", "LE"),
    "AEL": ("", "EL"),
    "LA": ("L", ""),
    "EA": ("E", ""),
    "LEA": ("LE", ""),
    "ELA": ("EL", ""),
    "LEPA": ("", ""),
}


@DATA_TASKS.register_module()
class ScienceQuestion(DataTask):
    r"""A question of ScienceQA with context, options, lecture and solution.

    The texts are those of LLaVA's conversion: ``Context: ...``, ``Question: ...`` and
    ``Options: (A) ... (B) ...``, a line each; ``N/A`` stands for no context, a leading
    ``Question:`` is left out, and a doubled space is halved once. The rationale of a
    question is its solution (E); its ``meta['lecture']`` is the lecture (L).

    Args:
        form (str): ``<input>-<output>``. Inputs: CQM, QCM, QCML, QCME, QCMLE, QCLM,
            QCEM, QCLEM. Outputs: A, AL, AE, ALE, AEL, LA, EA, LEA, ELA, LEPA.
        suffix (str): last line of the question; LLaVA-1.5 asks with ``Answer with the
            option's letter from the given choices directly.``
        letter_only (bool): the answer is the letter alone, in place of ``The answer
            is A.``; for output A.

    Raises:
        ValueError: for an unknown form, or ``letter_only`` with another output.
    """

    def __init__(
        self, form: str = "CQM-A", *, suffix: str = "", letter_only: bool = False
    ) -> None:
        known = [f"{a}-{b}" for a in _INPUTS for b in _OUTPUTS]
        check_options(type(self).__name__, form=(form, known))
        self.form, self.suffix, self.letter_only = form, suffix, letter_only
        self._input, self._output = form.split("-")
        if letter_only and self._output != "A":
            raise ValueError(f"ScienceQuestion: letter_only=True with form='{form}'.")

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return questions and answers.

        Raises:
            NothingToAsk: without a question that has choices.
            ValueError: for more choices than letters, or an answer that is hidden
                before the end of the dialogue.
        """
        questions = [question for question in annotation.questions if question.choices]
        if not questions:
            raise NothingToAsk("no question with choices.")
        return dialogue([(self._ask(q), self._answer(q)) for q in questions])

    def reference(self, annotation: AnnotatedImage) -> str | None:
        """Return the letter of the right choice."""
        return right_letter(annotation)

    def _ask(self, question: VisualQuestion) -> str:
        if len(question.choices) > len(string.ascii_uppercase):
            raise ValueError(f"{len(question.choices)} choices, more than letters.")
        options = " ".join(
            f"({letter}) {choice}"
            for letter, choice in zip(
                string.ascii_uppercase, question.choices, strict=False
            )
        )
        sections = dict(
            question=f"Question: {question.question}",
            context=f"Context: {question.hint.strip() or 'N/A'}",
            options=f"Options: {options}",
        )
        texts = [
            sections.get(part) or _because(question, part) for part in self._text()
        ]
        text = "\n".join(texts).replace("  ", " ").strip()
        if text.endswith("BECAUSE:"):
            text = text.replace("BECAUSE:", "").strip()
        return lines(text.removeprefix("Question: "), self.suffix)

    def _text(self) -> tuple[str, ...]:
        return _INPUTS[self._input]

    def _answer(self, question: VisualQuestion) -> str | None:
        if question.choice is None:
            return None
        letter = string.ascii_uppercase[question.choice]
        if self.letter_only:
            return letter
        if self._output == "LEPA":
            lecture, solution = _texts(question, "L"), _texts(question, "E")
            return lines(
                f"LECTURE: {lecture}" if lecture else None,
                f"SOLUTION: {solution}" if solution else None,
                "###",
                f"ANSWER: {letter}.",
            ).replace("  ", " ")
        before, behind = _OUTPUTS[self._output]
        words = [_texts(question, before), f"The answer is {letter}."]
        if behind and _texts(question, behind):
            words.append(_because(question, behind))
        return " ".join(filter(None, words)).replace("  ", " ").strip()


def _because(question: VisualQuestion, parts: str) -> str:
    return f"BECAUSE: {_texts(question, parts)}"


def _texts(question: VisualQuestion, parts: str) -> str:
    """Return lecture (L) and solution (E), as a form names them."""
    sections = dict(L=str(question.meta.get("lecture") or ""), E=question.rationale)
    return " ".join(filter(None, (sections[part].strip() for part in parts)))
