"""What is annotated in one image, before a task asks about it.

Readers of grounding, detection, segmentation, caption and question files give
:class:`AnnotatedImage`; tasks (:mod:`mmvlm.datasets.tasks`) make conversations of
it, so that any file can train any task that its annotations allow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Instance:
    """One thing, or one group of things, in an image.

    Args:
        box (tuple[float, float, float, float] | None): x1, y1, x2, y2 in pixels
            of the original image; None where the file gives none.
        name (str): class or short name (``dog``); empty where there is none.
        phrases (tuple[str, ...]): expressions or captions that mean it and nothing
            else in the image.
        attributes (tuple[str, ...]): ``red``, ``wooden``.
        polygons (tuple[tuple[float, ...], ...]): rings ``x, y, x, y, ...``, in
            pixels; together they are one mask.
        rle (dict | None): COCO's run lengths ``{"size": [h, w], "counts"}``, which
            takes the place of ``polygons``.
        id (str): as the file gives it.
        is_crowd (bool): several things that were not told apart.
        meta (dict): what else the file says.
    """

    box: tuple[float, float, float, float] | None = None
    name: str = ""
    phrases: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    polygons: tuple[tuple[float, ...], ...] = ()
    rle: dict | None = None
    id: str = ""
    is_crowd: bool = False
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Relation:
    """Two instances and what holds between them: (0, "on", 2)."""

    subject: int
    predicate: str
    object: int


@dataclass(frozen=True)
class Span:
    """Characters ``start`` to ``end`` (exclusive) of a text and what they mean.

    Args:
        start (int): first character.
        end (int): behind the last one.
        instances (tuple[int, ...]): indices of the instances; empty for a phrase
            without a region.
        types (tuple[str, ...]): ``people``, ``clothing``, ... (Flickr30k Entities).
    """

    start: int
    end: int
    instances: tuple[int, ...] = ()
    types: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expression:
    """Words that mean any number of things in the image.

    Args:
        text (str): ``the two dogs``.
        instances (tuple[int, ...]): indices of all instances that it means; empty:
            there is no such thing in the image.
        id (str): as the file gives it.
    """

    text: str
    instances: tuple[int, ...] = ()
    id: str = ""


@dataclass(frozen=True)
class Caption:
    """A text about the whole image, with its grounded phrases."""

    text: str
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class VisualQuestion:
    """A question about an image and its answers.

    Args:
        question (str): as asked.
        answers (tuple[str, ...]): all that annotators gave, most trusted first;
            empty where the file hides them (test splits).
        choices (tuple[str, ...]): of a multiple-choice question.
        choice (int | None): index of the right choice.
        hint (str): text to read before answering (ScienceQA's context, OCR tokens).
        rationale (str): why the answer is right.
        instances (tuple[int, ...]): what question or answer point at.
        id (str): of the question.
        meta (dict): what else the file says (type, confidence, ...).
    """

    question: str
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    choice: int | None = None
    hint: str = ""
    rationale: str = ""
    instances: tuple[int, ...] = ()
    id: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AnnotatedImage:
    """Everything one record says about one image.

    Args:
        image (Any): reference of the image (path below the image folder, or
            encoded bytes); None for a question without image.
        size (tuple[int, int] | None): height and width in pixels; None without an
            image.
        instances (tuple[Instance, ...]): what is there.
        relations (tuple[Relation, ...]): between instances.
        expressions (tuple[Expression, ...]): that mean several instances, or none.
        captions (tuple[Caption, ...]): of the whole image.
        questions (tuple[VisualQuestion, ...]): about it.
        id (str): of the record.
        meta (dict): what metrics want.
    """

    image: Any
    size: tuple[int, int] | None = None
    instances: tuple[Instance, ...] = ()
    relations: tuple[Relation, ...] = ()
    expressions: tuple[Expression, ...] = ()
    captions: tuple[Caption, ...] = ()
    questions: tuple[VisualQuestion, ...] = ()
    id: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
