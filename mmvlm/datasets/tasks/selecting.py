"""Which instances of an image a task may ask about."""

from __future__ import annotations

from collections.abc import Iterable

from mmvlm.structures import AnnotatedImage, Caption, Instance, Span, Text
from mmvlm.structures.conversation import Part

from .base import NothingToAsk, region
from .draws import Draws

_NO_SIZE = "instances have boxes, but the image's size is unknown."


def boxed(annotation: AnnotatedImage) -> list[Instance]:
    """Return instances with a box; crowds stand for no one thing and stay out.

    Raises:
        NothingToAsk: when there is none.
        ValueError: when the size of the image is not known.
    """
    found = [i for i in annotation.instances if i.box is not None and not i.is_crowd]
    if not found:
        raise NothingToAsk("no instance with a box.")
    if annotation.size is None:
        raise ValueError(_NO_SIZE)
    return found


def with_phrase(annotation: AnnotatedImage) -> list[Instance]:
    """Return instances with box and phrase; NothingToAsk without."""
    found = [item for item in boxed(annotation) if has_phrase(item)]
    if not found:
        raise NothingToAsk("no instance with a box and a phrase.")
    return found


def has_phrase(item: Instance) -> bool:
    """Whether an instance has a phrase that says something."""
    return any(map(str.strip, item.phrases))


def with_name(annotation: AnnotatedImage) -> list[Instance]:
    """Return instances with box and name; NothingToAsk without."""
    found = [item for item in boxed(annotation) if item.name.strip()]
    if not found:
        raise NothingToAsk("no instance with a box and a name.")
    return found


def only_target(annotation: AnnotatedImage) -> Instance:
    """Return the one instance with box and phrase, which a sample is scored on.

    Raises:
        ValueError: when there are several.
    """
    found = with_phrase(annotation)
    if len(found) != 1:
        raise ValueError(
            f"{len(found)} instances could be asked about; to score them read the "
            "file with per='sentence' or per='ref'."
        )
    return found[0]


def draw_phrase(instance: Instance, draws: Draws) -> str:
    """Return one of an instance's phrases; a choice only where there are several."""
    phrases = [phrase.strip() for phrase in instance.phrases if phrase.strip()]
    return phrases[0] if len(phrases) == 1 else draws.choice(phrases)


def area(instance: Instance) -> float:
    """Return the area of an instance's box, square pixels."""
    x1, y1, x2, y2 = instance.box
    return (x2 - x1) * (y2 - y1)


def by_area(instances: Iterable[Instance]) -> list[Instance]:
    """Return instances, small boxes first; equal ones keep their order."""
    return sorted(instances, key=area)


def by_name(annotation: AnnotatedImage) -> dict[str, list[Instance]]:
    """Return instances by name, names in order of appearance.

    An instance with further names under ``meta["names"]`` (Visual Genome) counts
    for each. A name that a crowd or an instance without a box bears too is left
    out: the boxes of all that it names are not known.

    Raises:
        NothingToAsk: when no name is left.
    """
    groups: dict[str, list[Instance]] = {}
    for item in with_name(annotation):
        for name in names_of(item):
            groups.setdefault(name, []).append(item)
    for item in annotation.instances:
        if item.is_crowd or item.box is None:
            for name in names_of(item):
                groups.pop(name, None)
    if not groups:
        raise NothingToAsk("every name also stands for a crowd or a thing unboxed.")
    return groups


def names_of(item: Instance) -> list[str]:
    """Return all names of an instance, the first one first, none twice."""
    names = (item.name, *item.meta.get("names", ()))
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))


def grounded_spans(
    annotation: AnnotatedImage, caption: Caption
) -> list[tuple[Span, list[int]]]:
    """Return a caption's spans with a box, in reading order, outer ones first.

    Returns:
        list[tuple[Span, list[int]]]: spans with the indices of their instances
        that have a box and are no crowd.

    Raises:
        ValueError: for a span or an index outside, or when the image's size is
            not known.
    """
    found = []
    for span in sorted(caption.spans, key=lambda s: (s.start, -s.end)):
        if not 0 <= span.start < span.end <= len(caption.text):
            raise ValueError(
                f"span {span.start}..{span.end} lies outside a caption of "
                f"{len(caption.text)} characters."
            )
        wrong = [i for i in span.instances if not 0 <= i < len(annotation.instances)]
        if wrong:
            raise ValueError(
                f"span {span.start}..{span.end} names instances {wrong}, but there "
                f"are {len(annotation.instances)}."
            )
        boxed_ones = [
            index
            for index in span.instances
            if annotation.instances[index].box is not None
            and not annotation.instances[index].is_crowd
        ]
        if boxed_ones:
            found.append((span, boxed_ones))
    if found and annotation.size is None:
        raise ValueError(_NO_SIZE)
    return found


def boxes_and_names(
    items: Iterable[Instance],
    size: tuple[int, int],
    *,
    boxes: bool = True,
    names: bool = True,
) -> tuple[Part, ...]:
    """Return instances as boxes, names or ``box name`` pairs, small boxes first.

    Boxes alone are one region; names and pairs are joined by spaces (PINK's form).
    """
    items = by_area(items)
    if not names:
        return (region(items, size),)
    if not boxes:
        return (Text(" ".join(item.name.strip() for item in items)),)
    parts: list[Part] = []
    for item in items:
        parts += [Text(" ")] if parts else []
        parts += [region([item], size), Text(f" {item.name.strip()}")]
    return tuple(parts)
