"""An annotated image that allows every task, for the tests of tasks."""

from dataclasses import replace

import numpy as np

from mmvlm.structures import (
    AnnotatedImage,
    Caption,
    Instance,
    Region,
    Relation,
    Span,
    VisualQuestion,
)

SQUARE = (2.0, 3.0, 12.0, 3.0, 12.0, 13.0, 2.0, 13.0)


def rich() -> AnnotatedImage:
    """Two dogs, a cat on a mat and a crowd, 64 pixels wide and 48 high."""
    instances = (
        Instance(
            (2, 3, 12, 13),
            "dog",
            ("the left dog", "a dog that looks away"),
            ("brown",),
            polygons=(SQUARE,),
            id="10",
        ),
        Instance((40, 5, 60, 20), "dog", ("the dog on the right",), id="11"),
        Instance((20, 30, 30, 40), "cat", attributes=("grey",), id="12"),
        Instance((15, 36, 50, 47), "mat", ("a red mat",), id="13"),
        Instance((0, 0, 64, 8), "bird", is_crowd=True, id="14"),
    )
    text = "Two dogs look at a cat on a mat."
    return AnnotatedImage(
        image="a.png",
        size=(48, 64),
        instances=instances,
        relations=(Relation(2, "sits on", 3), Relation(2, "faces", 0)),
        captions=(
            Caption(text, (Span(0, 8, (0, 1)), Span(17, 22, (2,)), Span(26, 31, (3,)))),
        ),
        questions=(
            VisualQuestion("What colour is it?", ("brown", "dark"), instances=(0,)),
        ),
        id="rich",
    )


def without(annotation: AnnotatedImage, field: str) -> AnnotatedImage:
    """Return the annotation with a dotted field emptied (``instances.box``)."""
    name, _, inner = field.partition(".")
    if not inner:
        return replace(annotation, **{name: ()})
    empty = (
        None if inner == "box" else type(getattr(getattr(annotation, name)[0], inner))()
    )
    items = tuple(replace(item, **{inner: empty}) for item in getattr(annotation, name))
    return replace(annotation, **{name: items})


def draw(task, annotation, seed=0):
    return task.turns(annotation, np.random.default_rng(seed))


def said(turn) -> str:
    """Show a turn with its regions: ``[phrase: (x1, y1, x2, y2) ...]``."""
    shown = []
    for part in turn.parts:
        if isinstance(part, Region):
            rows = " ".join(
                "({:g}, {:g}, {:g}, {:g})".format(*row) for row in part.boxes.xyxy
            )
            shown.append(f"[{part.phrase}: {rows}]" if part.phrase else f"[{rows}]")
        else:
            shown.append(part.text)
    return "".join(shown)
