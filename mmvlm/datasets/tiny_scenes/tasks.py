"""Questions about a scene and their answers, one builder per task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .scene import COLOURS, DIGITS, NAMES, SHAPES, WORDS, Scene, SceneObject, pick

#: Boxes are written in percent of the picture's side, in steps of this much.
BOX_STEP = 4


_CAPTION_WORDINGS = (
    "Describe the picture.",
    "What does the picture show?",
    "Name every object and its place.",
)
_YES_NO = ("yes", "no")
#: Task -> form -> the answers that a balanced test asks for equally often; None
#: where answers are not from a short list.
FORMS: dict[str, dict[str, tuple[str, ...] | None]] = {
    "caption": {"caption": None},
    "existence": {"yes-no": _YES_NO},
    "colour": {"colour": tuple(COLOURS)},
    "shape": {"shape": SHAPES},
    "count": {
        "objects": ("1", "2", "3"),
        "kind": ("0", "1", "2"),
        "colour": ("0", "1", "2"),
    },
    "relation": {
        "left-right": ("left", "right"),
        "above-below": ("above", "below"),
    },
    "digit": {"digit": DIGITS},
    "word": {"word": WORDS},
    "pointing": {"box": None},
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


def facts(scene: Scene) -> str:
    """Write everything that is asked about: the caption with boxes."""
    parts = [
        f"a {o.phrase} at the {o.position} {box_text(o.box, scene.size)}"
        for o in scene.objects
    ]
    return ", ".join(parts)


def phrases(scene: Scene) -> list[tuple[str, str]]:
    """Say short things that are true of the scene, as (kind, text)."""
    out = []
    for item in scene.objects:
        x1, y1, x2, y2 = box_numbers(item.box, scene.size)
        out.append(("name", item.label))
        out.append(("object", f"a {item.phrase} at the {item.position}"))
        out.append(("across", f"from {x1} to {x2} across"))
        out.append(("down", f"from {y1} to {y2} down"))
    return out


def box_numbers(box: Sequence[float], size: int) -> list[int]:
    """Return a pixel box in coarse percent of the picture's side."""
    return [round(v / size * 100 / BOX_STEP) * BOX_STEP for v in box]


def box_text(box: Sequence[float], size: int) -> str:
    """Write a pixel box as ``[x1, y1, x2, y2]`` in coarse percent."""
    return "[" + ", ".join(map(str, box_numbers(box, size))) + "]"


def caption(scene: Scene) -> str:
    """Name every object with its place, in reading order."""
    parts = [f"a {o.phrase} at the {o.position}" for o in scene.objects]
    return ", ".join(parts)


def _unique(scene: Scene, key: Callable[[SceneObject], object]) -> list[SceneObject]:
    """Objects whose key no other object of the scene shares."""
    keys = [key(o) for o in scene.objects]
    return [o for o, k in zip(scene.objects, keys, strict=True) if keys.count(k) == 1]


def _names(scene: Scene, coloured: bool = True) -> dict[SceneObject, list[str]]:
    """Objects with every wording that points at them alone.

    From coarse to fine: ``digit``, ``red object``, ``digit 7``, ``red digit 7``.
    Coarse ones are learnt first and pull the fine ones along.

    Args:
        scene (Scene): what is asked about.
        coloured (bool): False leaves out wordings that name the colour.

    """
    wordings: list[Callable[[SceneObject], str]] = [lambda o: o.kind, lambda o: o.label]
    if coloured:
        wordings += [lambda o: f"{o.colour} object", lambda o: o.phrase]
    out: dict[SceneObject, list[str]] = {}
    for wording in wordings:
        for item in _unique(scene, wording):
            out.setdefault(item, []).append(wording(item))
    return out


