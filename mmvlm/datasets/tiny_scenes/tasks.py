"""Questions about a scene and their answers, one builder per task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from .scene import (
    DIGITS,
    LOWER_SHAPES,
    NAMES,
    SHAPES,
    UPPER_SHAPES,
    WORDS,
    Scene,
    SceneObject,
    pick,
)
from .styles import COLOURS, FINE, PLAIN, SINGLE, TANGLED, SceneStyle

_CAPTION_WORDINGS = ("Describe the picture.", "What does the picture show?")
_YES_NO = ("yes", "no")
_Forms = dict[str, dict[str, tuple[str, ...] | None]]
#: Task -> form -> the answers that a balanced test asks for equally often; None
#: where answers are not from a short list.
FORMS: _Forms = {
    "caption": {"caption": None},
    "existence": {"yes-no": _YES_NO},
    "colour": {"colour": tuple(COLOURS)},
    "shape": {"shape": SHAPES},
    "count": {
        "objects": ("1", "2", "3"),
        "kind": ("0", "1", "2"),
    },
    "relation": {
        "left-right": ("left", "right"),
        "above-below": ("above", "below"),
    },
    "digit": {"digit": DIGITS},
    "word": {"word": WORDS},
    "pointing": {"box": None},
}
#: The same of every style.
STYLE_FORMS: dict[str, _Forms] = {
    PLAIN.name: FORMS,
    FINE.name: {
        **{key: FORMS[key] for key in FORMS if key != "caption"},
        "small-digit": {"digit": DIGITS},
        "small-word": {"word": WORDS},
    },
    TANGLED.name: {
        "existence": FORMS["existence"],
        "shape": {"shape": (*LOWER_SHAPES, *UPPER_SHAPES)},
        "word": FORMS["word"],
        "pointing": FORMS["pointing"],
    },
    SINGLE.name: {
        "colour": {"colour": SINGLE.colours},
        "shape": FORMS["shape"],
        "pointing": FORMS["pointing"],
    },
}


@dataclass(frozen=True)
class Question:
    """One question with its answer.

    Args:
        task (str): a key of ``TASKS``.
        form (str): what kind of answer is asked for; the majority answer of the
            blind baseline is taken among questions of one form.
        text (str): the question.
        answer (str): the answer.
        box (tuple | None): the exact pixel box that the answer grounds.
    """

    task: str
    form: str
    text: str
    answer: str
    box: tuple[int, int, int, int] | None = None


def phrases(scene: Scene) -> list[tuple[str, str]]:
    """Say short things that are true of the scene, as (kind, text)."""
    out = []
    for item in scene.objects:
        x1, y1, x2, y2 = box_numbers(item.box, scene.size, scene.style.phrase_step)
        name, phrase = item.label, item.phrase
        if item.small:
            name, phrase = f"small {item.kind}", f"{item.colour} small {item.kind}"
        out.append(("name", name))
        out.append(("object", f"a {phrase} at the {item.position}"))
        out.append(("across", f"from {x1} to {x2} across"))
        out.append(("down", f"from {y1} to {y2} down"))
    return out


def box_numbers(
    box: Sequence[float], size: int, step: int = PLAIN.box_step
) -> list[int]:
    """Return a pixel box in percent of the image's side, in steps of ``step``."""
    return [round(v / size * 100 / step) * step for v in box]


def box_text(box: Sequence[float], size: int, step: int = PLAIN.box_step) -> str:
    """Write a pixel box as ``[x1, y1, x2, y2]`` in percent."""
    return "[" + ", ".join(map(str, box_numbers(box, size, step))) + "]"


def caption(scene: Scene) -> str:
    """Name every object with its place, in reading order."""
    return _name_all(scene.objects)


def listing(scene: Scene, rng: np.random.Generator) -> Question:
    """Ask for the objects in any order; for training only.

    In a caption the next object is known by its place. Here only its colour says
    which object is being named, word after word: the model learns to look for a
    colour, which most questions need, from many words instead of one.
    """
    objects = [scene.objects[i] for i in rng.permutation(len(scene.objects))]
    text = "Name the objects in any order."
    return Question("listing", "listing", text, _name_all(objects))


