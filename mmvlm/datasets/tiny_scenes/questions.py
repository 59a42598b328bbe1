"""Questions about a scene as sets of visual questions ask them."""

from __future__ import annotations

import string

import numpy as np

from .ground_truth import image_number
from .samples import SceneSample
from .scene import DIGITS, SHAPES, WORDS
from .styles import COLOURS
from .tasks import STYLE_FORMS, TASKS, Question

_MOST_CHOICES = 4


def questions_of(sample: SceneSample) -> list[Question]:
    """Return the questions whose answer is a word or two."""
    return [turn for turn in sample.turns if turn.task != "pointing"]


def question_number(sample: SceneSample, number: int) -> int:
    """Return a number that no other question has, in either split."""
    return image_number(sample) * 1000 + number


def answer_type(question: Question) -> str:
    """Return VQAv2's kind of an answer: ``yes/no``, ``number`` or ``other``."""
    if question.answer in ("yes", "no"):
        return "yes/no"
    return "number" if question.answer.isdecimal() else "other"


def question_type(question: Question) -> str:
    """Return the first words of a question, as VQAv2 groups them."""
    return " ".join(question.text.lower().split()[:2])


def choices_of(sample: SceneSample, number: int) -> tuple[list[str], int]:
    """Return up to four choices for a question, and the place of the right one.

    Wrong ones are other answers to the same kind of question.
    """
    question = questions_of(sample)[number]
    forms = STYLE_FORMS[sample.scene.style.name]
    known = forms.get(question.task, {}).get(question.form)
    pools = (known or (), SHAPES, DIGITS, tuple(COLOURS), (question.answer, *WORDS))
    pool = next(pool for pool in pools if question.answer in pool)
    rng = np.random.default_rng([image_number(sample), number])
    wrong = [answer for answer in pool if answer != question.answer]
    wrong = [wrong[i] for i in rng.permutation(len(wrong))[: _MOST_CHOICES - 1]]
    place = int(rng.integers(len(wrong) + 1))
    return [*wrong[:place], question.answer, *wrong[place:]], place


def with_choices(sample: SceneSample, number: int) -> list[int]:
    """Return the places of the questions that have so many choices."""
    places = range(len(questions_of(sample)))
    return [place for place in places if len(choices_of(sample, place)[0]) == number]


def letter_of(place: int) -> str:
    """Return the letter of a choice."""
    return string.ascii_uppercase[place]


def yes_no_pair(sample: SceneSample) -> list[Question]:
    """Return a question to say yes to and one to say no to, where there are both.

    They are about colours, all of which are there as often: a digit or a word is
    there more often than a shape, which would be guessed without the image.
    """
    rng = np.random.default_rng([image_number(sample), 7])
    questions = TASKS["existence"](sample.scene, rng)
    return [question for question in questions if question.text.endswith(" object?")]


def reason_of(sample: SceneSample) -> str:
    """Say what is seen, from which every answer follows."""
    return f"The picture shows {sample.caption}."


def read_tokens(sample: SceneSample) -> list[str]:
    """Return what a reader of text would read in the image."""
    objects = sample.scene.objects
    return [item.name for item in objects if item.kind in ("word", "digit")]


def absent_colour(sample: SceneSample) -> str:
    """Return a colour that no object has."""
    there = {item.colour for item in sample.scene.objects}
    return next(colour for colour in (*COLOURS, "brown") if colour not in there)
