"""Scenes with conversations: what writers write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .draw import render
from .scene import Scene, sample_scene
from .tasks import FORMS, TASKS, Question, ask_about, listing, tour
from .tasks import caption as caption_of

#: Questions per training picture.
TURNS_PER_SCENE = 6
_MAX_TRIES = 2000


@dataclass(frozen=True)
class SceneSample:
    """A scene and what is said about it.

    Args:
        id (str): ``train-000012``.
        scene (Scene): can be drawn.
        turns (tuple[Question, ...]): questions with answers, in order.
        description (tuple[Question, ...]): names all objects; training only. It is
            a conversation of its own, or ``turns`` could be answered from its
            answers without a look at the picture.

    """

    id: str
    scene: Scene
    turns: tuple[Question, ...]
    description: tuple[Question, ...] = ()

    @property
    def caption(self) -> str:
        """Names every object with its place."""
        return caption_of(self.scene)

    def image(self) -> np.ndarray:
        """Draw the picture: (S, S, 3) uint8 RGB."""
        return render(self.scene)


def training_samples(
    num: int, seed: int, *, turns: int = TURNS_PER_SCENE
) -> Iterator[SceneSample]:
    """Yield training scenes, each with many questions and a description.

    A sample depends on (seed, number) only, so a longer set begins like a shorter
    one.
    """
    for number in range(num):
        rng = np.random.default_rng([seed, 0, number])
        scene = sample_scene(rng, "train")
        yield SceneSample(
            f"train-{number:06d}",
            scene,
            tuple(ask_about(scene, rng, turns)),
            tuple(_describe(number, scene, rng)),
        )


def _describe(number: int, scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Take turns among the caption, a listing in any order and a tour."""
    if number % 3 == 0:
        return list(TASKS["caption"](scene, rng))
    return [listing(scene, rng)] if number % 3 == 1 else tour(scene, rng)


def test_samples(num: int, seed: int, *, taken: set) -> Iterator[SceneSample]:
    """Yield ``num`` test scenes with one question each.

    Tasks take turns, within a task its forms, within a form its answers, so that
    no constant answer is right more often than another.

    Args:
        num (int): questions.
        seed (int): of the set.
        taken (set): ``Scene.key`` of the training scenes, none of which appears.

    """
    taken = set(taken)
    tasks = list(FORMS)
    for number in range(num):
        task, turn = tasks[number % len(tasks)], number // len(tasks)
        forms = list(FORMS[task])
        form, turn = forms[turn % len(forms)], turn // len(forms)
        answers = FORMS[task][form]
        answer = None if answers is None else answers[turn % len(answers)]
        rng = np.random.default_rng([seed, 1, number])
        scene, question = _find(task, form, answer, rng, taken)
        taken.add(scene.key)
        yield SceneSample(f"test-{number:06d}", scene, (question,))


# The name starts with "test_", which pytest would collect where it is imported.
test_samples.__test__ = False


def _find(
    task: str, form: str, answer: str | None, rng: np.random.Generator, taken: set
) -> tuple[Scene, Question]:
    """Draw scenes until one lets the question be asked with that answer."""
    for _ in range(_MAX_TRIES):
        scene = sample_scene(rng, "test")
        if scene.key in taken:
            continue
        pool = [
            question
            for question in TASKS[task](scene, rng)
            if question.form == form and answer in (None, question.answer)
        ]
        if pool:
            return scene, pool[int(rng.integers(len(pool)))]
    raise RuntimeError(
        f"no scene in {_MAX_TRIES} lets '{task}' ({form}) be answered with '{answer}'."
    )