def tour(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Find every object once, in any order; for training only."""
    questions: list[Question] = []
    for number in rng.permutation(len(scene.objects)).tolist():
        questions.append(pick(_ways_to_find(scene.objects[number]), rng))
    return questions


def _ways_to_find(item: SceneObject) -> list[Question]:
    """Ask where an object is or what is at its place.

    The answer begins with the word that is looked for. Repeating it is learnt at
    once, and then the model already reads that word where it has to find what
    belongs to it: without these questions the short answers stay at guessing for
    about twice as many steps.
    """

    def ask(text: str, answer: str) -> Question:
        return Question("finding", "finding", text, answer)

    place = item.position
    where = f"Where is the {item.reference}?", f"{item.reference} at the {place}"
    what = f"What is at the {place}?", f"{place}: a {item.phrase}"
    # Of a tangle two things are there.
    return [ask(*where)] if item.partner else [ask(*where), ask(*what)]


def _name_all(objects: Sequence[SceneObject]) -> str:
    return ", ".join(f"a {o.phrase} at the {o.position}" for o in objects)


def _caption(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    text = pick(_CAPTION_WORDINGS, rng)
    yield Question("caption", "caption", text, caption(scene))


def _existence(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    things = {*SHAPES, "digit", "word"}
    if scene.style.tangled:
        things = {*LOWER_SHAPES, *UPPER_SHAPES, "word"}
    there = {o.thing for o in scene.objects}
    for answer, names in (("yes", there), ("no", things - there)):
        if names:  # a crowded image may have everything
            text = f"Is there a {pick(sorted(names), rng)}?"
            yield Question("existence", "yes-no", text, answer)
    there = {o.colour for o in scene.objects}
    for answer, names in (("yes", there), ("no", set(scene.style.colours) - there)):
        if names:
            text = f"Is there a {pick(sorted(names), rng)} object?"
            yield Question("existence", "yes-no", text, answer)


def _colour(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    for item in scene.objects:
        text = f"What colour is the object at the {item.position}?"
        yield Question("colour", "colour", text, item.colour)


def _count(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    number = str(len(scene.objects))
    yield Question("count", "objects", "How many objects are there?", number)
    for kind in NAMES:
        number = str(sum(o.kind == kind for o in scene.objects))
        yield Question("count", "kind", f"How many {kind}s are there?", number)


def _relation(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    rows, columns = scene.style.rows.index, scene.style.columns.index
    for a, b in permutations(scene.objects, 2):
        if a.column != b.column:
            text = f"Is the {a.reference} left or right of the {b.reference}?"
            side = "left" if columns(a.column) < columns(b.column) else "right"
            yield Question("relation", "left-right", text, side)
        if a.row != b.row:
            text = f"Is the {a.reference} above or below the {b.reference}?"
            above = "above" if rows(a.row) < rows(b.row) else "below"
            yield Question("relation", "above-below", text, above)


def _reading(
    kind: str, small: bool = False
) -> Callable[[Scene, np.random.Generator], Iterator[Question]]:
    """Build the tasks ``shape``, ``digit`` and ``word``, and those of small print."""
    task = f"small-{kind}" if small else kind

    def questions(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
        for item in scene.objects:
            if item.kind == kind and item.small == small:
                text = f"Which {kind} is {item.colour}?"
                yield Question(task, kind, text, item.name)

    return questions


def _pointing(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    for item in scene.objects:
        text = f"Give the box of the {item.reference}."
        answer = box_text(item.box, scene.size, scene.style.box_step)
        yield Question("pointing", "box", text, answer, item.box)


def _finding(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    for item in scene.objects:
        yield from _ways_to_find(item)


#: Task name to the generator of all its questions about a scene; those that are
#: not in ``FORMS`` are for training only.
TASKS: dict[str, Callable[[Scene, np.random.Generator], Iterator[Question]]] = {
    "caption": _caption,
    "existence": _existence,
    "colour": _colour,
    "shape": _reading("shape"),
    "count": _count,
    "relation": _relation,
    "digit": _reading("digit"),
    "word": _reading("word"),
    "pointing": _pointing,
    "finding": _finding,
    "small-digit": _reading("digit", small=True),
    "small-word": _reading("word", small=True),
}


def tasks_of(style: SceneStyle) -> list[str]:
    """Return the tasks that training questions of a style are drawn from.

    The caption is none: it would answer the others.
    """
    tasks = [*STYLE_FORMS[style.name], "finding"]
    return [task for task in TASKS if task in tasks and task != "caption"]


def ask_about(scene: Scene, rng: np.random.Generator, num: int = 8) -> list[Question]:
    """Draw ``num`` different questions, tasks and answers balanced.

    Tasks are dealt round in random order; within a task the answer is drawn first
    and then one of the questions that have it. Fewer come back when the scene has
    no more.
    """
    tasks = tasks_of(scene.style)
    pools = {task: list(TASKS[task](scene, rng)) for task in tasks}
    chosen: list[Question] = []
    while len(chosen) < num and any(pools.values()):
        for task in rng.permutation(tasks).tolist():
            if pools[task] and len(chosen) < num:
                question = draw_balanced(pools[task], rng)
                pools[task].remove(question)
                chosen.append(question)
    return chosen


def draw_balanced(pool: Sequence[Question], rng: np.random.Generator) -> Question:
    """Draw a form, then an answer, then one of the questions that have both."""
    form = pick(sorted({q.form for q in pool}), rng)
    pool = [q for q in pool if q.form == form]
    answer = pick(sorted({q.answer for q in pool}), rng)
    pool = [q for q in pool if q.answer == answer]
    return pick(pool, rng)