def _caption(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    text = pick(_CAPTION_WORDINGS, rng)
    yield Question("caption", "caption", text, caption(scene))


def _existence(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    def ask(what: str) -> str:
        return pick((f"Is there a {what}?", f"Does the picture show a {what}?"), rng)

    for there, absent in _things(scene, rng):
        if there and absent:
            yield Question("existence", "yes-no", ask(pick(there, rng)), "yes")
            yield Question("existence", "yes-no", ask(pick(absent, rng)), "no")


def _things(
    scene: Scene, rng: np.random.Generator
) -> Iterator[tuple[list[str], list[str]]]:
    """Per degree of detail, what the scene shows and what it does not.

    What it does not show differs in one word from what it shows.
    """
    kinds = {o.kind for o in scene.objects}
    yield sorted(kinds), sorted(set(NAMES) - kinds)
    colours = {o.colour for o in scene.objects}
    yield (
        [f"{c} object" for c in sorted(colours)],
        [f"{c} object" for c in sorted(set(COLOURS) - colours)],
    )
    absent = []
    for item in scene.objects:
        name = _other(NAMES[item.kind], item.name, rng)
        absent.append(name if item.kind == "shape" else f"{item.kind} {name}")
    labels = {o.label for o in scene.objects}
    yield sorted(labels), sorted(set(absent) - labels)


def _colour(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    for item, names in _names(scene, coloured=False).items():
        for name in names:
            wordings = (f"What colour is the {name}?", f"Which colour has the {name}?")
            yield Question("colour", "colour", pick(wordings, rng), item.colour)
    for item in scene.objects:
        text = f"What colour is the object at the {item.position}?"
        yield Question("colour", "colour", text, item.colour)


def _shape(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    for item in _unique(scene, lambda o: o.colour):
        if item.kind == "shape":
            text = pick(
                (
                    f"What shape is the {item.colour} object?",
                    f"Which shape is {item.colour}?",
                ),
                rng,
            )
            yield Question("shape", "shape", text, item.name)
    shapes = [o for o in scene.objects if o.kind == "shape"]
    for item in shapes:
        text = f"What shape is at the {item.position}?"
        yield Question("shape", "shape", text, item.name)
    if len(shapes) == 1:
        text = "Which shape is in the picture?"
        yield Question("shape", "shape", text, shapes[0].name)


def _count(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    def ask(what: str) -> str:
        return pick((f"How many {what} are there?", f"Count the {what}."), rng)

    yield Question("count", "objects", ask("objects"), str(len(scene.objects)))
    for kind in NAMES:
        number = sum(o.kind == kind for o in scene.objects)
        yield Question("count", "kind", ask(f"{kind}s"), str(number))
    for colour in COLOURS:
        number = sum(o.colour == colour for o in scene.objects)
        yield Question("count", "colour", ask(f"{colour} objects"), str(number))


def _relation(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    named = _names(scene)
    for a in named:
        for b in named:
            if a is b:
                continue
            name_a, name_b = pick(named[a], rng), pick(named[b], rng)
            if a.column != b.column:
                text = f"Is the {name_a} left or right of the {name_b}?"
                yield Question("relation", "left-right", text, a.column)
            if a.row != b.row:
                above = "above" if a.row == "top" else "below"
                text = f"Is the {name_a} above or below the {name_b}?"
                yield Question("relation", "above-below", text, above)


def _reading(kind: str) -> Callable[[Scene, np.random.Generator], Iterator[Question]]:
    """Build the tasks ``digit`` and ``word``."""

    def questions(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
        items = [o for o in scene.objects if o.kind == kind]
        colours = [o.colour for o in items]
        for item in items:
            text = f"Which {kind} is at the {item.position}?"
            yield Question(kind, kind, text, item.name)
            if colours.count(item.colour) == 1:
                yield Question(kind, kind, f"Which {kind} is {item.colour}?", item.name)
        if len(items) == 1:
            wordings = (f"Which {kind} is in the picture?", f"Read the {kind}.")
            text = pick(wordings, rng)
            yield Question(kind, kind, text, items[0].name)

    return questions


def _pointing(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    for item, names in _names(scene).items():
        answer = box_text(item.box, scene.size)
        for name in names:
            text = pick(
                (f"Where is the {name}? Give its box.", f"Give the box of the {name}."),
                rng,
            )
            yield Question("pointing", "box", text, answer, item.box)


def _place(scene: Scene, rng: np.random.Generator) -> Iterator[Question]:
    """Ask for the quarter; for training only, it teaches to look things up."""
    for item, names in _names(scene).items():
        above = "above" if item.row == "top" else "below"
        for name in names:
            text = f"In which quarter is the {name}?"
            yield Question("place", "quarter", text, item.position)
            text = f"Is the {name} left or right of the middle?"
            yield Question("place", "column", text, item.column)
            text = f"Is the {name} above or below the middle?"
            yield Question("place", "row", text, above)


#: Task name to the generator of all its questions about a scene; those that are
#: not in ``FORMS`` are for training only.
TASKS: dict[str, Callable[[Scene, np.random.Generator], Iterator[Question]]] = {
    "caption": _caption,
    "existence": _existence,
    "colour": _colour,
    "shape": _shape,
    "count": _count,
    "relation": _relation,
    "digit": _reading("digit"),
    "word": _reading("word"),
    "pointing": _pointing,
    "place": _place,
}


def _other(choices: Sequence[str], than: str, rng: np.random.Generator) -> str:
    """Draw a choice that differs from ``than``."""
    return pick([c for c in choices if c != than], rng)


def ask_about(scene: Scene, rng: np.random.Generator, num: int = 8) -> list[Question]:
    """Draw ``num`` different questions, tasks and answers balanced.

    Tasks are dealt round in random order, all but the caption, which would answer
    the others; within a task the answer is drawn first and then one of the
    questions that have it. Fewer come back when the scene has no more.
    """
    tasks = [task for task in TASKS if task != "caption"]
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
