"""Scenes with conversations: what writers write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from .draw import render
from .scene import Scene, sample_scene
from .styles import PLAIN, SceneStyle
from .tasks import STYLE_FORMS, TASKS, Question, ask_about, listing, tour
from .tasks import caption as caption_of

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
            answers without a look at the image.
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
        """Draw the image: (S, S, 3) uint8 RGB."""
        return render(self.scene)


def training_samples(
    num: int, seed: int, *, turns: int | None = None, style: SceneStyle = PLAIN
) -> Iterator[SceneSample]:
    """Yield training scenes, each with many questions and a description.

    ``turns`` is the number of questions; None takes the style's.

    A sample depends on (seed, number) only, so a longer set begins like a shorter
    one.
    """
    for number in range(num):
        rng = np.random.default_rng([seed, 0, number])
        scene = sample_scene(rng, "train", style)
        yield SceneSample(
            f"train-{number:06d}",
            scene,
            tuple(ask_about(scene, rng, turns or style.turns)),
            tuple(_describe(number, scene, rng)),
        )


def _describe(number: int, scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Take turns among the caption, a listing in any order and a tour."""
    if number % 3 == 0:
        return list(TASKS["caption"](scene, rng))
    return [listing(scene, rng)] if number % 3 == 1 else tour(scene, rng)


def test_samples(
    num: int, seed: int, *, taken: set, style: SceneStyle = PLAIN
) -> Iterator[SceneSample]:
    """Yield ``num`` test scenes with one question each.

    Tasks take turns, within a task its forms, within a form its answers, so that
    no constant answer is right more often than another.

    Args:
        num (int): questions.
        seed (int): of the set.
        taken (set): ``Scene.key`` of the training scenes, none of which appears.
        style (SceneStyle): of the scenes; says which tasks there are.
    """
    taken = set(taken)
    all_forms = STYLE_FORMS[style.name]
    tasks = list(all_forms)
    for number in range(num):
        task, turn = tasks[number % len(tasks)], number // len(tasks)
        forms = list(all_forms[task])
        form, turn = forms[turn % len(forms)], turn // len(forms)
        answers = all_forms[task][form]
        answer = None if answers is None else answers[turn % len(answers)]
        rng = np.random.default_rng([seed, 1, number])
        draw = partial(sample_scene, rng, "test", style)
        scene, question = _find((task, form, answer), draw, rng, taken)
        taken.add(scene.key)
        yield SceneSample(f"test-{number:06d}", scene, (question,))


# The name starts with "test_", which pytest would collect where it is imported.
test_samples.__test__ = False


def _find(
    target: tuple[str, str, str | None],
    draw: Callable[[], Scene],
    rng: np.random.Generator,
    taken: set,
) -> tuple[Scene, Question]:
    """Draw scenes until one lets a task's form be asked with that answer."""
    task, form, answer = target
    for _ in range(_MAX_TRIES):
        scene = draw()
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
